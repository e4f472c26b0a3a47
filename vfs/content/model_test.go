package content

import (
	"bytes"
	"io"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"sallyport/vfs/extent"
)

// version is a layout and what it must read as, for ever.
type version struct {
	layout *extent.Layout
	want   []byte
}

// TestModel runs drafts of one file beside a byte slice: versions follow each
// other, checkpoints stay readable while the draft goes on and after it ended,
// and at the end everything that was ever acknowledged is read again.
func TestModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := newRig()
		if rapid.Bool().Draw(t, "tight budget") {
			r.Budget = NewBudget(3 * segmentPlain)
		}
		var old []version
		current := version{layout: &extent.Layout{}}
		d, want := edit(t, r.Store, nil), []byte(nil)

		grow := func(size int) {
			if size > len(want) {
				want = append(want, make([]byte, size-len(want))...)
			}
		}
		offset := rapid.OneOf(rapid.IntRange(0, 400000), rapid.SampledFrom([]int{0, 65535, 65536, 65537, 131072, 1 << 20}))
		length := rapid.OneOf(rapid.IntRange(1, 200), rapid.IntRange(1, 100000), rapid.SampledFrom([]int{4096, 32768, 65536, 261120}))
		next := 0 // where the last write ended
		place := func(t *rapid.T) int {
			switch rapid.IntRange(0, 3).Draw(t, "place") {
			case 0:
				return len(want)
			case 1:
				return next
			}
			return offset.Draw(t, "off")
		}
		restart := func() {
			d, want = edit(t, r.Store, current.layout), slices.Clone(current.want)
			next = len(want)
		}
		t.Repeat(map[string]func(*rapid.T){
			"write": func(t *rapid.T) {
				off, p := place(t), pattern(length.Draw(t, "len"))
				writeAt(t, d, p, int64(off))
				grow(off + len(p))
				copy(want[off:], p)
				next = off + len(p)
			},
			"copy from": func(t *rapid.T) {
				off, p := place(t), pattern(length.Draw(t, "len")*3)
				if n, err := d.CopyFrom(bytes.NewReader(p), int64(off)); n != int64(len(p)) || err != nil {
					t.Fatalf("CopyFrom = %d, %v", n, err)
				}
				grow(off + len(p))
				copy(want[off:], p)
				next = off + len(p)
			},
			"truncate": func(t *rapid.T) {
				size := place(t)
				if err := d.Truncate(int64(size)); err != nil {
					t.Fatal(err)
				}
				want = want[:min(size, len(want)):min(size, len(want))]
				grow(size)
			},
			"read": func(t *rapid.T) {
				off, p := place(t), make([]byte, length.Draw(t, "len"))
				n, err := d.ReadAt(p, int64(off))
				expect := want[min(off, len(want)):min(off+len(p), len(want))]
				if !bytes.Equal(p[:n], expect) || err != nil && err != io.EOF || (n < len(p)) != (err == io.EOF) {
					t.Fatalf("ReadAt(%d, %d) = %d, %v; want %d bytes, first difference at %d", len(p), off, n, err, len(expect), firstDiff(p[:n], expect))
				}
			},
			"checkpoint": func(t *rapid.T) {
				l, err := d.Checkpoint(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				checkLayout(t, l)
				current = version{l, slices.Clone(want)}
				old = append(old, current)
			},
			"finish": func(t *rapid.T) {
				current = version{finish(t, d), slices.Clone(want)}
				old = append(old, current)
				restart()
			},
			"abort": func(t *rapid.T) {
				if err := d.Abort(); err != nil {
					t.Fatal(err)
				}
				restart()
			},
			"": func(t *rapid.T) {
				if d.Size() != int64(len(want)) {
					t.Fatalf("Size %d, want %d", d.Size(), len(want))
				}
			},
		})
		if err := d.Abort(); err != nil {
			t.Fatal(err)
		}
		for _, v := range old {
			wantContent(t, r.Store, v.layout, v.want)
		}
		if dirty, cached := r.Budget.Used(); dirty != 0 || cached != 0 {
			t.Fatalf("budget still counts %d bytes dirty, %d cached", dirty, cached)
		}
		for id, n := range r.keys.scattered {
			if n > 1 {
				t.Fatalf("Scatter of %s called %d times", id, n)
			}
		}
	})
}
