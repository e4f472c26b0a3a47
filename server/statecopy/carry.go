package statecopy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/unix"

	"sallyport/vfs/blob"
)

// before is the copy in force while the next one is made.
type before struct {
	meta     string
	accounts map[AccountID]Holding
}

// maxManifest bounds the manifest of a copy before, bytes: it has some 500 for each account.
const maxManifest = 1 << 30

// readBefore looks at the copy in force. One that is damaged is as good as none: everything is copied then. One that a later program
// made, and one that the disk does not give now, may be the only one of something.
func (d *Dir) readBefore() error {
	d.before = before{}
	f, _, err := d.openPart(manifestName)
	if err == nil {
		defer f.Close()
		var m *Manifest
		var accounts map[AccountID]Holding
		if m, accounts, err = ReadHoldings(io.LimitReader(f, maxManifest), nil); err == nil {
			d.before = before{metaPrefix + m.ID, accounts}
		}
	}
	switch {
	case errors.Is(err, ErrDamaged), errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, errors.ErrUnsupported):
		return fmt.Errorf("%w: %w", ErrOther, err)
	case err != nil:
		return fmt.Errorf("reading the manifest of the copy there: %w", err)
	}
	return nil
}

// Have opens the manifest of the copy in force; nil = there is none.
func (d *Dir) Have() (io.ReadCloser, error) {
	if d.before.meta == "" {
		return nil, nil
	}
	f, _, err := d.openPart(manifestName)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Keep takes an account that has not changed over from the copy in force, if that has all of it: its list is read and compared with
// the manifest, each blob must be there, and the database have its size; deep: its sum. each is called with every blob.
func (d *Dir) Keep(ctx context.Context, id AccountID, deep bool, each func(Blob) error) (bool, error) {
	h := d.before.accounts[id].Whole
	if h == nil || h.Kept {
		return false, nil
	}
	return d.carry(ctx, id, h, deep, sameName, func(b Blob, ok bool) error {
		if !ok {
			return errLacking
		}
		if b.Open {
			return nil
		}
		return each(b)
	})
}

// Retained is what a target keeps of an account that is damaged.
type Retained struct {
	Whole   bool   // its last whole state
	Lacking uint64 // blobs of that which the disk of the copy lost
	Newest  bool   // what could be copied of it before, because nothing can now
}

// Retain takes over what the copy in force has of an account that is damaged now: its last whole state, if there is one and its database is
// there, and if nothing of it could be copied (broken) the newest, too, which was damaged then. Nobody else may have anything of the account
// any more, so a blob that the disk of the copy lost costs that blob only.
func (d *Dir) Retain(ctx context.Context, id AccountID, broken bool) (r Retained, err error) {
	has := d.before.accounts[id]
	if h := has.Whole; h != nil {
		place := sameName
		if !h.Kept {
			place = kept
		}
		r.Whole, err = d.carry(ctx, id, h, true, place, func(_ Blob, ok bool) error {
			if !ok {
				r.Lacking++
			}
			return nil
		})
		if err != nil {
			return r, err
		}
	}
	if h := has.Newest; h != nil && broken {
		r.Newest, err = d.carry(ctx, id, h, true, sameName, func(Blob, bool) error { return nil }) // it lacks some anyway
	}
	return r, err
}

func sameName(name string) string { return name }

// errLacking ends the look at an account of which something is missing.
var errLacking = errors.New("something of it is missing")

// isLost says whether an error means that the disk of the copy has something no more, and not that the disk cannot be used.
func isLost(err error) bool {
	return errors.Is(err, errLacking) || errors.Is(err, ErrDamaged) || errors.Is(err, fs.ErrNotExist)
}

// carry takes over a state of an account under the names that place gives; false if the copy in force has lost it.
func (d *Dir) carry(ctx context.Context, id AccountID, h *Held, deep bool, place func(string) string, each func(b Blob, ok bool) error) (bool, error) {
	err := d.lookAt(ctx, h, deep)
	if err == nil {
		list := filepath.Join(d.before.meta, h.List.Name)
		err = d.readList(list, func(b Blob) error {
			if !b.Open {
				return each(b, d.HasBlob(id, b))
			}
			err := d.carryOpen(b, openBeside(list, b.ID), openBeside(filepath.Join(d.meta, place(h.List.Name)), b.ID))
			if err != nil && !isLost(err) {
				return err
			}
			return each(b, err == nil)
		})
	}
	for _, e := range []Entry{h.List, h.Tree} {
		if err == nil {
			err = d.link(ctx, filepath.Join(d.before.meta, e.Name), place(e.Name), e)
		}
	}
	if isLost(err) {
		clear(d.made)
		return false, d.root.RemoveAll(filepath.Join(d.meta, filepath.Dir(place(h.List.Name))))
	}
	return err == nil, err
}

// lookAt compares list and database with the manifest; the database by its size alone, if not deep.
func (d *Dir) lookAt(ctx context.Context, h *Held, deep bool) error {
	if err := d.check(ctx, filepath.Join(d.before.meta, h.List.Name), h.List); err != nil {
		return err
	}
	tree := filepath.Join(d.before.meta, h.Tree.Name)
	if deep {
		return d.check(ctx, tree, h.Tree)
	}
	info, err := d.root.Lstat(tree)
	if err == nil && (!info.Mode().IsRegular() || info.Size() != h.Tree.Size) {
		err = errLacking
	}
	return leadsOut(err, tree)
}

// openBeside is where a blob lies that was open when its list was made.
func openBeside(list string, id blob.ID) string {
	return filepath.Join(filepath.Dir(list), "open", id.String())
}

// carryOpen takes a blob over that was open.
func (d *Dir) carryOpen(b Blob, from, to string) error {
	info, err := d.root.Lstat(from)
	switch {
	case errors.Is(err, fs.ErrNotExist) && b.Size == 0:
		return nil
	case err != nil:
		return leadsOut(err, from)
	case !info.Mode().IsRegular() || info.Size() < b.Size:
		return errLacking
	}
	return d.linkOrCopy(from, to, func() error {
		f, size, err := d.openPart(from)
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
		f, err := d.openEntry(from, e)
		if err != nil {
			return err
		}
		defer f.Close()
		return d.put(ctx, to, e.Size, wholly(f, e))
	})
}

func (d *Dir) linkOrCopy(from, to string, copied func() error) error {
	if err := d.mkdir(filepath.Dir(to)); err != nil {
		return err
	}
	err := d.hardLink(from, to)
	if noLinks(err) {
		return copied()
	}
	return err
}

// noLinks says whether a file system cannot give a file a second name, or not this one.
func noLinks(err error) bool {
	return errors.Is(err, unix.EXDEV) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EMLINK) || errors.Is(err, errors.ErrUnsupported)
}

func (d *Dir) readList(path string, fn func(Blob) error) error {
	f, _, err := d.openPart(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return ReadList(f, fn)
}
