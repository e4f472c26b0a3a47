package shred

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/crypto/keyring"
	"sallyport/server/audit"
)

// distant is a seal that can destroy old roots, and whose service may be away for that.
type distant struct {
	*keyring.KeyFile
	away  atomic.Bool
	asked atomic.Int64
}

func (d *distant) DestroyOld(context.Context, []byte, []byte) error {
	d.asked.Add(1)
	if d.away.Load() {
		return errors.New("no route to the service")
	}
	return nil
}

// TestAnOldRootIsDestroyedWhenTheServiceIsBack: it is tried again by itself, with pauses that grow, and recorded once when it is done.
func TestAnOldRootIsDestroyedWhenTheServiceIsBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		file, err := keyring.NewKeyFile(filepath.Join(t.TempDir(), "key"))
		if err != nil {
			t.Fatal(err)
		}
		seal := &distant{KeyFile: file}
		k, err := keyring.Create(t.Context(), t.TempDir(), seal)
		if err != nil {
			t.Fatal(err)
		}
		defer k.Close()
		var events []audit.Event
		f := StartFinisher(FinishOptions{Keyring: k, Log: slog.New(slog.DiscardHandler), Record: func(_ context.Context, e audit.Event) error {
			events = append(events, e)
			return nil
		}})
		defer f.Close()
		synctest.Wait()
		if !f.Next().IsZero() || len(events) != 0 {
			t.Errorf("with nothing to do: next %v, events %v", f.Next(), events)
		}
		seal.away.Store(true)
		if err := k.RotateRoot(t.Context()); !errors.Is(err, keyring.ErrOldRoot) {
			t.Fatal(err)
		}
		f.Wake()
		before := seal.asked.Load()
		day := 24 * time.Hour
		time.Sleep(day) // of the bubble
		synctest.Wait()
		if n := seal.asked.Load() - before; n < 24*60/25 || n > 24*60/10 || time.Until(f.Next()) > 20*time.Minute {
			t.Errorf("asked %d times in a day, again at %v", n, f.Next())
		}
		if len(events) != 0 || !k.Pending() {
			t.Errorf("recorded %v while it waits", events)
		}
		seal.away.Store(false)
		time.Sleep(20 * time.Minute)
		synctest.Wait()
		if len(events) != 1 || events[0].Action != audit.RootDestroy || events[0].Version != 1 || events[0].Result != "destroyed" || k.Pending() || !f.Next().IsZero() {
			t.Errorf("recorded %+v, next try %v", events, f.Next())
		}
		n := seal.asked.Load()
		time.Sleep(day)
		if seal.asked.Load() != n {
			t.Error("it goes on asking")
		}
	})
}

// TestWhatCouldNotBeRecordedIsTriedAgain: the old root is destroyed, and the audit log could not be told. It is not forgotten before
// it can be.
func TestWhatCouldNotBeRecordedIsTriedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k, seal := distantRing(t)
		var events []audit.Event
		full := errors.New("the disk is full")
		var room atomic.Bool
		f := StartFinisher(FinishOptions{Keyring: k, Log: slog.New(slog.DiscardHandler), Record: func(_ context.Context, e audit.Event) error {
			if !room.Load() {
				return full
			}
			events = append(events, e)
			return nil
		}})
		defer f.Close()
		synctest.Wait()
		if err := k.RotateRoot(t.Context()); !errors.Is(err, keyring.ErrOldRoot) || !errors.Is(err, full) || seal.asked.Load() != 1 {
			t.Fatalf("%v after %d requests", err, seal.asked.Load())
		}
		f.Wake()
		time.Sleep(time.Hour) // of the bubble
		synctest.Wait()
		if !k.Pending() || f.Next().IsZero() {
			t.Errorf("pending %v, next try %v", k.Pending(), f.Next())
		}
		room.Store(true)
		time.Sleep(time.Hour)
		synctest.Wait()
		if k.Pending() || !f.Next().IsZero() || len(events) != 1 || events[0].Action != audit.RootDestroy || events[0].Version != 1 {
			t.Errorf("pending %v, next try %v, recorded %+v", k.Pending(), f.Next(), events)
		}
	})
}

