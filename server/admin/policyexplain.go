package admin

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"sallyport/crypto/keyring"
	"sallyport/policy"
	"sallyport/policy/policydb"
	"sallyport/server/audit"
)

// policyExplain answers with the functions that decide: the same Admit and Permit as at login and at each operation.
func (s *Server) policyExplain(ctx context.Context, _ Peer, r PolicyExplain) (Explanation, error) {
	given := 0
	for _, is := range []bool{r.Session != "", r.Event != 0, r.Account != ""} {
		if is {
			given++
		}
	}
	if given != 1 {
		return Explanation{}, newError(CodeUsage, "give one of an account, a session, or an audit event", "")
	}
	switch {
	case r.Session != "":
		return s.explainSession(r)
	case r.Event != 0:
		return s.explainEvent(ctx, r.Event)
	}
	now := time.Now()
	p := s.o.Policy.Current().Resolve(r.Account)
	q, err := r.Case.Question(p, now)
	if err != nil {
		return Explanation{}, newError(CodeUsage, err.Error(), "")
	}
	x := describeExplanation(policy.Explain(p, q, now))
	x.Notes, err = s.notes(r.Account, q.Facts)
	return x, err
}

// credentials in words, by method.
var credentials = map[string]string{"password": "password", "publickey": "public key", "certificate": "certificate, and no authority is trusted"}

// notes are what counts beside the policy.
func (s *Server) notes(account string, f policy.Facts) ([]string, error) {
	var notes []string
	a, err := s.o.Policy.Account(account)
	switch {
	case errors.Is(err, policydb.ErrNoAccount):
		notes = append(notes, "there is no account "+account+": its client is told that the login failed, like one with a wrong password")
	case err != nil:
		return nil, err
	case !a.Enabled:
		notes = append(notes, "the account is disabled: its client is told that the login failed")
	default:
		if !slices.ContainsFunc(s.o.Policy.Means(a, time.Now()).Doors, func(d policy.Door) bool { return d.Method == f.Method }) {
			notes = append(notes, "the account has no "+cmp.Or(credentials[f.Method], f.Method)+" that works today")
		}
	}
	for _, b := range s.o.Bans() {
		if addr, err := netip.ParseAddr(b.Address); err == nil && (addr == f.Remote.Addr().Unmap() || addr.Is6() && netip.PrefixFrom(addr, 64).Contains(f.Remote.Addr())) {
			notes = append(notes, fmt.Sprintf("the address is banned until %s after %d failed logins [%s]", b.Until.UTC().Format(time.RFC3339), b.Failures, policy.CodeBanned))
		}
	}
	return notes, nil
}

func (s *Server) explainSession(r PolicyExplain) (Explanation, error) {
	if s.o.Facts == nil {
		return Explanation{}, newError(CodeNotFound, "no such session", "")
	}
	account, f, ok := s.o.Facts(r.Session)
	if !ok {
		return Explanation{}, newError(CodeNotFound, "no such session", "`sallyport session list` shows them")
	}
	q := policy.Question{Facts: f}
	if r.Case.Do != "" {
		do, err := policy.ParseDo(r.Case.Do)
		if err != nil {
			return Explanation{}, newError(CodeUsage, err.Error(), "")
		}
		q.Do = &do
	}
	return describeExplanation(policy.Explain(s.o.Policy.Current().Resolve(account), q, time.Now())), nil
}

// explainEvent explains a past event under the policy of its time, and under that of now.
func (s *Server) explainEvent(ctx context.Context, seq uint64) (Explanation, error) {
	rec, err := s.o.ReadAudit(ctx, seq)
	if errors.Is(err, audit.ErrNoRecord) {
		return Explanation{}, newError(CodeNotFound, fmt.Sprintf("the audit log has no record %d", seq), "`sallyport audit tail` shows the numbers")
	}
	if err != nil {
		return Explanation{}, err
	}
	q, ok := questionOf(rec.Event)
	if !ok {
		return Explanation{}, newError(CodeUsage, fmt.Sprintf("record %d (%s) is about no connection", seq, rec.Action), "")
	}
	name := ""
	if !rec.Account.IsZero() {
		a, err := s.o.Policy.AccountByID(keyring.AccountID(rec.Account))
		if errors.Is(err, policydb.ErrNoAccount) {
			return Explanation{}, newError(CodeNotFound, "the account of this record was removed, and what its policy was is not told of a name that is gone", "")
		} else if err != nil {
			return Explanation{}, err
		}
		name = a.Name
	}
	then, err := s.o.Policy.At(rec.Time)
	if err != nil {
		return Explanation{}, err
	}
	x := describeExplanation(policy.Explain(then.Resolve(name), q, rec.Time))
	x.Notes = notesOf(rec.Event, x)
	if current := s.o.Policy.Current(); current.N != then.N {
		now := describeExplanation(policy.Explain(current.Resolve(name), q, time.Now()))
		x.Now = &now
	}
	return x, nil
}

