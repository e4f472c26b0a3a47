package meta

import (
	"errors"
	"io/fs"
	"slices"

	"sallyport/crypto/record"
)

// Frees is how many stored bytes a purge of these versions of an inode, which are in order, and of so many of its past names frees: of
// what its other versions rely on, nothing. What is not there frees nothing. It reads the versions, one after the other, as the purge would.
func (tx *Tx) Frees(id Inode, versions []uint64, names uint64) (uint64, error) {
	n, err := tx.nodePassing(id)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil || n.Kind != File {
		return 0, err
	}
	f := freed{tx: tx, blobs: map[[16]byte]struct{}{}}
	for _, v := range versions {
		if err := f.add(id, v); err != nil {
			return 0, err
		}
	}
	goes := n.Parent == 0 && names >= n.Past // the whole inode, if no other version stays
	if !goes {
		if err := f.keep(id, n.Version); err != nil {
			return 0, err
		}
	}
	if goes || len(f.blobs) > 0 {
		for s := range tx.scan(record.DomainVersion, inodeKey(id), nil) {
			if len(s.key) != 16 {
				return 0, broken(record.DomainVersion, errMalformed)
			}
			v := be64(s.key[8:])
			if _, found := slices.BinarySearch(versions, v); found || v == n.Version {
				continue
			}
			goes = false
			stays, err := tx.openVersion(s)
			if err != nil {
				return 0, err
			}
			if f.without(stays); len(f.blobs) == 0 {
				break
			}
		}
	}
	switch {
	case goes:
		err = f.add(id, n.Version)
	case len(f.blobs) > 0:
		err = f.keep(id, n.Version)
	}
	if err != nil {
		return 0, err
	}
	return f.total()
}

// freed adds up what purged versions of one inode free.
type freed struct {
	tx    *Tx
	bytes uint64
	blobs map[[16]byte]struct{}
}

func (f *freed) add(id Inode, version uint64) error {
	v, err := f.stored(id, version)
	if v == nil {
		return err
	}
	f.bytes += uint64(len(v.Layout.Inline))
	for i := range v.Layout.Blobs {
		f.blobs[v.Layout.Blobs[i].ID] = struct{}{}
	}
	return nil
}

func (f *freed) keep(id Inode, version uint64) error {
	v, err := f.stored(id, version)
	if v != nil {
		f.without(v)
	}
	return err
}

func (f *freed) stored(id Inode, version uint64) (*storedVersion, error) {
	v, err := f.tx.stored(id, version)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return v, err
}

func (f *freed) without(v *storedVersion) {
	for i := range v.Layout.Blobs {
		delete(f.blobs, v.Layout.Blobs[i].ID)
	}
}

// total counts of blobs what giveUp takes.
func (f *freed) total() (uint64, error) {
	bytes := f.bytes
	for id := range f.blobs {
		b, err := f.tx.Blob(id)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return 0, err
		case b.State != BlobOpen:
			bytes += b.stored()
		}
	}
	return bytes, nil
}
