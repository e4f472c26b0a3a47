package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"sallyport/server/admin"
)

func (a *app) sessionCommand() *cobra.Command {
	list := &cobra.Command{Use: "list", Short: "List live sessions", Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.call(c.Context(), shortCall, func(ctx context.Context, cl *admin.Client) error {
				s, err := cl.SessionList(ctx)
				if err != nil {
					return err
				}
				v := view{value: s, header: []string{"ID", "ACCOUNT", "PROTOCOL", "REMOTE", "METHOD", "SINCE", "ACTIVE", "IN", "OUT", "CLIENT"}, empty: "no sessions"}
				for _, x := range s.Sessions {
					v.rows = append(v.rows, []string{x.ID, x.Account, x.Protocol, x.Remote, orDash(x.Method), stamp(x.Since), stamp(x.Active), fmt.Sprint(x.BytesIn), fmt.Sprint(x.BytesOut), x.Client})
				}
				return a.show(v)
			})
		}}
	var account string
	kill := &cobra.Command{Use: "kill [ID]", Short: "End a session, or all of an account", Args: atMostOne("ID"),
		RunE: func(c *cobra.Command, args []string) error {
			if (len(args) == 1) == (account != "") {
				return usage("give either a session's ID or --account", "`sallyport session list` shows them")
			}
			r := admin.SessionKill{Change: a.change(), Account: account}
			if len(args) == 1 {
				r.ID = args[0]
			}
			return a.call(c.Context(), shortCall, func(ctx context.Context, cl *admin.Client) error {
				k, err := cl.SessionKill(ctx, r)
				if err != nil {
					return err
				}
				return a.show(view{value: k, rows: [][]string{{fmt.Sprintf("%d ended", k.Killed)}}})
			})
		}}
	kill.Flags().StringVar(&account, "account", "", "end every session of this account")
	return group("session", "Live sessions", list, kill)
}

func (a *app) banCommand() *cobra.Command {
	list := &cobra.Command{Use: "list", Short: "List banned addresses", Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.call(c.Context(), shortCall, func(ctx context.Context, cl *admin.Client) error {
				b, err := cl.BanList(ctx)
				if err != nil {
					return err
				}
				v := view{value: b, header: []string{"ADDRESS", "UNTIL", "FAILURES"}, empty: "no bans"}
				for _, x := range b.Bans {
					v.rows = append(v.rows, []string{x.Address, stamp(x.Until), fmt.Sprint(x.Failures)})
				}
				return a.show(v)
			})
		}}
	remove := &cobra.Command{Use: "remove ADDRESS|NETWORK", Short: "Lift a ban", Args: exactly("ADDRESS"),
		RunE: func(c *cobra.Command, args []string) error {
			return a.call(c.Context(), shortCall, func(ctx context.Context, cl *admin.Client) error {
				if err := cl.BanRemove(ctx, admin.BanRef{Change: a.change(), Address: args[0]}); err != nil {
					return err
				}
				a.say("ban of %s lifted", args[0])
				return nil
			})
		}}
	var lasting string
	add := &cobra.Command{Use: "add ADDRESS|NETWORK", Short: "Ban an address or a network, and end its sessions", Args: exactly("ADDRESS|NETWORK"),
		Long: "Ban an address or a network for a time, and end every session from it. Bans are kept in memory: a restart\n" +
			"lifts them. `sallyport policy set site.deny_from=[NETWORK]` is for good.",
		RunE: func(c *cobra.Command, args []string) error {
			return a.call(c.Context(), shortCall, func(ctx context.Context, cl *admin.Client) error {
				if _, err := cl.BanAdd(ctx, admin.BanAdd{Change: a.change(), Address: args[0], For: lasting}); err != nil {
					return err
				}
				a.say("%s banned", args[0])
				return nil
			})
		}}
	add.Flags().StringVar(&lasting, "for", "24h", "how `long`")
	return group("ban", "Addresses banned after too many failed logins, and by operators", list, add, remove)
}
