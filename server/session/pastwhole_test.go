package session

import (
	"errors"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/policy"
	"sallyport/vfs"
)

// TestRaisedRetentionDoesNotBringBackWhatWasPurged: an instant that is within retention again, and of which something is gone, is refused and not listed.
func TestRaisedRetentionDoesNotBringBackWhatWasPurged(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	start := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	var skew atomic.Int64
	now := func() time.Time { return start.Add(time.Duration(skew.Load())) }
	h := build(t, func(o *Options) { o.Now = now })
	h.addAccount(t, "alice", everything)
	h.set(t, policy.AccountTarget("alice"), "backup.retention_days", "30")
	_, s := h.login(t, "alice")
	put(t, s.Files(), "/f", "one")
	put(t, s.Files(), "/g", "gone later")
	skew.Store(int64(10 * day))
	_, s = h.login(t, "alice")
	put(t, s.Files(), "/f", "two")
	must(t, s.Files().Remove("/g"))
	skew.Store(int64(15 * day))
	_, s = h.login(t, "alice")
	put(t, s.Files(), "/f", "three")
	skew.Store(int64(20 * day))
	_, s = h.login(t, "alice")
	g := s.Files()
	at := func(days int, name string) string {
		return "/.backups/" + FormatInstant(start.Add(time.Duration(days)*day)) + name
	}
	if got, err := get(g, at(5, "/g")); got != "gone later" || err != nil {
		t.Fatalf("before the purge: %q, %v", got, err)
	}
	open, err := g.OpenFile(t.Context(), at(12, "/f"), os.O_RDONLY, 0)
	must(t, err)
	defer open.Close()

	h.set(t, policy.AccountTarget("alice"), "backup.retention_days", "7")
	a, err := h.db.Account("alice")
	must(t, err)
	v, err := h.fs.Volume(t.Context(), a.ID)
	must(t, err)
	r, err := v.Purge(t.Context(), vfs.PurgeOptions{Before: now().Add(-7 * day)}) // as retention does
	if must(t, err); r.Names != 1 || r.Newest.Before(start.Add(10*day)) {
		t.Fatalf("purged %+v", r)
	}
	h.set(t, policy.AccountTarget("alice"), "backup.retention_days", "30")

	list := func(name string) error {
		return g.ReadDir(t.Context(), name, func([]*vfs.Info) error { return nil })
	}
	stat := func(name string) error { _, err := g.Stat(name); return err }
	read := func(name string) error { _, err := get(g, name); return err }
	_, restored := g.Restore(t.Context(), "/g", FormatInstant(start.Add(5*day)))
	for what, err := range map[string]error{
		"stat": stat(at(5, "")), "stat of what is gone": stat(at(5, "/g")), "list": list(at(5, "")), "read": read(at(5, "/f")), "restore": restored,
		"a second before the end of the last": stat("/.backups/" + FormatInstant(start.Add(10*day-time.Second))),
	} {
		if oldest, ok := OldestWhole(err); !ok || !errors.Is(err, vfs.ErrNotKept) || oldest != FormatInstant(start.Add(10*day+time.Second)) {
			t.Errorf("%s: %v; the oldest is %q", what, err, oldest)
		}
	}
	oldest, _ := OldestWhole(stat(at(5, "")))
	for name, want := range map[string]string{"/.backups/" + oldest + "/f": "two", at(12, "/f"): "two", at(16, "/f"): "three"} {
		if got, err := get(g, name); got != want || err != nil {
			t.Errorf("%s holds %q, %v", name, got, err)
		}
	}
	buf := make([]byte, 3)
	if _, err := open.ReadAt(buf, 0); err != nil || string(buf) != "two" {
		t.Errorf("what is open of a whole instant: %q, %v", buf, err)
	}
	offered := 0
	for _, name := range names(t, g, "/.backups") {
		if name == versionsDir {
			continue
		}
		if offered++; stat("/.backups/"+name) != nil {
			t.Errorf("%s is listed: %v", name, stat("/.backups/"+name))
		}
	}
	if offered < 10 {
		t.Errorf("%d instants are listed", offered)
	}
	if got := names(t, g, "/.backups/versions/f"); len(got) != 2 {
		t.Errorf("versions %q", got)
	}
}
