package audit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"sallyport/crypto/durable"
)

// tendEvery is how often the writer looks at what time does to the log.
const tendEvery = time.Minute

// tend ends a file that is old enough, signs what waits for it, and removes what the policy of retention does not keep.
func (l *Log) tend() {
	if l.Failure() != nil {
		return
	}
	l.topUp()
	err := func() error {
		if l.aged() {
			if err := l.rotate(); err != nil {
				return err
			}
		}
		if err := l.checkpointIfDue(); err != nil {
			return err
		}
		return l.expire()
	}()
	switch err = full(err); {
	case errors.Is(err, ErrFull):
		l.o.Log.Warn("the audit log has no space for its upkeep", "error", err)
	case err != nil && l.Failure() == nil:
		l.o.Log.Error("audit log cannot be written", "error", l.fail(err))
	}
	l.note()
}

// aged says whether the file's first record is old enough for the next file.
func (l *Log) aged() bool {
	return l.o.MaxAge > 0 && !l.begun.IsZero() && l.o.Now().Sub(l.begun) >= l.o.MaxAge
}

func (l *Log) checkpointIfDue() error {
	if l.seq-l.last.Seq >= checkpointRecords || l.o.Now().Sub(l.lastAt) >= checkpointInterval {
		return l.checkpoint()
	}
	return nil
}

// expire removes files of which every record is older than Keep. First a record says so, then a signed checkpoint names the
// first record that stays, then they go: so whoever verifies the log afterwards knows what is gone and that it was no theft.
func (l *Log) expire() error {
	if l.o.Keep <= 0 || l.o.Signer == nil {
		return nil
	}
	files, err := listFiles(l.o.Dir)
	if err != nil {
		return err
	}
	first, before, err := l.oldest(files)
	if err != nil || first == l.first {
		return err
	}
	e := Event{Action: Expire, Count: first - l.first, Detail: fmt.Sprintf("records %d to %d, by audit.keep %v", l.first, first-1, l.o.Keep)}
	if err := l.attempt([]*item{{event: e}}); err != nil {
		return err
	}
	was, wasBefore := l.first, l.before
	l.first, l.before = first, before
	if err := l.checkpoint(); err != nil {
		l.first, l.before = was, wasBefore
		return err
	}
	l.mu.Lock()
	l.floor = first
	l.mu.Unlock()
	l.o.Log.Info("old audit records are removed", "first", was, "last", first-1)
	return l.forget(files)
}

// oldest is the number of the first record that stays, with the hash of the frame before it: the first of the last file that
// begins with a record older than Keep, because all records of the files before it are older still.
func (l *Log) oldest(files []file) (uint64, hash, error) {
	first, before := l.first, l.before
	r := &reader{dir: l.o.Dir, box: l.o.Box}
	defer r.close()
	for _, f := range files {
		if f.first <= l.first || f.first > l.seq {
			continue
		}
		rec, frame, err := r.readFrame(f.first)
		if err != nil {
			return 0, hash{}, err
		}
		if l.o.Age(rec.Time) < l.o.Keep {
			break
		}
		first, before = f.first, hash(frame[12:4+headerSize])
	}
	return first, before, nil
}

// forget removes the files before the first record that is kept, the oldest first.
func (l *Log) forget(files []file) error {
	var errs []error
	gone := false
	for _, f := range files {
		if f.first < l.first {
			errs = append(errs, os.Remove(filepath.Join(l.o.Dir, f.name)))
			gone = true
		}
	}
	if gone {
		errs = append(errs, durable.SyncDir(l.o.Dir))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("removing old audit files: %w", err)
	}
	return nil
}

// topUp allocates disk space behind the end of the file, so that a full disk does not stop the log at once.
func (l *Log) topUp() {
	if l.o.Reserve <= 0 {
		return
	}
	var err error
	if l.reserved-l.size <= l.o.Reserve/2 {
		err = l.reserve(l.disk, l.size)
	}
	if low := err != nil; low != l.low {
		l.low = low
		l.mu.Lock()
		l.notes.Low = low
		l.mu.Unlock()
		if low {
			l.o.Log.Warn("no disk space can be reserved for the audit log", "left", max(0, l.reserved-l.size), "error", err)
		}
	}
}

// reserve allocates from at on. Nothing is written: the size of the file stays what it is.
func (l *Log) reserve(f *os.File, at int64) error {
	if l.o.Reserve <= 0 {
		return nil
	}
	if err := preallocate(f, at, l.o.Reserve); err != nil {
		return err
	}
	l.reserved = at + l.o.Reserve
	return nil
}
