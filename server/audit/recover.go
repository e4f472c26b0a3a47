package audit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

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
	switch {
	case errors.Is(err, os.ErrNotExist) && len(files) == 0:
		// The head of an empty log comes first, so that files without a head are always damage.
		if err := l.saveHead(); err != nil {
			return err
		}
		return l.begin()
	case err != nil:
		return notThere(err)
	}
	return l.resume(h, files)
}

// resume checks everything from the file that holds the record of the head.
func (l *Log) resume(h *head, files []file) error {
	from := 0
	for i, f := range files {
		if f.first <= max(h.Seq, 1) {
			from = i
		}
	}
	s := &scan{box: l.o.Box, head: h, fn: func(r Record) error { l.origins.add(r.Origin); return nil }}
	if from == 0 {
		s.any = true // the first record of all has no predecessor
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
	if s.seq < h.Seq {
		return &DamageError{Record: s.seq + 1, Reason: fmt.Sprintf("the log ends before it, and record %d was written", h.Seq)}
	}
	l.seq, l.prev = s.seq, s.prev
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
	return l.saveHead()
}

// begin starts the file of the next record.
func (l *Log) begin() error {
	f, err := os.OpenFile(filepath.Join(l.o.Dir, fileName(l.seq+1)), os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("beginning an audit file: %w", err)
	}
	_, err = f.WriteString(magic)
	if err = errors.Join(err, f.Sync(), durable.SyncDir(l.o.Dir)); err != nil {
		f.Close()
		return fmt.Errorf("beginning an audit file: %w", err)
	}
	l.size = int64(len(magic))
	l.use(f)
	return nil
}

// rotate ends the file and begins the next one. The head names the last record of the old file before the new one is
// there, so that dropping whole files is found.
func (l *Log) rotate() error {
	if err := l.saveHead(); err != nil {
		return err
	}
	old := l.file
	if err := l.begin(); err != nil {
		return err // the old file stays in use, and a beginning of the new one is made anew
	}
	if err := old.Close(); err != nil {
		return fmt.Errorf("ending an audit file: %w", err)
	}
	return nil
}

func (l *Log) use(f logFile) {
	if l.o.testOnlyFile != nil {
		f = l.o.testOnlyFile(f)
	}
	l.file = f
}
