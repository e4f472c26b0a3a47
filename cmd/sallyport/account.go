package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"sallyport/server/admin"
)

func (a *app) accountCommand() *cobra.Command {
	return group("account", "Accounts, their passwords and keys",
		a.accountAdd(), a.accountList(), a.accountShow(), a.accountSet(),
		a.accountState("enable", "Let an account log in again", (*admin.Client).AccountEnable),
		a.accountState("disable", "Refuse an account's logins and end its sessions", (*admin.Client).AccountDisable),
		a.accountRemove(), a.accountPasswd(), a.accountUnlock(), a.keysCommand(), a.secondCommand())
}

func (a *app) accountAdd() *cobra.Command {
	var protocols, groups, keyFiles, paths []string
	var stdin bool
	c := &cobra.Command{
		Use: "add NAME", Short: "Make an account that has exactly the rights given", Args: exactly("NAME"),
		Long: "Make an account. It gets exactly what the flags grant and nothing else: no protocol,\n" +
			"no folder and no right by default. Verbs of --paths: list, read, create (new files only), write (new and\n" +
			"existing files), delete, rename, mkdir, symlink, all; the longest path that holds a name decides.",
		Example: "  sallyport account add acme --protocols sftp --key acme.pub --paths /in:list,write --paths /out:list,read\n" +
			"  sallyport account add bob --protocols sftp,ftps --password-stdin --paths /:all < password",
		RunE: func(c *cobra.Command, args []string) error {
			r := admin.AccountAdd{Change: a.change(), Name: args[0], Groups: groups, Protocols: protocols}
			var err error
			if r.Paths, err = parsePaths(paths); err != nil {
				return err
			}
			for _, f := range keyFiles {
				if f == "-" && stdin {
					return usage("--key - and --password-stdin both want standard input", "give the key as a file")
				}
				keys, err := a.keyLines(f)
				if err != nil {
					return err
				}
				r.Keys = append(r.Keys, keys...)
			}
			if stdin {
				if r.Password, err = a.passwordFrom(a.stdin); err != nil {
					return err
				}
			}
			return a.call(c.Context(), shortCall, func(ctx context.Context, cl *admin.Client) error {
				acc, err := cl.AccountAdd(ctx, r)
				if err != nil {
					return err
				}
				a.say("account %s added%s", acc.Name, grantsNothing(acc))
				return a.showAccount(acc)
			})
		},
	}
	f := c.Flags()
	f.StringSliceVar(&protocols, "protocols", nil, "`protocols` that it may use: sftp, ftps, ftps-explicit, ftps-implicit")
	f.StringSliceVar(&groups, "groups", nil, "policy `groups` to be in, with the rights that they give")
	f.StringArrayVar(&keyFiles, "key", nil, "`file` of public keys (- is standard input); may be repeated")
	f.BoolVar(&stdin, "password-stdin", false, "read the password from standard input")
	f.StringArrayVar(&paths, "paths", nil, "`PATH:VERBS`, e.g. /in:list,write or /:all; may be repeated")
	return c
}

// grantsNothing warns of an account that cannot be used yet.
func grantsNothing(acc admin.Account) string {
	sftp := slices.Contains(acc.Protocols, "sftp")
	var missing []string
	if len(acc.Protocols) == 0 {
		missing = append(missing, "--protocols")
	}
	if !acc.Password && len(acc.Keys) == 0 {
		missing = append(missing, "--key or --password-stdin")
	}
	if acc.Paths == "[]" {
		missing = append(missing, "--paths")
	}
	switch {
	case len(missing) > 0:
		return "; it cannot transfer anything yet: not given were " + strings.Join(missing, ", ")
	case sftp && len(acc.Keys) == 0:
		return "; over SFTP it needs a key, unless auth.sftp of the policy allows passwords"
	case !acc.Password && (len(acc.Protocols) > 1 || !sftp):
		return "; over FTPS it needs a password"
	}
	return ""
}

// parsePaths reads PATH:VERBS. The last colon separates, so that a path may hold one.
func parsePaths(list []string) ([]admin.PathRight, error) {
	var out []admin.PathRight
	for _, s := range list {
		i := strings.LastIndexByte(s, ':')
		if i < 1 || i == len(s)-1 || s[0] != '/' {
			return nil, usage(fmt.Sprintf("--paths %q is not PATH:VERBS", s), "e.g. --paths /in:list,write --paths /out:list,read, or /:all")
		}
		out = append(out, admin.PathRight{Path: path.Clean(s[:i]), Allow: strings.Split(s[i+1:], ",")})
	}
	return out, nil
}

