package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/policy"
	"sallyport/server/admin"
)

// changeFlags are those of every command that changes the policy.
type changeFlags struct {
	base    uint64
	confirm time.Duration
	dryRun  bool
}

func (f *changeFlags) add(c *cobra.Command) {
	c.Flags().Uint64Var(&f.base, "base", 0, "refuse unless this `revision` is the current one")
	c.Flags().DurationVar(&f.confirm, "confirm", 0, "take the change back after this `time` unless it is kept with policy confirm")
}

// addDryRun is for commands that have nothing to ask and nothing to keep before the change.
func (f *changeFlags) addDryRun(c *cobra.Command) {
	c.Flags().BoolVar(&f.dryRun, "dry-run", false, "only say what would change, and what would be destroyed, as \"policy plan\" does")
}

func (a *app) policyPlan() *cobra.Command {
	var preset string
	c := &cobra.Command{Use: "plan FILE | KEY=VALUE...", Short: "Show what a change would do: differences, sessions that end, who is locked out, tests", Args: cobra.ArbitraryArgs,
		ValidArgsFunction: a.completeKey(true),
		Example:           "  sallyport policy plan policy.yaml\n  sallyport policy plan site.transport.tls_min=1.3\n  sallyport policy plan --preset maximum",
		RunE: func(c *cobra.Command, args []string) error {
			r, err := a.draft(args, preset)
			if err != nil {
				return err
			}
			return a.plan(c.Context(), r)
		}}
	c.Flags().StringVar(&preset, "preset", "", "plan this preset `name`")
	return c
}

// plan says what a change would do.
func (a *app) plan(ctx context.Context, r admin.PolicyChange) error {
	return a.call(ctx, shortCall, func(ctx context.Context, cl *admin.Client) error {
		p, err := cl.PolicyPlan(ctx, r)
		if err != nil {
			return err
		}
		return a.showPlan(p)
	})
}

// draft reads what a command names: a preset, settings, or a file.
func (a *app) draft(args []string, preset string) (admin.PolicyChange, error) {
	r := admin.PolicyChange{Change: a.change(), Preset: preset, Yes: a.yes}
	switch {
	case preset != "" && len(args) == 0:
		return r, nil
	case preset != "" || len(args) == 0:
		return r, usage("give a file, settings, or a preset", "")
	case len(args) == 1 && !strings.Contains(args[0], "="):
		text, base, err := a.readPolicy(args[0])
		r.Name, r.Text, r.Base = args[0], string(text), base
		return r, err
	}
	var err error
	r.Set, err = settings(args)
	return r, err
}

// exportMark begins the first line of an exported policy: which revision it is, so that applying it can tell when somebody
// else was faster.
const exportMark = "# sallyport policy, revision "

// readPolicy reads a file (- is standard input) and the revision that it was exported from; 0 = it does not say.
func (a *app) readPolicy(file string) ([]byte, uint64, error) {
	in := a.stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, 0, err
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, policy.MaxDocument+1))
	if err != nil {
		return nil, 0, err
	}
	var base uint64
	if rest, ok := bytes.CutPrefix(text, []byte(exportMark)); ok {
		line, after, _ := bytes.Cut(rest, []byte("\n"))
		if n, err := fmt.Sscanf(string(line), "%d", &base); n == 1 && err == nil {
			text = after
		}
	}
	return text, base, nil
}

func (a *app) policyApply() *cobra.Command {
	var f changeFlags
	c := &cobra.Command{Use: "apply FILE", Short: "Make a file the policy; - is standard input", Args: exactly("FILE"),
		Long: "Make a file the policy. A file of `policy export` says which revision it comes from: if the policy\n" +
			"has changed since, nothing is applied, and both changes are shown.",
		Example: "  sallyport policy apply policy.yaml --confirm 10m --reason OPS-77",
		RunE: func(c *cobra.Command, args []string) error {
			text, base, err := a.readPolicy(args[0])
			if err != nil {
				return err
			}
			if f.base != 0 {
				base = f.base
			}
			r := admin.PolicyChange{Change: a.change(), Name: args[0], Text: string(text), Base: base, Confirm: f.confirm, Yes: a.yes}
			if f.dryRun {
				return a.plan(c.Context(), r)
			}
			if base == 0 {
				if r.Base, err = a.confirmOverwrite(c.Context(), r); err != nil {
					return err
				}
			}
			return a.apply(c.Context(), r, args[0])
		}}
	f.add(c)
	f.addDryRun(c)
	return c
}

// confirmOverwrite asks before a file that does not say where it comes from takes the place of the policy.
func (a *app) confirmOverwrite(ctx context.Context, r admin.PolicyChange) (base uint64, err error) {
	err = a.call(ctx, shortCall, func(ctx context.Context, cl *admin.Client) error {
		p, err := cl.PolicyPlan(ctx, r)
		base = p.Base
		if err != nil || a.yes || len(p.Changes) == 0 {
			return err
		}
		a.sayPlan(p)
		return a.confirm("%s does not say which revision it was made from, so it replaces whatever revision %d says.", r.Name, p.Base)
	})
	return base, err
}

