package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/crypto/durable"
	"sallyport/policy"
	"sallyport/server/admin"
)

// invalid turns what policy.Parse found into an error for the operator, with the lines it speaks of.
func invalid(err error) error {
	var parse *policy.ParseError
	if errors.As(err, &parse) {
		return &admin.Error{Code: admin.CodeInvalid, Message: parse.Excerpt()}
	}
	return &admin.Error{Code: admin.CodeInvalid, Message: err.Error()}
}

func (a *app) parseFile(file string) (*policy.Document, error) {
	text, _, err := a.readPolicy(file)
	if err != nil {
		return nil, err
	}
	d, err := policy.Parse(file, text)
	if err != nil {
		return nil, invalid(err)
	}
	return d, nil
}

func (a *app) policyCheck() *cobra.Command {
	return &cobra.Command{Use: "check FILE", Short: "Check a policy file and run its tests, without a server", Args: exactly("FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			d, err := a.parseFile(args[0])
			if err != nil {
				return err
			}
			failed := 0
			for _, r := range policy.RunTests(d, 0, time.Now()) {
				if !r.OK {
					failed++
					a.say("%s:%d: %s: got %s", args[0], r.Test.Pos.Line, r.Test.Text(), r.Got())
				}
			}
			if failed > 0 {
				return &admin.Error{Code: admin.CodeFindings, Message: fmt.Sprintf("%d of %d tests fail", failed, len(d.Tests()))}
			}
			a.say("%s is valid; %d tests as expected", args[0], len(d.Tests()))
			return nil
		}}
}

func (a *app) policyFmt() *cobra.Command {
	var write bool
	c := &cobra.Command{Use: "fmt FILE", Short: "Lay a policy file out; comments stay", Args: exactly("FILE"),
		RunE: func(_ *cobra.Command, args []string) error {
			text, err := os.ReadFile(args[0])
			if args[0] == "-" {
				text, _, err = a.readPolicy("-")
			}
			if err != nil {
				return err
			}
			out, err := policy.Format(args[0], text)
			if err != nil {
				return invalid(err)
			}
			if !write || args[0] == "-" {
				_, err := a.stdout.Write(out)
				return err
			}
			return durable.WriteFile(args[0], out, 0o600)
		}}
	c.Flags().BoolVarP(&write, "write", "w", false, "change the file")
	return c
}

func (a *app) policyExport() *cobra.Command {
	var revision uint64
	c := &cobra.Command{Use: "export [FILE]", Short: "Write the policy as YAML, with the revision that it is", Args: atMostOne("FILE"),
		RunE: func(c *cobra.Command, args []string) error {
			return a.call(c.Context(), shortCall, func(ctx context.Context, cl *admin.Client) error {
				n, text := revision, ""
				if c.Flags().Changed("revision") {
					d, err := a.document(ctx, cl, &revision)
					if err != nil {
						return err
					}
					text = string(d.Text())
				} else {
					p, err := cl.PolicyShow(ctx, admin.PolicyQuery{})
					if err != nil {
						return err
					}
					n, text = p.Revision, p.Document
				}
				text = fmt.Sprintf("%s%d\n%s", exportMark, n, text)
				if len(args) == 0 || args[0] == "-" {
					_, err := fmt.Fprint(a.stdout, text)
					return err
				}
				if _, err := os.Lstat(args[0]); err == nil && !a.yes {
					return &admin.Error{Code: admin.CodeRefused, Message: args[0] + " exists", Hint: "--yes writes over it"}
				}
				return durable.WriteFile(args[0], []byte(text), 0o600)
			})
		}}
	c.Flags().Uint64Var(&revision, "revision", 0, "export this `revision` instead of the current one")
	return c
}