func (a *app) accountList() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List accounts", Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.call(c.Context(), shortCall, func(ctx context.Context, cl *admin.Client) error {
				list, err := cl.AccountList(ctx)
				if err != nil {
					return err
				}
				v := view{value: list, header: []string{"NAME", "ENABLED", "PROTOCOLS", "PASSWORD", "KEYS", "SESSIONS"}, empty: "no accounts; make one with `sallyport account add`"}
				for _, acc := range list.Accounts {
					v.rows = append(v.rows, []string{acc.Name, yesNo(acc.Enabled), orDash(strings.Join(acc.Protocols, ",")), yesNo(acc.Password), fmt.Sprint(len(acc.Keys)), fmt.Sprint(acc.Sessions)})
				}
				return a.show(v)
			})
		}}
}

func (a *app) accountShow() *cobra.Command {
	return &cobra.Command{Use: "show NAME", Short: "Show an account", Args: exactly("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			return a.call(c.Context(), shortCall, func(ctx context.Context, cl *admin.Client) error {
				acc, err := cl.AccountShow(ctx, args[0])
				if err != nil {
					return err
				}
				return a.showAccount(acc)
			})
		}}
}

func (a *app) showAccount(acc admin.Account) error {
	v := view{value: acc, names: []string{acc.Name}, rows: [][]string{
		{"name", acc.Name}, {"id", acc.ID}, {"enabled", yesNo(acc.Enabled)}, {"groups", orDash(strings.Join(acc.Groups, ", "))},
		{"protocols", orDash(strings.Join(acc.Protocols, ", "))}, {"paths", acc.Paths},
		{"password", yesNo(acc.Password)}, {"second factor", yesNo(acc.Second)}, {"sessions", fmt.Sprint(acc.Sessions)},
	}}
	for _, k := range acc.Keys {
		v.rows = append(v.rows, []string{"key", strings.TrimSpace(k.Algorithm + " " + k.Fingerprint + " " + k.Comment)})
	}
	return a.show(v)
}

func (a *app) accountSet() *cobra.Command {
	var f changeFlags
	c := &cobra.Command{Use: "set NAME KEY=VALUE...", Short: "Set policy of one account", Args: atLeast("NAME", "KEY=VALUE"),
		Example: "  sallyport account set acme session.max=4 'allow_from=[198.51.100.0/24]' --reason OPS-12",
		RunE: func(c *cobra.Command, args []string) error {
			return a.setPolicy(c.Context(), "accounts."+args[0], args[1:], f)
		}}
	f.addDryRun(c)
	return c
}

func (a *app) accountState(verb, short string, do func(*admin.Client, context.Context, admin.AccountRef) (admin.Account, error)) *cobra.Command {
	return &cobra.Command{Use: verb + " NAME", Short: short, Args: exactly("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			return a.call(c.Context(), shortCall, func(ctx context.Context, cl *admin.Client) error {
				acc, err := do(cl, ctx, admin.AccountRef{Change: a.change(), Name: args[0]})
				if err != nil {
					return err
				}
				a.say("account %s %sd", acc.Name, verb)
				return nil
			})
		}}
}

func (a *app) accountRemove() *cobra.Command {
	var destroy bool
	c := &cobra.Command{Use: "remove NAME", Short: "Remove an account and destroy its files and keys", Args: exactly("NAME"),
		Example: "  sallyport account remove acme --destroy --reason 'contract ended'",
		Long: "Remove an account. Its key leaves the keyring at once; with --destroy the keyring also gets a new root,\n" +
			"so that older copies of it do not open with the root in force, and a receipt is printed that is in the\n" +
			"audit log. If a crash cut a removal short, `seal status` shows a key \"of no account\": give its id as NAME.",
		RunE: func(c *cobra.Command, args []string) error {
			if destroy {
				return a.destroyAccount(c.Context(), args[0])
			}
			if err := a.confirm("This destroys account %s, all its files and their history. There is no way back.", args[0]); err != nil {
				return err
			}
			return a.call(c.Context(), 0, func(ctx context.Context, cl *admin.Client) error {
				if err := cl.AccountRemove(ctx, admin.AccountRef{Change: a.change(), Name: args[0]}); err != nil {
					return err
				}
				a.say("account %s removed", args[0])
				return nil
			})
		}}
	c.Flags().BoolVar(&destroy, "destroy", false, "with a new root key, and a receipt")
	return c
}

