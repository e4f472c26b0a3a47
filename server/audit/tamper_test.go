package audit

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"sallyport/crypto/record"
)

// image is the content of a log directory.
type image map[string][]byte

func load(t testing.TB, dir string) image {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	img := image{}
	for _, e := range entries {
		if img[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return img
}

func (img image) with(name string, data []byte) image {
	c := image{}
	for n, d := range img {
		c[n] = d
	}
	if data == nil {
		delete(c, name)
	} else {
		c[name] = data
	}
	return c
}

func (img image) store(t testing.TB, dir string) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for n, d := range img {
		if err := os.WriteFile(filepath.Join(dir, n), d, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// frames splits a file.
func frames(data []byte) [][]byte {
	var list [][]byte
	for at := len(magic); at < len(data); {
		n := 4 + int(binary.BigEndian.Uint32(data[at:]))
		list = append(list, data[at:at+n])
		at += n
	}
	return list
}

func join(list [][]byte) []byte { return append([]byte(magic), bytes.Join(list, nil)...) }

// small makes a log of two files with three records each, cleanly closed.
func small(t testing.TB) (image, Options) {
	t.Helper()
	o := options(t)
	o.MaxFile = 700
	l := open(t, o)
	appendN(t, l, 1, 6)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	img := load(t, o.Dir)
	if n := len(frames(img[fileName(1)])); n != 3 || len(frames(img[fileName(4)])) != 3 {
		t.Fatalf("unexpected layout: %d frames in the first file", n)
	}
	return img, o
}

// Every change of a cleanly closed log is found, with the number of the first bad record: each byte flipped, each length
// cut, each record dropped, doubled or exchanged with each other, each file removed.
func TestEveryTamperingIsFound(t *testing.T) {
	t.Parallel()
	img, o := small(t)
	dir := filepath.Join(t.TempDir(), "tampered")
	cases := 0
	try := func(what string, changed image, first uint64) {
		t.Helper()
		cases++
		changed.store(t, dir)
		_, err := Verify(dir, o.Box, testKey)
		var d *DamageError
		if !errors.As(err, &d) || !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", what, err)
			return
		}
		if first != 0 && d.Record != first {
			t.Errorf("%s: %v, want record %d", what, err, first)
		}
	}
	one, two := fileName(1), fileName(4)
	for name, first := range map[string]uint64{one: 1, two: 4, headName: 0} {
		data := img[name]
		ends := []int{len(magic)}
		if first > 0 {
			for _, f := range frames(data) {
				ends = append(ends, ends[len(ends)-1]+len(f))
			}
		}
		recordAt := func(at int) uint64 {
			if first == 0 {
				return 0
			}
			n := first
			for _, end := range ends[1:] {
				if at >= end {
					n++
				}
			}
			return n
		}
		for i := range data {
			bad := bytes.Clone(data)
			bad[i] ^= 0x40
			want := recordAt(i)
			if first > 0 && i < len(magic) {
				want = first
			}
			try(name+": flip", img.with(name, bad), want)
			try(name+": cut", img.with(name, data[:i]), recordAt(i))
		}
		try(name+": removed", img.with(name, nil), first)
	}
	all := append(frames(img[one]), frames(img[two])...)
	build := func(list [][]byte) image {
		n := min(3, len(list))
		return img.with(one, join(list[:n])).with(two, join(list[n:]))
	}
	for i := range all {
		try("drop", build(slices.Delete(slices.Clone(all), i, i+1)), uint64(i+1))
		try("double", build(slices.Insert(slices.Clone(all), i, all[i])), uint64(i+2))
		for j := i + 1; j < len(all); j++ {
			swapped := slices.Clone(all)
			swapped[i], swapped[j] = swapped[j], swapped[i]
			try("exchange", build(swapped), uint64(i+1))
		}
	}
	t.Logf("%d cases", cases)
}

// A log that was not closed may lose what is after its head, and an incomplete last record is cut off; what was
// complete stays, and the next record follows it.
func TestTornTailIsRepaired(t *testing.T) {
	t.Parallel()
	o := options(t)
	l := open(t, o)
	appendN(t, l, 1, 4) // the head still names record 0
	img := load(t, o.Dir)
	l.Close()
	name := fileName(1)
	data := img[name]
	list := frames(data)
	o.Dir = filepath.Join(t.TempDir(), "torn")
	try := func(what string, bad []byte, keep int) {
		t.Helper()
		img.with(name, bad).store(t, o.Dir)
		r, err := Verify(o.Dir, o.Box, testKey)
		if err != nil || r.Records != uint64(keep) {
			t.Fatalf("%s: verified %+v, %v", what, r, err)
		}
		l, err := Open(o)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		defer l.Close()
		appendN(t, l, 100, 100)
		got := all(t, l)
		if len(got) != keep+1 || got[keep].Path != "/canary-100" {
			t.Fatalf("%s: %d records, want %d and one more", what, len(got), keep)
		}
		if _, err := l.Verify(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	ends, at := []int{len(magic)}, len(magic)
	for _, f := range list {
		at += len(f)
		ends = append(ends, at)
	}
	for cut := 0; cut <= len(data); cut += 3 {
		keep := 0
		for _, end := range ends[1:] {
			if cut >= end {
				keep++
			}
		}
		try("cut", data[:cut], keep)
	}
	for _, zeros := range []int{1, 3, 4, 100, 5000} {
		try("zeros", append(bytes.Clone(data), make([]byte, zeros)...), 4)
	}
	try("a file that has its size and no byte", make([]byte, len(data)), 0)
	// The sectors of one write reach the disk in any order: whatever came before the lacking one stays.
	lacking := 0
	for from := sector; from < len(data); from += sector {
		bad := bytes.Clone(data)
		clear(bad[from:min(from+sector, len(bad))])
		keep := 0
		for _, end := range ends[1:] {
			if end <= from {
				keep++
			}
		}
		try("a sector is lacking", bad, keep)
		lacking++
	}
	if lacking == 0 {
		t.Fatal("the log is too short to lack a sector")
	}
}

// A complete record that does not authenticate is damage, even at the very end.
func TestDamageIsNotRepaired(t *testing.T) {
	t.Parallel()
	img, o := small(t)
	o.Dir = filepath.Join(t.TempDir(), "damaged")
	name := fileName(4)
	bad := bytes.Clone(img[name])
	bad[len(bad)-1] ^= 1
	for what, changed := range map[string]image{
		"last record":          img.with(name, bad),
		"cut before the head":  img.with(name, img[name][:len(img[name])-1]),
		"no head":              img.with(headName, nil),
		"file of another kind": img.with(name, []byte("not an audit file")),
		"garbage at the end":   img.with(name, append(bytes.Clone(img[name]), "garbage and more garbage, longer than a header of a frame"...)),
	} {
		changed.store(t, o.Dir)
		if l, err := Open(o); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", what, err)
			if err == nil {
				l.Close()
			}
		}
		if after := load(t, o.Dir); len(after[name]) != len(changed[name]) {
			t.Errorf("%s: the evidence was changed", what)
		}
	}
}

func TestOtherKey(t *testing.T) {
	t.Parallel()
	_, o := small(t)
	o.Box = newBox(t)
	if _, err := Open(o); !errors.Is(err, ErrDamaged) {
		t.Errorf("under another key: %v", err)
	}
}

func FuzzFile(f *testing.F) {
	o := options(f)
	o.MaxFile = 1 << 20
	l := open(f, o)
	appendN(f, l, 1, 3)
	img := load(f, o.Dir)
	l.Close()
	f.Add(img[fileName(1)])
	f.Add([]byte(magic))
	f.Add([]byte(magic + "\x00\x00\x00\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		img.with(fileName(1), data).store(t, dir)
		good := frameCount(data, o.Box)
		l, err := Open(Options{Dir: dir, Box: o.Box})
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Fatal(err)
			}
			return
		}
		defer l.Close()
		if n := len(all(t, l)); n != good {
			t.Fatalf("%d records opened, %d are good", n, good)
		}
	})
}

// frameCount counts good records without the code under test: by their place alone.
func frameCount(data []byte, box *record.Box) int {
	n := 0
	for at := len(magic); at+4 <= len(data); n++ {
		size := int(binary.BigEndian.Uint32(data[at:]))
		if size < headerSize || at+4+size > len(data) {
			break
		}
		frame := data[at : at+4+size]
		if _, err := box.Open(nil, record.DomainAudit, frame[4:4+headerSize], frame[4+headerSize:]); err != nil {
			break
		}
		at += 4 + size
	}
	return n
}

// Two histories that part after record 3, each whole in itself: put together they are found, by the chain where records of
// both follow each other, and by the head where the other history is put in place.
func TestSplicedHistories(t *testing.T) {
	t.Parallel()
	o := options(t)
	l := open(t, o)
	appendN(t, l, 1, 3)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	common := load(t, o.Dir)
	grow := func(from int) image {
		common.store(t, o.Dir)
		l := open(t, o)
		appendN(t, l, from, from+1) // records 4 and 5
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return load(t, o.Dir)
	}
	one, two := grow(100), grow(200)
	name := fileName(1)
	a, b := frames(one[name]), frames(two[name])
	for what, c := range map[string]struct {
		img   image
		first uint64
	}{
		"a record of the other history": {one.with(name, join(slices.Concat(a[:3], b[3:4], a[4:]))), 5},
		"the other history":             {one.with(name, two[name]), 5},
		"the other head":                {one.with(headName, two[headName]), 5},
	} {
		c.img.store(t, o.Dir)
		var d *DamageError
		if _, err := Verify(o.Dir, o.Box, testKey); !errors.As(err, &d) || d.Record != c.first {
			t.Errorf("%s: verify: %v, want record %d", what, err, c.first)
		}
		if _, err := Open(o); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: open: %v", what, err)
		}
	}
}
