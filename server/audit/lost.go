package audit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"sallyport/crypto/durable"
	"sallyport/crypto/record"
)

// goOn is what Options.Continue does when a batch could not be written: those who wait are told that all is well, and what
// cannot be kept is counted. It returns what is left for the usual way: events that their origin keeps.
func (l *Log) goOn(batch []*item, err error) []*item {
	var owned []*item
	var free []Event
	for _, it := range batch {
		if it.event.Origin != "" || it.must {
			owned = append(owned, it)
			continue
		}
		if it.done != nil {
			it.done <- nil
		}
		free = append(free, it.event)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if errors.Is(err, ErrFull) {
		l.setAside(free)
	} else {
		l.lose(len(free))
	}
	return owned
}

// setAside keeps events for the next try of a full disk, as many as the queue holds. Called with mu held. Nobody wakes the
// writer for them: it would try the whole queue again for each.
func (l *Log) setAside(events []Event) {
	n := max(0, min(len(events), maxQueued-len(l.queue)))
	for _, e := range events[:n] {
		if e.Time.IsZero() {
			e.Time = l.o.Now()
		}
		l.queue = append(l.queue, &item{event: e})
	}
	l.lose(len(events) - n)
	if l.timer == nil {
		l.timer = time.AfterFunc(retryFull, l.kick)
	}
}

// lose counts. Called with mu held.
func (l *Log) lose(n int) {
	if n <= 0 {
		return
	}
	if l.lost == 0 {
		l.lostAt = l.o.Now()
		l.o.Log.Error("audit records are being lost", "error", l.Failure())
	}
	l.lost += uint64(n)
	l.notes.Lost += uint64(n)
}

// looksAway says whether an event need not wait for a full disk.
func (l *Log) looksAway(e Event) bool {
	return l.o.Continue && e.Origin == "" && errors.Is(l.Failure(), ErrFull)
}

// lostNote is the record of what was lost, or nil.
func (l *Log) lostNote() *item {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost == 0 {
		return nil
	}
	return &item{event: Event{Action: Lost, Count: l.lost, Detail: "records not written since " + l.lostAt.UTC().Format(time.RFC3339)}}
}

const lostName = "lost"

// rememberLost leaves for the next run what this one could not record. Who removes the file hides the number, but not the
// gap in time: the log says nothing of when it could not be written.
func (l *Log) rememberLost() {
	if l.o.Continue {
		l.mu.Lock()
		l.lose(len(l.queue)) // set aside, and nothing comes after this
		l.queue = nil
		l.mu.Unlock()
	}
	it := l.lostNote()
	if it == nil {
		return
	}
	sealed := l.o.Box.Seal(nil, record.DomainAudit, []byte(lostName), it.event.encode())
	if err := durable.WriteFile(filepath.Join(l.o.Dir, lostName), sealed, 0o600); err != nil {
		l.o.Log.Error("the number of lost audit records is lost too", "records", l.lost, "error", err)
	}
}

// recallLost records what the run before could not.
func (l *Log) recallLost() error {
	path := filepath.Join(l.o.Dir, lostName)
	if err := durable.RemoveTemp(path); err != nil {
		return fmt.Errorf("opening the audit log: %w", err)
	}
	sealed, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("opening the audit log: %w", err)
	}
	plain, err := l.o.Box.Open(nil, record.DomainAudit, []byte(lostName), sealed)
	if err != nil {
		return &DamageError{Record: l.seq + 1, File: lostName, Reason: "it does not authenticate"}
	}
	e, err := Decode(plain)
	if err != nil {
		return err
	}
	if err := l.attempt([]*item{{event: e}}); err != nil {
		return err
	}
	return os.Remove(path) // after a crash here it is recorded twice, which is better than never
}
