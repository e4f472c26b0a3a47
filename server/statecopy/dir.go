package statecopy

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"sallyport/crypto/durable"
	"sallyport/vfs/blob"
)

// Dir is a directory of copies, locked for this process. Used by one goroutine.
type Dir struct {
	path string
	lock *os.File
	meta string // of the copy that is being written; "" = none
	// deferred: what lies below meta is synced as a whole, by Sync. A crash before that leaves what Begin removes.
	deferred bool
	before   before
	hardLink func(from, to string) error // os.Link but in tests
	made     map[string]bool
	sync     map[string]bool // directories that were written to since they were last synced
}

const (
	lockName   = "lock"
	metaPrefix = "meta-"
	tempInfix  = ".tmp-"
	writing    = "meta-new" // the copy that is being written: it gets its name when its manifest is known
)

// OpenDir locks a directory of copies; ErrInUse if another process has it. With create it is made if it is absent; otherwise it
// must hold a complete copy (ErrNoCopy).
func OpenDir(path string, create bool) (*Dir, error) {
	if create {
		if err := os.MkdirAll(path, 0o700); err != nil {
			return nil, fmt.Errorf("preparing the directory of the copy: %w", err)
		}
		if err := mayUse(path); err != nil {
			return nil, err
		}
	} else if _, err := os.Stat(filepath.Join(path, manifestName)); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w in %s", ErrNoCopy, path)
	}
	path, err := filepath.EvalSymlinks(path) // below it there is none
	if err != nil {
		return nil, fmt.Errorf("finding the directory of the copy: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(path, lockName), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking the directory of the copy: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("%w: another process works in %s", ErrInUse, path)
	}
	return &Dir{path: path, lock: f, made: map[string]bool{}, sync: map[string]bool{}, hardLink: os.Link}, nil
}

// mayUse refuses a directory in which something else lies: what no copy names is removed from it. A symlink would have that done,
// and a copy written, somewhere else.
func mayUse(path string) error {
	list, err := os.ReadDir(path)
	if err != nil {
		return fmt.Errorf("preparing the directory of the copy: %w", err)
	}
	for _, d := range list {
		switch name := d.Name(); {
		case d.Type().IsRegular() && (name == manifestName || name == lockName || strings.HasPrefix(name, manifestName+tempInfix)),
			d.IsDir() && (name == "blobs" || name == "audit" || name == "lost+found" || strings.HasPrefix(name, metaPrefix) || strings.HasPrefix(name, drillPrefix)):
		default:
			return fmt.Errorf("%s holds %q, which is no part of a copy: %w", path, name, ErrNotEmpty)
		}
	}
	return nil
}

// Close lets the directory go.
func (d *Dir) Close() error { return d.lock.Close() }

// Begin begins a copy; what an earlier one left that did not come to its end is removed, but for its blobs, which are whole.
func (d *Dir) Begin() error {
	d.meta = filepath.Join(d.path, writing)
	if _, err := os.Lstat(d.meta); err == nil { // the names of its blobs may not be durable yet, and HasBlob goes by them
		if err := unix.Syncfs(int(d.lock.Fd())); err != nil {
			return fmt.Errorf("syncing what an unfinished copy wrote: %w", err)
		}
	}
	if err := os.RemoveAll(d.meta); err != nil {
		return err
	}
	d.deferred = true
	d.readBefore()
	return durable.RemoveTemp(filepath.Join(d.path, manifestName))
}

// File takes a file of the copy, whole, and makes it durable at the latest in Sync.
func (d *Dir) File(ctx context.Context, name string, size int64, r io.Reader) error {
	if isLog(name) {
		return d.put(ctx, filepath.Join(d.path, name), size, r)
	}
	return d.put(ctx, filepath.Join(d.meta, name), size, r)
}

// HasFile says whether a file of the audit log is there, as a whole or with more behind it.
func (d *Dir) HasFile(ctx context.Context, e Entry) bool {
	return isLog(e.Name) && d.check(ctx, filepath.Join(d.path, e.Name), e) == nil
}

// HasBlob says whether a sealed blob is there: files get their names when they are whole, and never change.
func (d *Dir) HasBlob(account AccountID, b Blob) bool {
	info, err := os.Lstat(filepath.Join(d.path, blobPath(account, b.ID)))
	return err == nil && !b.Open && info.Mode().IsRegular() && info.Size() == b.Size
}

// Blob takes a blob.
func (d *Dir) Blob(ctx context.Context, account AccountID, b Blob, size int64, r io.Reader) error {
	return d.put(ctx, d.blob(account, b), size, r)
}

// blob is where a blob lies: an open one belongs to one copy, because a later one has more of it, or something else.
func (d *Dir) blob(account AccountID, b Blob) string {
	if b.Open {
		return filepath.Join(d.meta, openPath(account, b.ID))
	}
	return filepath.Join(d.path, blobPath(account, b.ID))
}

func openPath(account AccountID, id blob.ID) string {
	return fmt.Sprintf("%s%x/open/%s", accountsDir, account[:], id)
}

