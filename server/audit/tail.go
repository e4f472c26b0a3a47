package audit

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"sallyport/crypto/record"
)

// Tail calls fn with the last n durable records, the oldest first, and then, if follow, with every further one until ctx
// ends, fn fails or the log is closed (ErrClosed). n < 0 means all.
func (l *Log) Tail(ctx context.Context, n int, follow bool, fn func(Record) error) error {
	l.mu.Lock()
	last, changed, closed, next := l.durable, l.changed, l.closed, l.floor
	l.mu.Unlock()
	if n >= 0 && last > uint64(n) {
		next = max(next, last-uint64(n)+1)
	}
	r := &reader{dir: l.o.Dir, box: l.o.Box}
	defer r.close()
	for {
		for ; next <= last; next++ {
			if err := ctx.Err(); err != nil {
				return err
			}
			rec, err := r.read(next)
			if floor := l.Stats().First; err != nil && next < floor {
				next = floor - 1 // its file went meanwhile, by the policy of retention
				continue
			}
			if err != nil {
				return err
			}
			if err := fn(rec); err != nil {
				return err
			}
		}
		if !follow {
			return nil
		}
		if closed {
			return ErrClosed
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
		l.mu.Lock()
		last, changed, closed = l.durable, l.changed, l.closed
		l.mu.Unlock()
	}
}

// Read returns one durable record; ErrNoRecord if it was never written, or is gone by the policy of retention. It reads of the file that
// holds the record what comes before it, so at most MaxFile bytes, and opens no other record.
func (l *Log) Read(ctx context.Context, seq uint64) (Record, error) {
	if err := ctx.Err(); err != nil {
		return Record{}, err
	}
	l.mu.Lock()
	first, last := l.floor, l.durable
	l.mu.Unlock()
	if seq < first || seq > last || seq == 0 {
		return Record{}, ErrNoRecord
	}
	r := &reader{dir: l.o.Dir, box: l.o.Box}
	defer r.close()
	rec, err := r.read(seq)
	if err != nil && seq < l.Stats().First { // its file went meanwhile
		return Record{}, ErrNoRecord
	}
	return rec, err
}

// reader reads records in order. It only ever reads durable ones, so every frame is complete.
type reader struct {
	dir string
	box *record.Box
	f   *os.File
	buf *bufio.Reader
	at  uint64 // number of the next frame of f
	// prev is the hash of frame prevAt. What is read in order must be one chain: a record may authenticate and be of another
	// history of this log, which somebody kept while the log was put back to an earlier state.
	prev   hash
	prevAt uint64
}

func (r *reader) close() {
	if r.f != nil {
		r.f.Close()
		r.f = nil
	}
}

// read returns record seq; calls must ask for growing numbers.
func (r *reader) read(seq uint64) (Record, error) {
	rec, _, err := r.readFrame(seq)
	return rec, err
}

// readFrame is read with the frame, valid until the next call.
func (r *reader) readFrame(seq uint64) (Record, []byte, error) {
	for {
		if r.f == nil {
			if err := r.open(seq); err != nil {
				return Record{}, nil, err
			}
		}
		frame, err := r.frame()
		if err == io.EOF && r.at <= seq {
			// The file ended: the record is in the next one, if it begins there.
			was := r.f.Name()
			r.close()
			if err := r.open(seq); err != nil {
				return Record{}, nil, err
			}
			if r.f.Name() == was {
				return Record{}, nil, &DamageError{Record: seq, File: filepath.Base(was), Reason: "it is missing"}
			}
			continue
		}
		if err != nil {
			return Record{}, nil, err
		}
		place := frame[4 : 4+headerSize]
		if r.prevAt > 0 && r.at == r.prevAt+1 && r.prev != hash(place[8:]) {
			return Record{}, nil, &DamageError{Record: r.at, File: filepath.Base(r.f.Name()), Reason: "it does not follow the one before"}
		}
		r.prev, r.prevAt = sha256.Sum256(frame), r.at
		if r.at++; r.at <= seq {
			continue
		}
		plain, err := r.box.Open(nil, record.DomainAudit, place, frame[4+headerSize:])
		if err != nil || binary.BigEndian.Uint64(place) != seq {
			return Record{}, nil, &DamageError{Record: seq, File: filepath.Base(r.f.Name()), Reason: "it does not authenticate"}
		}
		e, err := Decode(plain)
		return Record{seq, e}, frame, err
	}
}

// open finds the file of a record.
func (r *reader) open(seq uint64) error {
	files, err := listFiles(r.dir)
	if err != nil {
		return err
	}
	at := -1
	for i, f := range files {
		if f.first <= seq {
			at = i
		}
	}
	if at < 0 {
		return &DamageError{Record: seq, Reason: "it is missing"}
	}
	f, err := os.Open(filepath.Join(r.dir, files[at].name))
	if err != nil {
		return fmt.Errorf("reading the audit log: %w", err)
	}
	r.f, r.at = f, files[at].first
	r.buf = bufio.NewReaderSize(f, 64<<10)
	if _, err := r.buf.Discard(len(magic)); err != nil {
		return &DamageError{Record: seq, File: files[at].name, Reason: "it is cut off"}
	}
	return nil
}

// frame reads the next frame; io.EOF at the end of the file.
func (r *reader) frame() ([]byte, error) {
	size, err := r.buf.Peek(4)
	if err != nil {
		return nil, io.EOF
	}
	n := int(binary.BigEndian.Uint32(size))
	if n < headerSize || n > maxFrame {
		return nil, &DamageError{Record: r.at, File: filepath.Base(r.f.Name()), Reason: "its length is impossible"}
	}
	frame := make([]byte, 4+n)
	if _, err := io.ReadFull(r.buf, frame); err != nil {
		return nil, io.EOF
	}
	return frame, nil
}
