package statecopy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"sallyport/vfs/blob"
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
	d.meta = filepath.Join(d.path, metaPrefix+m.ID)
	return &Copy{m, d}, nil
}

func (d *Dir) manifest(fn func(Entry) error) (*Manifest, error) {
	f, _, err := openPart(filepath.Join(d.path, manifestName))
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
		data, err = os.ReadFile(c.dir.file(name))
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

// Path is where a file of the copy lies.
func (c *Copy) Path(name string) string { return c.dir.file(name) }

// Blobs calls fn with every blob of an account and where it lies, after the list of that name was checked. One that is missing, or
// has another size than it must have, is ErrDamaged with its name, handed to fn.
func (c *Copy) Blobs(account AccountID, list string, fn func(b Blob, path string, err error) error) error {
	err := readListFile(c.dir.file(list), func(b Blob) error {
		path := c.dir.blob(account, b)
		if b.Open {
			path = openBeside(c.dir.file(list), b.ID)
		}
		info, err := os.Lstat(path)
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

// Clean removes what the copy in force does not name: parts of other copies, blobs and files of the audit log.
func (d *Dir) Clean(ctx context.Context) error {
	c, err := d.Current()
	if err != nil {
		return err
	}
	named := map[string]bool{}        // files of the audit log, and accounts
	lists := map[AccountID][]string{} // of accounts of which an earlier state is kept: all their lists
	err = c.Each(func(e Entry) error {
		if isLog(e.Name) {
			named[filepath.Base(e.Name)] = true
		}
		if id, ok := accountOf(e.Name); ok {
			named[blob.ID(id).String()] = true
			if filepath.Base(e.Name) == listName && c.isDamaged(id) {
				lists[id] = append(lists[id], e.Name)
			}
		}
		if id, ok := keptOf(e.Name); ok {
			named[blob.ID(id).String()] = true
			if filepath.Base(e.Name) == listName {
				lists[id] = append(lists[id], e.Name)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := d.cleanTop(metaPrefix + c.ID); err != nil {
		return err
	}
	if err := removeOthers(filepath.Join(d.path, "audit"), named); err != nil {
		return err
	}
	if err := removeOthers(filepath.Join(d.path, "blobs"), named); err != nil {
		return err
	}
	accounts, err := names(filepath.Join(d.path, "blobs"))
	if err != nil {
		return err
	}
	for _, name := range accounts {
		if err := ctx.Err(); err != nil {
			return err
		}
		id, err := blob.ParseID(name)
		if err != nil {
			return err
		}
		of := lists[AccountID(id)]
		if of == nil {
			of = []string{ListFile(AccountID(id))}
		}
		if err := c.cleanBlobs(AccountID(id), of); err != nil {
			return err
		}
	}
	return nil
}

func (d *Dir) cleanTop(meta string) error {
	top, err := names(d.path)
	if err != nil {
		return err
	}
	for _, name := range top {
		if name != meta && (strings.HasPrefix(name, metaPrefix) || strings.HasPrefix(name, drillPrefix)) {
			if err := os.RemoveAll(filepath.Join(d.path, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// cleanBlobs removes blobs that none of the lists names; all are in order, one fan-out directory is in memory at a time.
func (c *Copy) cleanBlobs(account AccountID, lists []string) error {
	base := filepath.Join(c.dir.path, fmt.Sprintf("blobs/%x", account[:]))
	fan, kept := "", map[string]bool{}
	seen := map[string]bool{}
	flush := func() error {
		if fan == "" {
			return nil
		}
		seen[fan] = true
		return removeOthers(filepath.Join(base, fan), kept)
	}
	err := c.eachOf(lists, func(b Blob) error {
		id := b.ID.String()
		if id[:2] != fan {
			if err := flush(); err != nil {
				return err
			}
			fan = id[:2]
			clear(kept)
		}
		if !b.Open {
			kept[id[2:]] = true
		}
		return nil
	})
	if err == nil {
		err = flush()
	}
	if err != nil {
		return err
	}
	return removeOthers(base, seen)
}

// eachOf calls fn with the blobs of one or two lists, in ascending order; one that both name comes twice.
func (c *Copy) eachOf(lists []string, fn func(Blob) error) error {
	if len(lists) == 1 {
		return readListFile(c.dir.file(lists[0]), fn)
	}
	var failed error
	next, stop := iter.Pull(func(yield func(Blob) bool) {
		failed = readListFile(c.dir.file(lists[1]), func(b Blob) error {
			if !yield(b) {
				return errLacking
			}
			return nil
		})
	})
	defer stop()
	other, more := next()
	err := readListFile(c.dir.file(lists[0]), func(b Blob) error {
		for more && bytes.Compare(other.ID[:], b.ID[:]) <= 0 {
			if err := fn(other); err != nil {
				return err
			}
			other, more = next()
		}
		return fn(b)
	})
	for err == nil && more {
		err = fn(other)
		other, more = next()
	}
	return errors.Join(err, failed)
}

func removeOthers(dir string, kept map[string]bool) error {
	list, err := names(dir)
	if err != nil {
		return err
	}
	for _, name := range list {
		if !kept[name] {
			if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// names of what is in a directory, which must be one: what is removed by them must be of the copy.
func names(dir string) ([]string, error) {
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_DIRECTORY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	defer f.Close()
	list, err := f.Readdirnames(-1)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return list, err
}
