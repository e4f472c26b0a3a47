// Package audit is the durable, hash-chained log of what happened.
//
// Records are sealed and chained: each names its number and the SHA-256 of the record before it, in clear, so that the
// chain can be followed without keys, and both are authenticated with the record. Nothing is ever overwritten.
//
// Layout of <state>/audit:
//
//	<first number, 20 digits>.log   magic "SPAUDIT1", then frames:
//	                                length u32 of what follows ‖ number u64 ‖ hash of the previous frame 32 ‖ sealed record
//	head                            sealed: number and hash of a record, and of a checkpoint, that are certainly there
//	checkpoints                     magic "SPAUDCP1", then signed statements of 196 bytes each (checkpoint.go)
//	lost                            sealed: how many records the last run could not write; only with Options.Continue
//
// The sealed record is an Event as JSON in domain DomainAudit; its place is number ‖ previous hash. Numbers begin at 1,
// and the first record's previous hash is zero. Integers are big-endian.
//
// The writer signs a checkpoint when 4,096 records or ten minutes are unsigned, before old files go, and at a clean Close.
//
// What Verify finds: every flipped, dropped, exchanged or injected record, with its number, and every cut before the
// record that head names. What it cannot find: records cut off the end since head was written (on rotation, on a clean
// Close, and while records come at least every headRecords records and every headInterval); and the whole directory put
// back to an earlier state, or removed. Ship the log elsewhere if that matters.
package audit

import (
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
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
	// ErrNoRecord: no record of that number was written, or it is gone by the policy of retention.
	ErrNoRecord = errors.New("audit: no such record")
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
	// Age is how old a record of a time is; nil = by Now.
	Age func(time.Time) time.Duration
	// MaxFile is the size at which a new file is begun, bytes; 0 = 16 MiB.
	MaxFile int64
	// MaxAge is how old the first record of a file gets before the next one is begun; 0 = no limit.
	MaxAge time.Duration
	// Keep is how long records are kept; 0 = for ever. Whole files go, when all in them is older.
	Keep time.Duration
	// Reserve is disk space that is allocated to the log ahead of its records, bytes.
	Reserve int64
	// Continue: a log that cannot be written is no error. What is lost is counted, and the number recorded as soon as that
	// is possible again. Events with an Origin are refused all the same, because whoever hands them over keeps them.
	Continue bool
	// Signer signs checkpoints; nil = there are none. KeyVersion is written into them.
	Signer     crypto.Signer
	KeyVersion uint32
	Log        *slog.Logger // what nobody asked for and an operator should know; nil = nowhere

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
	o     Options
	quit  chan struct{}
	done  chan struct{}
	wake  chan struct{} // capacity 1: there is something to write now
	asked chan request  // what only the writer can do

	failed atomic.Pointer[error]

	mu      sync.Mutex // guards what follows
	queue   []*item
	timer   *time.Timer // wakes the writer for queued records; nil = not armed
	origins *origins
	durable uint64        // number of the last durable record
	changed chan struct{} // closed and replaced when durable grows
	closed  bool
	floor   uint64 // number of the first record that is kept
	notes   Stats  // what the writer says of itself
	lost    uint64 // records not written since one was last recorded
	lostAt  time.Time

	// Only the writer touches these.
	disk       *os.File // of file
	reserved   int64    // offset up to which disk space is allocated
	begun      time.Time
	recent     time.Time // of the last record that Open found
	low        bool      // as in notes
	first      uint64    // as floor
	before     hash      // of the frame before first
	points     *os.File
	pointsSize int64
	last       *Checkpoint
	lastAt     time.Time
	file       logFile
	size       int64
	seq        uint64
	prev       hash
	headSeq    uint64
	headAt     time.Time
}

// item is one record on its way to the disk.
type item struct {
	event Event
	done  chan error // nil = nobody waits
	seq   uint64     // the writer's until done is answered
	must  bool       // an error is an error, whatever Options.Continue says: a receipt names this record
}

// Open opens or makes the log, verifies what is there from the head on, and cuts off a last record that was not written
// completely (nobody was told that it was). Any other damage is a *DamageError.
func Open(o Options) (*Log, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Age == nil {
		o.Age = func(t time.Time) time.Duration { return o.Now().Sub(t) }
	}
	if o.MaxFile == 0 {
		o.MaxFile = maxFile
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	l := &Log{o: o, quit: make(chan struct{}), done: make(chan struct{}), wake: make(chan struct{}, 1), asked: make(chan request), changed: make(chan struct{}), origins: newOrigins()}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("opening the audit log: %w", err)
	}
	if err := durable.SyncDir(filepath.Dir(o.Dir)); err != nil { // it may have been made just now
		return nil, fmt.Errorf("opening the audit log: %w", err)
	}
	if err := l.recover(); err != nil {
		return nil, errors.Join(err, l.release())
	}
	l.durable, l.floor = l.seq, l.first
	l.note()
	if err := l.recallLost(); err != nil {
		return nil, errors.Join(err, l.release())
	}
	go l.run()
	return l, nil
}

// Last is the time of the last record that Open found, but for what a restore of the whole state recorded: that was its time and not
// that of a server. Zero if there was none. It is not the latest time in the log: one wrong year, long ago, must not come back.
func (l *Log) Last() time.Time { return l.recent }

// Empty says whether no record was ever written.
func (l *Log) Empty() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.durable == 0
}

// Stats are for metrics and for people.
type Stats struct {
	Records  uint64 // durable, of all times
	First    uint64 // number of the first that is kept
	Queued   int    // waiting for the disk
	Signed   uint64 // number of the last record that a checkpoint covers
	Reserved int64  // bytes of disk that only the log can use
	Low      bool   // the disk has no room for the reserve: the log lives on what is left of it
	Lost     uint64 // records not written since the start; only with Continue
}

// Stats is a snapshot.
func (l *Log) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.notes
	s.Records, s.First, s.Queued = l.durable, l.floor, len(l.queue)
	return s
}

// note publishes what only the writer knows.
func (l *Log) note() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.notes.Signed, l.notes.Reserved = l.last.Seq, max(0, l.reserved-l.size)
}

// Err is not nil once a record could not be written, or the log was closed; after ErrFull it may become nil again. It is
// cheap: ask before every operation. With Options.Continue it is only ErrClosed.
func (l *Log) Err() error {
	err := l.Failure()
	if l.o.Continue && !errors.Is(err, ErrClosed) {
		return nil
	}
	return err
}

// Failure is Err, but it does not look away with Options.Continue.
func (l *Log) Failure() error {
	if p := l.failed.Load(); p != nil {
		return *p
	}
	return nil
}

// Close writes what is queued, notes the end in the head and lets the files go. A second call waits for the first and returns nil:
// whoever has called it may do with the files what they like.
func (l *Log) Close() error {
	l.mu.Lock()
	again := l.closed
	l.closed = true
	l.mu.Unlock()
	if again {
		<-l.done
		return nil
	}
	close(l.quit)
	<-l.done
	err := l.Failure()
	l.failed.CompareAndSwap(nil, &ErrClosed)
	return err
}
