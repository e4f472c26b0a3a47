package main

import (
	"cmp"
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"sallyport/server/admin"
)

func (a *app) backupPurge() *cobra.Command {
	var now bool
	var r admin.PurgeAsk
	var before string
	c := &cobra.Command{Use: "purge", Short: "Destroy history before its time, and make what was purged unreadable now", Args: exactly(),
		Long: "Without --before: destroy what policy has let go and the server has not got to yet. With --before TIME, all\n" +
			"that the account replaced or deleted before then, though not what backup.min_retention_days keeps or what is\n" +
			"on hold. With --path, everything that was replaced and deleted at and below the path, also under the names that\n" +
			"it had before and has now: what `backup list --path` shows. What is current stays: delete it first, as the\n" +
			"account, if it must go, too. --dry-run only counts.\n\n" +
			"With --now, run the shred epoch after it: accounts from which something was purged get new keys and compact\n" +
			"databases, the keyring gets a new root, and the seal destroys the old root where it can. Prints the receipt\n" +
			"that is in the audit log. The server does that by itself at shred.at.",
		Example: "  sallyport backup purge --account acme --path /cv/smith.pdf --dry-run\n" +
			"  sallyport backup purge --account acme --path /cv/smith.pdf --now --reason 'request of 3 March'",
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if r.Before, err = instant(before); err != nil {
				return err
			}
			if r.DryRun && now {
				return usage("--dry-run and --now exclude each other", "")
			}
			chosen := before != "" || r.Path != ""
			if chosen && r.Account == "" {
				return usage("a purge before a time, or of a path, is of one account", "say which with --account")
			}
			if chosen && !r.DryRun {
				if err := a.confirm("%s", purgeQuestion(r)); err != nil {
					return err
				}
			}
			return a.call(c.Context(), 0, func(ctx context.Context, cl *admin.Client) error {
				r.Change = a.change()
				if !now || chosen {
					if err := a.purge(ctx, cl, r, now); err != nil {
						return err
					}
				}
				if !now {
					return nil
				}
				got, err := cl.BackupPurge(ctx, admin.ShredAsk{Change: r.Change, Account: r.Account})
				if err != nil {
					return err
				}
				return a.showRotated(got)
			})
		}}
	f := c.Flags()
	f.BoolVar(&now, "now", false, "make what was purged unreadable now")
	f.StringVar(&r.Account, "account", "", "only this `account`; with --now, whether something awaits shredding in it or not")
	f.StringVar(&before, "before", "", "what was replaced or deleted before this `time`, whether policy keeps it or not")
	f.StringVar(&r.Path, "path", "", "only what is, or was, at and below this `path`, whether policy keeps it or not")
	f.BoolVar(&r.DryRun, "dry-run", false, "only say what would be destroyed")
	return c
}

// purgeQuestion says what somebody is about to choose.
func purgeQuestion(r admin.PurgeAsk) string {
	what := "This destroys what account " + r.Account + " replaced or deleted"
	if r.Path != "" {
		what += " at and below " + r.Path + ", under all names that it had"
	}
	if !r.Before.IsZero() {
		what += ", before " + stamp(r.Before)
	}
	return what + ". There is no way back."
}

// freed is how many stored bytes go, where versions share them.
func freed(bytes uint64, least bool) string {
	if least {
		return fmt.Sprintf(">=%d", bytes)
	}
	return fmt.Sprint(bytes)
}

// purge shows what is destroyed, or would be; quietly if the receipt of a shred epoch follows on standard output.
func (a *app) purge(ctx context.Context, cl *admin.Client, r admin.PurgeAsk, quietly bool) error {
	list := []admin.PurgedAccount{}
	p := a.progress()
	err := cl.BackupDestroy(ctx, r, func(x admin.PurgedAccount) error {
		if x.Done {
			list = append(list, x)
		}
		p.show("%s: %d names, %d versions of %d bytes destroyed, %d bytes freed", x.Account, x.Names, x.Versions, x.Bytes, x.Stored)
		return nil
	})
	p.end()
	if err != nil {
		return err
	}
	v := view{value: map[string]any{"dry_run": r.DryRun, "accounts": list}, header: []string{"ACCOUNT", "NAMES", "VERSIONS", "BYTES", "FREED", "OLDEST", "NEWEST", "STAYS"}, empty: "nothing is past its time"}
	failed, note := 0, ""
	for _, x := range list {
		note = cmp.Or(note, x.Note)
		if x.Note != "" && r.Account == "" && x.Error == "" && x.Names+x.Versions+x.Stays+x.Busy == 0 {
			continue // it is there for the note
		}
		if x.Error != "" {
			failed++
			a.say("%s: %s", x.Account, x.Error)
		}
		stays := "-"
		if x.Stays+x.Busy > 0 {
			stays = fmt.Sprint(x.Stays + x.Busy)
		}
		v.rows = append(v.rows, []string{x.Account, fmt.Sprint(x.Names), fmt.Sprint(x.Versions), fmt.Sprint(x.Bytes), freed(x.Stored, x.Least), stamp(x.Oldest), stamp(x.Newest), stays})
	}
	if !quietly {
		if err := a.show(v); err != nil {
			return err
		}
	}
	if len(list) == 1 && r.Path != "" && list[0].Error == "" {
		switch x := list[0]; {
		case x.Stays+x.Busy > 0:
			a.say("note: %d stay: they are on hold, or somebody is writing the file", x.Stays+x.Busy)
		case x.Names+x.Versions == 0:
			a.say("note: there is no history at and below %s; what is current is none", r.Path)
		}
	}
	if note != "" {
		a.say("note: %s; `sallyport backup clock` says more", note)
	}
	if failed > 0 {
		return &admin.Error{Code: admin.CodeFindings, Message: fmt.Sprintf("%d accounts were not purged", failed), Hint: "the others were"}
	}
	return nil
}
