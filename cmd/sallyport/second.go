package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"sallyport/server/admin"
)

func (a *app) secondCommand() *cobra.Command {
	var issuer string
	enable := &cobra.Command{Use: "enable NAME", Short: "Give an account a second factor; shows its secret once", Args: exactly("NAME"),
		Long: "Give an account a second factor: a code that changes every 30 seconds (RFC 6238). The secret and the\n" +
			"recovery codes are shown now and never again. From now on no login works without a code, and sessions\n" +
			"without one end. Over SFTP the server asks for it; over FTPS it follows the password directly.",
		RunE: func(c *cobra.Command, args []string) error {
			return a.call(c.Context(), shortCall, func(ctx context.Context, cl *admin.Client) error {
				e, err := cl.SecondEnable(ctx, admin.SecondEnable{Change: a.change(), Account: args[0], Issuer: issuer})
				if err != nil {
					return err
				}
				a.say("the secret and the recovery codes of %s are shown this once: hand them over, and keep no copy", args[0])
				v := view{value: e, rows: [][]string{{"uri", string(e.URI)}}}
				for _, r := range e.Recovery {
					v.rows = append(v.rows, []string{"recovery code", string(r)})
				}
				return a.show(v)
			})
		}}
	enable.Flags().StringVar(&issuer, "issuer", "Sallyport", "`name` that authenticators show for this server")
	one := func(verb, short string, do func(*admin.Client, context.Context, admin.AccountRef) (admin.SecondFactor, error)) *cobra.Command {
		return &cobra.Command{Use: verb + " NAME", Short: short, Args: exactly("NAME"),
			RunE: func(c *cobra.Command, args []string) error {
				return a.call(c.Context(), shortCall, func(ctx context.Context, cl *admin.Client) error {
					s, err := do(cl, ctx, admin.AccountRef{Change: a.change(), Name: args[0]})
					if err != nil {
						return err
					}
					v := view{value: s, rows: [][]string{{"account", s.Account}, {"second factor", yesNo(s.Enabled)}, {"required by policy", yesNo(s.Required)}}}
					if s.Enabled {
						v.rows = append(v.rows, []string{"since", stamp(s.Since)}, []string{"recovery codes left", fmt.Sprint(s.Recovery)})
					}
					return a.show(v)
				})
			}}
	}
	return group("2fa", "Second factor of an account", enable,
		one("reset", "Take the second factor away, e.g. when a phone is lost", (*admin.Client).SecondReset),
		one("status", "Tell whether an account has a second factor", (*admin.Client).SecondStatus))
}

func (a *app) accountUnlock() *cobra.Command {
	return &cobra.Command{Use: "unlock NAME", Short: "Forget the failed logins of an account", Args: exactly("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			return a.call(c.Context(), shortCall, func(ctx context.Context, cl *admin.Client) error {
				if err := cl.AccountUnlock(ctx, admin.AccountRef{Change: a.change(), Name: args[0]}); err != nil {
					return err
				}
				a.say("failed logins of %s are forgotten", args[0])
				return nil
			})
		}}
}
