package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"sallyport/crypto/keyring"
	"sallyport/crypto/shamir"
	"sallyport/server/admin"
)

// unsealFlags say where the secret comes from.
type unsealFlags struct {
	stdin, forget      bool
	fd                 int
	recovery, identity string
}

func (a *app) unsealCommand() *cobra.Command {
	var o unsealFlags
	c := &cobra.Command{Use: "unseal", Short: "Give the running server what it needs to get at its keys", Args: exactly(),
		Example: "  sallyport unseal\n  age -d -i me.txt share-689c33be-1 | sallyport unseal --stdin\n  sallyport unseal --recovery kit.age --identity me.txt",
		Long: "With a passphrase, ask for it. With shares, ask for one: each holder runs this command, and the last one\n" +
			"needed unseals the server; until then the exit code is 6. A share may be pasted in the lines that it was\n" +
			"printed in. With a key file, a key service or a helper the server tries at once. With --recovery, a\n" +
			"recovery kit does whatever the seal is.",
		RunE: func(c *cobra.Command, _ []string) error {
			return a.call(c.Context(), unsealTime, func(ctx context.Context, cl *admin.Client) error { return a.unseal(ctx, cl, o) })
		}}
	f := c.Flags()
	f.BoolVar(&o.stdin, "stdin", false, "read the passphrase or share from standard input")
	f.IntVar(&o.fd, "passphrase-fd", -1, "read the passphrase or share from this open `descriptor`")
	f.BoolVar(&o.forget, "forget", false, "forget the shares that were given so far")
	f.StringVar(&o.recovery, "recovery", "", "recovery kit: a `file` of `seal export`, or what age made of it")
	f.StringVar(&o.identity, "identity", "", "private key (age or SSH, a `file`) that opens the recovery kit")
	return c
}

// unsealTime is the standard time of unseal: Argon2id, a key service, and the opening of all that lies behind.
const unsealTime = 5 * time.Minute

func (a *app) unseal(ctx context.Context, cl *admin.Client, o unsealFlags) error {
	r, err := a.unsealRequest(ctx, cl, o)
	if err != nil {
		return err
	}
	st, err := cl.Unseal(ctx, r)
	if err != nil {
		return err
	}
	if st.Note != "" {
		a.say("%s", st.Note)
	}
	if o.forget {
		return a.showSealState(st)
	}
	return a.unsealed(st)
}

func (a *app) unsealRequest(ctx context.Context, cl *admin.Client, o unsealFlags) (admin.Unseal, error) {
	switch {
	case o.identity != "" && o.recovery == "":
		return admin.Unseal{}, usage("--identity opens a recovery kit, and there is none", "say which with --recovery")
	case o.forget:
		return admin.Unseal{Forget: true}, nil
	case o.recovery != "":
		return a.kitFrom(o)
	}
	st, err := cl.SealState(ctx)
	if err != nil || st.State == "ready" {
		return admin.Unseal{}, err
	}
	switch st.Kind {
	case keyring.KindPassphrase:
		pass, err := a.secretFrom(o, "Passphrase: ")
		return admin.Unseal{Passphrase: pass}, err
	case keyring.KindShares:
		share, err := a.shareFrom(o, fmt.Sprintf("Share (%d/%d are there, set %s): ", st.Have, st.Need, st.Set))
		return admin.Unseal{Share: share}, err
	}
	return admin.Unseal{}, nil
}

func (a *app) kitFrom(o unsealFlags) (admin.Unseal, error) {
	var r admin.Unseal
	kit, err := os.ReadFile(o.recovery)
	if err != nil {
		return r, err
	}
	r.Kit = admin.Secret(kit)
	if o.identity != "" {
		if info, err := os.Stat(o.identity); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
			// No refusal: who has to use a kit is in a hurry, and what has been read cannot be unread.
			a.say("warning: the private key %s has mode %#o: other users of this host can read it, and open the recovery kit; run chmod 600 on it", o.identity, info.Mode().Perm())
		}
		identity, err := os.ReadFile(o.identity)
		if err != nil {
			return r, err
		}
		r.Identity = admin.Secret(identity)
	}
	return r, nil
}

