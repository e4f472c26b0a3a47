// Package blobdir keeps blobs as files under one directory:
//
//	<dir>/ab/<30 hex>	the blob whose id is ab<30 hex>, mode 0600
//	<dir>/ab/		made when the first such blob comes, mode 0700
//
// A blob is written at its final name: ids are random and nobody looks for one
// that metadata does not name, so a temporary name and a rename would buy
// nothing. Order at Sync: data of the file, then the directory that names it;
// a new fan-out directory is synced into its parent before its first file.
// All access goes through os.Root, so no name leads out of the directory.
package blobdir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"time"

	"sallyport/vfs/blob"
)

// Dir is a directory of blobs.
type Dir struct {
	root *os.Root
	ops  ops

	mu      sync.Mutex
	durable [256]bool // fan-out directories known to survive power loss
	failed  error     // first failed sync of a directory; ErrReadOnly from then on
}

// ops are the system calls that tests replace to make them fail.
type ops struct {
	syncData  func(*os.File) error // fdatasync
	syncAll   func(*os.File) error // fsync, of directories too
	writeBack func(f *os.File, off, n int64)
}

var _ blob.Store = (*Dir)(nil)

// Open opens the store in an existing directory. What stands there already is made durable first.
func Open(dir string) (*Dir, error) { return open(dir, ops{syncData, (*os.File).Sync, writeBack}) }

func open(dir string, o ops) (*Dir, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("opening blobs: %w", err)
	}
	d := &Dir{root: root, ops: o}
	if err := d.adopt(); err != nil {
		root.Close()
		return nil, fmt.Errorf("opening blobs: %w", err)
	}
	return d, nil
}

// adopt syncs the directory, so that each fan-out directory in it, which a
// crashed predecessor may have made, needs no sync later.
func (d *Dir) adopt() error {
	f, err := d.root.Open(".")
	if err != nil {
		return err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return err
	}
	if err := d.ops.syncAll(f); err != nil {
		return err
	}
	for _, name := range names {
		if b, ok := parseFan(name); ok {
			d.durable[b] = true
		}
	}
	return nil
}

// ModTime is when the blob was last written, by the clock of the host; fs.ErrNotExist if there is none.
func (d *Dir) ModTime(_ context.Context, id blob.ID) (time.Time, error) {
	info, err := d.root.Lstat(path(id))
	if err != nil {
		return time.Time{}, fmt.Errorf("blob %s: %w", id, err)
	}
	return info.ModTime(), nil
}

// Close releases the directory. Writers and readers that are open go on.
func (d *Dir) Close() error { return d.root.Close() }

func fanName(b byte) string { return blob.ID{b}.String()[:2] }

func parseFan(name string) (byte, bool) {
	id, err := blob.ParseID(name + "000000000000000000000000000000")
	return id[0], err == nil
}

func path(id blob.ID) string {
	s := id.String()
	return s[:2] + "/" + s[2:]
}

// Create implements blob.Store.
func (d *Dir) Create(ctx context.Context, id blob.ID) (blob.Writer, error) {
	if err := d.prepare(ctx, id[0]); err != nil {
		return nil, wrap("creating", id, err)
	}
	f, err := d.root.OpenFile(path(id), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, wrap("creating", id, err)
	}
	return &writer{dir: d, id: id, file: f}, nil
}

// Resume implements blob.Store.
func (d *Dir) Resume(ctx context.Context, id blob.ID, size int64) (blob.Writer, error) {
	if err := d.writable(ctx); err != nil {
		return nil, wrap("resuming", id, err)
	}
	f, have, err := d.openRegular(id, os.O_RDWR)
	if err != nil {
		return nil, wrap("resuming", id, err)
	}
	if have < size {
		f.Close()
		return nil, wrap("resuming", id, fmt.Errorf("%w: %d of %d bytes", blob.ErrShort, have, size))
	}
	if err := f.Truncate(size); err != nil {
		f.Close()
		return nil, wrap("resuming", id, err)
	}
	return &writer{dir: d, id: id, file: f, off: size, started: size, resumed: true}, nil
}

