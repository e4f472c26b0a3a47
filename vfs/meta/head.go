package meta

import (
	"errors"
	"fmt"

	"sallyport/crypto/record"
)

// formatVersion is what is written. Versions 1 to 3 are brought up to it when they are opened (upgrade.go); any other number is refused.
const formatVersion = 4

// headKey is the only key of the head bucket.
const headKey = "head"

// head is the record that authenticates all others: their number and their
// keyed multiset hash. It is itself outside that sum, and is written in every
// transaction.
type head struct {
	format     uint16
	generation uint64 // bbolt transactions that changed something
	records    uint64 // all but the head itself
	sum        record.Sum
	last       int64  // last instant given
	nextInode  Inode  // never reused
	lastSeq    uint64 // of the outbox; never given twice
	folds      uint64 // records in the fold bucket: 0 spares every missed lookup a search

	files, dirs, versions, blobs uint64
	live, history, shred         uint64 // bytes, see Stats; history are the sizes of versions
	kept                         uint64 // bytes that are stored and that no live file uses, see kept.go; modulo 2^64

	marks
}

// marks say how far back the past is whole: each is the latest instant at which something ended that was destroyed, and never goes back.
// Whoever destroys history moves one of them in the same transaction, or the past would lack names and nothing would tell.
type marks struct {
	purged  int64 // by a purge of everything that ended before an instant
	lacking int64 // by a purge that chose, by damage, or by who kept no marks
}

// whole is the earliest instant of which nothing is missing.
func (m *marks) whole() int64 { return max(m.purged, m.lacking) }

func (h *head) encode() []byte {
	e := encoder{make([]byte, 0, 160)}
	e.u16(h.format)
	e.u64(h.generation)
	e.u64(h.records)
	e.raw(h.sum[:])
	e.i64(h.last)
	e.u64(uint64(h.nextInode))
	e.u64(h.lastSeq)
	for _, v := range []uint64{h.folds, h.files, h.dirs, h.versions, h.blobs, h.live, h.history} {
		e.u64(v)
	}
	if h.format > 1 {
		e.u64(h.shred)
	}
	if h.format > 2 {
		e.i64(h.purged)
		e.i64(h.lacking)
	}
	if h.format > 3 {
		e.u64(h.kept)
	}
	return e.b
}

func decodeHead(b []byte) (head, error) {
	var h head
	d := decoder{b: b}
	if h.format = d.u16(); !d.bad && h.format > formatVersion {
		return h, fmt.Errorf("format %d of the database is unknown to this program: %w", h.format, errors.ErrUnsupported)
	}
	if h.format < 1 {
		d.fail()
	}
	h.generation = d.u64()
	h.records = d.u64()
	copy(h.sum[:], d.take(len(h.sum)))
	h.last = d.instant()
	h.nextInode = Inode(d.u64())
	h.lastSeq = d.u64()
	for _, v := range []*uint64{&h.folds, &h.files, &h.dirs, &h.versions, &h.blobs, &h.live, &h.history} {
		*v = d.u64()
	}
	if h.format > 1 {
		h.shred = d.u64()
	}
	if h.format > 2 {
		h.purged, h.lacking = d.instant(), d.instant()
	}
	if h.format > 3 {
		h.kept = d.u64()
	}
	return h, d.end()
}

// Stats are read from the head, cheap.
type Stats struct {
	Records    uint64 // all but the head
	Files      uint64 // regular files that have a live name
	Dirs       uint64 // directories that have a live name, and the root
	Versions   uint64
	Blobs      uint64
	LiveBytes  uint64 // logical sizes of the current versions of live files
	Generation uint64 // grows by one with every transaction on disk

	// HistoryBytes are the bytes that are stored for superseded and interrupted versions, and for the current one of files that have
	// no live name: each byte once, however many versions share it, and none that a live file uses. Never more than the sizes of
	// these versions.
	HistoryBytes uint64
	// AwaitingShred are the bytes that were stored and purged from this database, at least 1 if anything was: whoever has an old copy
	// of its file and the account's key can still read them. A database under a new key starts at 0.
	AwaitingShred uint64
	LastInstant   int64

	// The volume as of an instant from PurgedTo on has everything that it had then, but for what was chosen to be destroyed, or was lost
	// to damage: of that, as of an instant before LackingTo, something may be missing. 0 = nothing ever was destroyed.
	PurgedTo, LackingTo int64
}

// Stats of the snapshot; within Update they include what was done so far.
func (tx *Tx) Stats() Stats {
	h := &tx.head
	return Stats{
		Records: h.records, Files: h.files, Dirs: h.dirs, Versions: h.versions, Blobs: h.blobs,
		LiveBytes: h.live, HistoryBytes: h.inHistory(), AwaitingShred: h.shred, Generation: h.generation, LastInstant: h.last,
		PurgedTo: h.purged, LackingTo: h.lacking,
	}
}
