// Package audit is the durable, hash-chained log of what happened.
//
// Records are sealed and chained: each names its number and the SHA-256 of the record before it, in clear, so that the
// chain can be followed without keys, and both are authenticated with the record. Nothing is ever overwritten.
//
// Layout of <state>/audit:
//
//	<first number, 20 digits>.log   magic "SPAUDIT1", then frames:
//	                                length u32 of what follows ‖ number u64 ‖ hash of the previous frame 32 ‖ sealed record
//	head                            sealed: number and hash of a record that is certainly there
//
// The sealed record is an Event as JSON in domain DomainAudit; its place is number ‖ previous hash. Numbers begin at 1,
// and the first record's previous hash is zero. Integers are big-endian.
//
// What Verify finds: every flipped, dropped, exchanged or injected record, with its number, and every cut before the
// record that head names. What it cannot find: records cut off the end since head was written (on rotation, on a clean
// Close, and while records come at least every headRecords records and every headInterval); and the whole directory put
// back to an earlier state, or removed. Ship the log elsewhere if that matters.
package audit

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"sallyport/crypto/durable"
	"sallyport/crypto/record"
)

var (
	// ErrDamaged: the log is not what was written. Always inside a *DamageError.
	ErrDamaged = errors.New("audit: damaged")
	// ErrReadOnly: writing failed once; nothing is written until the log is reopened and verified.
	ErrReadOnly = errors.New("audit: takes no records until reopened after a failed write")
	// ErrFull: the disk is full. Nothing may happen meanwhile; the log goes on by itself when there is space.
	ErrFull = errors.New("audit: no space for records")
	// ErrClosed: the log was closed.
	ErrClosed = errors.New("audit: closed")
)

const (
	magic        = "SPAUDIT1"
	headerSize   = 8 + 32  // number ‖ previous hash
	maxFrame     = 1 << 17 // bytes; Event.bound keeps records far below
	maxFile      = 16 << 20
	flushAfter   = 50 * time.Millisecond // how long a queued record may wait
	maxQueued    = 4096                  // records; beyond, AppendAsync waits for the disk
	headRecords  = 4096
	headInterval = time.Minute
	maxOrigins   = 1 << 16
	retryFull    = time.Second // how often a full disk is tried again
)

// hash of a frame, its length included.
type hash [sha256.Size]byte

// Options of Open.
type Options struct {
	Dir string // made if absent
	Box *record.Box
	Now func() time.Time // nil = time.Now
	// MaxFile is the size at which a new file is begun, bytes; 0 = 16 MiB.
	MaxFile int64

	testOnlyFile func(logFile) logFile
}

// logFile is the part of *os.File that writing needs; tests make it fail.
type logFile interface {
	Write(p []byte) (int, error)
	Truncate(size int64) error
	Sync() error
	Close() error
}

// Log is safe for concurrent use. One goroutine writes; it ends in Close.
type Log struct {
	o    Options
	quit chan struct{}
	done chan struct{}
	wake chan struct{} // capacity 1: there is something to write now

	failed atomic.Pointer[error]

	mu      sync.Mutex // guards what follows
	queue   []*item
	timer   *time.Timer // wakes the writer for queued records; nil = not armed
	origins *origins
	durable uint64        // number of the last durable record
	changed chan struct{} // closed and replaced when durable grows
	closed  bool

	// Only the writer touches these.
	file    logFile
	size    int64
	seq     uint64
	prev    hash
	headSeq uint64
	headAt  time.Time
}

// item is one record on its way to the disk.
type item struct {
	event Event
	done  chan error // nil = nobody waits
	seq   uint64     // the writer's until done is answered
}

// Open opens or makes the log, verifies what is there from the head on, and cuts off a last record that was not written
// completely (nobody was told that it was). Any other damage is a *DamageError.
func Open(o Options) (*Log, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.MaxFile == 0 {
		o.MaxFile = maxFile
	}
	l := &Log{o: o, quit: make(chan struct{}), done: make(chan struct{}), wake: make(chan struct{}, 1), changed: make(chan struct{}), origins: newOrigins()}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("opening the audit log: %w", err)
	}
	if err := durable.SyncDir(filepath.Dir(o.Dir)); err != nil { // it may have been made just now
		return nil, fmt.Errorf("opening the audit log: %w", err)
	}
	if err := l.recover(); err != nil {
		return nil, err
	}
	l.durable = l.seq
	go l.run()
	return l, nil
}

// Empty says whether no record was ever written.
func (l *Log) Empty() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.durable == 0
}

