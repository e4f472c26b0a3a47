package facetest

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"sallyport/vfs"
)

// aferoFace is the volume itself.
type aferoFace struct{}

func (aferoFace) name() string  { return "afero" }
func (aferoFace) handles() bool { return true }

func (aferoFace) login(a *account) (client, error) {
	v, err := a.volume()
	if err != nil {
		return nil, err
	}
	return &aferoClient{v.View(vfs.ViewOptions{Writer: "afero"})}, nil
}

type aferoClient struct{ w *vfs.View }

// said gives an error of the volume its class.
func said(err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	for _, m := range []struct {
		err error
		class
	}{
		{vfs.ErrInterrupted, interrupted}, {vfs.ErrNotEmpty, notEmpty}, {vfs.ErrIsDir, isDir}, {vfs.ErrNotDir, notDir},
		{vfs.ErrLoop, tooManyLink}, {vfs.ErrNameTooLong, tooLong}, {vfs.ErrBadName, badName}, {vfs.ErrBusy, busy},
		{vfs.ErrTooMany, tooManyOpen}, {vfs.ErrQuota, quota}, {syscall.EFBIG, tooLarge},
		{fs.ErrNotExist, notExist}, {fs.ErrExist, exists}, {fs.ErrPermission, permission}, {fs.ErrInvalid, invalid},
	} {
		if errors.Is(err, m.err) {
			return failed(m.class, err.Error())
		}
	}
	return failed(unknown, err.Error())
}

func (c *aferoClient) Lstat(name string) (entry, error) {
	i, err := c.w.Lstat(name)
	if err != nil {
		return entry{}, said(err)
	}
	return entryOf(i), nil
}

func (c *aferoClient) Size(name string) (int64, error) {
	i, err := c.w.Stat(name)
	if err != nil {
		return 0, said(err)
	}
	if i.IsDir() {
		return 0, failed(isDir, "stat")
	}
	return i.Size(), nil
}

func (c *aferoClient) List(dir string) (out []entry, err error) {
	err = c.w.ReadDir(context.Background(), dir, func(batch []*vfs.Info) error {
		for _, i := range batch {
			out = append(out, entryOf(i))
		}
		return nil
	})
	return out, said(err)
}

func (c *aferoClient) Mkdir(name string) error                { return said(c.w.Mkdir(name, 0o755)) }
func (c *aferoClient) Rmdir(name string) error                { return said(c.w.Rmdir(name)) }
func (c *aferoClient) Remove(name string) error               { return said(c.w.RemoveFile(name)) }
func (c *aferoClient) Rename(from, to string) error           { return said(c.w.Rename(from, to)) }
func (c *aferoClient) RenameNew(from, to string) error        { return said(c.w.RenameNew(from, to)) }
func (c *aferoClient) Symlink(target, link string) error      { return said(c.w.Symlink(target, link)) }
func (c *aferoClient) Chmod(name string, m fs.FileMode) error { return said(c.w.Chmod(name, m)) }
func (c *aferoClient) SetTime(name string, t time.Time) error {
	return said(c.w.SetAttr(name, vfs.AttrChange{Mtime: &t}))
}
func (c *aferoClient) Truncate(name string, size int64) error {
	return said(c.w.SetAttr(name, vfs.AttrChange{Size: &size}))
}

func (c *aferoClient) Readlink(name string) (string, error) {
	target, err := c.w.Readlink(name)
	return target, said(err)
}

func (c *aferoClient) open(name string, flag int) (*vfs.File, error) {
	f, err := c.w.OpenHandle(context.Background(), name, flag, 0o644)
	return f, said(err)
}

func (c *aferoClient) Get(name string, off int64) (io.ReadCloser, error) {
	f, err := c.open(name, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	if i, err := f.Stat(); err != nil || i.IsDir() {
		return nil, errors.Join(said(vfs.ErrIsDir), f.Close())
	}
	if _, err := f.Seek(off, io.SeekStart); err != nil {
		return nil, errors.Join(said(err), f.Close())
	}
	return f, nil
}

// uploadFlags are the flags of os.OpenFile for an upload.
func uploadFlags(how mode) int {
	switch how {
	case extend:
		return os.O_WRONLY | os.O_CREATE | os.O_APPEND
	case resume:
		return os.O_WRONLY
	}
	return os.O_WRONLY | os.O_CREATE | os.O_TRUNC
}

func (c *aferoClient) Put(name string, how mode, off int64) (upload, error) {
	f, err := c.open(name, uploadFlags(how))
	if err != nil {
		return nil, err
	}
	if how == resume {
		_, err := f.Seek(off, io.SeekStart)
		if err == nil {
			err = f.Truncate(off)
		}
		if err != nil {
			return nil, errors.Join(said(err), f.Close())
		}
	}
	return aferoUpload{f}, nil
}

type aferoUpload struct{ f *vfs.File }

func (u aferoUpload) Write(p []byte) (int, error) {
	n, err := u.f.Write(p)
	return n, said(err)
}
func (u aferoUpload) Close() error { return said(u.f.Close()) }
func (u aferoUpload) Break() (bool, error) {
	u.f.TransferError(io.ErrUnexpectedEOF)
	return true, said(u.f.Close())
}

func (c *aferoClient) Open(name string, flag int) (handle, error) {
	f, err := c.open(name, flag)
	if err != nil {
		return nil, err
	}
	return aferoHandle{f}, nil
}

type aferoHandle struct{ f *vfs.File }

func (h aferoHandle) ReadAt(p []byte, off int64) (int, error) {
	n, err := h.f.ReadAt(p, off)
	return n, said(err)
}
func (h aferoHandle) WriteAt(p []byte, off int64) (int, error) {
	n, err := h.f.WriteAt(p, off)
	return n, said(err)
}
func (h aferoHandle) Truncate(size int64) error { return said(h.f.Truncate(size)) }
func (h aferoHandle) Sync() error               { return said(h.f.Sync()) }
func (h aferoHandle) Close() error              { return said(h.f.Close()) }
func (h aferoHandle) Size() (int64, error) {
	i, err := h.f.Stat()
	if err != nil {
		return 0, said(err)
	}
	return i.Size(), nil
}

func (c *aferoClient) Close() error { return said(c.w.Close()) }
func (c *aferoClient) Cut() error   { return said(c.w.Close()) } // what is open ends as interrupted