// put writes a file under another name, syncs it, and renames it.
func (d *Dir) put(ctx context.Context, path string, size int64, r io.Reader) (err error) {
	dir := filepath.Dir(path)
	if err := d.mkdir(dir); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, filepath.Base(path)+tempInfix)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	n, err := io.Copy(f, patient{ctx, r})
	if err == nil && n != size {
		err = fmt.Errorf("%s came with %d bytes and not %d: %w", filepath.Base(path), n, size, io.ErrUnexpectedEOF)
	}
	now := !d.later(dir)
	if err == nil && now {
		err = f.Sync()
		_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) // what is read back must come from the disk
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if now {
		d.sync[dir] = true
	}
	return os.Rename(f.Name(), path)
}

// later says whether a directory is synced by Sync, with all of the copy's own parts: thousands of small files and directories,
// one by one, would take longer than the copy.
func (d *Dir) later(dir string) bool {
	return d.deferred && (dir == d.meta || strings.HasPrefix(dir, d.meta+"/"))
}

// patient ends with its context.
type patient struct {
	ctx context.Context
	r   io.Reader
}

func (p patient) Read(b []byte) (int, error) {
	if err := p.ctx.Err(); err != nil {
		return 0, err
	}
	return p.r.Read(b)
}

// mkdir makes a directory below the Dir; each new one is to be synced into its parent.
func (d *Dir) mkdir(dir string) error {
	if d.made[dir] || dir == d.path {
		return nil
	}
	if err := d.mkdir(filepath.Dir(dir)); err != nil {
		return err
	}
	switch err := os.Mkdir(dir, 0o700); {
	case err == nil:
		if parent := filepath.Dir(dir); !d.later(parent) {
			d.sync[parent] = true
		}
	case !errors.Is(err, fs.ErrExist):
		return err
	default:
		if info, err := os.Lstat(dir); err != nil {
			return err
		} else if !info.IsDir() {
			return damaged("%s is no directory", dir)
		}
	}
	d.made[dir] = true
	return nil
}

// Settle makes durable what was written so far, but for what Sync does. It is called after each account, so that what it remembers stays small.
func (d *Dir) Settle() error {
	for dir := range d.sync {
		if err := durable.SyncDir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	clear(d.sync)
	clear(d.made)
	return nil
}

// Sync makes everything durable.
func (d *Dir) Sync() error {
	if err := unix.Syncfs(int(d.lock.Fd())); err != nil {
		return fmt.Errorf("syncing the copy: %w", err)
	}
	return nil
}

// Drop forgets an account of the copy that is being written: it was destroyed meanwhile, or is copied again.
func (d *Dir) Drop(id AccountID) error {
	clear(d.made)
	for _, dir := range []string{accountsDir, keptDir} {
		if err := os.RemoveAll(filepath.Join(d.meta, fmt.Sprintf("%s%x", dir, id[:]))); err != nil {
			return err
		}
	}
	return nil
}

// check reads a file back and compares it with the manifest: of one that grows the first Size bytes, of another one all of it.
func (d *Dir) check(ctx context.Context, path string, e Entry) error {
	f, size, err := openPart(path)
	if errors.Is(err, fs.ErrNotExist) {
		return damaged("%s is missing", e.Name)
	} else if err != nil {
		return err
	}
	defer f.Close()
	_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	if size > e.Size && !isLog(e.Name) {
		return damaged("%s is not the one that the manifest names: it has %d bytes and not %d", e.Name, size, e.Size)
	}
	return compare(ctx, f, e, sha256.New())
}

// openPart opens a file of a copy. Somebody else may have made that: what is no file could last for ever, or lie somewhere else.
func openPart(path string) (f *os.File, size int64, err error) {
	f, err = os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, unix.ELOOP) {
		return nil, 0, damaged("%s is no file", filepath.Base(path))
	} else if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = damaged("%s is no file", filepath.Base(path))
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}

func compare(ctx context.Context, r io.Reader, e Entry, h hash.Hash) error {
	n, err := io.Copy(h, io.LimitReader(patient{ctx, r}, e.Size))
	switch {
	case err != nil:
		return err
	case n < e.Size:
		return damaged("%s ends after %d of %d bytes", e.Name, n, e.Size)
	case !bytes.Equal(h.Sum(nil), e.Sum[:]):
		return damaged("%s is not the one that the manifest names: it was changed, or is of another copy", e.Name)
	}
	return nil
}

// Verify reads a file of the copy back.
func (d *Dir) Verify(ctx context.Context, e Entry) error { return d.check(ctx, d.file(e.Name), e) }

func (d *Dir) file(name string) string {
	if isLog(name) {
		return filepath.Join(d.path, name)
	}
	return filepath.Join(d.meta, name)
}

// Commit puts the copy in force, whose manifest this is. What only the one before needed is removed afterwards.
func (d *Dir) Commit(ctx context.Context, m *Manifest, text io.Reader) error {
	if err := errors.Join(d.Settle(), d.Sync()); err != nil {
		return err
	}
	named := filepath.Join(d.path, metaPrefix+m.ID)
	if err := os.Rename(d.meta, named); err != nil {
		return err
	}
	d.meta = named
	tmp, err := os.CreateTemp(d.path, manifestName+tempInfix)
	if err != nil {
		return err
	}
	_, err = io.Copy(tmp, text)
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = durable.SyncDir(d.path) // the parts before the manifest
	}
	if err == nil {
		err = os.Rename(tmp.Name(), filepath.Join(d.path, manifestName))
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return durable.SyncDir(d.path)
}
