package vfs

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestOnlyWhatARepairPutAsideStays: an authentic older database, put aside by a repair, outlives starts, tidying and rotations,
// is never served, not even where there is no other, and everything else that is left over goes.
func TestOnlyWhatARepairPutAsideStays(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	put(t, w, "/f", []byte("of before the repair"))
	ok(t, w.Close())
	b.close()
	old := must(os.ReadFile(filepath.Join(b.dir(), treeName(1))))(t)
	b.open()
	w = b.view()
	put(t, w, "/f", []byte("of today"))
	ok(t, w.Close())
	aside := []string{treeName(1) + damagedMark + "20260101T000000Z", treeName(1) + damagedMark + "20260101T000000Z.2"}
	for _, name := range aside {
		ok(t, os.WriteFile(filepath.Join(b.dir(), name), old, 0o600))
	}
	check := func(when string, version uint32) {
		t.Helper()
		want := slices.Sorted(slices.Values(append([]string{"blobs", treeName(version)}, aside...)))
		if got := filesIn(t, b.dir()); !slices.Equal(got, want) {
			t.Fatalf("%s: left are %v, want %v", when, got, want)
		}
		for _, name := range aside {
			if got := must(os.ReadFile(filepath.Join(b.dir(), name)))(t); !bytes.Equal(got, old) {
				t.Errorf("%s: %s was changed", when, name)
			}
		}
		w := b.view()
		wantContent(t, w, "/f", []byte("of today"))
		ok(t, w.Close())
	}
	litter := func(version uint32) {
		for _, name := range []string{treeName(version) + ".new", treeName(version + 1), treeName(version+1) + ".new", treeName(version+1) + ".tmp-7", treeName(version + 9)} {
			ok(t, os.WriteFile(filepath.Join(b.dir(), name), old, 0o600))
		}
	}
	check("put aside", 1)
	litter(1)
	b.reopen()
	check("after a start", 1)
	b.tidy(TidyOptions{FoldAll: true, RepackAll: true, Wait: -1})
	check("after tidying", 1)
	b.rotate()
	check("after a rotation", 2)
	litter(2)
	b.reopen()
	check("after a rotation and a start", 2)
	plan := b.planAlone(RepairOptions{})
	if plan.Rebuild {
		t.Errorf("a repair would take what is aside for damage: %+v", plan)
	}
	check("after a look for damage", 2)

	ok(t, b.fs.Close())
	named := filepath.Join(b.dir(), treeName(2))
	ok(t, os.Rename(named, named+".elsewhere"))
	b.start(Options{})
	if _, err := b.fs.Volume(t.Context(), b.id); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("with nothing but what is aside: %v, want %v", err, fs.ErrNotExist)
	}
	ok(t, b.fs.Close())
	ok(t, os.Rename(named+".elsewhere", named))
	b.start(Options{})
	b.open()
	check("put back", 2)
}

// planAlone plans with the volume closed.
func (b *bench) planAlone(o RepairOptions) *Repair {
	b.t.Helper()
	b.close()
	defer b.open()
	return b.plan(o)
}