// maxSecret bounds a passphrase or share, bytes.
const maxSecret = 4096

// secretFrom reads a secret: from a descriptor, from standard input, or without
// echo from the terminal.
func (a *app) secretFrom(o unsealFlags, prompt string) (admin.Secret, error) {
	switch {
	case o.fd >= 0:
		f := os.NewFile(uintptr(o.fd), "--passphrase-fd")
		if f == nil {
			return "", usage(fmt.Sprintf("--passphrase-fd %d is no descriptor", o.fd), "")
		}
		defer f.Close()
		return readSecret(f)
	case o.stdin:
		return readSecret(a.stdin)
	}
	f, ok := a.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return "", usage("no terminal to ask for the secret", "pass it on standard input with --stdin, or on another descriptor with --passphrase-fd")
	}
	line, err := a.askHidden(f, prompt)
	if err != nil {
		return "", err
	}
	return readSecret(strings.NewReader(line))
}

// askHidden reads a line from the terminal without echo.
func (a *app) askHidden(f *os.File, prompt string) (string, error) {
	fmt.Fprint(a.stderr, prompt)
	line, err := term.ReadPassword(int(f.Fd()))
	fmt.Fprintln(a.stderr)
	return string(line), err
}

// shareFrom is secretFrom for a share, which is printed in three lines and is pasted as it was printed: were only the first one read here, the shell
// would be given the others, show them, and keep them in its history.
func (a *app) shareFrom(o unsealFlags, prompt string) (admin.Secret, error) {
	f, ok := a.stdin.(*os.File)
	if o.stdin || o.fd >= 0 || !ok || !term.IsTerminal(int(f.Fd())) {
		return a.secretFrom(o, prompt)
	}
	text, err := shareLines(func(more bool) (string, error) {
		if more {
			return a.askHidden(f, "  and the rest (an empty line ends it): ")
		}
		return a.askHidden(f, prompt)
	})
	if err != nil {
		return "", err
	}
	return readSecret(strings.NewReader(text))
}

// shareLines reads until there are as many characters as a share has, an empty line, or the end.
func shareLines(read func(more bool) (string, error)) (string, error) {
	var text strings.Builder
	for !shamir.WholeText([]byte(text.String())) && text.Len() <= maxSecret {
		line, err := read(text.Len() > 0)
		if err == io.EOF && text.Len() > 0 || err == nil && strings.TrimSpace(line) == "" {
			break
		}
		if err != nil {
			return "", err
		}
		text.WriteString(line + "\n")
	}
	return text.String(), nil
}

// readSecret takes everything up to the end: a share has several lines.
func readSecret(r io.Reader) (admin.Secret, error) {
	text, err := io.ReadAll(io.LimitReader(bufio.NewReader(r), maxSecret+1))
	if err != nil {
		return "", err
	}
	if len(text) > maxSecret {
		return "", &admin.Error{Code: admin.CodeInvalid, Message: fmt.Sprintf("the secret is longer than %d bytes", maxSecret)}
	}
	secret := strings.TrimRight(string(text), "\r\n")
	if secret == "" {
		return "", &admin.Error{Code: admin.CodeInvalid, Message: "the secret is empty"}
	}
	return admin.Secret(secret), nil
}

// showSealState tells how far it is.
func (a *app) showSealState(st admin.SealState) error {
	rows := [][]string{{"state", st.State}, {"seal", st.Kind}}
	if st.Need > 0 && st.State != "ready" {
		rows = append(rows, []string{"shares", fmt.Sprintf("%d/%d", st.Have, st.Need)})
	}
	return a.show(view{value: st, names: []string{st.State}, rows: rows})
}

// unsealed tells how far it is; a server that stays sealed is exit code 6.
func (a *app) unsealed(st admin.SealState) error {
	if err := a.showSealState(st); err != nil {
		return err
	}
	if st.State == "ready" {
		return nil
	}
	e := &admin.Error{Code: admin.CodeSealed, Message: "still sealed"}
	if st.Need > 0 {
		e.Message, e.Hint = fmt.Sprintf("still sealed: %d of %d shares are there", st.Have, st.Need), "the other holders run `sallyport unseal`, too"
	}
	return e
}
