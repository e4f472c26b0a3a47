package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"sallyport/server/admin"
)

func (a *app) policyCommand() *cobra.Command {
	return group("policy", "What accounts may do", a.policyShow(), a.policyGet(), a.policySet(), a.policyEdit(), a.policyFmt(), a.policyCheck(), a.policyDiff(), a.policyPlan(), a.policyApply(),
		a.policyConfirm(), a.policyTest(), a.policyExplain(), a.policyHistory(), a.policyRollback(), a.policyPreset(), a.policySchema(), a.policyExport(), a.policyImport())
}

func (a *app) policyShow() *cobra.Command {
	var account string
	c := &cobra.Command{Use: "show", Short: "Show the policy document, or what holds for an account with its origins", Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.call(c.Context(), shortCall, func(ctx context.Context, cl *admin.Client) error {
				p, err := cl.PolicyShow(ctx, admin.PolicyQuery{Account: account})
				if err != nil {
					return err
				}
				if account == "" && (a.output == "table" || a.output == "yaml") {
					a.say("revision %d", p.Revision)
					_, err := fmt.Fprint(a.stdout, p.Document)
					return err
				}
				return a.showSettings(p)
			})
		}}
	c.Flags().StringVar(&account, "account", "", "show what holds for this `account`")
	return c
}

func (a *app) policyGet() *cobra.Command {
	return &cobra.Command{Use: "get [KEY]", Short: "Show a setting as it stands in the policy", Args: atMostOne("KEY"), ValidArgsFunction: a.completeKey(false),
		Example: "  sallyport policy get site.transport.tls_min\n  sallyport policy get accounts.acme",
		RunE: func(c *cobra.Command, args []string) error {
			q := admin.PolicyQuery{}
			if len(args) == 1 {
				q.Key = args[0]
			}
			return a.call(c.Context(), shortCall, func(ctx context.Context, cl *admin.Client) error {
				p, err := cl.PolicyGet(ctx, q)
				if err != nil {
					return err
				}
				return a.showSettings(p)
			})
		}}
}

func (a *app) showSettings(p admin.Policy) error {
	v := view{value: p, header: []string{"SETTING", "VALUE", "FROM"}}
	for _, s := range p.Settings {
		v.rows = append(v.rows, []string{s.Key, text(s.Value), s.Origin})
	}
	return a.show(v)
}

// text is a value in one line.
func text(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(b)
}

func (a *app) policySet() *cobra.Command {
	var f changeFlags
	c := &cobra.Command{Use: "set KEY=VALUE...", Short: "Change settings; takes effect on live sessions at once", Args: atLeast("KEY=VALUE"), ValidArgsFunction: a.completeKey(true),
		Long: "Change settings in one revision. Values are YAML; an empty value removes the setting, so that\n" +
			"the inherited one holds again.",
		Example: "  sallyport policy set site.transport.tls_min=1.3 --reason 'audit finding 7'\n" +
			"  sallyport policy set 'accounts.acme.protocols=[sftp]' accounts.acme.session.max=\n" +
			"  sallyport policy set accounts.acme.backup.retention_days=7 --dry-run",
		RunE: func(c *cobra.Command, args []string) error {
			return a.setPolicy(c.Context(), "", args, f)
		}}
	f.add(c)
	f.addDryRun(c)
	return c
}

// settings reads KEY=VALUE arguments; "KEY VALUE" is taken too, because people write it.
func settings(args []string) ([]admin.KeyValue, error) {
	if len(args) == 2 && !strings.Contains(args[0], "=") {
		return []admin.KeyValue{{Key: args[0], Value: args[1]}}, nil
	}
	var out []admin.KeyValue
	for _, kv := range args {
		key, value, ok := strings.Cut(kv, "=")
		if !ok || key == "" {
			return nil, usage(fmt.Sprintf("%q is not KEY=VALUE", kv), "e.g. session.max=4; an empty value removes the setting")
		}
		out = append(out, admin.KeyValue{Key: key, Value: value})
	}
	return out, nil
}

// setPolicy sets settings below prefix ("", "accounts.NAME" or "groups.NAME").
func (a *app) setPolicy(ctx context.Context, prefix string, pairs []string, f changeFlags) error {
	set, err := settings(pairs)
	if err != nil {
		return err
	}
	for i := range set {
		if prefix != "" {
			set[i].Key = prefix + "." + set[i].Key
		}
	}
	r := admin.PolicyChange{Change: a.change(), Base: f.base, Confirm: f.confirm, Set: set, Yes: a.yes}
	if f.dryRun {
		return a.plan(ctx, r)
	}
	return a.apply(ctx, r, "")
}
