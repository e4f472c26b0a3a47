package session

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"sallyport/crypto/keyring"
	"sallyport/server/audit"
	"sallyport/vfs"
)

// drainEvery is how long events may gather in a volume before they are brought into the chain: they are durable there
// already, and many at once cost one fsync of the chain and one acknowledgement.
const drainEvery = 200 * time.Millisecond

// drainer brings audit events from the outboxes of volumes into the chain.
type drainer struct {
	log  *audit.Log
	slog *slog.Logger
	turn chan struct{} // capacity 1: who drains; who comes second finds done what the first had taken

	mu    sync.Mutex
	ready map[keyring.AccountID]*vfs.Volume
	wake  chan struct{} // capacity 1
}

func newDrainer(l *audit.Log, s *slog.Logger) *drainer {
	return &drainer{log: l, slog: s, turn: make(chan struct{}, 1), ready: map[keyring.AccountID]*vfs.Volume{}, wake: make(chan struct{}, 1)}
}

// add is vfs.FS.OnOutbox: it only takes a note.
func (d *drainer) add(v *vfs.Volume) {
	d.mu.Lock()
	d.ready[v.ID()] = v
	d.mu.Unlock()
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

func (d *drainer) take() []*vfs.Volume {
	d.mu.Lock()
	defer d.mu.Unlock()
	var list []*vfs.Volume
	for _, v := range d.ready {
		list = append(list, v)
	}
	clear(d.ready)
	return list
}

// run ends with ctx. Volumes are drained one after another: the chain is one file.
func (d *drainer) run(ctx context.Context) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	<-pause.C
	for {
		select {
		case <-d.wake:
		case <-ctx.Done():
			return
		}
		pause.Reset(drainEvery)
		select {
		case <-pause.C:
		case <-ctx.Done():
			return
		}
		if err := d.all(ctx); err != nil && ctx.Err() == nil {
			d.slog.Error("audit events stay in their volumes", "error", err)
		}
	}
}

// Drain brings the event of every change that was acknowledged before the call into the audit log, so that who reads the log next
// finds it there. Events that cannot be brought there stay in their volumes, and are the error. Safe for concurrent use.
func (m *Manager) Drain(ctx context.Context) error {
	if m.drain == nil {
		return nil
	}
	m.o.FS.Notified() // of the last commits, before they are asked for
	return m.drain.all(ctx)
}

// all brings into the chain what was noted before it got its turn.
func (d *drainer) all(ctx context.Context) error {
	select {
	case d.turn <- struct{}{}:
		defer func() { <-d.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	return d.volumes(ctx)
}

func (d *drainer) volumes(ctx context.Context) error {
	var errs []error
	for _, v := range d.take() {
		err := d.volume(ctx, v)
		if errors.Is(err, fs.ErrClosed) { // its account was destroyed meanwhile, which it had told everything for
			continue
		}
		if err == nil {
			continue
		}
		errs = append(errs, err)
		if ctx.Err() != nil { // somebody who asked went away, and nothing is wrong with the volume
			d.add(v)
			continue
		}
		d.mu.Lock()
		d.ready[v.ID()] = v // tried again with the next event
		d.mu.Unlock()
	}
	return errors.Join(errs...)
}

// volume brings a volume's events into the chain, each batch with one fsync.
func (d *drainer) volume(ctx context.Context, v *vfs.Volume) error {
	return v.DrainBatch(ctx, func(events [][]byte) error {
		batch := make([]audit.Event, len(events))
		for i, event := range events {
			e, err := audit.Decode(event)
			if err != nil { // it must not hold up those behind it
				e = audit.Event{Action: audit.Damage, Account: audit.ID(v.ID()), Detail: "an event of the volume cannot be read"}
			}
			batch[i] = e
		}
		return d.log.AppendAll(ctx, batch)
	})
}