// apply makes a change and shows what it did. After a conflict both changes are shown, and the text of the loser is kept.
func (a *app) apply(ctx context.Context, r admin.PolicyChange, kept string) error {
	return a.call(ctx, shortCall, func(ctx context.Context, cl *admin.Client) error {
		p, err := cl.PolicyApply(ctx, r)
		var e *admin.Error
		if errors.As(err, &e) && e.Code == admin.CodeConflict && r.Text != "" {
			return a.conflict(ctx, cl, r, kept, e)
		}
		if err != nil {
			return err
		}
		return a.applied(p)
	})
}

func (a *app) applied(p admin.PolicyPlan) error {
	if p.Revision == 0 {
		a.say("nothing to change; the policy is at revision %d", p.Base)
	}
	if !p.Until.IsZero() {
		a.say("revision %d goes back at %s unless `sallyport policy confirm %d` comes before", p.Revision, stamp(p.Until), p.Revision)
	}
	return a.showPlan(p)
}

// conflict shows what the others changed and what this one wanted, from the revision that both began with.
func (a *app) conflict(ctx context.Context, cl *admin.Client, r admin.PolicyChange, kept string, e *admin.Error) error {
	if kept == "-" || kept == "" {
		f, err := os.CreateTemp("", "sallyport-policy-*.yaml") // 0600
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(f, "%s%d\n%s", exportMark, r.Base, r.Text)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
		kept = f.Name()
	}
	e.Hint = "nothing was applied and nothing is lost: your text is in " + kept + "; `sallyport policy export` has the other one"
	base, err := a.document(ctx, cl, &r.Base)
	if err != nil {
		return e // the conflict itself is what counts
	}
	theirs, err := a.document(ctx, cl, nil)
	if err != nil {
		return e
	}
	mine, err := policy.Parse(r.Name, []byte(r.Text))
	if err != nil {
		return err
	}
	a.threeWay(base, mine, theirs)
	return e
}

// document of a revision; nil = the current one.
func (a *app) document(ctx context.Context, cl *admin.Client, revision *uint64) (*policy.Document, error) {
	name, text := policy.DefaultName, ""
	if revision == nil {
		p, err := cl.PolicyShow(ctx, admin.PolicyQuery{})
		if err != nil {
			return nil, err
		}
		text = p.Document
	} else {
		list, err := cl.PolicyHistory(ctx, admin.PolicyHistory{Revision: revision})
		if err != nil {
			return nil, err
		}
		if len(list.Revisions) == 0 {
			return nil, &admin.Error{Code: admin.CodeNotFound, Message: fmt.Sprintf("no revision %d", *revision), Hint: "`sallyport policy history` shows them"}
		}
		text = list.Revisions[0].Document
	}
	return policy.Parse(name, []byte(text))
}

func (a *app) threeWay(base, mine, theirs *policy.Document) {
	ours, others := policy.Diff(base, mine), policy.Diff(base, theirs)
	both := func(d policy.Difference, list []policy.Difference) string {
		for _, o := range list {
			if o.Key == d.Key && d.Key != "exceptions" && d.Key != "tests" {
				if o.New == d.New {
					return " (both the same)"
				}
				return " (BOTH, and differently)"
			}
		}
		return ""
	}
	a.say("changed meanwhile by others:")
	for _, d := range others {
		a.say("  %s%s", difference(d), both(d, ours))
	}
	a.say("changed by you:")
	for _, d := range ours {
		a.say("  %s%s", difference(d), both(d, others))
	}
}

// difference in one line.
func difference(d policy.Difference) string {
	text := fmt.Sprintf("%-7s  %s", d.Mark, d.Key)
	switch {
	case d.Old == "":
		text += ": + " + d.New
	case d.New == "":
		text += ": - " + d.Old
	default:
		text += ": " + d.Old + " -> " + d.New
	}
	return clean(text, false)
}

// planLines say what a change does.
func planLines(p admin.PolicyPlan) []string {
	var out []string
	for _, d := range p.Changes {
		out = append(out, difference(d))
	}
	for _, e := range p.Ends {
		out = append(out, fmt.Sprintf("ends     session %s of %s from %s (%s by %s)", e.Session.ID, e.Session.Account, e.Session.Remote, e.Code, e.Rule))
	}
	for i, l := range p.LockedOut {
		if i == maxShown {
			out = append(out, fmt.Sprintf("locks    %d more out", len(p.LockedOut)-i))
			break
		}
		guarded := ""
		if l.Guarded {
			guarded = ", which guard.never_lock_out protects"
		}
		out = append(out, fmt.Sprintf("locks    %s out%s (%s by %s)", l.Account, guarded, l.Code, l.Rule))
	}
	if len(p.Purges) == 0 && slices.ContainsFunc(p.Changes, func(d policy.Difference) bool {
		return d.Mark == policy.Looser && strings.Contains(d.Key, ".backup.")
	}) {
		out = append(out, "purges   nothing that is there now")
	}
	for _, x := range p.Purges {
		if x.Unknown {
			out = append(out, fmt.Sprintf("purges   something of %s, perhaps: there was no time to count it", x.Account))
			continue
		}
		out = append(out, fmt.Sprintf("purges   %d names and %d versions of %s, %d bytes, which frees %s, deleted or replaced from %s to %s", x.Names, x.Versions, x.Account, x.Bytes, freed(x.Stored, x.Least), stamp(x.Oldest), stamp(x.Newest)))
	}
	if n := len(p.Tests); n > 0 {
		good := 0
		for _, t := range p.Tests {
			if t.OK {
				good++
				continue
			}
			out = append(out, fmt.Sprintf("FAILS    test at line %d: %s: got %s", t.Line, t.Test, t.Got))
		}
		out = append(out, fmt.Sprintf("tests    %d of %d as expected", good, n))
	}
	return out
}

