package statecopy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"sallyport/vfs/blob"
)

// Dir is a directory of copies, locked for this process. Used by one goroutine.
//
// Whoever can write there (it may lie with somebody else) must not lead the copy elsewhere: everything below goes through an os.Root,
// which no symlink leaves, and what must be a file or a directory is looked at.
type Dir struct {
	path string   // of the operator; only for what other packages open, and for errors
	root *os.Root // all names are relative to it
	lock *os.File
	meta string // of the copy that is being written, or read; "" = none
	// deferred: what lies below meta is synced as a whole, by Sync. A crash before that leaves what Begin removes.
	deferred bool
	// replacing: what is at its usual place is of something else (--replace), and stays there until Commit: the audit log of the copy lies
	// in meta, and so do blobs of which there is one of the same name.
	replacing bool
	apart     bool // there are such blobs
	before    before
	hardLink  func(from, to string) error // root.Link but in tests
	syncFile  func(*os.File) error        // (*os.File).Sync but in tests
	syncAll   func(fd int) error          // unix.Syncfs but in tests
	made      map[string]bool             // directories that are known to be there
	sync      map[string]bool             // directories that were written to since they were last synced
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
		if err := notInState(path); err != nil {
			return nil, err
		}
		if err := os.MkdirAll(path, 0o700); err != nil {
			return nil, fmt.Errorf("preparing the directory of the copy: %w", err)
		}
		if err := mayUse(path); err != nil {
			return nil, err
		}
	} else if _, err := os.Stat(filepath.Join(path, manifestName)); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w in %s", ErrNoCopy, path)
	}
	d, err := dirAt(path)
	if err != nil {
		return nil, fmt.Errorf("opening the directory of the copy: %w", err)
	}
	if d.lock, err = d.lockFile(create); err != nil {
		return nil, errors.Join(fmt.Errorf("locking the directory of the copy: %w", err), d.root.Close())
	}
	if err := unix.Flock(int(d.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: another process works in %s", ErrInUse, path), d.lock.Close(), d.root.Close())
	}
	return d, nil
}

// dirAt opens a directory; the operator may have named it by a symlink, and below it there is none.
func dirAt(path string) (*Dir, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	return &Dir{path: path, root: root, made: map[string]bool{}, sync: map[string]bool{}, hardLink: root.Link, syncFile: (*os.File).Sync, syncAll: unix.Syncfs}, nil
}

// lockFile opens what the lock is held on. Where nothing can be written, which is a good place for a copy, that is the file that is there,
// or the directory.
func (d *Dir) lockFile(create bool) (*os.File, error) {
	f, err := d.root.OpenFile(lockName, os.O_RDWR|os.O_CREATE|unix.O_NONBLOCK, 0o600)
	if !create && (errors.Is(err, unix.EROFS) || errors.Is(err, fs.ErrPermission)) {
		if f, err = d.root.OpenFile(lockName, os.O_RDONLY|unix.O_NONBLOCK, 0); err != nil {
			f, err = d.root.Open(".")
		}
	}
	return f, err
}

// notInState refuses a place within a state directory: a copy is worth nothing on the disk that it is to outlive, and the server would
// find there what is not its own.
func notInState(path string) error {
	place, err := filepath.Abs(path)
	if real, rerr := filepath.EvalSymlinks(place); rerr == nil {
		place = real
	}
	at := place
	for ; err == nil; at = filepath.Dir(at) {
		_, seal := os.Lstat(filepath.Join(at, SealFile))
		_, ring := os.Lstat(filepath.Join(at, RingFile))
		if seal == nil && ring == nil || at != place && isManifest(filepath.Join(at, manifestName)) {
			return fmt.Errorf("%w: %s lies in %s, which is a state directory or a copy itself", ErrPlace, path, at)
		}
		if real, rerr := filepath.EvalSymlinks(at); rerr == nil && real != at {
			at = filepath.Join(real, "x") // what a symlink leads to counts
			continue
		}
		if at == "/" {
			return nil
		}
	}
	return fmt.Errorf("finding the directory of the copy: %w", err)
}

// isManifest says whether a file is the manifest of a copy, of whatever form.
func isManifest(path string) bool {
	if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
		return false
	}
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	title := make([]byte, len(titlePrefix))
	_, err = io.ReadFull(f, title)
	return err == nil && string(title) == titlePrefix
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

// Close lets the directory go. What was written of a copy that did not come in force is removed, but for its blobs, which are whole: on a
// disk that is full, what nobody can use would be in the way. Its directory stays as a sign for Begin.
func (d *Dir) Close() error {
	var err error
	if d.deferred && d.meta == writing {
		err = d.removeOthers(writing, nil)
	}
	return errors.Join(err, d.lock.Close(), d.root.Close())
}

