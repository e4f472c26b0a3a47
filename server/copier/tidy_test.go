package copier

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"sallyport/server/statecopy"
	"sallyport/vfs"
)

// frayed makes a file of whose first blob parts are dead, and returns its content.
func (h *house) frayed(v *vfs.Volume, name string, seed byte) []byte {
	h.t.Helper()
	w := v.View(vfs.ViewOptions{Writer: "test"})
	want := noise(300_000, seed)
	for i := range 4 {
		f := must(w.OpenHandle(h.t.Context(), name, os.O_RDWR|os.O_CREATE, 0o600))(h.t)
		at, part := int64(i*70_000), noise(20_000, seed+byte(i))
		if i == 0 {
			part = bytes.Clone(want)
		}
		must(f.WriteAt(part, at))(h.t)
		copy(want[at:], part)
		if err := f.Close(); err != nil {
			h.t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		h.t.Fatal(err)
	}
	p := must(v.PlanPurge(h.t.Context(), func(vfs.Superseded) bool { return true }))(h.t)
	if err := p.Execute(h.t.Context(), nil); err != nil {
		h.t.Fatal(err)
	}
	return want
}

// TestRepackingWhileCopying: blobs are packed anew at each step of a copy, and nothing is committed afterwards. The copy is whole, and so is the next
// one, for which nothing happened.
func TestRepackingWhileCopying(t *testing.T) {
	t.Parallel()
	for n := 1; ; n++ {
		h := newHouse(t)
		a := h.account(map[string][]byte{"other": noise(90_000, 9)})
		v := must(h.fs.Volume(t.Context(), a))(t)
		want := map[string][]byte{}
		for i := range 2 {
			name := fmt.Sprint("f", i)
			want[name] = h.frayed(v, name, byte(10*i))
		}
		to := filepath.Join(t.TempDir(), "copy")
		calls, repacked := 0, uint64(0)
		done := must(h.copyTo(to, statecopy.Options{}, func(string) error {
			if calls++; calls == n {
				repacked = must(v.RepackAll(t.Context()))(t).Repacked
			}
			return nil
		}))(t)
		if calls < n {
			if n < 5 {
				t.Fatalf("only %d steps", n)
			}
			return
		}
		if repacked < 2 || done.Damaged != 0 {
			t.Fatalf("step %d: %d repacked, %+v", n, repacked, done)
		}
		for round := range 2 {
			r := h.restore(to)
			for name, data := range want {
				if !bytes.Equal(r.content(a, name), data) {
					t.Errorf("step %d, round %d: other contents of %s", n, round, name)
				}
			}
			asked, done := h.again(to, statecopy.Options{Deep: round == 1})
			if round > 0 && (asked != 0 || done.Same != 1) || done.Damaged != 0 || done.Mended != 0 {
				t.Errorf("step %d, round %d: asked for %d, %+v", n, round, asked, done)
			}
		}
	}
}
