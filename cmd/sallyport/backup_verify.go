package main

import (
	"context"

	"github.com/spf13/cobra"

	"sallyport/server/admin"
)

func (a *app) backupVerify() *cobra.Command {
	var account string
	c := &cobra.Command{Use: "verify", Short: "Check that all of history opens; exit 1 on findings", Args: exactly(),
		Example: "  sallyport backup verify --account acme",
		Long: "Reads and authenticates every version that accounts have, current and past, and says how much that was.\n" +
			"It is what `vfs verify` does on a running server.",
		RunE: func(c *cobra.Command, _ []string) error {
			return a.call(c.Context(), 0, func(ctx context.Context, cl *admin.Client) error {
				r, err := cl.VolumeVerify(ctx, admin.VolumeRef{Account: account})
				if err != nil {
					return err
				}
				return a.showCheck(r, "the history")
			})
		}}
	c.Flags().StringVar(&account, "account", "", "only this `account`")
	return c
}
