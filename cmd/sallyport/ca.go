package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"sallyport/server/admin"
)

func (a *app) caCommand() *cobra.Command {
	add := &cobra.Command{Use: "add FILE", Short: "Trust an authority: an SSH public key, or a TLS certificate in PEM", Args: exactly("FILE"),
		Long: "Trust an authority of the site. Its certificates log in to the account that they name, where auth.sftp or\n" +
			"auth.ftps of the policy has `certificate`. An authority for one account only is a line with the option\n" +
			"cert-authority for `account keys add`.",
		RunE: func(c *cobra.Command, args []string) error {
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			text, err := io.ReadAll(io.LimitReader(f, maxKeyFile))
			if err != nil {
				return err
			}
			return a.trust(c, func(ctx context.Context, cl *admin.Client) (admin.Trust, error) {
				return cl.AuthorityAdd(ctx, admin.AuthorityAdd{Change: a.change(), Text: string(text)})
			})
		}}
	list := &cobra.Command{Use: "list", Short: "List authorities and revocations", Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.trust(c, func(ctx context.Context, cl *admin.Client) (admin.Trust, error) { return cl.TrustList(ctx) })
		}}
	one := func(use, short string, do func(*admin.Client, context.Context, admin.TrustRef) (admin.Trust, error)) *cobra.Command {
		return &cobra.Command{Use: use, Short: short, Args: exactly("WHAT"),
			RunE: func(c *cobra.Command, args []string) error {
				return a.trust(c, func(ctx context.Context, cl *admin.Client) (admin.Trust, error) {
					return do(cl, ctx, admin.TrustRef{Change: a.change(), What: args[0]})
				})
			}}
	}
	return group("ca", "Authorities whose certificates may log in, and revocations", add, list,
		one("remove FINGERPRINT", "Trust an authority no longer; its sessions end", (*admin.Client).AuthorityRemove),
		one("revoke serial:N|id:KEYID|SHA256:...", "Take certificates or keys out of use; their sessions end", (*admin.Client).Revoke),
		one("unrevoke WHAT", "Take a revocation back", (*admin.Client).Unrevoke))
}

// trust shows what is trusted after do.
func (a *app) trust(c *cobra.Command, do func(context.Context, *admin.Client) (admin.Trust, error)) error {
	return a.call(c.Context(), shortCall, func(ctx context.Context, cl *admin.Client) error {
		t, err := do(ctx, cl)
		if err != nil {
			return err
		}
		v := view{value: t, header: []string{"KIND", "WHAT", "SINCE", "COMMENT"}, empty: "no authorities, nothing revoked"}
		for _, x := range t.Authorities {
			v.rows = append(v.rows, []string{"authority, " + x.Kind, x.Fingerprint, stamp(x.Added), x.Comment})
		}
		for _, x := range t.Revoked {
			v.rows = append(v.rows, []string{"revoked", x.What, stamp(x.Added), ""})
		}
		if err := a.show(v); err != nil {
			return fmt.Errorf("showing: %w", err)
		}
		return nil
	})
}
