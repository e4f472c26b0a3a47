package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"sallyport/server/admin"
)

func (a *app) backupList() *cobra.Command {
	var r admin.HistoryAsk
	var holds bool
	var since, until string
	c := &cobra.Command{Use: "list", Short: "Show what an account replaced and deleted, and what is on hold", Args: exactly(),
		Long: "Versions that another one took the place of, and names that were removed, replaced or renamed away, oldest\n" +
			"first: when, by which session (from the audit log), what is on hold, and when policy lets it go.",
		Example: "  sallyport backup list --account acme --path /reports --since 2026-11-01\n  sallyport backup list --holds",
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if r.Since, err = instant(since); err != nil {
				return err
			}
			if r.Until, err = instant(until); err != nil {
				return err
			}
			if !holds && r.Account == "" {
				return usage("whose history?", "name the account with --account; `backup list --holds` shows holds of all accounts")
			}
			return a.call(c.Context(), 0, func(ctx context.Context, cl *admin.Client) error {
				if holds {
					list, err := cl.BackupHolds(ctx, admin.VolumeRef{Account: r.Account})
					if err != nil {
						return err
					}
					return a.showHolds(list, list)
				}
				list, err := cl.BackupHistory(ctx, r)
				if err != nil {
					return err
				}
				return a.showHistory(list)
			})
		}}
	f := c.Flags()
	f.StringVar(&r.Account, "account", "", "the `account`")
	f.StringVar(&r.Path, "path", "", "only at and below this `path`")
	f.StringVar(&since, "since", "", "only what was replaced or deleted at or after this `time`")
	f.StringVar(&until, "until", "", "only what was replaced or deleted before this `time`")
	f.IntVarP(&r.Limit, "lines", "n", 1000, "at most so many")
	f.BoolVar(&r.NoWho, "no-who", false, "do not look into the audit log for who did it")
	f.BoolVar(&holds, "holds", false, "show what is on hold instead")
	return c
}

// wholeSince says of what time nothing is missing.
func wholeSince(w admin.PastWhole) string {
	if w.WholeSince.Equal(w.ExactSince) {
		return "the past is whole since " + sinceStamp(w.ExactSince)
	}
	text := "the past is whole since " + sinceStamp(w.ExactSince) + "; before, what was chosen to be destroyed, lost to damage or written by an earlier version of the program may be missing"
	if !w.WholeSince.IsZero() {
		text += ", and before " + sinceStamp(w.WholeSince) + " anything"
	}
	return text
}

func (a *app) showHistory(list admin.HistoryItems) error {
	v := view{value: list, header: []string{"TIME", "WHAT", "PATH", "VERSION", "BYTES", "SESSION", "FROM", "GONE"}, empty: "no history"}
	for _, i := range list.Items {
		what := i.Action
		switch {
		case what == "" && i.Version == 0:
			what = "removed or moved"
		case what == "":
			what = "replaced"
		case i.To != "":
			what += " to " + i.To
		}
		version, gone := "-", stamp(i.Purged)
		if i.Version != 0 {
			version = fmt.Sprint(i.Version)
		}
		if i.Held {
			gone = "on hold"
		} else if i.Purged.IsZero() {
			gone = "never"
		}
		v.rows = append(v.rows, []string{stamp(i.At), what, i.Path, version, fmt.Sprint(i.Bytes), orDash(i.Session), orDash(i.Remote), gone})
		v.names = append(v.names, i.Path)
	}
	if !list.ExactSince.IsZero() {
		a.say("%s", wholeSince(list.PastWhole))
	}
	if list.More {
		a.say("there is more: narrow it with --path, --since or --until, or raise --lines")
	}
	return a.show(v)
}
