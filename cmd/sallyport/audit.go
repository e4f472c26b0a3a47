package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/server/admin"
)

func (a *app) auditCommand() *cobra.Command {
	return group("audit", "The tamper-evident log of what happened", a.auditTail(), a.auditVerify())
}

// followEvery is how often tail --follow asks for more.
const followEvery = time.Second

func (a *app) auditTail() *cobra.Command {
	var last int
	var follow bool
	c := &cobra.Command{Use: "tail", Short: "Show the latest events", Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			limit := shortCall
			if follow {
				limit = 0
			}
			return a.call(c.Context(), limit, func(ctx context.Context, cl *admin.Client) error {
				r, err := cl.AuditTail(ctx, admin.AuditTail{Last: last})
				if err != nil {
					return err
				}
				if !follow {
					return a.showAudit(r)
				}
				return a.followAudit(ctx, cl, r)
			})
		}}
	c.Flags().IntVarP(&last, "lines", "n", 20, "how many events")
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on with new events as they come")
	return c
}

// followAudit prints one line per event (JSON lines with -o json) until interrupted.
func (a *app) followAudit(ctx context.Context, cl *admin.Client, r admin.AuditRecords) error {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	enc := json.NewEncoder(a.stdout)
	var after uint64
	for {
		for _, rec := range r.Records {
			after = rec.Seq
			if a.output == "json" {
				if err := enc.Encode(rec); err != nil {
					return err
				}
			} else if _, err := fmt.Fprintln(a.stdout, clean(strings.Join(auditRow(rec), "  "), false)); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil // the way to end it
		case <-tick.C:
		}
		next, err := cl.AuditTail(ctx, admin.AuditTail{After: after})
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		r = next
	}
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
	add(r.Code)
	add(r.Detail)
	from := r.Remote
	if from == "" {
		from = r.Actor
	}
	return []string{fmt.Sprint(r.Seq), stamp(r.Time), r.Action, orDash(r.Account), orDash(from), orDash(r.Result), strings.Join(detail, " ")}
}

func (a *app) auditVerify() *cobra.Command {
	return &cobra.Command{Use: "verify", Short: "Check the whole chain; exit 1 when something was changed or is missing", Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.call(c.Context(), 0, func(ctx context.Context, cl *admin.Client) error {
				r, err := cl.AuditVerify(ctx)
				if err != nil {
					return err
				}
				return a.showCheck(r, "the audit log")
			})
		}}
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