// Stats are for metrics.
type Stats struct {
	Records uint64 // durable, of all times
	Queued  int    // waiting for the disk
}

// Stats is a snapshot.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Stats{Records: l.durable, Queued: len(l.queue)}
}

// Append adds a record; it survives power loss when Append returns nil. Concurrent calls share one fsync. If ctx ends
// first, the record may still be written.
func (l *Log) Append(ctx context.Context, e Event) error { return l.AppendAll(ctx, []Event{e}) }

// AppendSeq is Append that tells the record's number, for a receipt.
func (l *Log) AppendSeq(ctx context.Context, e Event) (uint64, error) {
	it := &item{event: e, done: make(chan error, 1)}
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

// Err is not nil once a record could not be written, or the log was closed; after ErrFull it may become nil again. It is
// cheap: ask before every operation.
func (l *Log) Err() error {
	if p := l.failed.Load(); p != nil {
		return *p
	}
	return nil
}

// Close writes what is queued, notes the end in the head and lets the files go.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	l.mu.Unlock()
	close(l.quit)
	<-l.done
	err := l.Err()
	l.failed.CompareAndSwap(nil, &ErrClosed)
	return err
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

// run is the writer.
func (l *Log) run() {
	defer close(l.done)
	for {
		select {
		case <-l.wake:
			l.flush()
		case <-l.quit:
			l.flush()
			l.finish()
			return
		}
	}
}

// finish closes the file after the last flush.
func (l *Log) finish() {
	if l.Err() == nil {
		if err := l.saveHead(); err != nil {
			l.fail(err)
		}
	}
	if err := l.file.Close(); err != nil && l.Err() == nil {
		l.fail(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.changed) // followers see that the log is closed
	if l.timer != nil {
		l.timer.Stop()
	}
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
	if err := l.Err(); len(batch) == 0 && !errors.Is(err, ErrFull) {
		return
	}
	err := l.attempt(batch)
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
	if err := l.Err(); err != nil && !errors.Is(err, ErrFull) {
		return err
	}
	err := l.write(batch)
	switch {
	case err == nil:
		l.failed.Store(nil) // there is space again
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

// write makes a batch durable.
func (l *Log) write(batch []*item) error {
	if l.size >= l.o.MaxFile {
		if err := l.rotate(); err != nil {
			return full(err)
		}
	}
	seq, prev := l.seq, l.prev
	var buf []byte
	origins := map[string]bool{}
	for _, it := range batch {
		if o := it.event.Origin; o != "" {
			if l.origins.has(o) || origins[o] {
				continue // a volume handed it out again after a crash
			}
			origins[o] = true
		}
		if it.event.Time.IsZero() {
			it.event.Time = l.o.Now()
		}
		start := len(buf)
		buf = l.frame(buf, it.event.encode())
		it.seq = l.seq
		l.prev = sha256.Sum256(buf[start:])
	}
	if len(buf) == 0 {
		return nil
	}
	if _, err := l.file.Write(buf); err != nil {
		err = full(fmt.Errorf("writing the audit log: %w", err))
		if errors.Is(err, ErrFull) {
			// No fsync has failed, so what is durable is known; the part of a record behind it must go.
			if cut := l.file.Truncate(l.size); cut != nil {
				return fmt.Errorf("taking back what did not fit the disk: %w", cut)
			}
			l.seq, l.prev = seq, prev
		}
		return err
	}
	if err := l.file.Sync(); err != nil {
		return fmt.Errorf("syncing the audit log: %w", err)
	}
	for _, it := range batch {
		l.origins.add(it.event.Origin)
	}
	l.size += int64(len(buf))
	l.mu.Lock()
	l.durable = l.seq
	close(l.changed)
	l.changed = make(chan struct{})
	l.mu.Unlock()
	if l.seq-l.headSeq >= headRecords || l.o.Now().Sub(l.headAt) >= headInterval {
		if err := full(l.saveHead()); err != nil && !errors.Is(err, ErrFull) {
			return err
		} // else the old head stays: it names a record that is certainly there
	}
	return nil
}

// frame appends the next record to buf.
func (l *Log) frame(buf, plain []byte) []byte {
	l.seq++
	var place [headerSize]byte
	binary.BigEndian.PutUint64(place[:], l.seq)
	copy(place[8:], l.prev[:])
	start := len(buf)
	buf = append(buf, 0, 0, 0, 0)
	buf = append(buf, place[:]...)
	buf = l.o.Box.Seal(buf, record.DomainAudit, place[:], plain)
	binary.BigEndian.PutUint32(buf[start:], uint32(len(buf)-start-4))
	return buf
}
