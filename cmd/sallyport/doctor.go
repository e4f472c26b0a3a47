package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"sallyport/server"
	"sallyport/server/admin"
)

func (a *app) doctorCommand() *cobra.Command {
	return &cobra.Command{Use: "doctor", Short: "Examine host, configuration and state; exit 1 when something is wrong", Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			l, err := server.LoadConfig(a.configSource())
			if err != nil {
				return err
			}
			running, err := a.running(c.Context(), l)
			if err != nil {
				return err
			}
			findings := server.Doctor(c.Context(), l, running, time.Now())
			return a.showFindings(findings)
		}}
}

// running is the status of the server on the configured socket, nil if none answers.
func (a *app) running(ctx context.Context, l *server.Loaded) (*admin.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, shortCall)
	defer cancel()
	s, err := admin.NewClient(l.AdminSocket()).Status(ctx)
	if err == nil {
		return &s, nil
	}
	if explain(err).Code == admin.CodeUnreachable {
		return nil, nil
	}
	return nil, err
}

func (a *app) showFindings(findings []server.Finding) error {
	v := view{value: findings, header: []string{"CHECK", "RESULT", "DETAIL"}}
	failed := 0
	for _, f := range findings {
		v.rows = append(v.rows, []string{f.Check, string(f.Result), f.Detail})
		if f.Result == server.Fail {
			failed++
		}
	}
	if err := a.show(v); err != nil {
		return err
	}
	for _, f := range findings {
		if f.Hint != "" {
			a.say("sallyport: hint: %s: %s", f.Check, f.Hint)
		}
	}
	if failed > 0 {
		return &admin.Error{Code: admin.CodeFindings, Message: "checks that failed: " + fmt.Sprint(failed)}
	}
	return nil
}