// notesOf an event: what the log says of it, and what it does not hold.
func notesOf(e audit.Event, x Explanation) []string {
	notes := []string{fmt.Sprintf("the log has %s at %s", e.Action, e.Time.UTC().Format(time.RFC3339))}
	switch {
	case e.Code != "":
		notes[0] += ", refused with " + e.Code + " (" + e.Detail + ")"
	case e.Action == audit.LoginRefused:
		notes[0] += ": the credential was wrong, or the account does not exist or is disabled"
	}
	if e.Protocol != string(policy.SFTP) && e.Protocol != string(policy.FTP) {
		notes = append(notes, "the log does not hold the TLS version and cipher; modern ones are assumed")
	}
	if e.Code != x.Code {
		notes = append(notes, "the decision of that moment also rested on what only the server knew then: live sessions, bans, rates, credentials")
	}
	return notes
}

// questionOf an event of a connection.
func questionOf(e audit.Event) (policy.Question, bool) {
	f := policy.Facts{Protocol: policy.Protocol(e.Protocol), Remote: e.Remote, Method: e.Method, Since: e.Time, LastActive: e.Time, SecondFactor: true}
	if f.Protocol == "" || !f.Remote.IsValid() {
		return policy.Question{}, false
	}
	if f.Protocol == policy.FTPS || f.Protocol == policy.FTPSImplicit {
		f.TLS, f.TLSVersion, f.Cipher = true, tls.VersionTLS13, "TLS_AES_128_GCM_SHA256"
	}
	if e.Code == policy.CodeSSLRequired {
		f.Protocol, f.TLS = policy.FTP, false
	}
	q := policy.Question{Facts: f}
	if op, ok := opOf(e); ok {
		do := policy.Do{Op: op, Paths: []string{string(e.Path)}}
		if e.Action == audit.Rename {
			do.Paths = append(do.Paths, string(e.To))
		}
		q.Do = &do
	}
	return q, true
}

func opOf(e audit.Event) (policy.Op, bool) {
	if e.Path == "" {
		return 0, false
	}
	if e.Action == audit.Refused {
		for op := policy.OpList; op <= policy.OpStat; op++ {
			if op.String() == e.Op {
				return op, true
			}
		}
		return 0, false
	}
	op, ok := map[audit.Action]policy.Op{audit.Upload: policy.OpWrite, audit.Download: policy.OpRead, audit.Mkdir: policy.OpMkdir, audit.Remove: policy.OpDelete, audit.Rmdir: policy.OpDelete,
		audit.Rename: policy.OpRename, audit.Symlink: policy.OpSymlink, audit.SetAttr: policy.OpSetAttr, audit.Copy: policy.OpWrite, audit.Truncate: policy.OpOverwrite}[e.Action]
	return op, ok
}

func describeExplanation(x *policy.Explanation) Explanation {
	out := Explanation{Account: x.Account, Protocol: string(x.Protocol), Revision: x.Revision, Allowed: x.Denial == nil}
	for _, step := range x.Steps {
		r := StageReport{N: int(step.Stage), Name: step.Stage.String(), Text: step.Text, OK: step.Denial == nil}
		if d := step.Denial; d != nil {
			r.Code, r.Rule, r.Origin = d.Code, d.Rule, d.Origin
		}
		out.Stages = append(out.Stages, r)
	}
	if d := x.Denial; d != nil {
		out.Stage, out.Code, out.Client, out.Hint = int(d.Stage), d.Code, d.Message+" ["+d.Code+"]", d.Hint
		for _, r := range policy.Refusals() {
			if r.Code == d.Code {
				out.Meaning = r.Meaning
			}
		}
	}
	return out
}