// Begin begins a copy; what an earlier one left that did not come to its end is removed, but for its blobs, which are whole.
func (d *Dir) Begin(replace bool) error {
	if err := d.readBefore(); err != nil && !replace {
		return err
	}
	top, err := d.names(".")
	if err != nil {
		return err
	}
	left := func(name string) bool { return strings.HasPrefix(name, metaPrefix) && name != d.before.meta }
	if slices.ContainsFunc(top, left) {
		// the names of its blobs may not be durable yet, and HasBlob goes by them; nor that of the manifest in force, if it was killed there
		if err := d.Sync(); err != nil {
			return err
		}
	}
	if err := d.root.RemoveAll(writing); err != nil {
		return err
	}
	if d.before.meta != "" { // one that got its name, and never a manifest, could take the room that the next one needs
		if err := errors.Join(d.placeApart(d.before.meta), d.cleanTop(d.before.meta)); err != nil {
			return err
		}
	}
	d.meta, d.deferred, d.apart = writing, true, false
	if d.replacing = replace; replace {
		d.before = before{} // nothing of it counts
	}
	return d.removePrefixed(manifestName+tempInfix, "")
}

// File takes a file of the copy, whole, and makes it durable at the latest in Sync.
func (d *Dir) File(ctx context.Context, name string, size int64, r io.Reader) error {
	if d.replacing && isLog(name) {
		return d.put(ctx, filepath.Join(d.meta, name), size, r)
	}
	return d.put(ctx, d.usual(name), size, r)
}

// HasFile says whether a file of the audit log is there, as a whole or with more behind it.
func (d *Dir) HasFile(ctx context.Context, e Entry) bool {
	return isLog(e.Name) && !d.replacing && d.check(ctx, e.Name, e) == nil
}

// HasBlob says whether a sealed blob is there: files get their names when they are whole, and never change.
func (d *Dir) HasBlob(account AccountID, b Blob) bool {
	info, err := d.root.Lstat(blobPath(account, b.ID))
	return err == nil && !b.Open && info.Mode().IsRegular() && info.Size() == b.Size
}

// Blob takes a blob.
func (d *Dir) Blob(ctx context.Context, account AccountID, b Blob, size int64, r io.Reader) error {
	path := d.blob(account, b)
	if d.replacing && !b.Open { // a server that went back may have another end of the blob
		if _, err := d.root.Lstat(path); err == nil {
			path, d.apart = d.blobApart(account, b), true
		}
	}
	return d.put(ctx, path, size, r)
}

// dropBlob removes a blob that is not what was written. One of the copy that is to be replaced stays, and an empty one takes its place.
func (d *Dir) dropBlob(account AccountID, b Blob) error {
	if d.replacing && !b.Open {
		if _, err := d.root.Lstat(blobPath(account, b.ID)); err == nil {
			return d.Blob(context.Background(), account, b, 0, strings.NewReader(""))
		}
	}
	err := d.root.Remove(d.blob(account, b))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return err
}

// blob is where a blob lies: an open one belongs to one copy, because a later one has more of it, or something else.
func (d *Dir) blob(account AccountID, b Blob) string {
	if b.Open {
		return filepath.Join(d.meta, openPath(account, b.ID))
	}
	if d.apart {
		apart := d.blobApart(account, b)
		if _, err := d.root.Lstat(apart); err == nil {
			return apart
		}
	}
	return blobPath(account, b.ID)
}

// blobApart is where a blob lies while its usual place has one of something else.
func (d *Dir) blobApart(account AccountID, b Blob) string {
	return filepath.Join(d.meta, blobPath(account, b.ID))
}

func openPath(account AccountID, id blob.ID) string {
	return fmt.Sprintf("%s%x/open/%s", accountsDir, account[:], id)
}

// usual is where a file of the copy lies.
func (d *Dir) usual(name string) string {
	if isLog(name) {
		return name
	}
	return filepath.Join(d.meta, name)
}

// file is where a file of the copy lies, if that took the place of one of something else and was not cleaned up since, too.
func (d *Dir) file(name string) string {
	if isLog(name) {
		apart := filepath.Join(d.meta, name)
		if _, err := d.root.Lstat(apart); err == nil {
			return apart
		}
	}
	return d.usual(name)
}

// Drop forgets an account of the copy that is being written: it was destroyed meanwhile, or is copied again.
func (d *Dir) Drop(id AccountID) error {
	clear(d.made)
	for _, dir := range []string{accountsDir, keptDir, blobsDir} {
		if err := d.root.RemoveAll(filepath.Join(d.meta, accountDir(dir, id))); err != nil {
			return err
		}
	}
	return nil
}

// Verify reads a file of the copy back.
func (d *Dir) Verify(ctx context.Context, e Entry) error { return d.check(ctx, d.file(e.Name), e) }
