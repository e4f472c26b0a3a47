package vfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"

	"sallyport/vfs/blob"
	"sallyport/vfs/blob/blobtest"
)

var durabilitySentences = map[string]func(*testing.T){
	"D1": func(t *testing.T) {
		b := newBench(t)
		w := b.view()
		data := noise(1, 300_000)
		put(t, w, "a", data)
		f := openFile(t, w, "synced", wr)
		write(t, f, data)
		ok(t, f.Sync())
		ok(t, w.MkdirAll("d/e", 0))
		ok(t, w.Symlink("a", "l"))
		put(t, w, "gone", data)
		ok(t, w.Remove("gone"))
		put(t, w, "from", []byte("moved"))
		ok(t, w.Rename("from", "d/to"))
		ok(t, w.Chmod("a", 0o600))
		c := b.crash()
		v := c.view()
		wantContent(t, v, "l", data)
		wantContent(t, v, "synced", data)
		wantContent(t, v, "d/to", []byte("moved"))
		wantNames(t, v, "/", "a", "d", "l", "synced")
		wantNames(t, v, "d", "e", "to")
		if m := stat(t, v, "a").Mode(); m != 0o600 {
			t.Fatalf("mode %v", m)
		}
		ok(t, f.Close())
	},
	"D2": func(t *testing.T) {
		a, z := noise(1, 200_000), noise(2, 200_000)
		for name, damage := range map[string]func(x, y string) error{
			"swapped": func(x, y string) error {
				return errors.Join(os.Rename(x, x+"t"), os.Rename(y, x), os.Rename(x+"t", y))
			},
			"cut at a segment": func(x, y string) error { return errors.Join(os.Truncate(x, 128+2*65568), os.Truncate(y, 128+65568)) },
			"cut to nothing":   func(x, y string) error { return errors.Join(os.Truncate(x, 0), os.Truncate(y, 0)) },
			"header only":      func(x, y string) error { return errors.Join(os.Truncate(x, 128), os.Truncate(y, 128)) },
			"removed":          func(x, y string) error { return errors.Join(os.Remove(x), os.Remove(y)) },
			"longer": func(x, y string) error {
				return errors.Join(appendTo(x, make([]byte, 40)), appendTo(y, make([]byte, 1)))
			},
			"plaintext":    func(x, y string) error { return errors.Join(os.WriteFile(x, a, 0o600), os.WriteFile(y, z, 0o600)) },
			"last segment": func(x, y string) error { return errors.Join(overwrite(x, -20), overwrite(y, -60)) },
		} {
			b := newBench(t)
			w := b.view()
			put(t, w, "a", a)
			put(t, w, "z", z)
			put(t, w, "small", []byte("small"))
			files := b.blobFiles()
			if len(files) != 2 {
				t.Fatalf("%d blobs", len(files))
			}
			ok(t, damage(files[0], files[1]))
			for _, file := range []string{"a", "z"} {
				_, err := w.OpenHandle(t.Context(), file, os.O_RDONLY, 0)
				if !errors.Is(err, ErrIntegrity) {
					t.Fatalf("%s: %s opened with %v", name, file, err)
				}
				if i := stat(t, w, file); i.Size() != 200_000 {
					t.Fatalf("%s: %s is listed with %d bytes", name, file, i.Size())
				}
			}
			wantContent(t, w, "small", []byte("small"))
			if n := b.vol.Stats().Damaged; n == 0 {
				t.Errorf("%s: no damage counted", name)
			}
			if n := b.fs.Totals().Damaged; n == 0 || n < b.vol.Stats().Damaged {
				t.Errorf("%s: %d cases of damage in all volumes", name, n)
			}
			if f := b.findings(); len(f) < 2 {
				t.Errorf("%s: verify found %q", name, f)
			}
			put(t, w, "a", z) // a complete upload heals
			wantContent(t, w, "a", z)
			b.discard()
		}
		// Damage in the middle cannot be seen at the end: it is refused where it is met, and before that only right bytes come.
		b := newBench(t)
		w := b.view()
		put(t, w, "a", a)
		ok(t, overwrite(b.blobFiles()[0], 128+65568+5000))
		f := openFile(t, w, "a", os.O_RDONLY)
		got, err := io.ReadAll(f)
		wantErr(t, err, ErrIntegrity)
		if string(got) != string(a[:len(got)]) || len(got) > 65536 {
			t.Fatalf("%d bytes before the damage", len(got))
		}
		buf := make([]byte, 10)
		must(f.ReadAt(buf, 190_000))(t)
		ok(t, f.Close())
		b.discard()
	},
	"D3": func(t *testing.T) {
		var faults *blobtest.Faulty
		b := newBenchWith(t, Options{testOnlyBlobs: func(s blob.Store) blob.Store {
			faults = blobtest.Inject(s)
			return faults
		}})
		w := b.view()
		put(t, w, "a", noise(1, 100_000))
		r := openFile(t, w, "a", os.O_RDONLY)
		f := openFile(t, w, "b", wr)
		write(t, f, noise(2, 100_000))
		faults.Set(blobtest.Fault{Op: blobtest.OpSync, Err: syscall.EIO})
		wantErr(t, f.Close(), ErrIO)
		faults.Set()
		wantErr(t, w.Mkdir("d", 0), ErrReadOnly)
		_, err := w.OpenHandle(t.Context(), "c", wr, 0)
		wantErr(t, err, ErrReadOnly)
		wantErr(t, w.Chmod("a", 0), ErrReadOnly)
		wantErr(t, w.Rename("a", "z"), ErrReadOnly)
		wantErr(t, w.Remove("a"), ErrReadOnly)
		wantContent(t, w, "a", noise(1, 100_000)) // reading goes on
		wantRead(t, r, noise(1, 100_000))
		ok(t, r.Close())
		ok(t, w.Mkdir("d", 0)) // nothing was open: it is another opening of the volume now
		if i, err := w.Stat("b"); err == nil && !i.(*Info).Partial() {
			t.Fatal("the failed upload is complete")
		}
		put(t, w, "b", noise(3, 100_000))
		wantContent(t, w, "b", noise(3, 100_000))
	},
	"D4": func(t *testing.T) {
		b := newBench(t)
		other := must(b.ring.NewAccount(t.Context()))(t)
		ok(t, b.fs.Create(t.Context(), other))
		w := b.view()
		for i := range 50 {
			put(t, w, fmt.Sprintf("f%d", i), []byte("inline"))
		}
		ok(t, b.fs.Close())
		db := must(filepath.Glob(filepath.Join(b.dir(), "tree-*.db")))(t)[0]
		whole := must(os.ReadFile(db))(t)
		// Half of a page of records: bbolt itself may well read it.
		for at := 16 * 4096; at < len(whole)-4096; at += 4096 {
			copy(whole[at+2048:at+2100], make([]byte, 52))
		}
		ok(t, os.WriteFile(db, whole, 0o600))
		b.start(Options{})
		_, err := b.fs.Volume(t.Context(), b.id)
		if !errors.Is(err, ErrIntegrity) {
			t.Fatalf("opened a damaged volume: %v", err)
		}
		_, again := b.fs.Volume(t.Context(), b.id)
		if !errors.Is(again, ErrIntegrity) {
			t.Fatalf("opened it the second time: %v", again)
		}
		v := must(b.fs.Volume(t.Context(), other))(t)
		o := v.View(ViewOptions{})
		put(t, o, "x", []byte("x"))
		ok(t, o.Close())
		_, err = b.fs.Volume(t.Context(), [16]byte{1})
		if err == nil {
			t.Fatal("opened the volume of an account without a key")
		}
		b.discard()
	},
	"D5": func(t *testing.T) {
		var faults *blobtest.Faulty
		b := newBenchWith(t, Options{testOnlyBlobs: func(s blob.Store) blob.Store {
			faults = blobtest.Inject(s)
			return faults
		}})
		w := b.view()
		put(t, w, "a", noise(1, 100_000))
		for _, at := range []int64{1, 100, 65_568, 200_000} {
			for _, op := range []blobtest.Fault{
				{Op: blobtest.OpWrite, Err: syscall.ENOSPC, After: at},
				{Op: blobtest.OpSync, Err: syscall.ENOSPC},
				{Op: blobtest.OpCreate, Err: syscall.ENOSPC},
			} {
				faults.Set(op)
				f := openFile(t, w, "a", wr)
				_, err := f.ReadFrom(io.LimitReader(zeros{}, 300_000))
				if cerr := f.Close(); err == nil {
					err = cerr
				} else {
					wantErr(t, cerr, syscall.ENOSPC)
				}
				wantErr(t, err, syscall.ENOSPC)
				wantContent(t, w, "a", noise(1, 100_000))
				faults.Set()
				ok(t, w.Mkdir(fmt.Sprintf("d%d-%d", at, op.Op), 0)) // the volume goes on
			}
		}
	},
	"D6": func(t *testing.T) {
		b := newBench(t)
		var n int
		var mu sync.Mutex
		w := b.viewWith(ViewOptions{Note: func(ch Change) []byte {
			return fmt.Appendf(nil, "%s %s %s %s %d", ch.Op, ch.Path, ch.To, ch.Result, ch.Bytes)
		}})
		put(t, w, "a", []byte("123"))
		ok(t, w.Mkdir("d", 0))
		ok(t, w.Rename("a", "d/b"))
		ok(t, w.Symlink("d", "l"))
		ok(t, w.Chmod("l/b", 0o600))
		cutUpload(t, w, "d/b", wr, []byte("cut"))
		ok(t, w.Remove("d/b"))
		ok(t, w.Rmdir("d"))
		cutUpload(t, w, "p", wr, []byte("cu"))
		want := []string{
			"upload /a  complete 3", "mkdir /d  complete 0", "rename /a /d/b complete 3", "symlink /l d complete 0",
			"setattr /d/b  complete 3", "upload /d/b  interrupted 3", "remove /d/b  complete 3", "rmdir /d  complete 0", "upload /p  partial 2",
		}
		var got []string
		stop := errors.New("the chain is full")
		err := b.vol.Drain(t.Context(), func(e []byte) error {
			if len(got) == 3 {
				return stop
			}
			got = append(got, string(e))
			return nil
		})
		if err != stop {
			t.Fatalf("drain returned %v", err)
		}
		c := b.crash() // what was taken over stays taken over
		ok(t, w.Close())
		b.reopen()
		for _, x := range []*bench{b, c} {
			all := slices.Clone(got)
			if p := x.vol.Stats().PendingOutbox; p != 6 {
				t.Fatalf("%d events pending, want 6", p)
			}
			ok(t, x.vol.Drain(t.Context(), func(e []byte) error { all = append(all, string(e)); return nil }))
			if !slices.Equal(all, want) {
				t.Fatalf("events %q, want %q", all, want)
			}
			ok(t, x.vol.Drain(t.Context(), func([]byte) error { return stop }))
			w := x.vol.View(ViewOptions{Note: func(ch Change) []byte { return []byte(ch.Path) }})
			ok(t, w.Mkdir("x", 0))
			ok(t, w.Mkdir("y", 0))
			ok(t, w.Close())
			if err := x.vol.DrainBatch(t.Context(), func(e [][]byte) error { return stop }); err != stop {
				t.Fatalf("drain returned %v", err)
			}
			var batch [][]byte
			ok(t, x.vol.DrainBatch(t.Context(), func(e [][]byte) error { batch = append(batch, e...); return nil }))
			if len(batch) != 2 || string(batch[0]) != "/x" || string(batch[1]) != "/y" {
				t.Fatalf("batch %q", batch)
			}
			ok(t, x.vol.DrainBatch(t.Context(), func([][]byte) error { return stop }))
		}
		// OnOutbox is called until everything is drained, also for what was left at the opening.
		w = b.viewWith(ViewOptions{Note: func(Change) []byte { return []byte("e") }})
		for range 10 {
			ok(t, w.Mkdir(fmt.Sprint("m", n), 0))
			n++
		}
		ok(t, b.fs.Close())
		b.start(Options{})
		done := make(chan struct{})
		n += 5 // before anything is drained: those of before may be through when the others are made
		b.fs.OnOutbox(func(v *Volume) {
			if err := v.Drain(context.Background(), func([]byte) error {
				mu.Lock()
				defer mu.Unlock()
				if n--; n == 0 {
					close(done)
				}
				return nil
			}); err != nil {
				t.Error(err)
			}
		})
		b.open()
		w = b.viewWith(ViewOptions{Note: func(Change) []byte { return []byte("e") }})
		for i := range 5 {
			ok(t, w.Mkdir(fmt.Sprint("k", i), 0))
		}
		select {
		case <-done:
		case <-t.Context().Done():
		}
	},
}

