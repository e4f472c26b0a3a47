package session

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/policy"
	"sallyport/server/audit"
	"sallyport/vfs"
)

// ransomGuard counts what a session overwrites and deletes. Malware that encrypts files over a mounted share, and whoever wants to
// destroy them, touches very many in a short time. History makes it harmless; this makes it seen, and may end it.
//
// Each session counts for itself, in windows of ransom.limit's time. What it made itself does not count, or every program that writes
// under another name first would.
type ransomGuard struct {
	suspended atomic.Pointer[policy.Denial]

	mu    sync.Mutex // guards all below; never held over anything that blocks
	since time.Time  // of the window
	count int
	told  bool                // of this window
	own   map[string]struct{} // paths of files that the session made
}

// maxOwn is how many own files are remembered; others count.
const maxOwn = 10_000

// saw takes a change from the transaction that makes it. One that is tried twice counts twice: it is a threshold and no account.
func (s *Session) saw(ch vfs.Change) {
	g := &s.ransom
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.destroys(ch) {
		return
	}
	p := s.Policy()
	if p == nil || p.Ransom.Limit.N == 0 {
		return
	}
	now := s.conn.m.o.Now()
	if now.Sub(g.since) >= p.Ransom.Limit.Per {
		g.since, g.count, g.told = now, 0, false
	}
	if g.count++; g.count <= p.Ransom.Limit.N || g.told {
		return
	}
	g.told = true
	s.alarm(p, g.count)
}

// destroys tells whether a change takes away the content of a file that the session did not make. Called with mu held.
func (g *ransomGuard) destroys(ch vfs.Change) bool {
	_, own := g.own[ch.Path]
	switch ch.Op {
	case "upload", "copy", "truncate":
		if ch.Version == 1 {
			g.made(ch.Path)
			return false
		}
		return !own && ch.Result == "complete"
	case "remove":
		delete(g.own, ch.Path)
		return !own
	case "rename":
		_, lost := g.own[ch.To]
		g.moved(ch.Path, ch.To)
		if own {
			delete(g.own, ch.Path)
			g.made(ch.To)
		} else {
			delete(g.own, ch.To)
		}
		return ch.Replaced && !lost
	}
	return false
}

// moved takes along what is below a directory that is renamed. Otherwise files of others that come to the place of own ones, with their
// directory, would count as own.
func (g *ransomGuard) moved(from, to string) {
	var below []string
	for name := range g.own {
		if strings.HasPrefix(name, from+"/") {
			below = append(below, name)
		}
	}
	for _, name := range below {
		delete(g.own, name)
		g.made(to + name[len(from):])
	}
}

func (g *ransomGuard) made(path string) {
	if g.own == nil {
		g.own = map[string]struct{}{}
	}
	if len(g.own) < maxOwn {
		g.own[path] = struct{}{}
	}
}

// alarm records it and, if policy says so, suspends the session's writes.
func (s *Session) alarm(p *policy.Effective, count int) {
	e := s.event(audit.Ransom)
	e.Count, e.Result = uint64(count), "reported"
	d := p.Deny(policy.CodeSuspended, "ransom.limit")
	e.Code, e.Detail = d.Code, because(d)
	if p.Ransom.Suspend {
		e.Result = "suspended"
		s.ransom.suspended.Store(d)
	}
	s.conn.m.later(e)
	s.conn.m.o.Log.Warn("a session overwrites or deletes very many files", "session", s.conn.id, "account", s.account.id.String(), "count", count,
		"limit", p.Ransom.Limit.String(), "result", e.Result, "rule", d.Rule, "origin", policy.Unnamed(d.Origin),
		"hint", fmt.Sprintf("`sallyport backup restore --account NAME --at %s --exact` takes it back", s.ransom.since.UTC().Format(time.RFC3339)))
}

// suspended is why the session may change nothing any more; nil if it may. A policy that does not suspend any more lets it.
func (s *Session) suspended(p *policy.Effective) *policy.Denial {
	d := s.ransom.suspended.Load()
	if d == nil || p == nil || !p.Ransom.Suspend {
		return nil
	}
	return d
}

// supersede is asked before a file becomes history.
func (s *Session) supersede(x vfs.Superseding) error {
	p := s.Policy()
	if d := s.suspended(p); d != nil {
		return d
	}
	if q := p.Quota.History; q > 0 && x.Bytes > 0 && x.History > uint64(q) {
		return p.Deny(policy.CodeQuotaHistory, "quota.history")
	}
	return nil
}

// changes tells whether an operation changes anything.
func changes(op policy.Op) bool {
	switch op {
	case policy.OpWrite, policy.OpOverwrite, policy.OpDelete, policy.OpRename, policy.OpMkdir, policy.OpSetAttr, policy.OpSymlink:
		return true
	}
	return false
}