// TestWhoDestroysAnOldRootIsRecorded: every root that a seal destroys has a record of its own, whether a change did it at once or an operator later.
func TestWhoDestroysAnOldRootIsRecorded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k, seal := distantRing(t)
		var events []audit.Event
		f := StartFinisher(FinishOptions{Keyring: k, Log: slog.New(slog.DiscardHandler), Record: func(_ context.Context, e audit.Event) error {
			events = append(events, e)
			return nil
		}})
		defer f.Close()
		synctest.Wait()
		if err := k.RotateRoot(t.Context()); err != nil {
			t.Fatal(err)
		}
		seal.away.Store(true)
		if err := k.RotateRoot(t.Context()); !errors.Is(err, keyring.ErrOldRoot) {
			t.Fatal(err)
		}
		seal.away.Store(false)
		if err := f.Now(t.Context(), "alice"); err != nil {
			t.Fatal(err)
		}
		if len(events) != 2 || events[0].Version != 1 || events[0].Who != "" || events[1].Version != 2 || events[1].Who != "alice" {
			t.Errorf("recorded %+v", events)
		}
	})
}

// distantRing is a keyring with such a seal.
func distantRing(t *testing.T) (*keyring.Keyring, *distant) {
	t.Helper()
	file, err := keyring.NewKeyFile(filepath.Join(t.TempDir(), "key"))
	if err != nil {
		t.Fatal(err)
	}
	seal := &distant{KeyFile: file}
	k, err := keyring.Create(t.Context(), t.TempDir(), seal)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	return k, seal
}

// stubborn is a seal elsewhere that cannot destroy without what is in force.
type stubborn struct {
	*distant
}

func (stubborn) Kind() string  { return keyring.KindTransit }
func (stubborn) Label() string { return "transit/k" }
func (s stubborn) DestroyOld(context.Context, []byte, []byte) error {
	s.asked.Add(1)
	if s.away.Load() {
		return errors.New("no route to the service")
	}
	return keyring.ErrNeeded
}

// TestWhatIsNotTriedAgainIsSaid: what a former seal wrapped can never be destroyed there. Nobody would look for it.
func TestWhatIsNotTriedAgainIsSaid(t *testing.T) {
	t.Parallel()
	before, err := keyring.NewKeyFile(filepath.Join(t.TempDir(), "key"))
	if err != nil {
		t.Fatal(err)
	}
	after, err := keyring.NewKeyFile(filepath.Join(t.TempDir(), "key"))
	if err != nil {
		t.Fatal(err)
	}
	seal := stubborn{&distant{KeyFile: before}}
	k, err := keyring.Create(t.Context(), t.TempDir(), seal)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	seal.away.Store(true)
	if err := k.Reseal(t.Context(), after); !errors.Is(err, keyring.ErrOldRoot) {
		t.Fatal(err)
	}
	seal.away.Store(false)
	k.FindSeals(func(context.Context, string, string) (keyring.Seal, error) { return seal, nil })
	said := make(chan slog.Record, 10)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	f := StartFinisher(FinishOptions{Keyring: k, Log: slog.New(told(said)), Record: func(context.Context, audit.Event) error { return nil }})
	defer f.Close()
	for {
		select {
		case r := <-said:
			if r.Level != slog.LevelError {
				continue
			}
			text := r.Message
			r.Attrs(func(a slog.Attr) bool { text += " " + a.String(); return true })
			if !strings.Contains(text, keyring.ErrNeeded.Error()) || k.Pending() {
				t.Errorf("said %q, pending %v", text, k.Pending())
			}
			return
		case <-ctx.Done():
			t.Fatal("nothing is said")
		}
	}
}

// told hands log records to a test.
type told chan slog.Record

func (t told) Enabled(context.Context, slog.Level) bool      { return true }
func (t told) Handle(_ context.Context, r slog.Record) error { t <- r; return nil }
func (t told) WithAttrs([]slog.Attr) slog.Handler            { return t }
func (t told) WithGroup(string) slog.Handler                 { return t }

func TestPausesBetweenAttemptsToDestroy(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]time.Duration{1: firstPause, 2: 2 * firstPause, 5: 16 * firstPause, 19: lastPause, 20: lastPause, 1 << 30: lastPause} {
		if got := pauseAfter(n, 0.5); got != want {
			t.Errorf("after %d failures %v, want %v", n, got, want)
		}
	}
	if low, high := pauseAfter(99, 0), pauseAfter(99, 1); low != lastPause*3/4 || high != lastPause*5/4 {
		t.Errorf("with jitter from %v to %v", low, high)
	}
}
