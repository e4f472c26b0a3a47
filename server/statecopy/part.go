package statecopy

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// put writes a file under another name, syncs it, and renames it.
func (d *Dir) put(ctx context.Context, path string, size int64, r io.Reader) (err error) {
	dir := filepath.Dir(path)
	if err := d.mkdir(dir); err != nil {
		return err
	}
	temp := path + tempInfix + rand.Text()
	f, err := d.root.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.root.Remove(temp))
		}
	}()
	n, err := io.Copy(f, patient{ctx, r})
	if err == nil && n != size {
		err = fmt.Errorf("%s came with %d bytes and not %d: %w", filepath.Base(path), n, size, io.ErrUnexpectedEOF)
	}
	now := !d.later(dir)
	if err == nil && now {
		err = d.syncFile(f)
		_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) // what is read back must come from the disk
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if now {
		d.sync[dir] = true
	}
	return d.root.Rename(temp, path)
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
	if d.made[dir] || dir == "." {
		return nil
	}
	if err := d.mkdir(filepath.Dir(dir)); err != nil {
		return err
	}
	switch err := d.root.Mkdir(dir, 0o700); {
	case err == nil:
		if parent := filepath.Dir(dir); !d.later(parent) {
			d.sync[parent] = true
		}
	case !errors.Is(err, fs.ErrExist):
		return err
	default:
		if err := d.isDir(dir); err != nil {
			return err
		}
	}
	d.made[dir] = true
	return nil
}

// isDir refuses what is no directory, and a symlink to one.
func (d *Dir) isDir(dir string) error {
	info, err := d.root.Lstat(dir)
	if err == nil && !info.IsDir() {
		err = damaged("%s is no directory", dir)
	}
	return leadsOut(err, dir)
}

// leadsOut has the error of a name that leads out of the directory say that this is damage: a copy has no such names.
func leadsOut(err error, name string) error {
	var path *fs.PathError
	var number syscall.Errno
	if errors.As(err, &path) && !errors.As(err, &number) && !errors.Is(err, fs.ErrClosed) {
		return damaged("%s leads out of the copy", name)
	}
	return err
}

// Settle makes durable what was written so far, but for what Sync does. It is called after each account, so that what it remembers stays small.
func (d *Dir) Settle() error {
	for dir := range d.sync {
		if err := d.syncDir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	clear(d.sync)
	clear(d.made)
	return nil
}

// syncDir makes the names in a directory durable, or leaves it to Sync.
func (d *Dir) syncDir(dir string) error {
	_, err := d.syncNames(dir)
	return err
}

// syncNames makes the names in a directory durable. Some file systems (of networks, mostly) know no such call; what they do in Sync has to do.
func (d *Dir) syncNames(dir string) (known bool, err error) {
	f, err := d.root.Open(dir)
	if err != nil {
		return false, fmt.Errorf("syncing a directory: %w", err)
	}
	defer f.Close()
	err = d.syncFile(f)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, unix.EINVAL), errors.Is(err, errors.ErrUnsupported):
		return false, nil
	}
	return false, fmt.Errorf("syncing a directory: %w", err)
}

// Sync makes everything durable. The lock was opened before anything was written, so what failed since is told here.
func (d *Dir) Sync() error {
	if err := d.syncAll(int(d.lock.Fd())); err != nil {
		return fmt.Errorf("syncing the copy: %w", err)
	}
	return nil
}

// check reads a file back and compares it with the manifest: of one that grows the first Size bytes, of another one all of it.
func (d *Dir) check(ctx context.Context, path string, e Entry) error {
	f, err := d.openEntry(path, e)
	if err != nil {
		return err
	}
	defer f.Close()
	_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	_, err = io.Copy(io.Discard, wholly(patient{ctx, f}, e))
	return err
}

// openEntry opens a file that the manifest names, and has not compared more than its size.
func (d *Dir) openEntry(path string, e Entry) (*os.File, error) {
	f, size, err := d.openPart(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, damaged("%s is missing", e.Name)
	} else if err != nil {
		return nil, err
	}
	if size > e.Size && !isLog(e.Name) {
		err = damaged("%s is not the one that the manifest names: it has %d bytes and not %d", e.Name, size, e.Size)
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// openPart opens a file of a copy. Somebody else may have made that: what is no file could last for ever, or lie somewhere else.
func (d *Dir) openPart(path string) (f *os.File, size int64, err error) {
	info, err := d.root.Lstat(path) // os.Root follows a symlink that stays inside
	if err == nil && !info.Mode().IsRegular() {
		err = damaged("%s is no file", filepath.Base(path))
	}
	if err == nil {
		f, err = d.root.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	}
	if err != nil {
		return nil, 0, leadsOut(err, path)
	}
	info, err = f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = damaged("%s is no file", filepath.Base(path))
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}

// checked reads a file as the manifest has it: its last bytes come with an error if it is another one.
type checked struct {
	r    io.Reader
	e    Entry
	sum  hash.Hash
	left int64
}

func wholly(r io.Reader, e Entry) *checked {
	return &checked{r: r, e: e, sum: sha256.New(), left: e.Size}
}

func (c *checked) Read(p []byte) (int, error) {
	if c.left == 0 {
		if !bytes.Equal(c.sum.Sum(nil), c.e.Sum[:]) {
			return 0, damaged("%s is not the one that the manifest names: it was changed, or is of another copy", c.e.Name)
		}
		return 0, io.EOF
	}
	n, err := c.r.Read(p[:min(int64(len(p)), c.left)])
	c.sum.Write(p[:n])
	c.left -= int64(n)
	if err == io.EOF && c.left > 0 {
		return n, damaged("%s ends after %d of %d bytes", c.e.Name, c.e.Size-c.left, c.e.Size)
	}
	if err == io.EOF {
		err = nil
	}
	return n, err
}
