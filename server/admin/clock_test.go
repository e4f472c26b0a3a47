package admin

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/crypto/record"
	"sallyport/server/audit"
	"sallyport/server/clock"
)

// newClock is one whose system's clock can be set, by off, and where its record is.
func newClock(t *testing.T) (c *clock.Clock, off *atomic.Int64, path string) {
	t.Helper()
	box, err := record.NewBox(record.NewKey(), record.AccountID{}, 1)
	check(t, err)
	off, path = new(atomic.Int64), filepath.Join(t.TempDir(), "clock")
	c = clock.Open(clock.Options{Path: path, Box: box, Every: time.Hour, Wall: func() time.Time { return time.Now().Add(time.Duration(off.Load())) }})
	c.Begin(time.Now(), func(clock.State) {})
	t.Cleanup(func() { _ = c.Close() }) // a disk that takes no record is a test's own
	return c, off, path
}

// A confirmation is for the clock that the operator saw, has a reason, and is on record before anything becomes old by it.
func TestConfirmingAClock(t *testing.T) {
	t.Parallel()
	c, off, _ := newClock(t)
	var acts []audit.Event
	var deaf error
	s := &Server{o: Options{Log: slog.New(slog.DiscardHandler), Clock: c, Record: func(_ context.Context, e audit.Event) error {
		if deaf == nil {
			acts = append(acts, e)
		}
		return deaf
	}}}
	refused := func(r ClockConfirm) {
		t.Helper()
		var e *Error
		if _, err := s.clockConfirm(t.Context(), Peer{}, r); !errors.As(err, &e) || e.Code != CodeRefused {
			t.Errorf("not refused: %v", err)
		}
		if len(acts) > 0 {
			t.Errorf("on record: %+v", acts)
		}
	}
	why := Change{Reason: "off since August"}
	refused(ClockConfirm{Change: why})
	off.Store(int64(90 * 24 * time.Hour))
	c.Look()
	seen, err := s.backupClock(t.Context(), Peer{}, Empty{})
	check(t, err)
	refused(ClockConfirm{Change: why}) // it was not looked at
	refused(ClockConfirm{Offset: seen.Offset})
	off.Store(int64(3650 * 24 * time.Hour))
	refused(ClockConfirm{Change: why, Offset: seen.Offset})
	off.Store(int64(90 * 24 * time.Hour))
	deaf = errors.New("no record")
	if _, err := s.clockConfirm(t.Context(), Peer{}, ClockConfirm{why, seen.Offset}); err == nil || !strings.HasPrefix(err.Error(), "nothing is done:") || c.State().Status != clock.Ahead {
		t.Errorf("without a record: %v, and the clock is %+v", err, c.State())
	}
	deaf = nil
	if got, err := s.clockConfirm(t.Context(), Peer{}, ClockConfirm{why, seen.Offset}); err != nil || got.Status != "trusted" {
		t.Errorf("%+v, %v", got, err)
	}
	if len(acts) != 1 || acts[0].Action != audit.Clock || acts[0].Result != "confirmed" {
		t.Errorf("on record: %+v", acts)
	}
	acts = nil
	refused(ClockConfirm{why, seen.Offset}) // again
}

// What the log says already and a disk does not let come true is taken back in the log, and nobody is told that it is done.
func TestAConfirmationThatCannotBeKept(t *testing.T) {
	t.Parallel()
	c, off, path := newClock(t)
	var acts []string
	deaf := 2 // records until the log cannot be written
	s := &Server{o: Options{Log: slog.New(slog.DiscardHandler), Clock: c, Record: func(_ context.Context, e audit.Event) error {
		if acts = append(acts, e.Result); len(acts) > deaf {
			return errors.New("no record")
		}
		return nil
	}}}
	off.Store(int64(90 * 24 * time.Hour))
	c.Look()
	r := ClockConfirm{Change{Reason: "off since August"}, c.State().Offset}
	check(t, os.Remove(path))
	check(t, os.MkdirAll(filepath.Join(path, "in the way"), 0o700))
	confirm := func(deafens string) {
		t.Helper()
		acts = nil
		_, err := s.clockConfirm(t.Context(), Peer{}, r)
		if err == nil || !strings.HasPrefix(err.Error(), "nothing is confirmed:") || strings.Contains(err.Error(), "audit log") != (deafens != "") || c.State().Status != clock.Ahead {
			t.Errorf("%v, and the clock is %+v", err, c.State())
		}
		if len(acts) != 2 || acts[0] != "confirmed" || acts[1] != "failed" {
			t.Errorf("on record: %v", acts)
		}
	}
	confirm("")
	deaf = 1
	confirm("the log is wrong about it")
	check(t, os.RemoveAll(path))
	acts, deaf = nil, 9
	if got, err := s.clockConfirm(t.Context(), Peer{}, r); err != nil || got.Status != "trusted" || len(acts) != 1 {
		t.Errorf("%+v, %v, on record %v", got, err, acts)
	}
}
