package copier

import (
	"errors"
	"path/filepath"
	"testing"

	"sallyport/server/statecopy"
	"sallyport/vfs"
)

// TestAPurgeIsOneChange: after a purge, and after a blob was lost and purged, an account is copied once and then not again.
func TestAPurgeIsOneChange(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	a := h.account(map[string][]byte{"one": noise(70_000, 1), "two": noise(80_000, 2)})
	to := filepath.Join(t.TempDir(), "copy")
	h.again(to, statecopy.Options{})
	v := must(h.fs.Volume(t.Context(), a))(t)
	w := v.View(vfs.ViewOptions{Writer: "test"})
	if err := errors.Join(w.Remove("one"), w.Close()); err != nil {
		t.Fatal(err)
	}
	p := must(v.PlanPurge(t.Context(), func(vfs.Superseded) bool { return true }))(t)
	if err := p.Execute(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	h.again(to, statecopy.Options{})
	h.again(to, statecopy.Options{})
	if asked, done := h.again(to, statecopy.Options{}); asked != 0 || done.Same != 1 {
		t.Errorf("asked for %d, %+v", asked, done)
	}
}
