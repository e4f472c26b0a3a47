package vfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"sallyport/crypto/keyring"
	"sallyport/vfs/blob"
	"sallyport/vfs/blob/blobdir"
	"sallyport/vfs/content"
	"sallyport/vfs/meta"
)

// BlobFile is a blob that a VolumeCopy needs, as a file.
type BlobFile struct {
	ID blob.ID
	// Size of the file, bytes. Of an open blob it is the least that is relied on; it may have grown, been sealed, or, if
	// it is 0, be gone.
	Size int64
	Open bool
}

// VolumeCopy is what a copy of one account's volume is made of: its database as of an instant, and the blobs that this
// names, which stay on the disk until Close. Nothing of it is in clear. Used by one goroutine.
type VolumeCopy struct {
	Version uint32   // of the account's key, which names the database
	Tree    *os.File // a copy of the database in a file without a name, from its beginning
	Size    int64    // of Tree, bytes
	// Commit names what is in Tree: PeekCommit gives the same as long as nothing was committed since.
	Commit [32]byte

	v      *Volume
	blobs  *blobdir.Dir // nil until it is needed
	opened bool         // by the copy: nobody used the volume
}

// PeekCommit names the newest commit of an account's database under that version of its key, and reads three pages of it. Nothing is opened or
// authenticated: it tells that a database is the one of an earlier copy, and nothing else.
func (f *FS) PeekCommit(id keyring.AccountID, version uint32) ([32]byte, error) {
	c, err := meta.Peek(filepath.Join(f.dir(id), treeName(version)))
	if err != nil {
		return c, withoutDir(err, f.o.Dir)
	}
	return c, nil
}

// copyName is the name that a copy of a database has until it is open; the next start removes one that is left.
const copyName = "tree-copy.db"

// CopyVolume begins a copy of an account's volume, which stays in use. The copied database is opened and verified: its
// records, as a set, are those that were committed. list is called with every blob that it names, in the order of their ids.
// One copy of a volume can begin at a time (fs.ErrExist).
//
// Blobs that are given up meanwhile are unlinked after Close, which the caller must come to. The account can be destroyed
// all the same; Open then fails with fs.ErrNotExist.
func (f *FS) CopyVolume(ctx context.Context, id keyring.AccountID, list func(BlobFile) error) (*VolumeCopy, error) {
	// An attempt to open one that is not there would be remembered, and held against an account that is being made just now.
	if _, err := os.Lstat(f.dir(id)); err != nil {
		return nil, fmt.Errorf("vfs: copying volume %s: %w", id, withoutDir(err, f.o.Dir))
	}
	v, err := f.volume(id)
	if err != nil {
		return nil, err
	}
	if err := v.keep(ctx); err != nil {
		return nil, err
	}
	c := &VolumeCopy{v: v}
	if err := c.begin(ctx, list); err != nil {
		return nil, errors.Join(fmt.Errorf("vfs: copying volume %s: %w", id, withoutDir(err, f.o.Dir)), c.Close())
	}
	return c, nil
}

func (c *VolumeCopy) begin(ctx context.Context, list func(BlobFile) error) error {
	if c.opened = c.v.resting(); c.opened {
		defer c.v.restNow() // thousands of accounts that nobody uses must not all be open at the end
	}
	return c.v.do(ctx, func(o *core) error {
		path := filepath.Join(c.v.fs.dir(c.v.id), copyName)
		var err error
		if c.Version, err = o.db.CopyTo(ctx, path); err != nil {
			return err
		}
		defer os.Remove(path) // the open file stays
		return c.open(ctx, path, list)
	})
}

