package meta

import (
	"encoding/binary"

	"sallyport/crypto/record"
)

// kinds is one more than the highest kind of record. A kind's number is its
// bucket's name (one byte), the first byte of its database keys, and the domain of its seals.
const kinds = int(record.DomainFold) + 1

// buckets are the kinds that have a bucket, in the order of their names.
func buckets() []record.Domain {
	all := make([]record.Domain, 0, kinds)
	for d := record.DomainEntry; int(d) < kinds; d++ {
		all = append(all, d)
	}
	return all
}

// tokenSize is the length of every token, bytes.
const tokenSize = 16

type token = [tokenSize]byte

// appendU64 writes numbers in keys big-endian, so that keys sort as numbers do.
func appendU64(b []byte, v uint64) []byte { return binary.BigEndian.AppendUint64(b, v) }

// Database keys, without the byte of the kind:
//
//	entry    dirTok ‖ nameTok
//	past     dirTok ‖ nameTok ‖ until u64
//	inode    inode u64
//	version  inode u64 ‖ n u64
//	extents  inode u64 ‖ n u64 ‖ page u32       n = version that first wrote the page
//	blobkey  blob id 16
//	when     1 ‖ dirTok ‖ until u64 ‖ nameTok   past names of a directory by time
//	         2 ‖ at u64 ‖ 1 ‖ dirTok ‖ nameTok  all that was superseded, by time: names
//	         2 ‖ at u64 ‖ 2 ‖ inode u64 ‖ n u64                                   versions
//	outbox   seq u64
//	doomed   blob id 16
//	head     "head"
//	fold     dirTok ‖ foldTok ‖ 0 live or 1 past ‖ nameTok   at most one of each per name
func entryKey(dir, name token) []byte {
	return append(append(make([]byte, 0, 2*tokenSize), dir[:]...), name[:]...)
}

func pastKey(dir, name token, until int64) []byte {
	return appendU64(append(append(make([]byte, 0, 2*tokenSize+8), dir[:]...), name[:]...), uint64(until))
}

func inodeKey(id Inode) []byte { return appendU64(make([]byte, 0, 8), uint64(id)) }

func versionKey(id Inode, n uint64) []byte {
	return appendU64(appendU64(make([]byte, 0, 16), uint64(id)), n)
}

func pageKey(id Inode, n uint64, page uint32) []byte {
	return binary.BigEndian.AppendUint32(versionKey(id, n), page)
}

func seqKey(seq uint64) []byte { return appendU64(make([]byte, 0, 8), seq) }

// Parts of the time index.
const (
	whenDir = 1 // past names of one directory
	whenAll = 2 // everything superseded

	whenName    = 1
	whenVersion = 2
)

func whenDirPrefix(dir token) []byte {
	return append(append(make([]byte, 0, 1+2*tokenSize+8), whenDir), dir[:]...)
}

func whenDirKey(dir token, until int64, name token) []byte {
	return append(appendU64(whenDirPrefix(dir), uint64(until)), name[:]...)
}

func whenAllKey(at int64, what byte) []byte {
	return append(appendU64(append(make([]byte, 0, 1+8+1+2*tokenSize), whenAll), uint64(at)), what)
}

func whenNameKey(until int64, dir, name token) []byte {
	return append(append(whenAllKey(until, whenName), dir[:]...), name[:]...)
}

func whenVersionKey(at int64, id Inode, n uint64) []byte {
	return appendU64(appendU64(whenAllKey(at, whenVersion), uint64(id)), n)
}

func be64(b []byte) uint64 { return binary.BigEndian.Uint64(b) }

// States of a fold record. A name that was removed and made again has one of each, however often that happened.
const (
	foldLive = 0
	foldPast = 1
)

func foldPrefix(dir, fold token, state byte) []byte {
	return append(append(append(make([]byte, 0, 3*tokenSize+1), dir[:]...), fold[:]...), state)
}

func foldKey(dir, fold token, state byte, name token) []byte {
	return append(foldPrefix(dir, fold, state), name[:]...)
}
