package vfs

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"syscall"
	"testing"

	"sallyport/vfs/blob"
	"sallyport/vfs/blob/blobtest"
	"sallyport/vfs/meta"
)

var errCut = errors.New("connection reset")

// cut starts an upload that breaks after data.
func cutUpload(t testing.TB, w *View, name string, flag int, data []byte) {
	t.Helper()
	f := openFile(t, w, name, flag)
	if flag&os.O_APPEND == 0 && flag&os.O_TRUNC == 0 {
		must(f.Seek(0, io.SeekEnd))(t)
	}
	write(t, f, data)
	f.TransferError(errCut)
	ok(t, f.Close())
}

var interruptSentences = map[string]func(*testing.T){
	"I1": func(t *testing.T) {
		b := newBench(t)
		w, other := b.view(), b.view()
		data := noise(1, 300_000)
		for _, n := range []int{1, 4096, 5000, 65536, 300_000} {
			name := "p" + string(rune('0'+n%10)) + string(rune('0'+n/1000%10))
			cutUpload(t, w, name, wr, data[:n])
			wantContent(t, other, name, data[:n])
			if !stat(t, other, name).Partial() {
				t.Fatalf("%s is not partial", name)
			}
		}
		f := openFile(t, w, "gap", wr)
		must(f.WriteAt(data[100_000:200_000], 100_000))(t) // the writes between never came
		must(f.WriteAt(data[:70_000], 0))(t)
		f.TransferError(errCut)
		ok(t, f.Close())
		wantContent(t, other, "gap", data[:70_000])
		f = openFile(t, w, "nothing", wr)
		must(f.WriteAt(data[:100_000], 100_000))(t)
		f.TransferError(errCut)
		ok(t, f.Close())
		_, err := w.Stat("nothing")
		wantErr(t, err, fs.ErrNotExist)
	},
	"I2": func(t *testing.T) {
		b := newBench(t)
		w, other := b.view(), b.view()
		data := noise(1, 400_000)
		cutUpload(t, w, "a", wr, data[:100_000])
		cutUpload(t, other, "a", os.O_WRONLY, data[100_000:200_001])
		wantContent(t, w, "a", data[:200_001])
		if !stat(t, w, "a").Partial() {
			t.Fatal("not partial after the second break")
		}
		cutUpload(t, w, "a", os.O_WRONLY|os.O_APPEND, data[200_001:300_000])
		f := openFile(t, w, "a", os.O_WRONLY|os.O_APPEND)
		write(t, f, data[300_000:])
		ok(t, f.Close())
		wantContent(t, other, "a", data)
		if stat(t, w, "a").Partial() {
			t.Fatal("still partial after a normal Close")
		}
		cutUpload(t, w, "e", wr, data[:70_000])
		late, reader := openFile(t, other, "e", os.O_WRONLY), openFile(t, w, "e", os.O_RDONLY)
		ok(t, reader.Close())
		if !stat(t, w, "e").Partial() {
			t.Fatal("whole because somebody read it")
		}
		ok(t, openFile(t, w, "e", os.O_WRONLY).Close()) // nothing was missing
		wantContent(t, other, "e", data[:70_000])
		if i := stat(t, w, "e"); i.Partial() || i.Version() != 2 {
			t.Fatalf("partial %v, version %d after a normal Close", i.Partial(), i.Version())
		}
		ok(t, late.Close())
		if v := stat(t, w, "e").Version(); v != 2 {
			t.Fatalf("version %d: a Close without a change", v)
		}
		cutUpload(t, w, "g", wr, data[:10])
		late, reader = openFile(t, w, "g", os.O_WRONLY), openFile(t, w, "g", os.O_RDONLY)
		put(t, other, "g", data[:20])
		ok(t, late.Close()) // takes nothing from the upload that came between
		wantContent(t, w, "g", data[:20])
		ok(t, reader.Close())
		cutUpload(t, w, "b", wr, data[:10])
		ok(t, w.Chmod("b", 0o600))
		if !stat(t, w, "b").Partial() {
			t.Fatal("chmod made it whole")
		}
		ok(t, w.Rename("b", "c"))
		if !stat(t, w, "c").Partial() {
			t.Fatal("rename made it whole")
		}
	},
	"I3": func(t *testing.T) {
		b := newBench(t)
		var asked []string
		w := b.viewWith(ViewOptions{Broken: func(p string) bool { asked = append(asked, p); return false }})
		put(t, w, "old", []byte("old"))
		blobs := len(b.blobFiles())
		cutUpload(t, w, "/./new", wr, noise(1, 300_000))
		_, err := w.Stat("new")
		wantErr(t, err, fs.ErrNotExist)
		ok(t, w.Mkdir("new", 0))
		cutUpload(t, w, "old", wr, noise(1, 300_000))
		wantContent(t, w, "old", []byte("old"))
		if sizes, _ := history(t, b, stat(t, w, "old").Inode()); len(sizes) != 1 {
			t.Fatalf("discarded bytes in history: %v", sizes)
		}
		_, err = w.OpenHandle(t.Context(), "old", os.O_WRONLY|os.O_APPEND, 0)
		wantErr(t, err, ErrInterrupted)
		if n := len(b.blobFiles()); n != blobs {
			t.Fatalf("%d blobs left", n-blobs)
		}
		if !slices.Equal(asked, []string{"/new", "/old"}) {
			t.Fatalf("asked for %q", asked)
		}
	},
	"I4": func(t *testing.T) {
		b := newBench(t)
		w, other := b.view(), b.view()
		v1, v2 := noise(1, 100_000), noise(2, 150_000)
		put(t, w, "a", v1)
		cutUpload(t, w, "a", wr, v2)
		wantContent(t, w, "a", v1)
		wantContent(t, other, "a", v1)
		i := stat(t, other, "a")
		if i.Partial() || !i.Interrupted() || i.Version() != 1 {
			t.Fatalf("partial %v, interrupted %v, version %d", i.Partial(), i.Interrupted(), i.Version())
		}
		sizes, states := history(t, b, i.Inode())
		if !slices.Equal(sizes, []uint64{100_000, 150_000}) || states[1] != meta.Interrupted {
			t.Fatalf("history %v %v", sizes, states)
		}
		f := openFile(t, w, "small", wr)
		ok(t, f.Close())
		f = openFile(t, w, "small", os.O_RDWR) // broken before anything was changed
		f.TransferError(errCut)
		ok(t, f.Close())
		if stat(t, w, "small").Interrupted() {
			t.Fatal("nothing was written, and yet it is interrupted")
		}
	},
	"I5": func(t *testing.T) {
		b := newBench(t)
		w, other := b.view(), b.view()
		v1, v2 := noise(1, 1<<20), noise(2, 2<<20)
		put(t, w, "a", v1)
		cutUpload(t, w, "a", wr, v2[:3<<19]) // cut at 1.5 MiB
		for _, flag := range []int{os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_APPEND, os.O_RDWR | os.O_CREATE} {
			_, err := other.OpenHandle(t.Context(), "a", flag, 0)
			wantErr(t, err, ErrInterrupted)
		}
		wantErr(t, other.SetAttr("a", AttrChange{Size: ptr(int64(10))}), ErrInterrupted)
		ok(t, other.Chmod("a", 0o640))
		_, err := other.OpenHandle(t.Context(), "a", os.O_WRONLY, 0)
		wantErr(t, err, ErrInterrupted)
		cutUpload(t, w, "a", wr, v2[:10]) // again: still refused
		_, err = other.OpenHandle(t.Context(), "a", os.O_WRONLY, 0)
		wantErr(t, err, ErrInterrupted)
		wantContent(t, other, "a", v1)
		put(t, other, "a", v2)
		wantContent(t, w, "a", v2)
		ok(t, openFile(t, w, "a", os.O_WRONLY).Close())

		cutUpload(t, w, "a", wr, v1[:10])
		ok(t, w.Remove("a"))
		cutUpload(t, w, "a", wrNew, v1[:10])
		f := openFile(t, w, "a", os.O_WRONLY|os.O_APPEND)
		write(t, f, v1[10:])
		ok(t, f.Close())
		wantContent(t, other, "a", v1)

		cutUpload(t, w, "a", wr, v2[:10])
		ok(t, w.SetAttr("a", AttrChange{Size: ptr(int64(0))})) // a new beginning
		ok(t, openFile(t, w, "a", os.O_WRONLY).Close())
	},
	"I6": func(t *testing.T) {
		var faults *blobtest.Faulty
		b := newBenchWith(t, Options{testOnlyBlobs: func(s blob.Store) blob.Store {
			faults = blobtest.Inject(s)
			return faults
		}})
		w, other := b.view(), b.view()
		put(t, w, "old", []byte("old"))
		faults.Set(blobtest.Fault{Op: blobtest.OpWrite, Err: syscall.ENOSPC, After: 1 << 20})
		for _, name := range []string{"new", "old"} {
			f := openFile(t, w, name, wr)
			var err error
			for range 1000 {
				if _, err = f.Write(noise(1, 100_000)); err != nil {
					break
				}
			}
			wantErr(t, err, syscall.ENOSPC)
			_, err = f.WriteAt([]byte("more"), 0)
			wantErr(t, err, syscall.ENOSPC)
			wantErr(t, f.Truncate(0), syscall.ENOSPC)
			wantErr(t, f.Sync(), syscall.ENOSPC)
			wantErr(t, f.Close(), syscall.ENOSPC)
		}
		faults.Set()
		wantContent(t, other, "old", []byte("old"))
		if i, err := other.Stat("new"); err == nil && !i.(*Info).Partial() {
			t.Fatal("an incomplete upload is complete")
		}
		put(t, w, "old", noise(3, 200_000))
		wantContent(t, other, "old", noise(3, 200_000))
	},
	"I7": func(t *testing.T) {
		b := newBench(t)
		w, other := b.view(), b.view()
		put(t, other, "old", []byte("old"))
		data := noise(1, 100_000)
		f, g := openFile(t, w, "new", wr), openFile(t, w, "old", wr)
		h := openFile(t, w, "new", os.O_RDWR)
		write(t, f, data)
		write(t, g, data)
		ok(t, w.Close())
		wantContent(t, other, "new", data)
		wantContent(t, other, "old", []byte("old"))
		if !stat(t, other, "new").Partial() || !stat(t, other, "old").Interrupted() {
			t.Fatal("not marked")
		}
		_, err := h.Write(data)
		wantErr(t, err, fs.ErrClosed)
		wantErr(t, f.Close(), fs.ErrClosed)
		_, err = w.Stat("old")
		wantErr(t, err, fs.ErrClosed)
		_, err = w.Create("x")
		wantErr(t, err, fs.ErrClosed)
	},
	"I8": func(t *testing.T) {
		b := newBench(t)
		w := b.view()
		v1, data := noise(1, 100_000), noise(2, 8<<20)
		put(t, w, "old", v1)
		cutUpload(t, w, "resumed", wr, data[:100_000])
		put(t, w, "appended", v1)
		f, g, h, k := openFile(t, w, "new", wr), openFile(t, w, "old", wr), openFile(t, w, "resumed", os.O_WRONLY|os.O_APPEND),
			openFile(t, w, "appended", os.O_WRONLY|os.O_APPEND)
		write(t, f, data)
		write(t, g, data)
		write(t, h, data[100_000:])
		write(t, k, data)
		cutUpload(t, w, "gap", wr, data[:100_000])
		x, y := openFile(t, w, "gap", os.O_WRONLY), openFile(t, w, "late", wr)
		must(x.WriteAt(data, 200_000))(t)
		must(y.WriteAt(data, 200_000))(t)
		c := b.crash()
		for _, f := range []*File{f, g, h, k, x, y} {
			ok(t, f.Close())
		}
		v := c.view()
		wantContent(t, v, "gap", data[:100_000]) // what lies behind a gap is nothing to resume from
		_, err := v.Stat("late")
		wantErr(t, err, fs.ErrNotExist)
		for _, name := range []string{"new", "resumed"} {
			got := get(t, v, name)
			if len(got) < 1<<20 || !bytes.HasPrefix(data, got) || !stat(t, v, name).Partial() {
				t.Fatalf("%s: %d bytes, partial %v", name, len(got), stat(t, v, name).Partial())
			}
			f := openFile(t, v, name, os.O_WRONLY|os.O_APPEND)
			write(t, f, data[len(got):])
			ok(t, f.Close())
			wantContent(t, v, name, data)
		}
		for _, name := range []string{"old", "appended"} {
			wantContent(t, v, name, v1)
			if !stat(t, v, name).Interrupted() {
				t.Fatalf("%s is not marked", name)
			}
			if _, states := history(t, c, stat(t, v, name).Inode()); !slices.Equal(states, []meta.State{meta.Complete, meta.Interrupted}) {
				t.Fatalf("%s: history %v", name, states)
			}
		}
		c.reopen() // a second recovery finds nothing more to do
		wantContent(t, c.view(), "new", data)
		wantContent(t, b.view(), "new", data)
		crashDuringClose(t)
	},
	"I9": func(t *testing.T) {
		b := newBench(t)
		w, other := b.view(), b.view()
		data := noise(1, 6<<20)
		f := openFile(t, w, "a", wr)
		write(t, f, data[:200_000])
		ok(t, f.Sync())
		if stat(t, other, "a").Partial() {
			t.Fatal("what was synced is partial")
		}
		write(t, f, data[200_000:])
		c := b.crash()
		f.TransferError(errCut)
		ok(t, f.Close())
		wantContent(t, other, "a", data)
		if !stat(t, other, "a").Partial() {
			t.Fatal("broken after Sync, and not partial")
		}
		v := c.view()
		if got := get(t, v, "a"); len(got) < 1<<20 || !bytes.HasPrefix(data, got) || !stat(t, v, "a").Partial() {
			t.Fatalf("after a crash: %d bytes, partial %v", len(got), stat(t, v, "a").Partial())
		}
		f = openFile(t, w, "short", wr) // what is synced lies in metadata, and not in the blob that follows
		write(t, f, data[:10_000])
		ok(t, f.Sync())
		write(t, f, data[10_000:])
		short := b.crash().view()
		ok(t, f.Close())
		if got := get(t, short, "short"); len(got) < 1<<20 || !bytes.HasPrefix(data, got) || !stat(t, short, "short").Partial() {
			t.Fatalf("after a crash: %d bytes, partial %v", len(got), stat(t, short, "short").Partial())
		}
		f = openFile(t, w, "a", os.O_RDWR) // a synced change of a whole file is not undone by what breaks later
		ok(t, f.Truncate(0))
		write(t, f, data)
		ok(t, f.Close())
		f = openFile(t, w, "a", os.O_RDWR)
		must(f.WriteAt([]byte("synced"), 0))(t)
		ok(t, f.Sync())
		must(f.WriteAt([]byte("broken"), 0))(t)
		f.TransferError(errCut)
		ok(t, f.Close())
		want := bytes.Clone(data)
		copy(want, "synced")
		wantContent(t, other, "a", want)
		if !stat(t, other, "a").Interrupted() {
			t.Fatal("not interrupted")
		}
	},
}

// Two handles of one session write one file, and the transfer on one of them breaks: the file is not whole, so neither Close
// may acknowledge what went through the other, whichever comes last.
func TestBreakOfASharedFileIsTold(t *testing.T) {
	t.Parallel()
	for _, brokenFirst := range []bool{true, false} {
		b := newBench(t)
		w := b.view()
		broke, whole := openFile(t, w, "a", wr), openFile(t, w, "a", os.O_WRONLY)
		write(t, broke, []byte("begin"))
		must(whole.WriteAt([]byte("acknowledged?"), 5))(t)
		broke.TransferError(errCut)
		if brokenFirst {
			ok(t, broke.Close()) // who told need not be told
			wantErr(t, whole.Close(), ErrInterrupted)
		} else {
			wantErr(t, whole.Close(), ErrInterrupted)
			ok(t, broke.Close())
		}
		if !stat(t, b.view(), "a").Partial() {
			t.Error("the file passes for whole")
		}
	}
}
