package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"sallyport/server"
	"sallyport/server/admin"
)

func (a *app) auditCommand() *cobra.Command {
	return group("audit", "The tamper-evident log of what happened", a.auditTail(), a.auditSearch(), a.auditVerify(), a.auditExport(), a.auditKey())
}

func (a *app) auditTail() *cobra.Command {
	var r admin.AuditTail
	var follow bool
	c := &cobra.Command{Use: "tail", Short: "Show the latest events", Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			if follow {
				return a.call(c.Context(), 0, func(ctx context.Context, cl *admin.Client) error {
					return a.followAudit(ctx, cl, r)
				})
			}
			return a.call(c.Context(), shortCall, func(ctx context.Context, cl *admin.Client) error {
				got, err := cl.AuditTail(ctx, r)
				if err != nil {
					return err
				}
				return a.showAudit(got)
			})
		}}
	c.Flags().IntVarP(&r.Last, "lines", "n", 20, "how many events")
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on with new events as they come")
	resolveFlag(c, &r.Resolve)
	return c
}

// followAudit prints one line per event (JSON lines with -o json) until
// interrupted, which is the way to end it and no error.
func (a *app) followAudit(ctx context.Context, cl *admin.Client, r admin.AuditTail) error {
	err := cl.AuditFollow(ctx, r, a.auditLine())
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// auditLine prints events as they come: one line each, JSON lines with -o json.
func (a *app) auditLine() func(admin.AuditRecord) error {
	enc := json.NewEncoder(a.stdout)
	return func(rec admin.AuditRecord) error {
		if a.output == "json" {
			return enc.Encode(rec)
		}
		_, err := fmt.Fprintln(a.stdout, clean(strings.Join(auditRow(rec), "  "), false))
		return err
	}
}

func resolveFlag(c *cobra.Command, to *bool) {
	c.Flags().BoolVar(to, "resolve", false, "names for account ids; needs the right (admin.resolve_uids)")
}

func (a *app) showAudit(r admin.AuditRecords) error {
	v := view{value: r, header: []string{"SEQ", "TIME", "ACTION", "ACCOUNT", "FROM", "RESULT", "DETAIL"}, empty: "no events"}
	for _, rec := range r.Records {
		v.rows = append(v.rows, auditRow(rec))
	}
	return a.show(v)
}

func auditRow(r admin.AuditRecord) []string {
	var detail []string
	add := func(s string) {
		if s != "" {
			detail = append(detail, s)
		}
	}
	add(r.Path)
	if r.To != "" {
		add("-> " + r.To)
	}
	if r.Bytes > 0 {
		add(fmt.Sprintf("%d bytes", r.Bytes))
	}
	if r.Count > 1 {
		add(fmt.Sprintf("%d times", r.Count))
	}
	if r.Revision > 0 {
		add(fmt.Sprintf("revision %d", r.Revision))
	}
	add(r.Op)
	add(r.Code)
	add(r.Detail)
	from := r.Remote
	if from == "" {
		from = r.Who
	}
	return []string{fmt.Sprint(r.Seq), stamp(r.Time), r.Action, orDash(r.Account), orDash(from), orDash(r.Result), strings.Join(detail, " ")}
}

// verify asks a running server, or where none answers looks at the state directory itself.
func (a *app) verify(ctx context.Context, offline bool, what string, online func(*admin.Client, context.Context) (admin.Check, error), direct func(context.Context, *server.Config) (admin.Check, error)) error {
	if !offline {
		err := a.call(ctx, 0, func(ctx context.Context, cl *admin.Client) error {
			r, err := online(cl, ctx)
			if err != nil {
				return err
			}
			return a.showCheck(r, what)
		})
		if err == nil || explain(err).Code != admin.CodeUnreachable {
			return err
		}
	}
	l, err := server.LoadConfig(a.configSource())
	if err != nil {
		return err
	}
	if err := asOwner(l.Config.State.Dir); err != nil {
		return err
	}
	if !offline {
		a.say("no server is running: checking the state directory itself")
	}
	r, err := direct(ctx, l.Config)
	if err != nil {
		return err
	}
	return a.showCheck(r, what)
}

// showCheck prints a verification and fails with exit code 1 if it found something.
func (a *app) showCheck(r admin.Check, what string) error {
	v := view{value: r, names: r.Findings}
	if v.names == nil {
		v.names = []string{}
	}
	for _, kind := range sortedKeys(r.Checked) {
		v.rows = append(v.rows, []string{kind, fmt.Sprint(r.Checked[kind])})
	}
	for _, f := range r.Findings {
		v.rows = append(v.rows, []string{"finding", f})
	}
	if err := a.show(v); err != nil {
		return err
	}
	if n := len(r.Findings); n > 0 {
		return &admin.Error{Code: admin.CodeFindings, Message: fmt.Sprintf("%s has %d findings", what, n), Hint: "restore from a copy; the findings name what is affected"}
	}
	a.say("%s is intact", what)
	return nil
}
