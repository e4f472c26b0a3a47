package statecopy

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"sallyport/vfs/blob"
)

// before is the copy in force while the next one is made.
type before struct {
	meta     string
	accounts map[AccountID]*Held
}

// readBefore looks at the copy in force. One that cannot be read is as good as none: everything is copied then.
func (d *Dir) readBefore() {
	d.before = before{}
	f, _, err := openPart(filepath.Join(d.path, manifestName))
	if err != nil {
		return
	}
	defer f.Close()
	m, accounts, err := ReadHeld(f)
	if err != nil {
		return
	}
	d.before = before{filepath.Join(d.path, metaPrefix+m.ID), accounts}
}

// Have opens the manifest of the copy in force; nil = there is none.
func (d *Dir) Have() (io.ReadCloser, error) {
	if d.before.meta == "" {
		return nil, nil
	}
	f, _, err := openPart(filepath.Join(d.path, manifestName))
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Keep takes an account that has not changed over from the copy in force, if that has all of it: its list is read and compared with
// the manifest, each blob must be there, and the database have its size; deep: its sum. each is called with every blob.
func (d *Dir) Keep(ctx context.Context, id AccountID, deep bool, each func(Blob) error) (bool, error) {
	h := d.before.accounts[id]
	if h == nil || h.Kept {
		return false, nil
	}
	return d.carry(ctx, id, h, deep, func(name string) string { return name }, func(b Blob, ok bool) error {
		if !ok {
			return errLacking
		}
		if b.Open {
			return nil
		}
		return each(b)
	})
}

// Retain takes the last whole state of an account over, which is damaged now, if there is one and its database is there. Nobody else may
// have anything of the account any more, so a blob that the disk of the copy lost costs that blob only: lacking counts them.
func (d *Dir) Retain(ctx context.Context, id AccountID) (ok bool, lacking int, err error) {
	h := d.before.accounts[id]
	if h == nil {
		return false, 0, nil
	}
	ok, err = d.carry(ctx, id, h, true, func(name string) string {
		if h.Kept {
			return name
		}
		return kept(name)
	}, func(_ Blob, ok bool) error {
		if !ok {
			lacking++
		}
		return nil
	})
	return ok, lacking, err
}

// errLacking ends the look at an account of which something is missing.
var errLacking = errors.New("something of it is missing")

func (d *Dir) carry(ctx context.Context, id AccountID, h *Held, deep bool, place func(string) string, each func(b Blob, ok bool) error) (bool, error) {
	list, tree := filepath.Join(d.before.meta, h.List.Name), filepath.Join(d.before.meta, h.Tree.Name)
	err := d.check(ctx, list, h.List)
	if err == nil && deep {
		err = d.check(ctx, tree, h.Tree)
	} else if err == nil {
		var info fs.FileInfo
		if info, err = os.Lstat(tree); err == nil && (!info.Mode().IsRegular() || info.Size() != h.Tree.Size) {
			err = errLacking
		}
	}
	if err == nil {
		err = readListFile(list, func(b Blob) error {
			if b.Open {
				err := d.carryOpen(b, openBeside(list, b.ID), openBeside(filepath.Join(d.meta, place(h.List.Name)), b.ID))
				lost := errors.Is(err, errLacking) || errors.Is(err, ErrDamaged) || errors.Is(err, fs.ErrNotExist)
				if err != nil && !lost {
					return err
				}
				return each(b, !lost)
			}
			return each(b, d.HasBlob(id, b))
		})
	}
	if errors.Is(err, errLacking) || errors.Is(err, ErrDamaged) || errors.Is(err, fs.ErrNotExist) {
		return false, d.dropPart(place(h.List.Name))
	}
	if err == nil {
		err = d.link(ctx, list, place(h.List.Name), h.List)
	}
	if err == nil {
		err = d.link(ctx, tree, place(h.Tree.Name), h.Tree)
	}
	if errors.Is(err, ErrDamaged) {
		return false, d.dropPart(place(h.List.Name))
	}
	return err == nil, err
}

// dropPart removes what was taken over beside a list.
func (d *Dir) dropPart(list string) error {
	clear(d.made)
	return os.RemoveAll(filepath.Join(d.meta, filepath.Dir(list)))
}

// openBeside is where a blob lies that was open when its list was made.
func openBeside(list string, id blob.ID) string {
	return filepath.Join(filepath.Dir(list), "open", id.String())
}

// carryOpen takes a blob over that was open.
func (d *Dir) carryOpen(b Blob, from, to string) error {
	info, err := os.Lstat(from)
	switch {
	case errors.Is(err, fs.ErrNotExist) && b.Size == 0:
		return nil
	case err != nil:
		return err
	case !info.Mode().IsRegular() || info.Size() < b.Size:
		return errLacking
	}
	return d.linkOrCopy(from, to, func() error {
		f, size, err := openPart(from)
		if err != nil {
			return err
		}
		defer f.Close()
		return d.put(context.Background(), to, size, f)
	})
}

// link gives a file of the copy in force a name in the one that is being written; without links it is copied, and compared.
func (d *Dir) link(ctx context.Context, from, name string, e Entry) error {
	to := filepath.Join(d.meta, name)
	return d.linkOrCopy(from, to, func() error {
		f, _, err := openPart(from)
		if err != nil {
			return err
		}
		defer f.Close()
		return d.put(ctx, to, e.Size, &checked{r: f, e: e, sum: sha256.New(), left: e.Size})
	})
}

func (d *Dir) linkOrCopy(from, to string, copied func() error) error {
	if err := d.mkdir(filepath.Dir(to)); err != nil {
		return err
	}
	err := d.hardLink(from, to)
	if errors.Is(err, unix.EXDEV) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EMLINK) || errors.Is(err, unix.EOPNOTSUPP) {
		return copied()
	}
	return err
}

func readListFile(path string, fn func(Blob) error) error {
	f, _, err := openPart(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return ReadList(f, fn)
}
