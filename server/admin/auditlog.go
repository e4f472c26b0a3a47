package admin

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"sallyport/crypto/keyring"
	"sallyport/server/audit"
)

// maxTail bounds one answer of audit tail, records.
const maxTail = 10_000

func (s *Server) auditTail(ctx context.Context, who Peer, r AuditTail) (AuditRecords, error) {
	out := AuditRecords{[]AuditRecord{}}
	if err := s.mayResolve(who, r.Resolve); err != nil {
		return out, err
	}
	err := s.o.Tail(ctx, clamp(r.Last), false, s.resolved(r.Resolve, func(rec AuditRecord) error {
		out.Records = append(out.Records, rec)
		return nil
	}))
	return out, err
}

func (s *Server) auditFollow(ctx context.Context, who Peer, r AuditTail) (func(func(AuditRecord) error) error, error) {
	return func(send func(AuditRecord) error) error {
		return s.o.Tail(ctx, clamp(r.Last), true, s.resolved(r.Resolve, send))
	}, s.mayResolve(who, r.Resolve)
}

// mayResolve says whether somebody may have names for the account ids of the log: root, the server's own user, and whom
// admin.resolve_uids names.
func (s *Server) mayResolve(who Peer, asked bool) error {
	if !asked || who.UID == 0 || who.UID == uint32(os.Getuid()) || slices.Contains(s.o.ResolveUIDs, who.UID) {
		return nil
	}
	return newError(CodeRefused, "this user may not have names for the account ids of the audit log", "leave out --resolve, or add your uid to admin.resolve_uids in sallyport.yaml")
}

func clamp(n int) int { return max(0, min(n, maxTail)) }

// resolved turns audit records, which hold account ids, into what operators
// read: ids, or on request names. Accounts that are gone keep their id.
func (s *Server) resolved(names bool, send func(AuditRecord) error) func(audit.Record) error {
	known := map[audit.ID]string{}
	return func(r audit.Record) error {
		if r.Account.IsZero() {
			return send(describeRecord(r, ""))
		}
		name, found := known[r.Account]
		if !found {
			name = r.Account.String()
			if a, err := s.o.Policy.AccountByID(keyring.AccountID(r.Account)); names && err == nil {
				name = a.Name
			}
			known[r.Account] = name
		}
		return send(describeRecord(r, name))
	}
}

func describeRecord(r audit.Record, account string) AuditRecord {
	out := AuditRecord{
		Seq: r.Seq, Time: r.Time, Action: string(r.Action), Account: account, Session: r.Session, Who: r.Who, Protocol: r.Protocol,
		Client: r.Client, Method: r.Method, Path: string(r.Path), To: string(r.To), Op: r.Op, Bytes: r.Bytes, Version: r.Version,
		Revision: r.Revision, Count: r.Count, Result: r.Result, Code: r.Code, Detail: r.Detail,
	}
	if r.Remote.IsValid() {
		out.Remote = r.Remote.String()
	}
	return out
}

// auditVerify walks the whole chain. Damage is a finding, not an error.
func (s *Server) auditVerify(context.Context, Peer, Empty) (Check, error) {
	r, err := s.o.VerifyAudit()
	return AuditCheck(r, err)
}

// AuditCheck turns the result of a verification of the audit log into a report.
func AuditCheck(r *audit.Result, err error) (Check, error) {
	out := Check{Checked: map[string]uint64{}, Findings: []string{}}
	if r != nil {
		out.Checked["records"], out.Checked["files"] = r.Records, uint64(r.Files)
		out.Checked["checkpoints"], out.Checked["signed"] = r.Checkpoints, r.Signed
		if r.First > 1 {
			out.Checked["removed by policy"] = r.First - 1
		}
	}
	var damage *audit.DamageError
	if errors.As(err, &damage) {
		out.Findings = append(out.Findings, damage.Error())
		return out, nil
	}
	return out, err
}

// record writes an act into the audit log. The act has happened and is durable:
// an error says so, because the operator must not believe that it did not.
func (s *Server) record(ctx context.Context, who Peer, e audit.Event) error {
	return s.recorded(ctx, who, e, s.o.Record)
}

func (s *Server) recorded(ctx context.Context, who Peer, e audit.Event, put func(context.Context, audit.Event) error) error {
	e.Who = who.String()
	err := put(context.WithoutCancel(ctx), e)
	if err == nil {
		return nil
	}
	s.o.Log.Error("administrative act not in the audit log", "action", e.Action, "who", e.Who, "account", e.Account, "error", err)
	return &Error{Code: CodeInternal, Message: "done, but it could not be written to the audit log", Hint: "see the server's log; logins are refused while the audit log cannot be written", cause: err}
}

// recordFirst is record for what must not be done before it can be seen who did it: if it fails, nothing is done.
func (s *Server) recordFirst(ctx context.Context, who Peer, e audit.Event) error {
	err := s.record(ctx, who, e)
	if e := (*Error)(nil); errors.As(err, &e) {
		e.Message = "nothing is done: it could not be written to the audit log first"
	}
	return err
}

// recordFor is record for an account's name.
func (s *Server) recordFor(ctx context.Context, who Peer, name string, e audit.Event) error {
	a, err := s.o.Policy.Account(name)
	if err != nil {
		return fmt.Errorf("finding the account for the audit log: %w", err)
	}
	e.Account = audit.ID(a.ID)
	return s.record(ctx, who, e)
}
