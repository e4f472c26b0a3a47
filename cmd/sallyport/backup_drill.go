package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"sallyport/server"
	"sallyport/server/admin"
)

// tellDrilled has a running server remember the trial, so that it can warn when the last one is long ago.
func (a *app) tellDrilled(ctx context.Context, r *server.Restored, deep bool) {
	err := a.call(ctx, shortCall, func(ctx context.Context, cl *admin.Client) error {
		return cl.Drilled(ctx, admin.CopyDrilled{ID: r.ID, Made: r.Made, Findings: r.Findings(), Deep: deep})
	})
	if err != nil {
		a.say("note: no running server will remember this drill: %v", err)
	}
}

// backupDrill tries a restore.
func (a *app) backupDrill() *cobra.Command {
	var from string
	var quick bool
	var secret unsealFlags
	c := &cobra.Command{Use: "drill", Short: "Try the restore of a copy and say what came of it; exit 1 on findings", Args: exactly(),
		Long: "Restore the copy into a directory beside it (mode 0700, removed at the end; blobs are linked, not copied, where\n" +
			"the file system can), open it with the seal's secret, read and authenticate every byte, and report each\n" +
			"account, the age of the copy and the time it took. Nothing else changes, also not at a key service.",
		RunE: func(c *cobra.Command, _ []string) error {
			if from == "" {
				return usage("--from says where the copy is", "the directory of `sallyport backup state --to`")
			}
			l, err := server.LoadConfig(a.configSource())
			if err != nil {
				return err
			}
			r, err := server.DrillState(c.Context(), l.Config, server.RestoreOptions{
				From: from, Deep: !quick, Seal: a.sealOf(l.Config, secret), Who: fmt.Sprintf("uid %d, offline", os.Getuid()),
			})
			if err != nil {
				return err
			}
			a.tellDrilled(c.Context(), r, !quick)
			return a.showRestored(r, "the copy")
		}}
	c.Flags().StringVar(&from, "from", "", "`directory` of the copy")
	c.Flags().BoolVar(&quick, "quick", false, "read the ends of blobs only")
	secret.register(c)
	return c
}
