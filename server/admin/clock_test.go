package admin

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/crypto/record"
	"sallyport/server/audit"
	"sallyport/server/clock"
)

// A confirmation is for the clock that the operator saw, has a reason, and is on record before anything becomes old by it.
func TestConfirmingAClock(t *testing.T) {
	t.Parallel()
	box, err := record.NewBox(record.NewKey(), record.AccountID{}, 1)
	check(t, err)
	var off atomic.Int64
	c := clock.Open(clock.Options{Path: filepath.Join(t.TempDir(), "clock"), Box: box, Every: time.Hour, Wall: func() time.Time { return time.Now().Add(time.Duration(off.Load())) }})
	c.Begin(time.Now(), func(clock.State) {})
	defer c.Close()
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
	if _, err := s.clockConfirm(t.Context(), Peer{}, ClockConfirm{why, seen.Offset}); err == nil || c.State().Status != clock.Ahead {
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
