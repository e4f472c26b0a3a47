package audit

import (
	"context"
	"errors"
	"time"
)

// Append adds a record; it survives power loss when Append returns nil. Concurrent calls share one fsync. If ctx ends
// first, the record may still be written.
func (l *Log) Append(ctx context.Context, e Event) error { return l.AppendAll(ctx, []Event{e}) }

// AppendSeq is Append that tells the record's number, for a receipt; so Options.Continue does not make it succeed.
func (l *Log) AppendSeq(ctx context.Context, e Event) (uint64, error) {
	it := &item{event: e, done: make(chan error, 1), must: true}
	l.mu.Lock()
	if err := l.usable(); err != nil {
		l.mu.Unlock()
		return 0, err
	}
	l.queue = append(l.queue, it)
	l.mu.Unlock()
	l.kick()
	select {
	case err := <-it.done:
		return it.seq, err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// AppendAll adds records with one fsync.
func (l *Log) AppendAll(ctx context.Context, events []Event) error {
	if len(events) == 0 {
		return l.Err()
	}
	last := make(chan error, 1)
	l.mu.Lock()
	if err := l.usable(); err != nil {
		l.mu.Unlock()
		return err
	}
	if l.looksAway(events[0]) {
		l.setAside(events)
		l.mu.Unlock()
		return nil
	}
	for i, e := range events {
		it := &item{event: e}
		if i == len(events)-1 {
			it.done = last
		}
		l.queue = append(l.queue, it)
	}
	l.mu.Unlock()
	l.kick()
	select {
	case err := <-last:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// AppendAsync queues a record of something that needs no reply, such as a download. It is durable within 50 ms; if that
// fails, Err tells, and the server must refuse further operations. With a full queue it waits for the disk.
func (l *Log) AppendAsync(e Event) error {
	l.mu.Lock()
	if err := l.usable(); err != nil {
		l.mu.Unlock()
		return err
	}
	if l.looksAway(e) {
		l.setAside([]Event{e})
		l.mu.Unlock()
		return nil
	}
	if len(l.queue) >= maxQueued {
		l.mu.Unlock()
		return l.Append(context.Background(), e)
	}
	l.queue = append(l.queue, &item{event: e})
	if l.timer == nil {
		l.timer = time.AfterFunc(flushAfter, l.kick)
	}
	l.mu.Unlock()
	return nil
}

// usable is called with mu held. A full disk is no reason to take no record: it may be full no more, and what nobody waits
// for is kept until then.
func (l *Log) usable() error {
	if l.closed {
		return ErrClosed
	}
	if err := l.Err(); !errors.Is(err, ErrFull) {
		return err
	}
	return nil
}

func (l *Log) kick() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}
