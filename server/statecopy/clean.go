package statecopy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path/filepath"
	"strings"

	"sallyport/vfs/blob"
)

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
	if err := errors.Join(d.cleanTop(c.dir.meta), d.placeApart(c.dir.meta), d.removeOthers("audit", named), d.removeOthers("blobs", named)); err != nil {
		return err
	}
	accounts, err := d.names("blobs")
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

// cleanTop removes the parts of all copies but one, and what trials left.
func (d *Dir) cleanTop(meta string) error {
	return errors.Join(d.removePrefixed(metaPrefix, meta), d.removePrefixed(drillPrefix, ""))
}

func (d *Dir) removePrefixed(prefix, kept string) error {
	top, err := d.names(".")
	if err != nil {
		return err
	}
	for _, name := range top {
		if name != kept && strings.HasPrefix(name, prefix) {
			if err := d.root.RemoveAll(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// placeApart puts audit log and blobs of a copy in force that took the place of one of something else where all later ones look for them.
// Until all of them are there, what lies in meta counts.
func (d *Dir) placeApart(meta string) error {
	for _, dir := range []string{"audit", "blobs"} {
		if err := d.placeAll(filepath.Join(meta, dir), dir); err != nil {
			return err
		}
	}
	d.apart = false
	return d.root.RemoveAll(filepath.Join(meta, blobsDir))
}

// placeAll moves blobs and files of the audit log below one directory to the same names below another.
func (d *Dir) placeAll(from, to string) error {
	list, err := d.names(from)
	if err != nil {
		return err
	}
	for _, name := range list {
		at, place := filepath.Join(from, name), filepath.Join(to, name)
		info, err := d.root.Lstat(at)
		switch {
		case err != nil:
		case info.IsDir():
			err = d.placeAll(at, place)
		case info.Mode().IsRegular() && (isLog(place) || strings.HasPrefix(place, blobsDir)):
			if err = d.mkdir(to); err == nil {
				err = d.root.Rename(at, place)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// cleanBlobs removes blobs that none of the lists names; all are in order, one fan-out directory is in memory at a time.
func (c *Copy) cleanBlobs(account AccountID, lists []string) error {
	base := fmt.Sprintf("blobs/%x", account[:])
	if err := c.dir.isDir(base); err != nil {
		return err
	}
	fan, kept := "", map[string]bool{}
	seen := map[string]bool{}
	flush := func() error {
		if fan == "" {
			return nil
		}
		seen[fan] = true
		return c.dir.removeOthers(filepath.Join(base, fan), kept)
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
	return c.dir.removeOthers(base, seen)
}

// eachOf calls fn with the blobs of one or two lists, in ascending order; one that both name comes twice.
func (c *Copy) eachOf(lists []string, fn func(Blob) error) error {
	if len(lists) == 1 {
		return c.dir.readList(c.dir.file(lists[0]), fn)
	}
	var failed error
	next, stop := iter.Pull(func(yield func(Blob) bool) {
		failed = c.dir.readList(c.dir.file(lists[1]), func(b Blob) error {
			if !yield(b) {
				return errLacking
			}
			return nil
		})
	})
	defer stop()
	other, more := next()
	err := c.dir.readList(c.dir.file(lists[0]), func(b Blob) error {
		if failed != nil { // what else it names is not known
			return failed
		}
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

// removeOthers removes what is in a directory, but for what is kept.
func (d *Dir) removeOthers(dir string, kept map[string]bool) error {
	list, err := d.names(dir)
	if err != nil {
		return err
	}
	for _, name := range list {
		if !kept[name] {
			if err := d.root.RemoveAll(filepath.Join(dir, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// names of what is in a directory, which must be one: what is removed by them must be of the copy.
func (d *Dir) names(dir string) ([]string, error) {
	if err := d.isDir(dir); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	f, err := d.root.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	list, err := f.Readdirnames(-1)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return list, err
}
