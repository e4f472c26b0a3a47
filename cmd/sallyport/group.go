package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"sallyport/policy"
	"sallyport/server/admin"
)

func (a *app) groupCommand() *cobra.Command {
	return group("group", "Groups of accounts, with the settings that they share",
		a.groupAdd(), a.groupList(), a.groupShow(), a.groupSet(), a.groupRemove())
}

func (a *app) groupAdd() *cobra.Command {
	return &cobra.Command{Use: "add NAME [KEY=VALUE...]", Short: "Make a group", Args: atLeast("NAME"),
		Example: "  sallyport group add partners 'protocols=[sftp]' 'allow_from=[198.51.100.0/24]'",
		RunE: func(c *cobra.Command, args []string) error {
			if !policy.ValidName(args[0]) {
				return &admin.Error{Code: admin.CodeInvalid, Message: fmt.Sprintf("%q is not a name: 1 to 64 of a-z A-Z 0-9 . _ @ -", args[0])}
			}
			return a.call(c.Context(), shortCall, func(ctx context.Context, cl *admin.Client) error {
				d, err := a.document(ctx, cl, nil)
				if err != nil {
					return err
				}
				if slices.Contains(d.Groups(), args[0]) {
					return &admin.Error{Code: admin.CodeInvalid, Message: "the group exists already", Hint: "`sallyport group set` changes it"}
				}
				set := []admin.KeyValue{{Key: "groups." + args[0], Value: "{}"}}
				if len(args) > 1 {
					more, err := settings(args[1:])
					if err != nil {
						return err
					}
					for _, kv := range more {
						set = append(set, admin.KeyValue{Key: "groups." + args[0] + "." + kv.Key, Value: kv.Value})
					}
				}
				// A group without members reaches nobody: the reason is in the act.
				r := admin.PolicyChange{Change: a.change(), Set: set, Yes: a.yes}
				if r.Reason == "" {
					r.Reason = "group " + args[0] + " added"
				}
				p, err := cl.PolicyApply(ctx, r)
				if err != nil {
					return err
				}
				return a.applied(p)
			})
		}}
}

func (a *app) groupList() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List groups", Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.call(c.Context(), shortCall, func(ctx context.Context, cl *admin.Client) error {
				d, err := a.document(ctx, cl, nil)
				if err != nil {
					return err
				}
				type row struct {
					Name    string   `json:"name"`
					Members []string `json:"members"`
				}
				rows := []row{}
				v := view{header: []string{"NAME", "MEMBERS"}, empty: "no groups; make one with `sallyport group add`"}
				for _, g := range d.Groups() {
					m := members(d, g)
					rows = append(rows, row{g, m})
					v.rows = append(v.rows, []string{g, fmt.Sprint(len(m))})
				}
				v.value = rows
				return a.show(v)
			})
		}}
}

func members(d *policy.Document, g string) []string {
	out := []string{}
	for _, name := range d.Accounts() {
		if slices.Contains(d.GroupsOf(name), g) {
			out = append(out, name)
		}
	}
	return out
}

func (a *app) groupShow() *cobra.Command {
	return &cobra.Command{Use: "show NAME", Short: "Show what a group sets, and its members", Args: exactly("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			return a.call(c.Context(), shortCall, func(ctx context.Context, cl *admin.Client) error {
				p, err := cl.PolicyGet(ctx, admin.PolicyQuery{Key: "groups." + args[0]})
				if err != nil {
					return err
				}
				d, err := a.document(ctx, cl, nil)
				if err != nil {
					return err
				}
				a.say("members: %s", orDash(strings.Join(members(d, args[0]), ", ")))
				return a.showSettings(p)
			})
		}}
}

func (a *app) groupSet() *cobra.Command {
	var f changeFlags
	c := &cobra.Command{Use: "set NAME KEY=VALUE...", Short: "Set policy of a group", Args: atLeast("NAME", "KEY=VALUE"),
		Example: "  sallyport group set partners session.max=4 lock='[protocols]'",
		RunE: func(c *cobra.Command, args []string) error {
			return a.setPolicy(c.Context(), "groups."+args[0], args[1:], f)
		}}
	f.addDryRun(c)
	return c
}

func (a *app) groupRemove() *cobra.Command {
	return &cobra.Command{Use: "remove NAME", Short: "Remove a group without members", Args: exactly("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			return a.call(c.Context(), shortCall, func(ctx context.Context, cl *admin.Client) error {
				d, err := a.document(ctx, cl, nil)
				if err != nil {
					return err
				}
				if !slices.Contains(d.Groups(), args[0]) {
					return &admin.Error{Code: admin.CodeNotFound, Message: "no such group", Hint: "`sallyport group list` shows them"}
				}
				r := admin.PolicyChange{Change: a.change(), Set: []admin.KeyValue{{Key: "groups." + args[0]}}, Yes: a.yes}
				if r.Reason == "" {
					r.Reason = "group " + args[0] + " removed"
				}
				p, err := cl.PolicyApply(ctx, r)
				if err != nil {
					return err
				}
				return a.applied(p)
			})
		}}
}
