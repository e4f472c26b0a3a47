package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

const (
	// many blobs take so long to unlink that a signal can come in between: there are two batches, and a transaction after each.
	many       = 1000
	sizeOfMany = 4900 // more than fits into the metadata
	writers    = 8
	// attempts at one step: on a machine that is busy enough the signal may come after the last blob.
	attempts = 6
)

// pile makes many blobs that nothing but history needs, quickly: few files, each overwritten very often and removed.
func (p *purged) pile() {
	p.k.t.Helper()
	failed := make([]error, writers)
	var work sync.WaitGroup
	for i := range writers {
		work.Go(func() {
			r, err := dialSFTP(&p.k.conn)
			if err != nil {
				failed[i] = err
				return
			}
			defer r.close()
			name := fmt.Sprintf("/lost%d", i)
			for n := range many / writers {
				if err := r.put(name, content(byte(n))[:sizeOfMany], func(int, bool) {}); err != nil {
					failed[i] = err
					return
				}
			}
			failed[i] = r.remove(name)
		})
	}
	work.Wait()
	if err := errors.Join(failed...); err != nil {
		p.k.t.Fatal(err)
	}
	if n := p.count("blobs"); n != 2+many {
		p.k.t.Fatalf("%d blobs are there, want %d", n, 2+many)
	}
}

// killAmid begins a purge of many blobs, and kills the server when so many of them are unlinked. That the kill came before the last of
// them is what the step is for: it says how many were left, and is tried again if none.
func (p *purged) killAmid(gone int, action []string) (left int) {
	p.k.t.Helper()
	w := p.watch()
	defer w.Close()
	cmd := p.command(action...)
	if err := cmd.Start(); err != nil {
		p.k.t.Fatal(err)
	}
	err := awaitUnlinked(w, gone)
	p.k.kill()
	_ = cmd.Wait() // the server may have been killed under it
	if err != nil {
		p.k.t.Fatalf("%d of %d blobs are not unlinked: %v", gone, many, err)
	}
	return p.count("blobs") - 2
}

// watch has the kernel tell of each blob that is unlinked.
func (p *purged) watch() *os.File {
	p.k.t.Helper()
	fd, err := syscall.InotifyInit1(syscall.IN_CLOEXEC | syscall.IN_NONBLOCK)
	if err != nil {
		p.k.t.Fatal(err)
	}
	w := os.NewFile(uintptr(fd), "inotify")
	dirs, err := filepath.Glob(filepath.Join(p.dir, "blobs", "??"))
	for _, dir := range dirs {
		if err == nil {
			_, err = syscall.InotifyAddWatch(fd, dir, syscall.IN_DELETE)
		}
	}
	if err != nil || len(dirs) == 0 {
		p.k.t.Fatalf("watching %d directories: %v", len(dirs), err)
	}
	return w
}

// awaitUnlinked returns as soon as so many names are gone.
func awaitUnlinked(w *os.File, names int) error {
	if err := w.SetReadDeadline(time.Now().Add(deadline)); err != nil {
		return err
	}
	buf := make([]byte, 64<<10)
	for names > 0 {
		n, err := w.Read(buf)
		if err != nil {
			return err
		}
		for at := 0; at < n; names-- {
			at += syscall.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(buf[at+12:]))
		}
	}
	return nil
}
