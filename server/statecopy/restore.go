package statecopy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"sallyport/crypto/durable"
)

// RestoringFile marks a state directory that a restore has not finished.
const RestoringFile = "restoring"

// unpackedDir is where an archive is unpacked in the target of a restore.
const unpackedDir = "restoring.copy"

// ErrOtherRestore: the target holds what an interrupted restore of another copy left.
var ErrOtherRestore = errors.New("an interrupted restore of another copy")

// RestoreOptions of Restore.
type RestoreOptions struct {
	// Link gives sealed blobs a second name instead of copying them, where the file system can: to try a restore. Move takes
	// them away from the copy.
	Link, Move bool
	// Identity takes a file that says who the server is, sealed.
	Identity func(name string, sealed []byte) error
	// Damaged says what becomes of accounts that were damaged at the server when the copy was made. Needed if there are any.
	Damaged Choice
	// Report is told of what is damaged of one account; everything else is restored all the same.
	Report func(finding string)
	// Progress is told of each account that is restored.
	Progress func(account AccountID)
}

// Choice is what to restore of an account that is not whole in the copy.
type Choice string

// Choices.
const (
	Newest   Choice = "newest"    // what could be copied of it: files of which something was damaged cannot be read
	LastGood Choice = "last-good" // its last whole state, of an earlier copy; nothing if none is kept
	LeaveOut Choice = "leave-out" // nothing: its name and rights are there, and its files are not
)

// Prepare makes the target of a restore: a directory that is absent or empty, or that an interrupted restore of the same
// copy left. id "" is that of an archive, which UnpackInto finds out. ErrNotEmpty and ErrOtherRestore otherwise.
func Prepare(to, id string) error {
	if err := os.MkdirAll(to, 0o700); err != nil {
		return fmt.Errorf("preparing the state directory: %w", err)
	}
	list, err := os.ReadDir(to)
	if err != nil {
		return fmt.Errorf("preparing the state directory: %w", err)
	}
	marker := filepath.Join(to, RestoringFile)
	have, err := os.ReadFile(marker)
	switch {
	case err == nil && id == "": // what is unpacked tells which copy it is, before anything is restored of it
		return nil
	case err == nil && (string(have) == id+"\n" || string(have) == "\n"):
		if err := syncAll(to); err != nil { // what is there is kept, and its names may not be durable yet
			return fmt.Errorf("preparing the state directory: %w", err)
		}
	case err == nil:
		return fmt.Errorf("%s holds %w", to, ErrOtherRestore)
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("preparing the state directory: %w", err)
	default:
		for _, d := range list {
			if d.Name() != lockName {
				return fmt.Errorf("%s is %w: %s is there", to, ErrNotEmpty, d.Name())
			}
		}
	}
	return durable.WriteFile(marker, []byte(id+"\n"), 0o600)
}

// syncAll makes everything on the file system of a directory durable.
func syncAll(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}

// UnpackInto unpacks an archive into a directory of copies below the target of a restore, from which Restore can Move. ErrOtherRestore if
// the target holds what a restore of another copy left.
func UnpackInto(ctx context.Context, archive io.Reader, to string) (*Dir, error) {
	path := filepath.Join(to, unpackedDir)
	if err := os.RemoveAll(path); err != nil {
		return nil, err
	}
	d, err := OpenDir(path, true)
	if err != nil {
		return nil, err
	}
	err = Unpack(ctx, archive, d)
	if err == nil {
		var c *Copy
		if c, err = d.Current(); err == nil {
			err = Prepare(to, c.ID)
		}
	}
	if err != nil {
		return nil, errors.Join(err, d.Close(), os.RemoveAll(path)) // nobody can go on with it
	}
	return d, nil
}

