package statecopy

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Commit puts the copy in force, whose manifest this is. What only the one before needed is removed afterwards (Clean). An error before
// the last rename, which is the switch, leaves the one before as it was.
func (d *Dir) Commit(ctx context.Context, m *Manifest, text io.ReadSeeker) error {
	if err := errors.Join(d.prune(text), d.Settle(), d.Sync(), ctx.Err()); err != nil {
		return err
	}
	temp := manifestName + tempInfix + rand.Text()
	err := d.write(temp, text) // first: it is the last for which there may be no room
	if err == nil {
		err = d.root.Rename(d.meta, metaPrefix+m.ID)
	}
	if err == nil {
		d.meta = metaPrefix + m.ID
		err = d.syncTop() // the parts before the manifest
	}
	if err == nil {
		err = d.root.Rename(temp, manifestName)
	}
	if err != nil {
		return errors.Join(err, d.takeBack(temp))
	}
	return d.syncTop()
}

// syncTop makes the names in the directory itself durable, whatever the file system: what Clean removes next is what only an older manifest needs.
func (d *Dir) syncTop() error {
	known, err := d.syncNames(".")
	if err == nil && !known {
		err = d.Sync()
	}
	return err
}

// takeBack undoes what Commit did before the switch: parts under a name would not be removed by Close.
func (d *Dir) takeBack(temp string) (err error) {
	if d.meta != writing {
		err = d.root.Rename(d.meta, writing)
		d.meta = writing
	}
	if rerr := d.root.Remove(temp); !errors.Is(rerr, fs.ErrNotExist) {
		err = errors.Join(err, rerr)
	}
	return err
}

// write writes a file and syncs it, but not its name.
func (d *Dir) write(name string, r io.ReadSeeker) error {
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return err
	}
	f, err := d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err = io.Copy(f, r); err == nil {
		err = d.syncFile(f)
	}
	return errors.Join(err, f.Close())
}

// prune removes what came of accounts, and the manifest does not name: of those that were destroyed while the others were copied, or
// were kept of the copy before in vain, because they have another key now. It must not lie in a copy that is in force.
func (d *Dir) prune(manifest io.ReadSeeker) error {
	if _, err := manifest.Seek(0, io.SeekStart); err != nil {
		return err
	}
	named := map[string]bool{} // directories
	if _, err := ReadManifest(manifest, func(e Entry) error {
		if ofAccount(e.Name) {
			dir := filepath.Dir(e.Name)
			named[dir], named[blobsDir+filepath.Base(dir)] = true, true
		}
		return nil
	}); err != nil {
		return err
	}
	for _, dir := range []string{filepath.Clean(accountsDir), filepath.Clean(keptDir), filepath.Clean(blobsDir)} {
		list, err := d.names(filepath.Join(d.meta, dir))
		if err != nil {
			return err
		}
		for _, name := range list {
			if !named[filepath.Join(dir, name)] {
				if err := d.root.RemoveAll(filepath.Join(d.meta, dir, name)); err != nil {
					return err
				}
			}
		}
		if err := d.root.Remove(filepath.Join(d.meta, dir)); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) {
			return err // ErrExist: it is not empty
		}
	}
	return nil
}
