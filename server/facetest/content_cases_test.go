package facetest

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
)

const (
	rw    = os.O_RDWR
	rwNew = os.O_RDWR | os.O_CREATE
)

var contentCases = []conformance{
	{name: "sizes", run: func(x *exam) {
		for i, n := range []int{0, 1, 4096, 4097, 65535, 65536, 65537, 300_000, 3 << 20} {
			want := noise(uint64(i), n)
			x.put(x.a, "/f", want)
			x.holds(x.a, "/f", want)
			x.holds(x.b, "/f", want)
		}
	}},
	{name: "C1 overwrite by the same, shorter and longer", run: func(x *exam) {
		for _, n := range []int{1000, 10, 100_000, 0, 100_000} {
			x.put(x.a, "/f", noise(uint64(n), n))
			x.holds(x.b, "/f", noise(uint64(n), n))
		}
		x.lists(x.b, "/", "f")
	}},
	{name: "C3 others see nothing of a new file before Close", run: func(x *exam) {
		u := x.begin(x.a, "/f", overwrite, 0, noise(1, 200_000))
		x.absent(x.b, "/f")
		x.lists(x.b, "/")
		_, err := read(x.b, "/f")
		x.want(notExist, err)
		x.ok(u.Close())
		x.holds(x.b, "/f", noise(1, 200_000))
	}},
	{name: "C3 C7 others see the old content before Close", run: func(x *exam) {
		old := noise(1, 100_000)
		x.put(x.a, "/f", old)
		u := x.begin(x.a, "/f", overwrite, 0, nil)
		x.holds(x.b, "/f", old)
		_, err := u.Write(noise(2, 300_000))
		x.ok(err)
		x.holds(x.b, "/f", old)
		x.ok(u.Close())
		x.holds(x.b, "/f", noise(2, 300_000))
		x.ok(x.begin(x.a, "/f", overwrite, 0, nil).Close()) // nothing written is a change too
		x.holds(x.b, "/f", nil)
	}},
	{name: "C4 a download reads the version that it opened", run: func(x *exam) {
		old := noise(1, 24<<20) // more than all buffers between client and server hold
		x.put(x.a, "/f", old)
		r, err := x.a.Get("/f", 0)
		x.ok(err)
		head := make([]byte, 1000)
		_, err = io.ReadFull(r, head)
		x.ok(err)
		x.put(x.b, "/f", noise(2, 5000))
		x.append(x.b, "/f", noise(3, 5000))
		rest, err := io.ReadAll(r)
		x.ok(err)
		x.ok(r.Close())
		if !bytes.Equal(append(head, rest...), old) {
			x.Fatal("the download is a mixture")
		}
		x.holds(x.a, "/f", append(noise(2, 5000), noise(3, 5000)...))
	}},
	{name: "C4 removal under a download", run: func(x *exam) {
		old := noise(1, 24<<20)
		x.put(x.a, "/f", old)
		r, err := x.a.Get("/f", 0)
		x.ok(err)
		head := make([]byte, 1000)
		_, err = io.ReadFull(r, head)
		x.ok(err)
		x.ok(x.b.Remove("/f"))
		x.absent(x.b, "/f")
		rest, err := io.ReadAll(r)
		x.ok(err)
		x.ok(r.Close())
		if !bytes.Equal(append(head, rest...), old) {
			x.Fatal("the download is another file")
		}
	}},
	{name: "C8 two uploads to one file: the last Close wins", run: func(x *exam) {
		x.put(x.a, "/f", []byte("old"))
		u, v := x.begin(x.a, "/f", overwrite, 0, noise(1, 90_000)), x.begin(x.b, "/f", overwrite, 0, noise(2, 60_000))
		x.ok(v.Close())
		x.holds(x.b, "/f", noise(2, 60_000))
		x.ok(u.Close())
		x.holds(x.b, "/f", noise(1, 90_000))
	}},
	{name: "C8 two appends each start from what they opened", run: func(x *exam) {
		x.put(x.a, "/f", []byte("base,"))
		u, v := x.begin(x.a, "/f", extend, 0, []byte("one")), x.begin(x.b, "/f", extend, 0, []byte("two"))
		x.ok(u.Close())
		x.holds(x.a, "/f", []byte("base,one"))
		x.ok(v.Close())
		x.holds(x.a, "/f", []byte("base,two"))
	}},
	{name: "N2 two uploads to one new name: the last Close wins", run: func(x *exam) {
		u, v := x.begin(x.a, "/f", overwrite, 0, noise(1, 90_000)), x.begin(x.b, "/f", overwrite, 0, noise(2, 60_000))
		x.ok(u.Close())
		x.holds(x.a, "/f", noise(1, 90_000))
		x.ok(v.Close())
		x.holds(x.a, "/f", noise(2, 60_000))
		x.lists(x.a, "/", "f")
	}},
	{name: "C9 append", run: func(x *exam) {
		var want []byte
		for i, n := range []int{5, 0, 4000, 100_000, 65536, 1} {
			x.append(x.a, "/f", noise(uint64(i), n))
			want = append(want, noise(uint64(i), n)...)
			x.holds(x.b, "/f", want)
		}
	}},
	{name: "resume at, before and after boundaries", run: func(x *exam) {
		want := noise(1, 200_000)
		x.put(x.a, "/f", want)
		for _, off := range []int{200_000, 131_073, 65_536, 65_535, 4096, 1} {
			tail := noise(uint64(off), 70_000)
			x.resume(x.a, "/f", off, tail)
			want = append(want[:off:off], tail...)
			x.holds(x.b, "/f", want)
		}
		x.resume(x.a, "/f", len(want), nil)
		x.holds(x.b, "/f", want)
		x.resume(x.a, "/f", 10, nil) // cuts
		x.holds(x.b, "/f", want[:10])
		x.noResume(x.a, "/none")
		x.lists(x.b, "/", "f")
	}},
	{name: "download from an offset", run: func(x *exam) {
		want := noise(1, 200_000)
		x.put(x.a, "/f", want)
		for _, off := range []int{0, 1, 65_535, 65_536, 131_073, 199_999, 200_000} {
			r, err := x.b.Get("/f", int64(off))
			x.ok(err)
			got, err := io.ReadAll(r)
			x.ok(err)
			x.ok(r.Close())
			if !bytes.Equal(got, want[off:]) {
				x.Fatalf("from %d: %s", off, brief(got))
			}
		}
	}},
	{name: "REST beyond the end", only: "ftps", run: func(x *exam) {
		x.put(x.a, "/f", []byte("content"))
		_, err := x.a.Get("/f", 8)
		x.want(restart, err)
		x.refused(restart, x.a, "/f", resume, 8)
		x.refused(restart, x.a, "/none", resume, 8)
		x.holds(x.a, "/f", []byte("content")) // and the position is forgotten
		x.lists(x.a, "/", "f")
		x.put(x.a, "/f", []byte("new"))
		x.holds(x.b, "/f", []byte("new"))
	}},
	{name: "reading and writing beyond the end", handles: true, run: func(x *exam) {
		x.put(x.a, "/f", []byte("content"))
		h := x.open(x.a, "/f", rw)
		for _, off := range []int64{7, 8, 1 << 40} {
			if n, err := h.ReadAt(make([]byte, 10), off); n != 0 || err != io.EOF {
				x.Fatalf("at %d: %d, %v", off, n, err)
			}
		}
		x.writeAt(h, []byte("far"), 1_000_000)
		x.ok(h.Close())
		want := make([]byte, 1_000_003)
		copy(want, "content")
		copy(want[1_000_000:], "far")
		x.holds(x.b, "/f", want)
	}},
	{name: "C2 C5 handles of one session share what they write", handles: true, run: func(x *exam) {
		early := x.open(x.a, "/f", rwNew)
		late := x.open(x.a, "/f", os.O_RDONLY)
		x.writeAt(early, []byte("written"), 0)
		got := make([]byte, 7)
		if _, err := late.ReadAt(got, 0); err != nil && err != io.EOF || string(got) != "written" {
			x.Fatalf("%q, %v", got, err)
		}
		if n, err := late.Size(); err != nil || n != 7 {
			x.Fatalf("size %d, %v", n, err)
		}
		x.lists(x.a, "/", "f")
		if n, err := x.a.Size("/f"); err != nil || n != 7 {
			x.Fatalf("size by path %d, %v", n, err)
		}
		x.absent(x.b, "/f")
		x.ok(early.Close())
		x.holds(x.b, "/f", []byte("written"))
		x.ok(late.Close())
	}},
	{name: "C6 Sync publishes and the handle goes on", handles: true, run: func(x *exam) {
		h := x.open(x.a, "/f", rwNew)
		x.writeAt(h, noise(1, 100_000), 0)
		x.ok(h.Sync())
		x.holds(x.b, "/f", noise(1, 100_000))
		x.writeAt(h, []byte("more"), 50_000)
		x.holds(x.b, "/f", noise(1, 100_000))
		x.ok(h.Close())
		want := noise(1, 100_000)
		copy(want[50_000:], "more")
		x.holds(x.b, "/f", want)
	}},
	{name: "C10 truncate down, up and between writes", handles: true, run: func(x *exam) {
		want := noise(1, 200_000)
		x.put(x.a, "/f", want)
		h := x.open(x.a, "/f", rw)
		for _, n := range []int{150_000, 65_537, 65_536, 70_000, 3, 300_000} {
			x.ok(h.Truncate(int64(n)))
			want = append(want, make([]byte, max(0, n-len(want)))...)[:n]
			x.writeAt(h, []byte("!"), n/2)
			want[n/2] = '!'
			if size, err := h.Size(); err != nil || size != int64(n) {
				x.Fatalf("size %d, %v; want %d", size, err, n)
			}
		}
		x.ok(h.Close())
		x.holds(x.b, "/f", want)
		for _, n := range []int{299_999, 0, 5000} {
			x.ok(x.a.Truncate("/f", int64(n)))
			want = append(want[:min(n, len(want))], make([]byte, max(0, n-len(want)))...)
			x.holds(x.b, "/f", want)
		}
		x.want(isDir, x.a.Truncate("/", 0))
		x.want(notExist, x.a.Truncate("/none", 0))
	}},
	{name: "C10 holes", handles: true, run: func(x *exam) {
		want := make([]byte, 500_001)
		h := x.open(x.a, "/f", rwNew)
		for _, off := range []int{500_000, 131_072, 0, 65_535, 300_000} {
			x.writeAt(h, []byte{byte(off%250 + 1)}, off)
			want[off] = byte(off%250 + 1)
		}
		x.ok(h.Close())
		x.holds(x.b, "/f", want)
	}},
	{name: "C11 a writer closes while another goes on", handles: true, run: func(x *exam) {
		one, two := x.open(x.a, "/f", rwNew), x.open(x.a, "/f", rw)
		x.writeAt(one, []byte("one"), 0)
		x.ok(one.Close())
		x.holds(x.b, "/f", []byte("one"))
		x.writeAt(two, []byte("two"), 3)
		x.ok(two.Close())
		x.holds(x.b, "/f", []byte("onetwo"))
	}},
	{name: "writes in any order, overlapping", handles: true, run: func(x *exam) {
		r := rand.New(rand.NewPCG(1, 2))
		for round := range 8 {
			size := 1 + r.IntN(400_000)
			want := make([]byte, size)
			h := x.open(x.a, "/f", rwNew|os.O_TRUNC)
			for i := range 40 {
				off := r.IntN(size)
				p := noise(uint64(100*round+i), 1+r.IntN(min(60_000, size-off)))
				x.writeAt(h, p, off)
				copy(want[off:], p)
			}
			x.writeAt(h, []byte{1}, size-1)
			want[size-1] = 1
			x.ok(h.Close())
			x.holds(x.b, "/f", want)
		}
	}},
	{name: "flags of OPEN", handles: true, run: func(x *exam) {
		_, err := x.a.Open("/f", rw)
		x.want(notExist, err)
		x.ok(x.open(x.a, "/f", rwNew|os.O_EXCL).Close())
		_, err = x.a.Open("/f", rwNew|os.O_EXCL)
		x.want(exists, err)
		x.put(x.a, "/f", []byte("content"))
		x.ok(x.open(x.a, "/f", rwNew).Close()) // no change
		x.holds(x.b, "/f", []byte("content"))
		h := x.open(x.a, "/f", os.O_RDONLY)
		_, err = h.WriteAt([]byte("x"), 0)
		x.want(permission, err)
		x.ok(h.Close())
		h = x.open(x.a, "/f", os.O_WRONLY)
		_, err = h.ReadAt(make([]byte, 1), 0)
		x.want(permission, err)
		x.ok(h.Close())
		x.ok(x.a.Mkdir("/d"))
		_, err = x.a.Open("/d", os.O_WRONLY)
		x.want(isDir, err)
	}},
	{name: "uploads to what is no file", run: func(x *exam) {
		x.ok(x.a.Mkdir("/d"))
		x.put(x.a, "/f", []byte("f"))
		for _, how := range []mode{overwrite, extend, resume} {
			x.refused(isDir, x.a, "/d", how, 1)
			x.refused(notDir, x.a, "/f/x", how, 1)
			x.refused(isDir, x.a, "/", how, 1)
		}
		for _, how := range []mode{overwrite, extend} {
			x.refused(notExist, x.a, "/none/x", how, 0)
		}
		_, err := read(x.a, "/d")
		x.want(isDir, err)
		_, err = read(x.a, "/f/x")
		x.want(notDir, err)
		x.holds(x.b, "/f", []byte("f"))
	}},
	{name: "C9 append by handle ends at the end", handles: true, run: func(x *exam) {
		x.put(x.a, "/f", []byte("base"))
		u := x.begin(x.a, "/f", extend, 0, []byte("+1"))
		h := x.open(x.a, "/f", rw)
		x.writeAt(h, []byte("......"), 6)
		_, err := u.Write([]byte("+2"))
		x.ok(err)
		x.ok(u.Close())
		x.ok(h.Close())
		x.holds(x.b, "/f", []byte("base+1......+2"))
	}},
	{name: "writes sent without waiting keep their order", only: "sftp", run: func(x *exam) {
		c := x.a.(*sftpClient)
		h, err := c.openRaw("/f", fxfWrite|fxfCreat)
		x.ok(err)
		r := rand.New(rand.NewPCG(3, 4))
		want := make([]byte, 256<<10)
		const n = 200
		for i := range n {
			off := r.IntN(len(want) - 30_000)
			p := noise(uint64(i), 1+r.IntN(30_000))
			copy(want[off:], p)
			_, err := c.packets.send(fxpWrite, new(wire).text(h).u64(uint64(off)).text(string(p)))
			x.ok(err)
		}
		_, err = c.packets.send(fxpWrite, new(wire).text(h).u64(uint64(len(want)-1)).text("\x01"))
		x.ok(err)
		want[len(want)-1] = 1
		_, err = c.packets.send(fxpClose, new(wire).text(h))
		x.ok(err)
		for range n + 2 {
			_, _, rest, err := c.packets.receive()
			x.ok(err)
			x.ok(status(rest))
		}
		x.holds(x.b, "/f", want)
	}},
}