// Open implements blob.Store.
func (d *Dir) Open(ctx context.Context, id blob.ID) (blob.Reader, error) {
	if err := ctx.Err(); err != nil {
		return nil, wrap("opening", id, err)
	}
	f, size, err := d.openRegular(id, os.O_RDONLY)
	if err != nil {
		return nil, wrap("opening", id, err)
	}
	return &reader{f, size}, nil
}

// openRegular opens a blob's file. Something else at its name, a FIFO or a link say, is no blob, as it is none to List: it must
// neither be used nor block, and fs.ErrNotExist tells the reader that the blob is lost.
func (d *Dir) openRegular(id blob.ID, flag int) (*os.File, int64, error) {
	f, err := d.root.OpenFile(path(id), flag|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		if info, serr := d.root.Lstat(path(id)); serr == nil && !info.Mode().IsRegular() {
			err = errNotRegular
		}
		return nil, 0, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errNotRegular
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}

var errNotRegular = fmt.Errorf("not a regular file: %w", fs.ErrNotExist)

// Remove implements blob.Store.
func (d *Dir) Remove(ctx context.Context, id blob.ID) error { return d.RemoveMany(ctx, []blob.ID{id}) }

// RemoveMany implements blob.ManyRemover: blobs next to each other in ids that share a directory share its sync, too.
func (d *Dir) RemoveMany(ctx context.Context, ids []blob.ID) error {
	for i, id := range ids {
		if err := d.writable(ctx); err != nil {
			return wrap("removing", id, err)
		}
		if err := d.root.Remove(path(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return wrap("removing", id, err)
		}
		if i+1 < len(ids) && ids[i+1][0] == id[0] {
			continue
		}
		// Of those that were not there, too: perhaps they went in an attempt whose sync failed, and without one that succeeds they
		// could come back after a power loss.
		if err := d.syncDirOf(id); err != nil {
			return wrap("removing", id, err)
		}
	}
	return nil
}

// syncDirOf makes the names in the directory of a blob durable; if there is none there is nothing to lose.
func (d *Dir) syncDirOf(id blob.ID) error {
	fan := fanName(id[0])
	if _, err := d.root.Lstat(fan); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return d.syncDir(fan)
}

func (d *Dir) writable(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failed != nil {
		return d.failed
	}
	return ctx.Err()
}

// prepare makes the fan-out directory and makes it durable in its parent. The
// lock is held over that sync, at most 256 times in the life of a store,
// because nobody may write below a directory that could vanish.
func (d *Dir) prepare(ctx context.Context, fan byte) error {
	if err := d.writable(ctx); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.durable[fan] {
		return nil
	}
	if err := d.root.Mkdir(fanName(fan), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := d.syncDirLocked("."); err != nil {
		return err
	}
	d.durable[fan] = true
	return nil
}

func (d *Dir) syncDir(name string) error {
	err := d.fsyncDir(name)
	if err != nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.fail(err)
	}
	return err
}

func (d *Dir) syncDirLocked(name string) error {
	err := d.fsyncDir(name)
	if err != nil {
		d.fail(err)
	}
	return err
}

func (d *Dir) fsyncDir(name string) error {
	f, err := d.root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return d.ops.syncAll(f)
}

// fail remembers that a directory did not reach the disk. The kernel reports
// that once and then takes the lost page for clean, so a later sync would
// "succeed" for names that other writers put there.
func (d *Dir) fail(err error) {
	if d.failed == nil {
		d.failed = fmt.Errorf("%w: %v", blob.ErrReadOnly, err)
	}
}

func wrap(doing string, id blob.ID, err error) error {
	return fmt.Errorf("%s blob %s: %w", doing, id, err)
}

type reader struct {
	*os.File
	size int64
}

func (r *reader) Size() int64 { return r.size }
