package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"sallyport/crypto/durable"
	"sallyport/crypto/keyring"
	"sallyport/server/admin"
)

// sealChangeFlags say what the new seal is.
type sealChangeFlags struct {
	to     string
	shares shareFlags
	secret unsealFlags
	memory uint32 // MiB
}

func (a *app) sealShares() *cobra.Command {
	o := sealChangeFlags{to: keyring.KindShares}
	c := &cobra.Command{Use: "shares", Short: "Make a new set of shares in place of the old one", Args: exactly(),
		Long: "Make a new set of shares. Those of the old set do not open the server any more; what they opened before, an older\n" +
			"copy of seal.json or of the whole state, they open still. After a holder has left, run `sallyport seal rotate`, too.",
		Example: "  sallyport seal shares --shares 3-of-5\n  sallyport seal shares --recipient @alice.pub --recipient @bob.pub --recipient age1… --out shares --yes",
		RunE:    func(c *cobra.Command, _ []string) error { return a.changeSeal(c.Context(), &o) }}
	o.shares.register(c.Flags())
	return c
}

func (a *app) changeSeal(ctx context.Context, o *sealChangeFlags) error {
	r := admin.SealChange{Change: a.change(), To: o.to}
	var err error
	switch o.to {
	case keyring.KindKeyFile, keyring.KindTransit, keyring.KindHelper:
	case keyring.KindPassphrase:
		if _, err := keyring.Argon2Of(o.memory); err != nil {
			return usage("--argon2-memory: "+err.Error(), "")
		}
		r.Memory = o.memory
		if r.Passphrase, err = a.nextPassphrase(o.secret); err != nil {
			return err
		}
	case keyring.KindShares:
		return a.changeToShares(ctx, o, r)
	default:
		return usage(fmt.Sprintf("--to %q is not one of keyfile, passphrase, shares, transit, helper", o.to), "")
	}
	if err := a.confirm("The seal becomes %s. Who had the old secret only cannot unseal the server any more.", o.to); err != nil {
		return err
	}
	return a.call(ctx, unsealTime, func(ctx context.Context, cl *admin.Client) error {
		out, err := cl.SealChange(ctx, r)
		if err != nil {
			return err
		}
		by := out.Kind
		if out.Where != "" {
			by += " " + out.Where
		}
		a.say("sealed by %s from now on; %s", by, out.Old)
		return nil
	})
}

// nextPassphrase asks twice, because a mistake would be for ever.
func (a *app) nextPassphrase(o unsealFlags) (admin.Secret, error) {
	first, err := a.secretFrom(o, "New passphrase: ")
	if err != nil || o.stdin || o.fd >= 0 {
		return first, err
	}
	second, err := a.secretFrom(o, "Again: ")
	if err == nil && first != second {
		err = &admin.Error{Code: admin.CodeInvalid, Message: "the two passphrases differ"}
	}
	return first, err
}

// recipients reads @FILE.
func recipients(list []string) ([]string, error) {
	var out []string
	for _, r := range list {
		if file, ok := strings.CutPrefix(r, "@"); ok {
			text, err := os.ReadFile(file)
			if err != nil {
				return nil, err
			}
			r = strings.TrimSpace(string(text))
		}
		out = append(out, r)
	}
	return out, nil
}

func (a *app) sealExport() *cobra.Command {
	var recipient, out string
	c := &cobra.Command{Use: "export", Short: "Make a recovery kit, encrypted to an age recipient or SSH key", Args: exactly(),
		Example: "  sallyport seal export --recipient age1… --out kit.age\n  sallyport seal export --recipient @id_ed25519.pub >kit.age",
		Long: "Make a recovery kit. With it and the recipient's private key `sallyport unseal --recovery` opens this state,\n" +
			"whatever becomes of the seal, until the kit is revoked. Keep it off this host.",
		RunE: func(c *cobra.Command, _ []string) error {
			if recipient == "" {
				return usage("for whom? --recipient is missing", "give an age recipient (age1…) or an SSH public key (@id_ed25519.pub)")
			}
			to, err := recipients([]string{recipient})
			if err != nil {
				return err
			}
			return a.call(c.Context(), shortCall, func(ctx context.Context, cl *admin.Client) error {
				kit, err := cl.KitExport(ctx, admin.KitExport{Change: a.change(), Recipient: to[0]})
				if err != nil {
					return err
				}
				if out == "" {
					_, err = fmt.Fprint(a.stdout, kit.Text)
				} else {
					err = durable.WriteFile(out, []byte(kit.Text), 0o600)
				}
				if err != nil {
					return err
				}
				a.say("recovery kit %s; `sallyport seal revoke %s` makes it worthless for root keys to come", kit.ID, kit.ID)
				return nil
			})
		}}
	c.Flags().StringVar(&recipient, "recipient", "", "age recipient or SSH public key (`KEY`, or @FILE)")
	c.Flags().StringVar(&out, "out", "", "write it to this `file` instead of standard output")
	return c
}

func (a *app) sealFinish() *cobra.Command {
	var giveUp bool
	c := &cobra.Command{Use: "finish", Short: "Destroy now at the seal what an earlier change had to leave; the server also tries by itself", Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			if giveUp {
				if err := a.confirm("What the seal before wrapped stays there: who has its key and an old copy of seal.json opens that copy, for ever."); err != nil {
					return err
				}
			}
			return a.call(c.Context(), unsealTime, func(ctx context.Context, cl *admin.Client) error {
				out, err := cl.SealFinish(ctx, admin.SealFinish{Change: a.change(), GiveUp: giveUp})
				if err != nil {
					return err
				}
				if out.GivenUp != "" {
					a.say("given up: %s", out.GivenUp)
					return nil
				}
				a.say("nothing waits to be destroyed at the seal")
				return nil
			})
		}}
	c.Flags().BoolVar(&giveUp, "give-up", false, "forget what a former seal has to destroy, because its key is lost or out of reach for ever")
	return c
}

func (a *app) sealRevoke() *cobra.Command {
	return &cobra.Command{Use: "revoke KIT", Short: "Take a recovery kit out of the seal; rotate the root key afterwards", Args: exactly("KIT"),
		Example: "  sallyport seal status\n  sallyport seal revoke 8daed32ecd66756e && sallyport seal rotate",
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.confirm("Recovery kit %s will not open root keys to come.", args[0]); err != nil {
				return err
			}
			return a.call(c.Context(), shortCall, func(ctx context.Context, cl *admin.Client) error {
				if err := cl.KitRevoke(ctx, admin.KitRef{Change: a.change(), ID: args[0]}); err != nil {
					return err
				}
				a.say("revoked; who has the kit and an older copy of seal.json can still open the root key in force: rotate it")
				return nil
			})
		}}
}
