package session

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"sallyport/server/audit"
)

// TestDrainBringsWhatWasAcknowledged: who reads the audit log after Drain finds the event of every change before, as an operator
// who asks at once who deleted a file.
func TestDrainBringsWhatWasAcknowledged(t *testing.T) {
	t.Parallel()
	h := build(t, nil)
	h.addAccount(t, "alice", everything)
	_, s := h.login(t, "alice")
	for i := range 20 {
		name := fmt.Sprintf("/file-%d", i)
		f, err := s.Files().OpenFile(t.Context(), name, 0x41, 0) // O_WRONLY|O_CREATE
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if err := h.m.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if count(h.records(t), func(r audit.Record) bool { return r.Action == audit.Upload && string(r.Path) == name }) != 1 {
			t.Fatalf("the upload of %s is not in the audit log", name)
		}
	}
}

// TestDrainWaitsForOneUnderWay: events that somebody else has taken and not yet brought are waited for.
func TestDrainWaitsForOneUnderWay(t *testing.T) {
	t.Parallel()
	h := build(t, nil)
	h.m.drain.turn <- struct{}{} // as the drainer does while it is at work
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.m.Drain(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("while somebody drains: %v", err)
	}
	<-h.m.drain.turn
	if err := h.m.Drain(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestDrainGivenUpIsDoneByTheDrainer: an operator who goes away in the middle leaves nothing behind until the next event.
func TestDrainGivenUpIsDoneByTheDrainer(t *testing.T) {
	t.Parallel()
	h := build(t, nil)
	h.addAccount(t, "alice", everything)
	_, s := h.login(t, "alice")
	h.m.drain.turn <- struct{}{} // the event stays in its volume until this test is over
	defer func() { <-h.m.drain.turn }()
	f, err := s.Files().OpenFile(t.Context(), "/file", 0x41, 0) // O_WRONLY|O_CREATE
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	a, err := h.db.Account("alice")
	if err != nil {
		t.Fatal(err)
	}
	v, err := h.fs.Volume(t.Context(), a.ID)
	if err != nil {
		t.Fatal(err)
	}
	d := newDrainer(h.m.o.Audit, h.m.o.Log) // nobody runs it: what its goroutine would be told is looked at
	d.add(v)
	<-d.wake
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	busy := 0
	err = v.DrainBatch(t.Context(), func([][]byte) error { // so that whoever drains has to wait
		busy++
		if err := d.volumes(gone); !errors.Is(err, context.Canceled) {
			t.Errorf("drained for somebody who has gone: %v", err)
		}
		return nil
	})
	if err != nil || busy != 1 {
		t.Fatalf("%d batches: %v", busy, err)
	}
	select {
	case <-d.wake:
	default:
		t.Error("the drainer is not told of what was left")
	}
}
