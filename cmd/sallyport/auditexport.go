package main

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"sallyport/server"
	"sallyport/server/admin"
	"sallyport/server/audit"
)

func (a *app) auditSearch() *cobra.Command {
	var r admin.AuditSearch
	var since, until string
	c := &cobra.Command{Use: "search", Short: "Show the events that match, the oldest first", Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if r.Since, r.Until, err = between(since, until); err != nil {
				return err
			}
			return a.call(c.Context(), 0, func(ctx context.Context, cl *admin.Client) error { return cl.AuditSearch(ctx, r, a.auditLine()) })
		}}
	f := c.Flags()
	f.StringVar(&r.Account, "account", "", "of this account, by id or name")
	f.StringVar(&r.Action, "action", "", "of this action")
	f.StringVar(&r.Code, "code", "", "with this code of a refusal")
	f.StringVar(&r.Addr, "addr", "", "from this address or network")
	f.StringVar(&r.Session, "session", "", "of this session")
	f.IntVar(&r.Limit, "limit", 0, "how many at most; 0 = all")
	betweenFlags(c, &since, &until)
	resolveFlag(c, &r.Resolve)
	return c
}

func betweenFlags(c *cobra.Command, since, until *string) {
	c.Flags().StringVar(since, "since", "", "not before: RFC 3339, or how long ago (90m)")
	c.Flags().StringVar(until, "until", "", "not after")
}

// between reads --since and --until.
func between(since, until string) (from, to time.Time, err error) {
	read := func(flag, text string) time.Time {
		if text == "" || err != nil {
			return time.Time{}
		}
		if d, bad := time.ParseDuration(text); bad == nil {
			return time.Now().Add(-d)
		}
		t, bad := time.Parse(time.RFC3339, text)
		if bad != nil {
			err = &admin.Error{Code: admin.CodeUsage, Message: fmt.Sprintf("--%s: %q is neither a time nor a duration", flag, text), Hint: "write 2026-01-31T12:00:00Z, or 90m for 90 minutes ago"}
		}
		return t
	}
	return read("since", since), read("until", until), err
}

func (a *app) auditExport() *cobra.Command {
	var r admin.AuditExport
	var since, until string
	c := &cobra.Command{Use: "export", Short: "Write the log in a form that proves itself with the public key alone", Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) (err error) {
			if r.Since, r.Until, err = between(since, until); err != nil {
				return err
			}
			r.Reason = a.reason
			out := bufio.NewWriter(a.stdout)
			if err := a.call(c.Context(), 0, func(ctx context.Context, cl *admin.Client) error {
				return cl.AuditExport(ctx, r, func(l admin.AuditLine) error {
					_, err := out.WriteString(l.Line + "\n")
					return err
				})
			}); err != nil {
				return err
			}
			return out.Flush()
		}}
	c.Flags().StringVar(&r.Format, "format", "json", "json (lines) or cef")
	betweenFlags(c, &since, &until)
	return c
}

func (a *app) auditKey() *cobra.Command {
	return &cobra.Command{Use: "key", Short: "Show the public key that checks exports and copies of the log", Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.call(c.Context(), shortCall, func(ctx context.Context, cl *admin.Client) error {
				k, err := cl.AuditKey(ctx)
				if err != nil {
					return err
				}
				if a.output != "table" {
					return a.show(view{value: k, names: []string{k.Public}})
				}
				_, err = io.WriteString(a.stdout, k.Public)
				return err
			})
		}}
}

func (a *app) auditVerify() *cobra.Command {
	var offline bool
	var file, dir, key string
	c := &cobra.Command{Use: "verify", Short: "Check the whole chain; exit 1 when something was changed or is missing", Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			if file == "" && dir == "" {
				return a.verify(c.Context(), offline, "the audit log", (*admin.Client).AuditVerify, server.VerifyAuditOffline)
			}
			if key == "" || file != "" && dir != "" {
				return &admin.Error{Code: admin.CodeUsage, Message: "--file or --copy need --key", Hint: "`sallyport audit key` on the server shows the public key; get it in a way that you trust"}
			}
			return a.verifyElsewhere(file, dir, key)
		}}
	c.Flags().BoolVar(&offline, "offline", false, "do not ask a running server")
	c.Flags().StringVar(&file, "file", "", "check an export, without any server")
	c.Flags().StringVar(&dir, "copy", "", "check a copy of the directory <state>/audit, without any server or secret")
	c.Flags().StringVar(&key, "key", "", "file with the public key")
	return c
}

// verifyElsewhere needs nothing of the server but its public key.
func (a *app) verifyElsewhere(file, dir, keyFile string) error {
	key, err := auditPublicKey(keyFile)
	if err != nil {
		return err
	}
	out := admin.Check{Checked: map[string]uint64{}, Findings: []string{}}
	what := "the copy of the audit log"
	if file != "" {
		what = "the export"
		err = verifyExport(file, key, out.Checked)
	} else {
		var r *audit.Result
		if r, err = audit.VerifyCopy(dir, key); r != nil {
			out, _ = admin.AuditCheck(r, nil)
		}
	}
	var damage *audit.DamageError
	if errors.As(err, &damage) {
		out.Findings = append(out.Findings, damage.Error())
	} else if err != nil {
		return err
	}
	return a.showCheck(out, what)
}

func verifyExport(file string, key ed25519.PublicKey, checked map[string]uint64) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	r, err := audit.VerifyExport(f, key)
	checked["first"], checked["last"], checked["signed"], checked["checkpoints"] = r.First, r.Last, r.Signed, r.Points
	if r.Removed > 0 {
		checked["removed by policy"] = r.Removed
	}
	return err
}

func auditPublicKey(file string) (ed25519.PublicKey, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if block, _ := pem.Decode(data); block != nil {
		if k, err := x509.ParsePKIXPublicKey(block.Bytes); err == nil {
			if k, ok := k.(ed25519.PublicKey); ok {
				return k, nil
			}
		}
	}
	return nil, &admin.Error{Code: admin.CodeInvalid, Message: file + " holds no Ed25519 public key in PEM", Hint: "`sallyport audit key` on the server shows it"}
}