func (a *app) policyImport() *cobra.Command {
	var f changeFlags
	c := &cobra.Command{Use: "import FILE", Short: "Make the policy of another server this one's, whatever revision it has", Args: exactly("FILE"),
		Long: "Make a file the policy, like apply, but without regard to the revision that the file was exported from:\n" +
			"that counts on the server it came from. What changes is shown first, and asked about.",
		RunE: func(c *cobra.Command, args []string) error {
			text, _, err := a.readPolicy(args[0])
			if err != nil {
				return err
			}
			r := admin.PolicyChange{Change: a.change(), Name: args[0], Text: string(text), Base: f.base, Confirm: f.confirm, Yes: a.yes}
			if f.dryRun {
				return a.plan(c.Context(), r)
			}
			if r.Base, err = a.confirmOverwrite(c.Context(), r); err != nil {
				return err
			}
			return a.apply(c.Context(), r, args[0])
		}}
	f.add(c)
	f.addDryRun(c)
	return c
}

func (a *app) policyDiff() *cobra.Command {
	return &cobra.Command{Use: "diff FILE | REVISION [REVISION]", Short: "Compare the policy with a file, or two revisions; exit 1 if they differ", Args: atLeast("FILE"),
		Example: "  sallyport policy diff policy.yaml\n  sallyport policy diff 41\n  sallyport policy diff 41 43",
		RunE: func(c *cobra.Command, args []string) error {
			return a.call(c.Context(), shortCall, func(ctx context.Context, cl *admin.Client) error {
				var docs [2]*policy.Document
				for i := range docs {
					var err error
					if i < len(args) {
						docs[i], err = a.side(ctx, cl, args[i])
					} else {
						docs[i], err = a.document(ctx, cl, nil)
					}
					if err != nil {
						return err
					}
				}
				if _, err := revisionNumber(args[0]); err != nil && len(args) == 1 {
					docs[0], docs[1] = docs[1], docs[0] // from what is to what the file would make of it
				}
				list := policy.Diff(docs[0], docs[1])
				v := view{value: append([]policy.Difference{}, list...), empty: "no difference"}
				for _, d := range list {
					v.rows = append(v.rows, []string{difference(d)})
					v.names = append(v.names, d.Key)
				}
				if err := a.show(v); err != nil || len(list) == 0 {
					return err
				}
				return &admin.Error{Code: admin.CodeFindings, Message: fmt.Sprintf("%d differences", len(list))}
			})
		}}
}

// side of a comparison: a revision or a file.
func (a *app) side(ctx context.Context, cl *admin.Client, arg string) (*policy.Document, error) {
	if n, err := revisionNumber(arg); err == nil {
		return a.document(ctx, cl, &n)
	}
	return a.parseFile(arg)
}

func revisionNumber(arg string) (uint64, error) {
	n, err := strconv.ParseUint(arg, 10, 64)
	if err != nil {
		return 0, usage(fmt.Sprintf("%q is not a revision", arg), "`sallyport policy history` shows them")
	}
	return n, nil
}

func (a *app) policyHistory() *cobra.Command {
	var q admin.PolicyHistory
	c := &cobra.Command{Use: "history", Short: "Show who changed the policy, when, why, and what", Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.call(c.Context(), shortCall, func(ctx context.Context, cl *admin.Client) error {
				list, err := cl.PolicyHistory(ctx, q)
				if err != nil {
					return err
				}
				v := view{value: list, header: []string{"REVISION", "WHEN", "WHO", "WHAT", "WHY"}, empty: "the policy was never changed"}
				for _, r := range list.Revisions {
					n := fmt.Sprint(r.Revision)
					v.names = append(v.names, n)
					if r.Pending {
						n += " (unconfirmed)"
					}
					v.rows = append(v.rows, []string{n, stamp(r.At), r.Who, short(r.Diff), r.Why})
				}
				return a.show(v)
			})
		}}
	c.Flags().IntVarP(&q.Limit, "number", "n", 20, "show this `many`")
	c.Flags().Uint64Var(&q.Before, "before", 0, "only revisions older than this `one`")
	return c
}

// short is a difference list in one cell.
func short(list []policy.Difference) string {
	var parts []string
	for i, d := range list {
		if i == 3 {
			parts = append(parts, fmt.Sprintf("and %d more", len(list)-i))
			break
		}
		parts = append(parts, strings.Join(strings.Fields(difference(d)), " "))
	}
	if parts == nil {
		return "comments or layout"
	}
	return strings.Join(parts, "; ")
}
