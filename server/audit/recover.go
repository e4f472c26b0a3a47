package audit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"sallyport/crypto/durable"
)

// recover finds the end of the log and makes it ready for the next record.
func (l *Log) recover() error {
	if err := durable.RemoveTemp(filepath.Join(l.o.Dir, headName)); err != nil {
		return fmt.Errorf("opening the audit log: %w", err)
	}
	files, err := listFiles(l.o.Dir)
	if err != nil {
		return err
	}
	h, err := readHead(l.o.Dir, l.o.Box)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	known := uint64(allKnown)
	if h != nil {
		known = h.Checkpoint
	}
	points, bad := readCheckpoints(l.o.Dir, l.publicKey(), known)
	switch {
	case bad != nil:
		return bad
	case h == nil && len(files)+len(points.list) == 0:
		// The head of an empty log comes first, so that files without a head are always damage.
		l.first = 1
		if err := l.saveHead(); err != nil {
			return err
		}
		if err := l.openCheckpoints(points); err != nil {
			return err
		}
		return l.begin()
	case h == nil:
		return notThere(err)
	}
	if err := h.meets(points); err != nil {
		return err
	}
	l.first, l.before = points.last().First, points.last().Before
	l.floor = l.first
	if err := l.forget(files); err != nil { // begun before a crash
		return err
	}
	if err := l.openCheckpoints(points); err != nil {
		return err
	}
	return l.resume(h, points, points.kept(files))
}

// resume checks everything from the file that holds the record of the head.
func (l *Log) resume(h *head, points *checkpoints, files []file) error {
	from := 0
	for i, f := range files {
		if f.first <= max(h.Seq, 1) {
			from = i
		}
	}
	s := scanFrom(points, l.o.Box, h)
	s.any = from == 0 // else the record before is in a file that is not read
	s.fn = func(r Record) error {
		if r.Seq == files[len(files)-1].first {
			l.begun = r.Time
		}
		if r.Action != StateRestore {
			l.recent = r.Time
		}
		l.origins.add(r.Origin)
		return nil
	}
	var end *torn
	for i, f := range files[from:] {
		var err error
		if end, err = s.file(l.o.Dir, f, 0); err != nil {
			return err
		}
		if end != nil && from+i < len(files)-1 {
			return &DamageError{Record: s.seq + 1, File: f.name, Offset: end.offset, Reason: "it is cut off"}
		}
	}
	if err := s.complete(h.Seq); err != nil {
		return err
	}
	l.seq, l.prev = s.seq, s.prev
	if l.recent.IsZero() && l.seq > 0 {
		l.recent = h.At
	}
	if len(files) == 0 {
		return l.begin()
	}
	if end != nil && end.offset == 0 {
		return l.begin() // the file has no beginning yet: make it anew
	}
	return l.reopen(files[len(files)-1], end)
}

// reopen opens the last file for appending, without its incomplete end.
func (l *Log) reopen(last file, end *torn) error {
	f, err := os.OpenFile(filepath.Join(l.o.Dir, last.name), os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("opening the audit log: %w", err)
	}
	if end != nil {
		err = f.Truncate(end.offset)
	}
	// What the last process wrote may still be in memory only; from here on it counts as durable.
	if err = errors.Join(err, f.Sync()); err != nil {
		f.Close()
		return fmt.Errorf("repairing the audit log: %w", err)
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return fmt.Errorf("opening the audit log: %w", err)
	}
	l.size = st.Size()
	l.use(f)
	l.topUp()
	return l.saveHead()
}

// begin starts the file of the next record.
func (l *Log) begin() error {
	f, err := os.OpenFile(filepath.Join(l.o.Dir, fileName(l.seq+1)), os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("beginning an audit file: %w", err)
	}
	_, err = f.WriteString(magic)
	err = errors.Join(err, f.Sync(), durable.SyncDir(l.o.Dir))
	if err == nil && l.file != nil { // else there is no other file to go on with: better without a reserve than not at all
		if low := full(l.reserve(f, int64(len(magic)))); errors.Is(low, ErrFull) {
			err = low
		}
	}
	if err != nil {
		// The file before may go on past this number, so this one must not stay.
		f.Close()
		if gone := os.Remove(f.Name()); gone != nil {
			err = fmt.Errorf("%v, and taking it back: %w", err, gone)
		}
		return fmt.Errorf("beginning an audit file: %w", err)
	}
	l.size, l.begun = int64(len(magic)), time.Time{}
	l.use(f)
	l.topUp()
	return nil
}

// rotate ends the file and begins the next one. The head names the last record of the old file before the new one is
// there, so that dropping whole files is found.
func (l *Log) rotate() error {
	if err := l.saveHead(); err != nil {
		return err
	}
	old, size := l.file, l.size
	if err := l.begin(); err != nil {
		return err // the old file stays in use
	}
	if err := errors.Join(old.Truncate(size), old.Close()); err != nil { // gives back what was reserved behind its end
		return fmt.Errorf("ending an audit file: %w", err)
	}
	return nil
}

func (l *Log) use(f *os.File) {
	l.disk = f
	l.file = f
	if l.o.testOnlyFile != nil {
		l.file = l.o.testOnlyFile(f)
	}
}