// Restore writes the state into a prepared directory, checks every file against the manifest, whose signature the caller
// has checked, and makes all of it durable. seal.json comes last: before that it is no state directory. What is damaged of the site is an error.
func (c *Copy) Restore(ctx context.Context, to string, o RestoreOptions) error {
	if c.Damaged > 0 && o.Damaged == "" {
		return ErrIncomplete
	}
	target, err := dirAt(to)
	if err != nil {
		return err
	}
	defer target.root.Close()
	r := &restorer{c: c, o: o, to: target}
	var seal []byte
	err = c.Each(func(e Entry) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		switch {
		case e.Name == SealFile:
			data, err := c.Small(ctx, SealFile)
			seal = data
			return err
		case strings.HasPrefix(e.Name, identityDir):
			return r.identity(ctx, e)
		}
		if id, ok := accountOf(e.Name); ok {
			if c.isDamaged(id) && o.Damaged != Newest {
				return nil
			}
			return r.account(ctx, id, e, e.Name)
		}
		if id, ok := keptOf(e.Name); ok {
			if o.Damaged != LastGood {
				return nil
			}
			return r.account(ctx, id, e, accountsDir+strings.TrimPrefix(e.Name, keptDir))
		}
		return r.file(ctx, e, e.Name)
	})
	if err == nil && seal == nil {
		err = damaged("it has no %s", SealFile)
	}
	if err == nil {
		err = r.to.Settle()
	}
	if err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(to, unpackedDir)); err != nil {
		return err
	}
	if err := durable.WriteFile(filepath.Join(to, SealFile), seal, 0o600); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(to, RestoringFile)); err != nil {
		return err
	}
	return durable.SyncDir(to)
}

type restorer struct {
	c  *Copy
	to *Dir
	o  RestoreOptions
}

// file copies a file to a name and compares it with the manifest on the way.
func (r *restorer) file(ctx context.Context, e Entry, name string) error {
	f, err := r.c.dir.openEntry(r.c.dir.file(e.Name), e)
	if err != nil {
		return err
	}
	defer f.Close()
	return r.to.put(ctx, name, e.Size, wholly(f, e))
}

func (r *restorer) identity(ctx context.Context, e Entry) error {
	data, err := r.c.Small(ctx, e.Name)
	if err != nil || r.o.Identity == nil {
		return err
	}
	return r.o.Identity(e.Name, data)
}

// account restores one file of an account under a name, and with the list its blobs. Damage is reported and hurts only the account.
func (r *restorer) account(ctx context.Context, id AccountID, e Entry, name string) error {
	if filepath.Base(name) != listName {
		return r.tolerate(r.file(ctx, e, name))
	}
	if err := r.c.dir.Verify(ctx, e); err != nil {
		return r.tolerate(err)
	}
	if err := r.to.mkdir(accountDir(accountsDir, id) + "/blobs"); err != nil {
		return err
	}
	err := r.c.Blobs(id, e.Name, func(b Blob, path string, err error) error {
		if err != nil {
			return r.tolerate(err)
		}
		return r.blob(ctx, id, b, path)
	})
	if err != nil {
		return err
	}
	if r.o.Progress != nil {
		r.o.Progress(id)
	}
	return r.to.Settle()
}

func (r *restorer) tolerate(err error) error {
	if errors.Is(err, ErrDamaged) && r.o.Report != nil {
		r.o.Report(err.Error())
		return nil
	}
	return err
}

func (r *restorer) blob(ctx context.Context, account AccountID, b Blob, from string) error {
	id := b.ID.String()
	to := filepath.Join(accountDir(accountsDir, account), "blobs", id[:2], id[2:])
	if info, err := r.to.root.Lstat(to); err == nil && !b.Open && info.Size() == b.Size {
		return nil // of an interrupted restore: files get their names when they are whole
	}
	if err := r.to.mkdir(filepath.Dir(to)); err != nil {
		return err
	}
	if !b.Open && (r.o.Link || r.o.Move) {
		place := os.Link
		if r.o.Move {
			place = os.Rename
		}
		err := place(filepath.Join(r.c.dir.path, from), filepath.Join(r.to.path, to))
		if err == nil {
			r.to.sync[filepath.Dir(to)] = true
			return nil
		}
		if !noLinks(err) {
			return err
		}
	}
	f, size, err := r.c.dir.openPart(from)
	if err != nil {
		return err
	}
	defer f.Close()
	return r.to.put(ctx, to, size, f)
}

// Drill makes a directory for a trial: beside the copy, where blobs can be linked, or in another one. The caller removes it; one that was
// killed before it could is removed here.
func (d *Dir) Drill(in string) (string, error) {
	if in != "" {
		return os.MkdirTemp(in, "sallyport-"+drillPrefix)
	}
	if err := d.removePrefixed(drillPrefix, ""); err != nil {
		return "", err
	}
	return os.MkdirTemp(d.path, drillPrefix)
}

// Keys is the directory that holds seal.json and keyring of the copy, checked against the manifest: package keyring opens it.
func (c *Copy) Keys(ctx context.Context) (string, error) {
	if err := c.verified(ctx, SealFile, maxSmall); err != nil {
		return "", err
	}
	if err := c.verified(ctx, RingFile, maxRing); err != nil {
		return "", err
	}
	return filepath.Join(c.dir.path, c.dir.meta), nil
}
