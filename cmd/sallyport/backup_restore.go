package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"sallyport/server/admin"
)

func (a *app) backupRestore() *cobra.Command {
	var r admin.RestoreAsk
	var at string
	c := &cobra.Command{Use: "restore", Short: "Bring back a tree of an account as it was", Args: exactly(),
		Long: "Brings back content, names, modes and times of what is at the path, as of a time. Nothing is overwritten:\n" +
			"what is there goes to history, so a restore is undone by restoring the instant before it. What came later\n" +
			"stays, unless --exact says that it goes to history, too. --dry-run says what would be done.",
		Example: "  sallyport backup restore --account acme --at 2h --path /reports --dry-run\n" +
			"  sallyport backup restore --account acme --at '2026-11-20 14:30' --exact --reason 'encrypted by malware'",
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if r.At, err = instant(at); err != nil {
				return err
			}
			return a.call(c.Context(), 0, func(ctx context.Context, cl *admin.Client) error {
				r.Change = a.change()
				return a.restore(ctx, cl, r)
			})
		}}
	f := c.Flags()
	f.StringVar(&r.Account, "account", "", "the `account`")
	f.StringVar(&at, "at", "", "as of this `time`, or how long ago")
	f.StringVar(&r.Path, "path", "/", "`path` of then, as the client saw it")
	f.StringVar(&r.To, "to", "", "restore to this `path` instead of where it was")
	f.BoolVar(&r.Exact, "exact", false, "what is there now and was not then goes to history")
	f.BoolVar(&r.DryRun, "dry-run", false, "only say what would be done")
	f.IntVarP(&r.Items, "lines", "n", 100, "with --dry-run: show at most so many names")
	_ = c.MarkFlagRequired("account") // the flags exist
	_ = c.MarkFlagRequired("at")
	return c
}

func (a *app) restore(ctx context.Context, cl *admin.Client, r admin.RestoreAsk) error {
	items := []admin.RestoredItem{}
	var last admin.Restored
	p := a.progress()
	err := cl.BackupRestore(ctx, r, func(x admin.Restored) error {
		if x.Item != nil {
			items = append(items, *x.Item)
			return nil
		}
		last = x
		p.show("%d names, %d bytes restored", x.Totals.Created+x.Totals.Changed+x.Totals.Moved, x.Totals.Bytes)
		return nil
	})
	p.end()
	if err != nil {
		return err
	}
	if !last.Done {
		return &admin.Error{Code: admin.CodeInternal, Message: "the server broke off the restore", Hint: "the same command goes on"}
	}
	if err := a.showTreeRestored(r, last, items); err != nil {
		return err
	}
	if last.Error != nil {
		return last.Error
	}
	if t := last.Totals; !r.DryRun && t.Conflicts+t.Busy+t.Purged+t.Damaged > 0 {
		return &admin.Error{Code: admin.CodeFindings, Message: "some names were left alone", Hint: "the same command with --dry-run names them"}
	}
	return nil
}

func (a *app) showTreeRestored(r admin.RestoreAsk, last admin.Restored, items []admin.RestoredItem) error {
	t := last.Totals
	value := map[string]any{"dry_run": r.DryRun, "totals": t, "items": items}
	if !last.Lacks.IsZero() {
		value["lacks"] = last.Lacks
		a.say("of that time something may be missing that was purged since: the past is whole since %s", sinceStamp(last.Lacks))
	}
	v := view{value: value}
	for _, i := range items {
		path := i.Path
		if i.From != "" && i.From != i.Path {
			path += " from " + i.From
		}
		v.rows = append(v.rows, []string{i.Action, path, fmt.Sprint(i.Bytes)})
		v.names = append(v.names, i.Path)
	}
	for _, row := range []struct {
		what string
		n    uint64
	}{
		{"created", t.Created}, {"changed", t.Changed}, {"moved", t.Moved}, {"removed", t.Removed}, {"the same", t.Same}, {"left alone: in the way", t.Conflicts},
		{"left alone: being written", t.Busy}, {"left alone: purged", t.Purged}, {"left alone: damaged", t.Damaged}, {"bytes", t.Bytes}, {"bytes copied", t.Copied},
	} {
		if row.n > 0 {
			v.rows = append(v.rows, []string{row.what, fmt.Sprint(row.n), ""})
		}
	}
	if len(v.rows) == 0 {
		v.empty = "there is nothing to restore"
	}
	return a.show(v)
}
