package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"sallyport/server"
	"sallyport/server/admin"
)

func (a *app) vfsCommand() *cobra.Command {
	return group("vfs", "The encrypted volumes", a.vfsStat(), a.vfsVerify(), a.vfsScrub(), a.vfsCompact())
}

func (a *app) vfsStat() *cobra.Command {
	var account string
	c := &cobra.Command{Use: "stat", Short: "Show what volumes hold", Args: exactly(),
		Long: "Files, directories and bytes of each account. LIVE is what is current, HISTORY what was replaced or deleted and is\n" +
			"kept, TO UNLINK what was purged and lies on the disk still, TO SHRED what was purged and has a key in old copies\n" +
			"until the next shred epoch. Of instants before WHOLE SINCE something was purged.",
		RunE: func(c *cobra.Command, _ []string) error {
			return a.call(c.Context(), shortCall, func(ctx context.Context, cl *admin.Client) error {
				s, err := cl.VolumeStat(ctx, admin.VolumeRef{Account: account})
				if err != nil {
					return err
				}
				v := view{value: s, header: []string{"ACCOUNT", "FILES", "DIRS", "LIVE", "HISTORY", "TO UNLINK", "TO SHRED", "VERSIONS", "BLOBS", "DAMAGED", "WHOLE SINCE", "HOLD"}, empty: "no volumes"}
				for _, x := range s.Volumes {
					if x.Error != "" {
						v.rows = append(v.rows, []string{x.Account, "-", "-", "-", "-", "-", "-", "-", "-", "does not open", "-", "-"})
						a.say("%s: %s", x.Account, x.Error)
						continue
					}
					v.rows = append(v.rows, []string{x.Account, fmt.Sprint(x.Files), fmt.Sprint(x.Dirs), fmt.Sprint(x.LiveBytes), fmt.Sprint(x.HistoryBytes),
						fmt.Sprint(x.DoomedBytes), fmt.Sprint(x.AwaitingShred), fmt.Sprint(x.Versions), fmt.Sprint(x.Blobs), fmt.Sprint(x.Damaged), wholeColumn(x.PastWhole), yesNo(x.Held)})
				}
				return a.show(v)
			})
		}}
	c.Flags().StringVar(&account, "account", "", "only this `account`")
	return c
}

// wholeColumn is the earliest instant of which everything is there that was not chosen to be destroyed, and behind it the one of which everything is.
func wholeColumn(w admin.PastWhole) string {
	switch {
	case w.ExactSince.IsZero():
		return "ever"
	case w.WholeSince.Equal(w.ExactSince):
		return sinceStamp(w.WholeSince)
	case w.WholeSince.IsZero():
		return "ever (exact: " + sinceStamp(w.ExactSince) + ")"
	}
	return sinceStamp(w.WholeSince) + " (exact: " + sinceStamp(w.ExactSince) + ")"
}

func (a *app) vfsVerify() *cobra.Command {
	var account string
	var offline, repair, fallback bool
	c := &cobra.Command{Use: "verify", Short: "Check every record and every stored byte; exit 1 on findings", Args: exactly(),
		Example: "  sallyport vfs verify\n  sallyport vfs verify --account acme --repair\n  sallyport vfs verify --offline",
		Long: "Check every record, the sums over them and every segment of every blob. A running server does it\n" +
			"online; without one the command opens the state directory itself (that needs the seal key: exit 6 without).\n\n" +
			"--repair reads what can be read of damaged volumes, shows what it would bring back and what is lost, with\n" +
			"the names of files, and rebuilds the metadata after a yes. The sessions of that account end; others go on.",
		RunE: func(c *cobra.Command, _ []string) error {
			if fallback && !repair {
				return usage("--fallback goes with --repair", "")
			}
			if repair {
				return a.repair(c.Context(), offline, account, fallback)
			}
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
	c.Flags().BoolVar(&repair, "repair", false, "bring back what can be brought back, and say what is lost")
	c.Flags().BoolVar(&fallback, "fallback", false, "with --repair: where the current version of a file is damaged, the newest whole one becomes current")
	return c
}

func (a *app) vfsScrub() *cobra.Command {
	status := &cobra.Command{Use: "status", Short: "Show what the verification in the background has done", Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.call(c.Context(), shortCall, func(ctx context.Context, cl *admin.Client) error {
				s, err := cl.ScrubStatus(ctx)
				if err != nil {
					return err
				}
				return a.show(view{value: s, rows: [][]string{
					{"interval", s.Interval}, {"bytes per second", fmt.Sprint(s.Rate)}, {"running", fmt.Sprint(s.Running)},
					{"last round began", stamp(s.Began)}, {"last whole round ended", stamp(s.Ended)}, {"rounds", fmt.Sprint(s.Rounds)},
					{"volumes verified", fmt.Sprint(s.Volumes)}, {"bytes read", fmt.Sprint(s.Bytes)},
					{"findings", fmt.Sprint(s.Findings)}, {"damaged volumes", fmt.Sprint(s.Damaged)},
				}})
			})
		}}
	return group("scrub", "Verification in the background", status)
}
