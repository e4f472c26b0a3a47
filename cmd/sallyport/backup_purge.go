package main

import (
	"context"

	"github.com/spf13/cobra"

	"sallyport/server/admin"
)

func (a *app) backupPurge() *cobra.Command {
	var now bool
	var account string
	c := &cobra.Command{Use: "purge", Short: "Make what was purged unreadable now, not at shred.at", Args: exactly(),
		Long: "Run the shred epoch: accounts from which something was purged get new keys and compact databases, the\n" +
			"keyring gets a new root, and the seal destroys the old root where it can. Prints the receipt that is in\n" +
			"the audit log.",
		RunE: func(c *cobra.Command, _ []string) error {
			if !now {
				return usage("backup purge does what the server does at shred.at; say --now", "")
			}
			return a.call(c.Context(), 0, func(ctx context.Context, cl *admin.Client) error {
				r, err := cl.BackupPurge(ctx, admin.ShredAsk{Change: a.change(), Account: account})
				if err != nil {
					return err
				}
				return a.showRotated(r)
			})
		}}
	c.Flags().BoolVar(&now, "now", false, "do it now")
	c.Flags().StringVar(&account, "account", "", "this `account`, whether something awaits shredding in it or not")
	return c
}
