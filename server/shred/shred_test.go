package shred

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/crypto/keyring"
	"sallyport/server/audit"
	"sallyport/vfs"
)

func TestNextTimeOfDay(t *testing.T) {
	t.Parallel()
	zone := time.FixedZone("", 3600)
	day := func(d, h, m int) time.Time { return time.Date(2026, 3, d, h, m, 0, 0, zone) }
	for _, c := range []struct{ now, want time.Time }{
		{day(1, 2, 0), day(1, 3, 30)}, {day(1, 3, 30), day(2, 3, 30)}, {day(31, 23, 59), day(32, 3, 30)},
	} {
		if got := next(c.now, 3*time.Hour+30*time.Minute, 0); !got.Equal(c.want) {
			t.Errorf("after %v comes %v, want %v", c.now, got, c.want)
		}
	}
	for range 100 {
		if got := next(day(1, 2, 0), time.Hour*3, time.Hour); got.Before(day(1, 3, 0)) || !got.Before(day(1, 4, 0)) {
			t.Fatalf("with jitter: %v", got)
		}
	}
}

// site is volumes with one account that has something to shred.
func site(t *testing.T) (*vfs.FS, *keyring.Keyring, keyring.AccountID) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	key, err := keyring.NewKeyFile(filepath.Join(t.TempDir(), "key"))
	must(err)
	dir := t.TempDir()
	ring, err := keyring.Create(t.Context(), dir, key)
	must(err)
	t.Cleanup(func() { ring.Close() })
	f, err := vfs.Open(t.Context(), vfs.Options{Dir: filepath.Join(dir, "accounts"), Keyring: ring, IdleClose: -1})
	must(err)
	t.Cleanup(func() { f.Close() })
	var id keyring.AccountID
	for range 2 { // the first one has nothing
		id, err = ring.NewAccount(t.Context())
		must(err)
		must(f.Create(t.Context(), id))
	}
	v, err := f.Volume(t.Context(), id)
	must(err)
	w := v.View(vfs.ViewOptions{})
	defer w.Close()
	file, err := w.OpenHandle(t.Context(), "/a", os.O_WRONLY|os.O_CREATE, 0o644)
	must(err)
	_, err = file.Write(make([]byte, 5000))
	must(err)
	must(file.Close())
	must(w.Remove("/a"))
	plan, err := v.PlanPurge(t.Context(), func(vfs.Superseded) bool { return true })
	must(err)
	must(plan.Execute(t.Context(), nil))
	return f, ring, id
}

func TestRunShredsWhatAwaitsItAndRecordsThat(t *testing.T) {
	t.Parallel()
	f, ring, id := site(t)
	var got []audit.Event
	s := Start(Options{Volumes: f, Log: slog.New(slog.DiscardHandler), Record: func(_ context.Context, e audit.Event) (uint64, error) {
		got = append(got, e)
		return uint64(len(got)), nil
	}})
	defer s.Close()
	r, err := s.Run(t.Context(), "root", "OPS-1", vfs.ShredOptions{})
	if err != nil || r.Seq != 2 || len(r.Accounts) != 1 || r.Accounts[0].ID != id || r.Epoch != 2 || r.Bytes != 5000 || !r.NewRoot || r.Destroyed {
		t.Errorf("receipt %+v, %v", r, err)
	}
	if len(got) != 2 || got[0].Action != audit.AccountRekey || got[0].Account != audit.ID(id) || got[0].Version != 2 ||
		got[1].Action != audit.Shred || got[1].Version != 2 || got[1].Bytes != 5000 || got[1].Count != 1 || got[1].Who != "root" || got[1].Result != "complete" {
		t.Errorf("records %+v", got)
	}
	if r, err = s.Run(t.Context(), "", "daily", vfs.ShredOptions{}); err != nil || r.Seq != 0 || len(got) != 2 || ring.Epoch() != 2 {
		t.Errorf("with nothing to do: %+v, %v, epoch %d", r, err, ring.Epoch())
	}
}

// TestDailyRunComesAtItsTime waits for it in a bubble.
func TestDailyRunComesAtItsTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f, ring, _ := site(t)
		recorded := make(chan audit.Event, 10)
		s := Start(Options{Volumes: f, Log: slog.New(slog.DiscardHandler), Daily: true, At: 3 * time.Hour, Jitter: time.Hour,
			Record: func(_ context.Context, e audit.Event) (uint64, error) { recorded <- e; return 1, nil }})
		begin := time.Now()
		<-recorded
		<-recorded
		if at := time.Since(begin); at < 3*time.Hour || at > 4*time.Hour || ring.Epoch() != 2 {
			t.Errorf("it ran after %v, at epoch %d", at, ring.Epoch()) // the bubble's clock begins at midnight UTC
		}
		s.Close()
	})
}
