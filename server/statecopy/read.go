package statecopy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// drillPrefix begins the names of directories in which a restore is tried.
const drillPrefix = "drill-"

// Copy is the copy in force of a Dir.
type Copy struct {
	*Manifest
	dir *Dir
}

// Current reads the manifest in force. Nothing is authentic before Manifest.SignedBy.
func (d *Dir) Current() (*Copy, error) {
	m, err := d.manifest(func(Entry) error { return nil })
	if err != nil {
		return nil, err
	}
	d.meta = metaPrefix + m.ID
	if err := d.isDir(d.meta); err != nil && !errors.Is(err, fs.ErrNotExist) { // other packages open what is in it by its path
		return nil, err
	}
	_, err = d.root.Lstat(filepath.Join(d.meta, blobsDir))
	d.apart = err == nil
	return &Copy{m, d}, nil
}

func (d *Dir) manifest(fn func(Entry) error) (*Manifest, error) {
	f, _, err := d.openPart(manifestName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w in %s", ErrNoCopy, d.path)
	} else if err != nil {
		return nil, err
	}
	defer f.Close()
	return ReadManifest(f, fn)
}

// Each calls fn with every file of the copy. The manifest is read again, and must be the one that Current read.
func (c *Copy) Each(fn func(Entry) error) error {
	m, err := c.dir.manifest(fn)
	if err == nil && string(m.sum) != string(c.sum) {
		err = damaged("the manifest changed meanwhile")
	}
	return err
}

// Bounds of files that are read into memory, perhaps before it is known who made the copy, bytes.
const (
	maxSmall = 1 << 20
	maxRing  = 1 << 28 // a million accounts
)

// Small reads a file of at most 1 MiB and checks it.
func (c *Copy) Small(ctx context.Context, name string) (data []byte, err error) {
	err = c.verified(ctx, name, maxSmall)
	if err == nil {
		data, err = c.dir.root.ReadFile(c.dir.file(name))
	}
	return data, err
}

// verified checks a file that has at least one byte and at most that many.
func (c *Copy) verified(ctx context.Context, name string, most int64) error {
	found := false
	err := c.Each(func(e Entry) error {
		if e.Name != name {
			return nil
		}
		found = true
		if e.Size == 0 || e.Size > most {
			return damaged("%s has %d bytes", name, e.Size)
		}
		return c.dir.Verify(ctx, e)
	})
	if err == nil && !found {
		err = damaged("it has no %s", name)
	}
	return err
}

// Blobs calls fn with every blob of an account and where it lies below the directory, after the list of that name was checked. One that is missing, or
// has another size than it must have, is ErrDamaged with its name, handed to fn.
func (c *Copy) Blobs(account AccountID, list string, fn func(b Blob, path string, err error) error) error {
	err := c.dir.readList(c.dir.file(list), func(b Blob) error {
		path := c.dir.blob(account, b)
		if b.Open {
			path = openBeside(c.dir.file(list), b.ID)
		}
		info, err := c.dir.root.Lstat(path)
		err = leadsOut(err, path)
		switch {
		case errors.Is(err, fs.ErrNotExist) && b.Open && b.Size == 0:
			return nil
		case errors.Is(err, fs.ErrNotExist):
			err = damaged("blob %s of account %x is missing", b.ID, account[:])
		case err != nil:
		case !info.Mode().IsRegular() || info.Size() < b.Size || !b.Open && info.Size() != b.Size:
			err = damaged("blob %s of account %x has %d bytes and not %d", b.ID, account[:], info.Size(), b.Size)
		}
		return fn(b, path, err)
	})
	if errors.Is(err, fs.ErrNotExist) {
		return damaged("%s is missing", list)
	}
	return err
}