func appendTo(path string, p []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(p)
	return errors.Join(err, f.Close())
}

// overwrite flips a byte; at < 0 counts from the end.
func overwrite(path string, at int64) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if at < 0 {
		at += int64(len(b))
	}
	b[at] ^= 1
	return os.WriteFile(path, b, 0o600)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

var limitSentences = map[string]func(*testing.T){
	"L1": func(t *testing.T) {
		b := newBench(t)
		w := b.view()
		put(t, w, "f", nil)
		var open []*File
		for range 1024 {
			open = append(open, openFile(t, w, "f", os.O_RDONLY))
		}
		_, err := w.OpenHandle(t.Context(), "f", os.O_RDONLY, 0)
		wantErr(t, err, ErrTooMany)
		ok(t, openFile(t, b.view(), "f", os.O_RDONLY).Close())
		ok(t, open[0].Close())
		for range 3 { // a handle that does not open does not count
			_, err = w.OpenHandle(t.Context(), "no", os.O_RDONLY, 0)
			wantErr(t, err, fs.ErrNotExist)
		}
		open[0] = openFile(t, w, "f", os.O_RDONLY)
		for _, f := range open {
			ok(t, f.Close())
		}
		if s := b.vol.Stats(); s.OpenHandles != 0 || s.OpenDrafts != 0 {
			t.Fatalf("%d handles, %d drafts left", s.OpenHandles, s.OpenDrafts)
		}
	},
	"L2": func(t *testing.T) {
		b := newBench(t)
		w, other := b.view(), b.view()
		over := errors.New("quota of 1,000,000 bytes in 3 files")
		b.vol.SetReserve(func(bytes, files, _ int64) error {
			if bytes > 1_000_000 || files > 3 {
				return over
			}
			return nil
		})
		put(t, w, "a", noise(1, 400_000))
		f := openFile(t, w, "b", wr)
		write(t, f, noise(2, 500_000))
		g := openFile(t, other, "c", wr)
		write(t, g, noise(3, 100_000))
		_, err := w.OpenHandle(t.Context(), "d", wr, 0)
		wantErr(t, err, ErrQuota)
		n, err := g.Write([]byte("x"))
		wantErr(t, err, ErrQuota)
		if !errors.Is(err, over) || n != 0 {
			t.Fatalf("%d bytes, %v: the reason is lost", n, err)
		}
		wantErr(t, g.Close(), ErrQuota)
		if i := stat(t, w, "c"); i.Size() != 100_000 || !i.Partial() {
			t.Fatalf("size %d, partial %v", i.Size(), i.Partial())
		}
		ok(t, f.Close())
		put(t, w, "a", noise(1, 400_000)) // an overwrite of the same size asks for nothing more
		wantErr(t, w.SetAttr("a", AttrChange{Size: ptr(int64(400_001))}), ErrQuota)
		ok(t, w.Remove("c"))
		ok(t, w.SetAttr("a", AttrChange{Size: ptr(int64(500_000))}))
		wantErr(t, w.SetAttr("a", AttrChange{Size: ptr(int64(500_001))}), ErrQuota)
		f = openFile(t, w, "e", wr)
		k, err := f.ReadFrom(io.LimitReader(zeros{}, 100))
		if k != 0 || !errors.Is(err, ErrQuota) {
			t.Fatal(k, err)
		}
		wantErr(t, f.Close(), ErrQuota)
		ok(t, w.Mkdir("dir", 0))
		b.vol.SetReserve(nil)
		put(t, w, "b", noise(1, 2_000_000))
		c := must(b.vol.acquire(t.Context()))(t)
		if p, q := c.pendingBytes.Load(), c.pendingFiles.Load(); p != 0 || q != 0 {
			t.Fatalf("%d bytes and %d files pending for ever", p, q)
		}
		b.vol.release(c)
	},
	"L3": func(t *testing.T) {
		w := newBench(t).view()
		f := openFile(t, w, "f", wr)
		wantErr(t, f.Truncate(MaxFile+1), syscall.EFBIG)
		_, err := f.WriteAt([]byte("x"), MaxFile)
		wantErr(t, err, syscall.EFBIG)
		_, err = f.WriteAt([]byte("x"), 1<<63-1)
		wantErr(t, err, syscall.EFBIG)
		_, err = f.WriteAt([]byte("x"), -1)
		wantErr(t, err, fs.ErrInvalid)
		must(f.WriteAt([]byte("x"), MaxFile-1))(t)
		ok(t, f.Close())
		if s := stat(t, w, "f").Size(); s != MaxFile {
			t.Fatalf("size %d", s)
		}
	},
	"L5": whatSessionsHoldOfThePastIsBounded,
	"L4": func(t *testing.T) {
		b := newBenchWith(t, Options{WindowBudget: 8 << 20})
		w, other := b.viewWith(ViewOptions{MaxOpen: 1000}), b.view()
		var hoard []*File
		for i := range 10 { // holes everywhere, so that nothing goes out by itself
			f := openFile(t, w, fmt.Sprint("hoard", i), wr)
			for k := range 20 {
				if _, err := f.WriteAt([]byte("x"), int64(k)*130_000+1); err != nil {
					t.Fatal(err)
				}
			}
			hoard = append(hoard, f)
		}
		data := noise(1, 200_000)
		f := openFile(t, other, "honest", wr)
		for _, at := range []int{100_000, 0} {
			must(f.WriteAt(data[at:at+100_000], int64(at)))(t)
		}
		ok(t, f.Close())
		wantContent(t, other, "honest", data)
		want := make([]byte, 19*130_000+2)
		for k := range 20 {
			want[k*130_000+1] = 'x'
		}
		for i, f := range hoard {
			ok(t, f.Close())
			wantContent(t, other, fmt.Sprint("hoard", i), want)
		}
		hoard = nil
		b = newBench(t)
		w, other = b.viewWith(ViewOptions{MaxOpen: 1000}), b.view()
		for i := range maxDrafts {
			f := openFile(t, w, fmt.Sprint("many", i), wr)
			hoard = append(hoard, f)
			write(t, f, []byte("x"))
		}
		f = openFile(t, other, "one more", wr)
		_, err := f.Write([]byte("x"))
		wantErr(t, err, ErrTooMany)
		wantErr(t, f.Close(), ErrTooMany)
		for _, f := range hoard {
			f.TransferError(errCut)
			ok(t, f.Close())
		}
		put(t, other, "one more", []byte("x"))
	},
}
