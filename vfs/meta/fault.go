package meta

import (
	"bytes"
	"fmt"
	"runtime/debug"

	"go.etcd.io/bbolt"

	"sallyport/crypto/record"
)

// snapshot is one bbolt transaction, its buckets, and a mark that tells a
// panic of bbolt (or a fault in its memory map) from a panic of the caller's
// function. Used by one goroutine at a time.
type snapshot struct {
	tx      *bbolt.Tx
	seen    uint64 // number of the bbolt transaction whose result is seen
	buckets [kinds]*bbolt.Bucket
	cursors [kinds]*bbolt.Cursor // for Seek alone
	inside  bool                 // in bbolt, or reading memory that bbolt mapped
}

func newSnapshot(tx *bbolt.Tx) *snapshot {
	s := &snapshot{tx: tx, seen: uint64(tx.ID())}
	if tx.Writable() {
		s.seen-- // its own number is of what it will commit
	}
	return s
}

// bucket must be called inside.
func (s *snapshot) bucket(kind record.Domain) *bbolt.Bucket {
	if s.buckets[kind] == nil {
		b := s.tx.Bucket([]byte{byte(kind)})
		if b == nil {
			panic("a bucket is gone") // inside: becomes ErrIntegrity
		}
		b.FillPercent = fillEnd // until something else than appending is done to it
		s.buckets[kind] = b
	}
	return s.buckets[kind]
}

// get returns the sealed record, in bbolt's memory, or nil.
func (s *snapshot) get(kind record.Domain, key []byte) (sealed []byte) {
	s.inside = true
	if k, v := s.cursor(kind).Seek(key); bytes.Equal(k, key) {
		sealed = v
	}
	s.inside = false
	return sealed
}

// cursor is kept, because a listing or a purge gets thousands of records and Get makes a cursor for each. Seek begins at the root
// of the bucket as it is by now, so that what was put or deleted meanwhile does no harm. It must be called inside.
func (s *snapshot) cursor(kind record.Domain) *bbolt.Cursor {
	if s.cursors[kind] == nil {
		s.cursors[kind] = s.bucket(kind).Cursor()
	}
	return s.cursors[kind]
}

// guarded runs fn with memory faults turned into panics, and turns every panic
// out of bbolt or its memory map into ErrIntegrity: bbolt trusts its pages, so
// damage of the file after it was checked at Open shows up as a panic in bbolt, or as
// SIGBUS where the file was cut short. A panic out of the caller's function goes on.
func (s *snapshot) guarded(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if !s.inside {
			return
		}
		s.inside = false
		if p := recover(); p != nil {
			err = damaged(p)
		}
	}()
	return fn()
}

// guard is snapshot.guarded for code that calls nothing of the caller's.
func guard(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = damaged(p)
		}
	}()
	return fn()
}

// damaged hides what bbolt says, which may hold bytes of the file.
func damaged(p any) error {
	if f, ok := p.(interface{ Addr() uintptr }); ok {
		return fmt.Errorf("%w: the database file cannot be read at %#x of its memory map", ErrIntegrity, f.Addr())
	}
	return fmt.Errorf("%w: the pages of the database contradict each other", ErrIntegrity)
}
