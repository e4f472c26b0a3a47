package vfs

import (
	"bytes"
	"testing"
)

func TestFirstLight(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	for i, size := range []int{0, 1, 4096, 4097, 65535, 65536, 65537, 1 << 20, 3<<20 + 17} {
		name := "f" + string(rune('0'+i))
		data := noise(uint64(i), size)
		put(t, w, name, data)
		wantContent(t, w, name, data)
	}
	ok(t, w.Mkdir("d", 0o755))
	put(t, w, "/d/x", []byte("x"))
	wantNames(t, w, "/d", "x")
	if got := len(names(t, w, "/")); got != 10 {
		t.Fatalf("%d names in the root", got)
	}
	ok(t, w.Close())
	b.reopen()
	w = b.view()
	if !bytes.Equal(get(t, w, "f8"), noise(8, 3<<20+17)) {
		t.Fatal("other bytes after reopening")
	}
}
