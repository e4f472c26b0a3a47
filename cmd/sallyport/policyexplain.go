package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"sallyport/server/admin"
)

func (a *app) policyExplain() *cobra.Command {
	var r admin.PolicyExplain
	var tls, second bool
	c := &cobra.Command{Use: "explain", Short: "Say why a connection is let in or refused: one thought up, a live session, or a past audit event", Args: exactly(),
		Long: "Go through the seven stages of a decision with the functions that decide. What is not given is as a good\n" +
			"client of the account would have it.",
		Example: "  sallyport policy explain --account alice --addr 203.0.113.9 --port 21 --tls=false\n" +
			"  sallyport policy explain --account alice --do 'put /in/x'\n  sallyport policy explain --session ID --do 'get /out/y'\n  sallyport policy explain --event 4711",
		RunE: func(c *cobra.Command, _ []string) error {
			if c.Flags().Changed("tls") {
				r.Case.TLS = strconv.FormatBool(tls)
			}
			if c.Flags().Changed("second-factor") {
				r.Case.SecondFactor = strconv.FormatBool(second)
			}
			return a.call(c.Context(), shortCall, func(ctx context.Context, cl *admin.Client) error {
				x, err := cl.PolicyExplain(ctx, r)
				if err != nil {
					return err
				}
				return a.showExplanation(x)
			})
		}}
	f := c.Flags()
	f.StringVar(&r.Account, "account", "", "`account` that logs in")
	f.StringVar(&r.Session, "session", "", "live session `ID`")
	f.Uint64Var(&r.Event, "event", 0, "`number` of an audit record")
	f.StringVar(&r.Case.Addr, "addr", "", "`address` that it comes from")
	f.IntVar(&r.Case.Port, "port", 0, "`port` that it comes to; 21 is FTPS with AUTH TLS, 990 implicit FTPS")
	f.StringVar(&r.Case.Protocol, "protocol", "", "sftp, ftps, ftps-implicit, ftp")
	f.BoolVar(&tls, "tls", true, "whether an FTP client begins TLS")
	f.StringVar(&r.Case.TLSVersion, "tls-version", "", "1.2 or 1.3")
	f.StringVar(&r.Case.Cipher, "cipher", "", "`name` of the TLS cipher suite")
	f.StringVar(&r.Case.Method, "method", "", "how it proves itself: publickey, password")
	f.BoolVar(&second, "second-factor", true, "whether it gives a second factor")
	f.IntVar(&r.Case.Sessions, "sessions", 0, "`number` of other sessions of the account")
	f.StringVar(&r.Case.Do, "do", "", "what it wants to do: 'put /in/a.csv', 'get PATH', 'ls PATH', 'rm PATH', 'rename OLD NEW', 'mkdir PATH'")
	return c
}

func (a *app) showExplanation(x admin.Explanation) error {
	v := view{value: x, names: []string{x.Code}}
	if a.output != "table" {
		return a.show(v)
	}
	_, err := fmt.Fprint(a.stdout, clean(explanationText(x), true))
	return err
}

func explanationText(x admin.Explanation) string {
	var b strings.Builder
	if x.Allowed {
		fmt.Fprintf(&b, "ALLOWED under revision %d.\n", x.Revision)
	} else {
		reply := ""
		if strings.HasPrefix(x.Protocol, "ftp") && x.Stage >= 3 && x.Stage <= 6 {
			reply = "530 "
		}
		fmt.Fprintf(&b, "REFUSED at stage %d/7 (%s). The client sees: %s%s\n", x.Stage, x.Stages[x.Stage-1].Name, reply, x.Client)
	}
	width := 0
	for _, s := range x.Stages {
		width = max(width, len(s.Name))
	}
	var rest []string
	for _, s := range x.Stages {
		verdict := "ok"
		if !s.OK {
			verdict = fmt.Sprintf("refused by %s of %s", s.Rule, s.Origin)
		}
		if !x.Allowed && s.N > x.Stage {
			if !s.OK {
				verdict = s.Code
			}
			rest = append(rest, verdict)
			continue
		}
		fmt.Fprintf(&b, " %d %-*s  %s  %s\n", s.N, width, s.Name, s.Text, verdict)
	}
	if len(rest) > 0 {
		span := fmt.Sprintf("%d-7", x.Stage+1)
		if x.Stage == 6 {
			span = "7"
		}
		fmt.Fprintf(&b, " %s not reached (would be: %s)\n", span, strings.Join(rest, ", "))
	}
	if x.Hint != "" {
		fmt.Fprintf(&b, "What happened: %s.\nTo allow it: %s\n", x.Meaning, x.Hint)
	}
	for _, n := range x.Notes {
		fmt.Fprintf(&b, "Note: %s\n", n)
	}
	if x.Now != nil {
		fmt.Fprintf(&b, "\nUnder the policy of now (revision %d):\n%s", x.Now.Revision, explanationText(*x.Now))
	}
	return b.String()
}

func (a *app) policyTest() *cobra.Command {
	return &cobra.Command{Use: "test", Short: "Run the tests that the policy holds; exit 1 if one fails", Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.call(c.Context(), shortCall, func(ctx context.Context, cl *admin.Client) error {
				r, err := cl.PolicyTest(ctx)
				if err != nil {
					return err
				}
				v, failed := view{value: r, header: []string{"LINE", "RESULT", "TEST", "GOT"}, empty: "the policy has no tests"}, 0
				for _, t := range r.Tests {
					result := "ok"
					if !t.OK {
						result = "FAILS"
						failed++
					}
					v.rows = append(v.rows, []string{fmt.Sprint(t.Line), result, t.Test, t.Got})
				}
				if err := a.show(v); err != nil || failed == 0 {
					return err
				}
				return &admin.Error{Code: admin.CodeFindings, Message: fmt.Sprintf("%d of %d tests fail", failed, len(r.Tests))}
			})
		}}
}
