package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"sallyport/server"
	"sallyport/server/admin"
)

func (a *app) vfsCommand() *cobra.Command {
	return group("vfs", "The encrypted volumes", a.vfsStat(), a.vfsVerify())
}

func (a *app) vfsStat() *cobra.Command {
	var account string
	c := &cobra.Command{Use: "stat", Short: "Show what volumes hold", Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.call(c.Context(), shortCall, func(ctx context.Context, cl *admin.Client) error {
				s, err := cl.VolumeStat(ctx, admin.VolumeRef{Account: account})
				if err != nil {
					return err
				}
				v := view{value: s, header: []string{"ACCOUNT", "FILES", "DIRS", "LIVE", "HISTORY", "TO DESTROY", "VERSIONS", "BLOBS", "DAMAGED"}, empty: "no volumes"}
				for _, x := range s.Volumes {
					if x.Error != "" {
						v.rows = append(v.rows, []string{x.Account, "-", "-", "-", "-", "-", "-", "-", "does not open"})
						a.say("%s: %s", x.Account, x.Error)
						continue
					}
					v.rows = append(v.rows, []string{x.Account, fmt.Sprint(x.Files), fmt.Sprint(x.Dirs), fmt.Sprint(x.LiveBytes), fmt.Sprint(x.HistoryBytes),
						fmt.Sprint(x.DoomedBytes), fmt.Sprint(x.Versions), fmt.Sprint(x.Blobs), fmt.Sprint(x.Damaged)})
				}
				return a.show(v)
			})
		}}
	c.Flags().StringVar(&account, "account", "", "only this `account`")
	return c
}

func (a *app) vfsVerify() *cobra.Command {
	var account string
	var offline bool
	c := &cobra.Command{Use: "verify", Short: "Check every record and every stored byte; exit 1 on findings", Args: exactly(),
		Long: "Check every record, the sums over them and every segment of every blob. A running server does it\n" +
			"online; without one the command opens the state directory itself (that needs the seal key: exit 6 without).",
		RunE: func(c *cobra.Command, _ []string) error {
			return a.verify(c.Context(), offline, "the volume",
				func(cl *admin.Client, ctx context.Context) (admin.Check, error) {
					return cl.VolumeVerify(ctx, admin.VolumeRef{Account: account})
				},
				func(ctx context.Context, c *server.Config) (admin.Check, error) {
					return server.VerifyOffline(ctx, c, account)
				})
		}}
	c.Flags().StringVar(&account, "account", "", "only this `account`")
	c.Flags().BoolVar(&offline, "offline", false, "do not ask a running server")
	return c
}