// open verifies the copied database and lists its blobs.
func (c *VolumeCopy) open(ctx context.Context, path string, list func(BlobFile) error) (err error) {
	keys, err := c.v.fs.o.Keyring.Account(c.v.id)
	if err != nil {
		return err
	}
	if keys.Version() != c.Version { // it got another key a moment ago
		return ErrBusy
	}
	db, err := meta.Open(ctx, path, keys, meta.Options{Now: c.v.fs.o.Now})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if c.Tree, err = os.Open(path); err != nil {
		return err
	}
	info, err := c.Tree.Stat()
	if err != nil {
		return err
	}
	c.Size = info.Size()
	commit, err := db.Commit()
	if err != nil {
		return err
	}
	c.Commit = commit
	return db.View(func(tx *meta.Tx) error {
		var failed error
		err := tx.Blobs(func(b *meta.BlobKey) bool {
			file := BlobFile{ID: b.ID, Size: content.FileSize(b.Size)}
			if b.State == meta.BlobOpen {
				file.Open = true
				file.Size, failed = leastSize(tx, b)
			}
			if failed == nil {
				failed = list(file)
			}
			if failed == nil {
				failed = ctx.Err()
			}
			return failed == nil
		})
		return errors.Join(failed, err)
	})
}

// leastSize is how much of an open blob's file is relied on.
func leastSize(tx *meta.Tx, b *meta.BlobKey) (int64, error) {
	most := uint64(0)
	n, err := owner(tx, b)
	if err != nil || n == nil {
		return 0, err
	}
	err = tx.Versions(n.ID, func(v *meta.Version) bool {
		if ref := findRef(&v.Layout, b.ID); ref != nil {
			most = max(most, ref.Segments)
		}
		return true
	})
	return content.OpenSize(most), err
}

// Open opens a blob as a file. One that is open may be growing: it is good up to the size that it has now, and further.
func (c *VolumeCopy) Open(ctx context.Context, id blob.ID) (blob.Reader, error) {
	if c.blobs == nil {
		dir, err := blobdir.Open(filepath.Join(c.v.fs.dir(c.v.id), "blobs"))
		if err != nil {
			return nil, fmt.Errorf("vfs: copying volume %s: %w", c.v.id, withoutDir(err, c.v.fs.o.Dir))
		}
		c.blobs = dir
	}
	r, err := c.blobs.Open(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("vfs: copying volume %s: %w", c.v.id, withoutDir(err, c.v.fs.o.Dir))
	}
	return r, nil
}

// Close ends the copy; what was given up meanwhile is unlinked.
func (c *VolumeCopy) Close() error {
	var errs []error
	if c.Tree != nil {
		errs = append(errs, c.Tree.Close())
	}
	if c.blobs != nil {
		errs = append(errs, c.blobs.Close())
	}
	if c.v.letGo() {
		ctx := context.Background()
		err := c.v.do(ctx, func(o *core) error { return o.removeDoomed(ctx) })
		if err != nil && !errors.Is(err, fs.ErrClosed) && !errors.Is(err, fs.ErrNotExist) { // destroyed meanwhile
			errs = append(errs, public(err))
		}
	}
	if c.opened { // and not after checks of its blobs either
		c.v.restNow()
	}
	return errors.Join(errs...)
}

// CheckBlob authenticates a run of segments of a blob as a copy has them (content.Store.Check). ErrIntegrity if they are not
// what was written, ErrPurged if the blob was given up meanwhile and nobody can tell.
func (v *Volume) CheckBlob(ctx context.Context, id blob.ID, header, sealed []byte, first uint64, final bool) error {
	err := v.do(ctx, func(c *core) error {
		if c.gone(id) {
			return ErrPurged
		}
		return c.content.Check(ctx, id, header, sealed, first, final)
	})
	return public(err)
}

// Resting says whether an account's volume is closed.
func (f *FS) Resting(id keyring.AccountID) bool {
	v, err := f.volume(id)
	return err == nil && v.resting()
}

// Rest closes a volume that nobody uses, without waiting for its idle time.
func (f *FS) Rest(id keyring.AccountID) {
	if v, err := f.volume(id); err == nil {
		v.restNow()
	}
}

// resting says whether the volume is closed.
func (v *Volume) resting() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.core == nil && v.turning == nil
}

// restNow closes a volume that nobody uses, without waiting for its idle time.
func (v *Volume) restNow() {
	v.mu.Lock()
	if v.refs > 0 || len(v.views) > 0 || v.core == nil || v.turning != nil || v.gone {
		v.mu.Unlock()
		return
	}
	_ = v.turn() // what is wrong with it shows at the next opening
}
