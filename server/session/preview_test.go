package session

import (
	"slices"
	"testing"

	"sallyport/policy"
)

// A preview says of each live session what Recheck then does, and itself does nothing.
func TestPreviewIsWhatRecheckDoes(t *testing.T) {
	t.Parallel()
	h := build(t, nil)
	h.addAccount(t, "alice", everything)
	h.addAccount(t, "bob", everything)
	first, a1 := h.login(t, "alice")
	second, a2 := h.login(t, "alice")
	other, b := h.login(t, "bob")
	waiting := h.connect(t, sftpFrom("198.51.100.9"))

	would := func(target policy.Target, path, value string) (*policy.Document, []Ending) {
		t.Helper()
		r := h.db.Current()
		doc, err := r.Document.Set(target, path, value)
		if err != nil {
			t.Fatal(err)
		}
		return doc, h.m.WouldEnd(&policy.Revision{N: r.N + 1, Document: doc})
	}
	if _, list := would(policy.Site, "session.max", "3"); len(list) != 0 {
		t.Errorf("a change that ends nobody: %+v", list)
	}
	// The newest session is the one too many.
	if _, list := would(policy.AccountTarget("alice"), "session.max", "1"); len(list) != 1 || list[0].Info.ID != a2.ID() || list[0].Denial.Code != policy.CodeSessions {
		t.Errorf("one session too many: %+v", list)
	}
	_, list := would(policy.Site, "deny_from", "[198.51.100.7]")
	var ids []string
	for _, e := range list {
		ids = append(ids, e.Info.ID)
		if e.Denial.Code != policy.CodeDenied || e.Denial.Rule != "deny_from" || e.Info.Account == "" {
			t.Errorf("%+v: %+v", e.Info, e.Denial)
		}
	}
	want := []string{a1.ID(), a2.ID(), b.ID()}
	slices.Sort(ids)
	slices.Sort(want)
	if !slices.Equal(ids, want) {
		t.Errorf("would end %q, want the three that are logged in: %q", ids, want)
	}
	for _, l := range []*line{first, second, other, waiting} {
		if d := l.ended.Load(); d != nil {
			t.Errorf("a preview ended a session: %v", d)
		}
	}
	h.set(t, policy.AccountTarget("alice"), "session.max", "1")
	if d := <-second.hung; d.Code != policy.CodeSessions {
		t.Errorf("the change ended the session with %v", d)
	}
	if first.ended.Load() != nil || other.ended.Load() != nil {
		t.Error("the change ended what the preview did not name")
	}
}

// What the server knows of a live session is what decides on it, and nothing is known of others.
func TestFactsOfALiveSession(t *testing.T) {
	t.Parallel()
	h := build(t, nil)
	h.addAccount(t, "alice", everything)
	_, older := h.login(t, "alice")
	l, s := h.login(t, "alice")
	account, f, ok := h.m.Facts(s.ID())
	if !ok || account != "alice" || f.Protocol != policy.SFTP || f.Method != methodKey || f.Sessions != 1 || f.Since.IsZero() || f.LastActive.IsZero() || f.Remote != l.current().Remote {
		t.Errorf("%q, %+v, %v", account, f, ok)
	}
	if _, f, ok := h.m.Facts(older.ID()); !ok || f.Sessions != 0 {
		t.Errorf("the older one: %+v, %v", f, ok)
	}
	waiting := h.connect(t, sftpFrom("198.51.100.9"))
	l.Close()
	for _, id := range []string{s.ID(), waiting.ID(), "", "nonsense"} {
		if _, _, ok := h.m.Facts(id); ok {
			t.Errorf("facts of %q, which is no live session", id)
		}
	}
}