func (a *app) accountPasswd() *cobra.Command {
	var stdin, hash, change bool
	c := &cobra.Command{Use: "passwd NAME", Short: "Set an account's password", Args: exactly("NAME"),
		Long: "Set an account's password, or have its owner choose another one.\n" +
			"--must-change alone leaves the password and asks for another at the next login with it.",
		RunE: func(c *cobra.Command, args []string) error {
			if stdin && hash {
				return usage("give either --stdin or --hash-stdin", "")
			}
			r := admin.Passwd{Change: a.change(), Account: args[0], MustChange: change}
			var err error
			switch {
			case hash:
				r.Hash, err = a.passwordFrom(a.stdin)
			case stdin:
				r.Password, err = a.passwordFrom(a.stdin)
			case !change:
				r.Password, err = a.askPassword(args[0])
			}
			if err != nil {
				return err
			}
			return a.call(c.Context(), shortCall, func(ctx context.Context, cl *admin.Client) error {
				if err := cl.Passwd(ctx, r); err != nil {
					return err
				}
				if r.Password != "" || r.Hash != "" {
					a.say("password of %s changed", args[0])
				}
				if change {
					a.say("%s must choose another password at the next login with it", args[0])
				}
				return nil
			})
		}}
	c.Flags().BoolVar(&stdin, "stdin", false, "read the password from standard input")
	c.Flags().BoolVar(&hash, "hash-stdin", false, "read a bcrypt or argon2id hash of another system from standard input")
	c.Flags().BoolVar(&change, "must-change", false, "it may only be used to choose another one")
	return c
}

func (a *app) keysCommand() *cobra.Command {
	add := &cobra.Command{Use: "add NAME FILE...", Short: "Add public keys (OpenSSH, RFC 4716, PEM, PuTTY)", Args: atLeast("NAME", "FILE"),
		RunE: func(c *cobra.Command, args []string) error {
			r := admin.KeysAdd{Change: a.change(), Account: args[0]}
			for _, f := range args[1:] {
				lines, err := a.keyLines(f)
				if err != nil {
					return err
				}
				r.Keys = append(r.Keys, lines...)
			}
			return a.call(c.Context(), shortCall, func(ctx context.Context, cl *admin.Client) error {
				keys, err := cl.KeysAdd(ctx, r)
				if err != nil {
					return err
				}
				return a.showKeys(keys)
			})
		}}
	list := &cobra.Command{Use: "list NAME", Short: "List an account's keys", Args: exactly("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			return a.call(c.Context(), shortCall, func(ctx context.Context, cl *admin.Client) error {
				keys, err := cl.KeysList(ctx, args[0])
				if err != nil {
					return err
				}
				return a.showKeys(keys)
			})
		}}
	remove := &cobra.Command{Use: "remove NAME FINGERPRINT", Short: "Remove a key", Args: exactly("NAME", "FINGERPRINT"),
		RunE: func(c *cobra.Command, args []string) error {
			return a.call(c.Context(), shortCall, func(ctx context.Context, cl *admin.Client) error {
				keys, err := cl.KeysRemove(ctx, admin.KeysRemove{Change: a.change(), Account: args[0], Fingerprint: args[1]})
				if err != nil {
					return err
				}
				return a.showKeys(keys)
			})
		}}
	return group("keys", "Public keys of an account", add, list, remove)
}

func (a *app) showKeys(keys admin.Keys) error {
	v := view{value: keys, header: []string{"FINGERPRINT", "ALGORITHM", "LIMITS", "COMMENT"}, empty: "no keys"}
	for _, k := range keys.Keys {
		v.rows = append(v.rows, []string{k.Fingerprint, k.Algorithm, orDash(keyLimits(k)), k.Comment})
	}
	return a.show(v)
}

// keyLimits are the options of a key.
func keyLimits(k admin.Key) string {
	var list []string
	if k.Authority {
		list = append(list, "cert-authority")
	}
	if len(k.Principals) > 0 {
		list = append(list, "principals="+strings.Join(k.Principals, ","))
	}
	if len(k.From) > 0 {
		list = append(list, "from="+strings.Join(k.From, ","))
	}
	if !k.Expires.IsZero() {
		list = append(list, "until "+stamp(k.Expires))
	}
	return strings.Join(list, " ")
}

// keyLines reads the public keys of a file and says what it read.
func (a *app) keyLines(file string) ([]string, error) {
	r := a.stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		r = f
	}
	data, err := io.ReadAll(io.LimitReader(r, maxKeyFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxKeyFile {
		return nil, &admin.Error{Code: admin.CodeInvalid, Message: fmt.Sprintf("%s: larger than %d bytes", file, maxKeyFile)}
	}
	keys, err := readPublicKeys(data)
	if err != nil {
		e := &admin.Error{Code: admin.CodeInvalid, Message: file + ": " + err.Error()}
		if err == errPrivateKey {
			e.Hint = "give the public key: the .pub file beside it, or `ssh-keygen -y -f " + file + "`"
		}
		return nil, e
	}
	var lines []string
	for _, k := range keys {
		a.say("%s: read %s, %s", file, k.form, k.kind())
		lines = append(lines, k.line())
	}
	return lines, nil
}
