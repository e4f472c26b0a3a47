package meta

import (
	"errors"
	"io/fs"

	"sallyport/crypto/record"
)

// maxWrapped is the longest wrapped key, bytes.
const maxWrapped = 1024

// BlobState of a blob's key record.
type BlobState uint8

// States of a blob. The numbers are on disk.
const (
	BlobOpen BlobState = 1 + iota
	BlobSealed
)

// BlobKey is what metadata knows of a blob.
type BlobKey struct {
	ID      [16]byte
	Wrapped []byte
	State   BlobState
	Relied  uint64 // most plaintext bytes that a version relied on while it was open; kept by AddVersion
	Size    uint64 // plaintext bytes in all, when sealed
	// While open: for whom it is written, so that a crash leaves a resumable partial upload.
	Dir        Inode
	Name       string
	Inode      Inode  // 0 = new name
	LinearFrom uint64 // blob byte b is file byte LinearFrom+b, unless Scattered
	Base       uint64 // version of Inode the draft started from; 0 = empty
	Scattered  bool
	Writer     string
}

func (k *BlobKey) encode() []byte {
	e := encoder{make([]byte, 0, 80+len(k.Wrapped)+len(k.Name)+len(k.Writer))}
	e.bytes(k.Wrapped)
	e.u8(uint8(k.State))
	for _, v := range []uint64{k.Relied, k.Size, uint64(k.Dir), uint64(k.Inode), k.LinearFrom, k.Base} {
		e.u64(v)
	}
	e.bool(k.Scattered)
	e.str(k.Name)
	e.str(k.Writer)
	return e.b
}

func decodeBlobKey(id [16]byte, b []byte) (*BlobKey, error) {
	d := decoder{b: b}
	k := &BlobKey{
		ID: id, Wrapped: d.bytes(maxWrapped), State: BlobState(d.oneOf(uint8(BlobOpen), uint8(BlobSealed))),
		Relied: d.u64(), Size: d.u64(), Dir: Inode(d.u64()), Inode: Inode(d.u64()), LinearFrom: d.u64(), Base: d.u64(),
	}
	k.Scattered = d.bool()
	k.Name = d.str(maxName)
	k.Writer = d.str(maxWriter)
	return k, d.end()
}

// Blob reads a blob's record, fs.ErrNotExist if there is none.
func (tx *Tx) Blob(id [16]byte) (*BlobKey, error) {
	plain, err := tx.load(record.DomainBlobKey, id[:])
	if err != nil {
		return nil, err
	}
	if plain == nil {
		return nil, absent("blob")
	}
	k, err := decodeBlobKey(id, plain)
	if err != nil {
		return nil, broken(record.DomainBlobKey, err)
	}
	return k, nil
}

// KnowsBlob says whether a blob has a key record or is to be unlinked, without opening either.
func (tx *Tx) KnowsBlob(id [16]byte) bool {
	return tx.exists(record.DomainBlobKey, id[:]) || tx.exists(record.DomainDoomed, id[:])
}

// Blobs calls fn with every blob's record until fn returns false.
func (tx *Tx) Blobs(fn func(*BlobKey) bool) error { return tx.BlobsFrom([16]byte{}, fn) }

// BlobsFrom is Blobs from an ID on; the order is that of the IDs.
func (tx *Tx) BlobsFrom(from [16]byte, fn func(*BlobKey) bool) error {
	for f := range tx.scan(record.DomainBlobKey, nil, from[:]) {
		plain, err := tx.openFound(record.DomainBlobKey, f)
		if err != nil {
			return err
		}
		if len(f.key) != 16 {
			return broken(record.DomainBlobKey, errMalformed)
		}
		k, err := decodeBlobKey([16]byte(f.key), plain)
		if err != nil {
			return broken(record.DomainBlobKey, err)
		}
		if !fn(k) {
			return nil
		}
	}
	return nil
}

// PutBlob writes a blob's record, new or not.
func (tx *Tx) PutBlob(b *BlobKey) error {
	if b.State != BlobOpen && b.State != BlobSealed || len(b.Wrapped) > maxWrapped || len(b.Name) > maxName || len(b.Writer) > maxWriter {
		return invalid("blob")
	}
	switch old, err := tx.Blob(b.ID); {
	case err == nil:
		tx.head.kept -= old.stored()
	case errors.Is(err, fs.ErrNotExist):
		tx.head.blobs++
	default:
		return err
	}
	tx.head.kept += b.stored()
	tx.put(record.DomainBlobKey, b.ID[:], b.encode(), nil)
	return nil
}

// DeleteBlob forgets a blob's key; absent is not an error.
func (tx *Tx) DeleteBlob(id [16]byte) error {
	old, err := tx.Blob(id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	tx.head.blobs--
	tx.head.kept -= old.stored()
	tx.remove(record.DomainBlobKey, id[:])
	return nil
}

// Doom forgets a blob's key and remembers to unlink its file.
func (tx *Tx) Doom(id [16]byte) error {
	var e encoder
	e.i64(tx.instant)
	tx.put(record.DomainDoomed, id[:], e.b, nil)
	return tx.DeleteBlob(id)
}

// Undoom is called when the file is gone; absent is not an error.
func (tx *Tx) Undoom(id [16]byte) error {
	if tx.exists(record.DomainDoomed, id[:]) {
		tx.remove(record.DomainDoomed, id[:])
	}
	return nil
}

// Doomed calls fn with every blob whose file is to be unlinked, until fn returns false.
func (tx *Tx) Doomed(fn func(id [16]byte) bool) error {
	for f := range tx.scan(record.DomainDoomed, nil, nil) {
		plain, err := tx.openFound(record.DomainDoomed, f)
		if err == nil {
			_, err = decodeInstant(plain)
		}
		if err != nil || len(f.key) != 16 {
			return broken(record.DomainDoomed, errMalformed)
		}
		if !fn([16]byte(f.key)) {
			return nil
		}
	}
	return nil
}

func decodeInstant(b []byte) (int64, error) {
	d := decoder{b: b}
	at := d.instant()
	return at, d.end()
}
