package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"sallyport/server/admin"
)

func (a *app) backupHold() *cobra.Command {
	var r admin.HoldAsk
	c := &cobra.Command{Use: "hold", Short: "Keep an account, or a path of it, from being destroyed", Args: exactly(),
		Long: "From the answer on nothing that is or was at and below the path is destroyed: not by retention, not by\n" +
			"`backup purge`, and not when it is moved elsewhere first. An account of which anything is on hold cannot be\n" +
			"removed. Clients do not notice; they may delete, and what they delete stays in history.",
		Example: "  sallyport backup hold --account acme --path /contracts --reason 'case 42'",
		RunE: func(c *cobra.Command, _ []string) error {
			return a.call(c.Context(), shortCall, func(ctx context.Context, cl *admin.Client) error {
				r.Change = a.change()
				h, err := cl.BackupHold(ctx, r)
				if err != nil {
					return err
				}
				if h.Nothing {
					a.say("note: nothing is or was at %s; if it is mistyped, `sallyport backup release --account %s --hold %d` ends the hold", h.Path, h.Account, h.Hold)
				}
				return a.showHolds(admin.Holds{Holds: []admin.Hold{h}}, h)
			})
		}}
	c.Flags().StringVar(&r.Account, "account", "", "the `account`")
	c.Flags().StringVar(&r.Path, "path", "/", "`path` as the client sees it")
	_ = c.MarkFlagRequired("account") // the flag exists
	return c
}

func (a *app) backupRelease() *cobra.Command {
	var r admin.HoldRef
	c := &cobra.Command{Use: "release", Short: "End a hold, by its number", Args: exactly(),
		Long:    "What policy would have let go meanwhile is destroyed within a minute.",
		Example: "  sallyport backup list --holds\n  sallyport backup release --account acme --hold 1 --reason 'case 42 is closed'",
		RunE: func(c *cobra.Command, _ []string) error {
			if err := a.confirm("This ends hold %d of account %s. What policy lets go is destroyed within a minute.", r.Hold, r.Account); err != nil {
				return err
			}
			return a.call(c.Context(), shortCall, func(ctx context.Context, cl *admin.Client) error {
				r.Change = a.change()
				h, err := cl.BackupRelease(ctx, r)
				if err != nil {
					return err
				}
				return a.showHolds(admin.Holds{Holds: []admin.Hold{h}}, h)
			})
		}}
	c.Flags().StringVar(&r.Account, "account", "", "the `account`")
	c.Flags().Uint64Var(&r.Hold, "hold", 0, "`number` of the hold")
	_ = c.MarkFlagRequired("account") // the flags exist
	_ = c.MarkFlagRequired("hold")
	return c
}

// showHolds prints holds; value is what -o json shows.
func (a *app) showHolds(list admin.Holds, value any) error {
	v := view{value: value, header: []string{"ACCOUNT", "HOLD", "PATH", "SINCE", "BY", "REASON"}, empty: "nothing is on hold"}
	for _, h := range list.Holds {
		v.rows = append(v.rows, []string{h.Account, fmt.Sprint(h.Hold), h.Path, stamp(h.At), h.Who, h.Reason})
		v.names = append(v.names, fmt.Sprint(h.Hold))
	}
	return a.show(v)
}
