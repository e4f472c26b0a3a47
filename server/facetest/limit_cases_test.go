package facetest

import (
	"fmt"
	"io"
	"os"

	"sallyport/vfs"
)

func info(i os.FileInfo, err error) (*vfs.Info, error) {
	if err != nil {
		return nil, err
	}
	return i.(*vfs.Info), nil
}

var limitCases = []conformance{
	{name: "L1 1,024 handles", handles: true, run: func(x *exam) {
		x.put(x.a, "/f", []byte("f"))
		var all []handle
		for range 1024 {
			all = append(all, x.open(x.a, "/f", os.O_RDONLY))
		}
		_, err := x.a.Open("/f", os.O_RDONLY)
		x.want(tooManyOpen, err)
		_, err = x.a.Open("/new", rwNew)
		x.want(tooManyOpen, err)
		x.absent(x.b, "/new")
		x.holds(x.b, "/f", []byte("f")) // other sessions do not notice
		x.ok(all[0].Close())
		x.ok(x.open(x.a, "/f", os.O_RDONLY).Close())
		for _, h := range all[1:] {
			x.ok(h.Close())
		}
	}},
	{name: "L2 quota", grants: map[string]string{"quota.bytes": "1MiB"}, run: func(x *exam) {
		if x.face.name() == "afero" {
			return // has no policy
		}
		x.put(x.a, "/f", noise(1, 1<<19))
		err := put(x.a, "/g", overwrite, 0, noise(2, 1<<20))
		if c := classOf(err); c != quota && c != permission {
			x.Fatalf("over quota: %v", err)
		}
		x.ok(x.b.Remove("/f"))
		x.put(x.b, "/h", noise(3, 1<<18))
		x.holds(x.b, "/h", noise(3, 1<<18))
	}},
	{name: "L3 16 TiB", handles: true, run: func(x *exam) {
		const largest = 1 << 44
		h := x.open(x.a, "/f", rwNew)
		x.want(tooLarge, h.Truncate(largest+1))
		_, err := h.WriteAt([]byte("xy"), largest-1)
		x.want(tooLarge, err)
		x.ok(h.Truncate(largest))
		_, err = h.WriteAt([]byte("x"), largest-1)
		x.ok(err)
		x.ok(h.Close())
		got := make([]byte, 3)
		h = x.open(x.b, "/f", os.O_RDONLY)
		if n, err := h.ReadAt(got, largest-2); n != 2 || err != io.EOF || string(got[:2]) != "\x00x" {
			x.Fatalf("%d, %v, %q", n, err, got)
		}
		x.ok(h.Close())
		x.ok(x.a.Truncate("/f", 10)) // or the comparison takes a while
	}},
	{name: "many files in one session", run: func(x *exam) {
		x.ok(x.a.Mkdir("/d"))
		var names []string
		for i := range 150 {
			name := fmt.Sprintf("f%03d", i)
			names = append(names, name)
			x.put(x.a, "/d/"+name, noise(uint64(i), i*40))
		}
		x.lists(x.b, "/d", names...)
	}},
}