// maxShown bounds a list of accounts in a plan.
const maxShown = 20

func (a *app) sayPlan(p admin.PolicyPlan) {
	for _, l := range planLines(p) {
		a.say("%s", a.marked(clean(l, false)))
	}
}

// marked colours the mark of a line.
func (a *app) marked(line string) string {
	mark, rest, _ := strings.Cut(line, " ")
	switch mark {
	case "LOOSER", "FAILS", "locks":
		return a.colored("31", mark) + " " + rest
	case "tighter":
		return a.colored("32", mark) + " " + rest
	}
	return line
}

func (a *app) showPlan(p admin.PolicyPlan) error {
	v := view{value: p, names: []string{fmt.Sprint(max(p.Revision, p.Base))}}
	for _, l := range planLines(p) {
		v.rows = append(v.rows, []string{l})
	}
	if p.Revision != 0 {
		v.rows = append(v.rows, []string{fmt.Sprintf("revision %d", p.Revision)})
	}
	return a.show(v)
}

func (a *app) policyConfirm() *cobra.Command {
	return &cobra.Command{Use: "confirm REVISION", Short: "Keep a change that would go back by itself", Args: exactly("REVISION"),
		Long: "Keep a change that would go back by itself. The number is the one that the change was given: should it have gone back " +
			"already, nobody else's change is kept in its place (exit 5).",
		Example: "  sallyport policy confirm 42",
		RunE: func(c *cobra.Command, args []string) error {
			n, err := revisionNumber(args[0])
			if err != nil {
				return err
			}
			return a.call(c.Context(), shortCall, func(ctx context.Context, cl *admin.Client) error {
				r, err := cl.PolicyConfirm(ctx, admin.PolicyConfirm{Change: a.change(), Revision: n})
				if err != nil {
					return err
				}
				return a.show(view{value: r, names: []string{fmt.Sprint(r.Revision)}, rows: [][]string{{fmt.Sprintf("revision %d stays", r.Revision)}}})
			})
		}}
}

func (a *app) policyRollback() *cobra.Command {
	return &cobra.Command{Use: "rollback [REVISION]", Short: "Make an earlier revision the policy again; without a number the one before", Args: atMostOne("REVISION"),
		Example: "  sallyport policy rollback 41 --reason 'OPS-78: partners could not log in'",
		RunE: func(c *cobra.Command, args []string) error {
			return a.call(c.Context(), shortCall, func(ctx context.Context, cl *admin.Client) error {
				list, err := cl.PolicyHistory(ctx, admin.PolicyHistory{Limit: 1})
				if err != nil {
					return err
				}
				if len(list.Revisions) == 0 {
					return &admin.Error{Code: admin.CodeNotFound, Message: "the policy was never changed"}
				}
				current := list.Revisions[0].Revision
				to := current - 1
				if len(args) == 1 {
					if to, err = revisionNumber(args[0]); err != nil {
						return err
					}
				}
				p, err := cl.PolicyApply(ctx, admin.PolicyChange{Change: a.change(), Rollback: &to, Base: current, Yes: a.yes})
				if err != nil {
					return err
				}
				return a.applied(p)
			})
		}}
}

func (a *app) policyPreset() *cobra.Command {
	var f changeFlags
	c := &cobra.Command{Use: "preset [NAME]", Short: "List presets, or apply one to the site", Args: atMostOne("NAME"),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			var names []string
			for _, p := range policy.Presets() {
				names = append(names, p.Name+"\t"+p.Description)
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 1 {
				r := admin.PolicyChange{Change: a.change(), Preset: args[0], Base: f.base, Confirm: f.confirm, Yes: a.yes}
				if f.dryRun {
					return a.plan(c.Context(), r)
				}
				return a.apply(c.Context(), r, "")
			}
			v := view{header: []string{"NAME", "WHAT IT IS"}}
			type row struct {
				Name        string            `json:"name"`
				Description string            `json:"description"`
				Settings    map[string]string `json:"settings"`
			}
			var rows []row
			for _, p := range policy.Presets() {
				set := map[string]string{}
				for _, e := range p.Edits {
					set["site."+e.Path] = e.Value
				}
				rows = append(rows, row{p.Name, p.Description, set})
				v.rows = append(v.rows, []string{p.Name, p.Description})
			}
			v.value = rows
			return a.show(v)
		}}
	f.add(c)
	return c
}
