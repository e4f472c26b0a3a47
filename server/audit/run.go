package audit

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"
)

// request is something for the writer to do between two flushes.
type request struct {
	do     func() error
	answer chan error
}

// ask has the writer do something, and waits for it.
func (l *Log) ask(ctx context.Context, do func() error) error {
	r := request{do, make(chan error, 1)}
	select {
	case l.asked <- r:
	case <-l.done:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-r.answer:
		return err
	case <-l.done:
		return ErrClosed
	}
}

// sign makes a checkpoint because somebody asked for one. A failure ends the log here, too: the next checkpoint would come
// behind this one, of which nothing is known.
func (l *Log) sign() error {
	err := l.checkpoint()
	if err != nil && !errors.Is(err, ErrFull) {
		err = l.fail(err)
	}
	return err
}

// run is the writer.
func (l *Log) run() {
	defer close(l.done)
	tick := time.NewTicker(tendEvery)
	defer tick.Stop()
	for {
		select {
		case <-l.wake:
			l.flush()
		case r := <-l.asked:
			l.flush() // what was queued before comes first
			err := l.Failure()
			if err == nil {
				err = r.do()
			}
			l.note()
			r.answer <- err
		case <-tick.C:
			l.tend()
		case <-l.quit:
			l.flush()
			l.finish()
			return
		}
	}
}

// finish closes the file after the last flush.
func (l *Log) finish() {
	if l.Failure() == nil {
		if err := errors.Join(l.checkpoint(), l.saveHead()); err != nil {
			l.fail(err)
		}
	}
	l.rememberLost()
	if err := l.release(); err != nil && l.Failure() == nil {
		l.fail(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.changed) // followers see that the log is closed
	if l.timer != nil {
		l.timer.Stop()
	}
}

// release lets the files go.
func (l *Log) release() error {
	var errs []error
	if l.points != nil {
		errs = append(errs, l.points.Close())
	}
	if l.file != nil {
		errs = append(errs, l.file.Close())
	}
	return errors.Join(errs...)
}

// flush writes everything queued with one write and one fsync, and tells those who wait.
func (l *Log) flush() {
	l.mu.Lock()
	batch := l.queue
	l.queue = nil
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
	l.mu.Unlock()
	if len(batch) == 0 && !errors.Is(l.Failure(), ErrFull) {
		return
	}
	err := l.attempt(batch)
	if err != nil && l.o.Continue {
		batch = l.goOn(batch, err)
	}
	l.note() // first: who was answered may ask
	for _, it := range batch {
		if it.done != nil {
			it.done <- err
		}
	}
	if errors.Is(err, ErrFull) {
		l.keep(batch)
	}
}

// attempt writes a batch if the log is whole, or was only in want of space.
func (l *Log) attempt(batch []*item) error {
	if err := l.Failure(); err != nil && !errors.Is(err, ErrFull) {
		return err
	}
	note := l.lostNote()
	if note != nil {
		batch = append([]*item{note}, batch...)
	}
	err := l.write(batch)
	switch {
	case err == nil:
		l.failed.Store(nil) // there is space again
		if note != nil {
			l.mu.Lock()
			l.lost -= note.event.Count // more may have come meanwhile
			l.mu.Unlock()
		}
	case errors.Is(err, ErrFull):
		l.failed.Store(&err)
	default:
		err = l.fail(err)
	}
	return err
}

// keep puts back what nobody waits for, to be tried again. The members of AppendAll come again from where they were taken.
func (l *Log) keep(batch []*item) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var kept []*item
	for _, it := range batch {
		if it.done == nil && it.event.Origin == "" {
			kept = append(kept, it)
		}
	}
	l.queue = append(kept, l.queue...)
	if l.timer == nil {
		l.timer = time.AfterFunc(retryFull, l.kick)
	}
}

// fail: after a failed write or fsync nothing is known of the file's end, and a second fsync would not tell.
func (l *Log) fail(err error) error {
	err = fmt.Errorf("%w: %w", ErrReadOnly, err)
	l.failed.Store(&err)
	return err
}

// full marks an error of a disk that is full.
func full(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}
