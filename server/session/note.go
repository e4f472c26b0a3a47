package session

import (
	"cmp"
	"crypto/rand"
	"strconv"

	"sallyport/crypto/keyring"
	"sallyport/policy"
	"sallyport/server/audit"
	"sallyport/vfs"
)

// event begins an audit record of this session.
func (s *Session) event(action audit.Action) audit.Event {
	f := s.conn.current()
	return audit.Event{Time: s.conn.m.now(), Action: action, Account: audit.ID(s.account.id), Session: s.conn.id, Remote: f.Remote,
		Protocol: string(f.Protocol), Client: f.Client, Method: f.Method}
}

// actions of what a commit did.
var actions = map[string]audit.Action{
	"upload": audit.Upload, "mkdir": audit.Mkdir, "remove": audit.Remove, "rmdir": audit.Rmdir, "rename": audit.Rename,
	"symlink": audit.Symlink, "setattr": audit.SetAttr, "copy": audit.Copy, "truncate": audit.Truncate, "restore": audit.Restore,
}

func changed(e audit.Event, ch vfs.Change) []byte {
	e.Action = actions[ch.Op]
	e.Time, e.Path, e.To = ch.At, audit.Text(ch.Path), audit.Text(ch.To)
	e.Bytes, e.Version, e.Result, e.Detail = ch.Bytes, ch.Version, ch.Result, cmp.Or(ch.Detail, e.Detail)
	return e.Encode()
}

// note makes the audit event that rides in the transaction of a change. It may run more than once for one change.
func (s *Session) note(ch vfs.Change) []byte {
	s.saw(ch)
	f := s.conn.current()
	return changed(audit.Event{Account: audit.ID(s.account.id), Session: s.conn.id, Remote: f.Remote, Protocol: string(f.Protocol),
		Origin: s.conn.id + ":" + strconv.FormatUint(s.events.Add(1), 10)}, ch)
}

// Recovered makes the audit event of an upload that a crash cut off, for vfs.Options.
func Recovered(id keyring.AccountID, ch vfs.Change) []byte {
	return changed(audit.Event{Account: audit.ID(id), Detail: "recovered after a crash", Origin: rand.Text()}, ch)
}

// keep is the policy upload.interrupted at the moment an upload breaks.
func (s *Session) keep(string) bool { return s.Policy().Upload.Interrupted != "discard" }

// denied records a refused file operation and returns the denial.
func (s *Session) denied(d *policy.Denial, op policy.Op, path string) error {
	m := s.conn.m
	if n := s.guard.refusals.note(m.o.Now()); n > 0 {
		e := s.event(audit.Refused)
		e.Code, e.Detail, e.Op, e.Path, e.Count = d.Code, because(d), op.String(), audit.Text(path), n
		m.later(e)
	}
	return d
}

// because is the rule of a denial and where it stands.
func because(d *policy.Denial) string {
	if d.Origin == "" {
		return d.Rule
	}
	return d.Rule + " of " + policy.Unnamed(d.Origin)
}
