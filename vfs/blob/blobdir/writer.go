package blobdir

import (
	"errors"
	"io/fs"
	"os"

	"sallyport/vfs/blob"
)

// writeBackEvery is how much is written before the kernel is asked to start
// putting it on the disk, bytes: Commit of a large blob then waits for the
// last few megabytes only.
const writeBackEvery = 8 << 20

// writer appends to a file that lies at its final name.
type writer struct {
	dir     *Dir
	id      blob.ID
	file    *os.File
	off     int64 // bytes in the file
	started int64 // bytes whose writeback was asked for
	resumed bool  // existed before: cut with Truncate, and never removed by Abort
	named   bool  // the directory entry is durable
	dead    error // the first failure, or fs.ErrClosed after the end
}

var _ blob.Writer = (*writer)(nil)

func (w *writer) Write(p []byte) (int, error) {
	if w.dead != nil {
		return 0, w.dead
	}
	n, err := w.file.WriteAt(p, w.off)
	w.off += int64(n)
	if err != nil {
		return n, w.die("writing", err)
	}
	if w.off-w.started >= writeBackEvery {
		w.dir.ops.writeBack(w.file, w.started, w.off-w.started)
		w.started = w.off
	}
	return n, nil
}

func (w *writer) ReadAt(p []byte, off int64) (int, error) { return w.file.ReadAt(p, off) }

func (w *writer) Sync() error {
	if w.dead != nil {
		return w.dead
	}
	sync := w.dir.ops.syncData
	if w.resumed {
		sync = w.dir.ops.syncAll // the file shrank
	}
	if err := sync(w.file); err != nil {
		return w.die("syncing", err)
	}
	if !w.named {
		if err := w.dir.syncDir(fanName(w.id[0])); err != nil {
			return w.die("syncing", err)
		}
		w.named = true
	}
	return nil
}

func (w *writer) Commit() error {
	if err := w.Sync(); err != nil {
		return err
	}
	w.dead = fs.ErrClosed
	if err := w.file.Close(); err != nil {
		return wrap("closing", w.id, err)
	}
	return nil
}

func (w *writer) Abort() error {
	if errors.Is(w.dead, fs.ErrClosed) {
		return nil
	}
	w.dead = fs.ErrClosed
	err := w.file.Close()
	if w.resumed || w.named {
		return err
	}
	// Never synced, but the name may have reached the disk on its own. The removal is synced like any other, or the blob
	// could come back after a power loss when metadata has forgotten it.
	if rerr := w.dir.root.Remove(path(w.id)); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
		return wrap("removing", w.id, rerr)
	}
	if serr := w.dir.syncDir(fanName(w.id[0])); serr != nil {
		return wrap("removing", w.id, serr)
	}
	return err
}

func (w *writer) die(doing string, err error) error {
	w.dead = wrap(doing, w.id, err)
	return w.dead
}
