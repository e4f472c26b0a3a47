package vfs

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"testing"
	"time"
)

// aPurgedTimeIsRefused: with a horizon that is far enough back again, after a purge by the clock and after one that chose.
func aPurgedTimeIsRefused(t *testing.T) {
	clock := newHandClock()
	b := newBenchWith(t, Options{Now: clock.now})
	w := b.view()
	long := w.History(func() time.Time { return time.Unix(0, 0) })
	look := func(h *History, at time.Time) error { _, err := h.At(at).Lstat("/"); return err }
	put(t, w, "/f", []byte("one"))
	put(t, w, "/g", []byte("one"))
	first := b.instant()
	clock.advance(time.Hour)
	put(t, w, "/f", []byte("two"))
	ended := b.instant()
	clock.advance(time.Hour)
	ok(t, w.Remove("/g"))
	if whole := must(b.vol.Whole(t.Context()))(t); !whole.Since().IsZero() || !must(long.First())(t).Equal(time.Unix(0, 0)) {
		t.Errorf("nothing was destroyed, and yet: %+v", whole)
	}

	chosen := must(b.vol.PlanPurge(t.Context(), func(s Superseded) bool { return s.Path == "/g" }))(t)
	ok(t, chosen.Execute(t.Context(), nil))
	whole := must(b.vol.Whole(t.Context()))(t)
	if !whole.Purged.IsZero() || !whole.Lacking.Equal(b.instant()) && whole.Lacking.After(b.instant()) || whole.Lacking.Before(ended) {
		t.Errorf("after a chosen purge: %+v", whole)
	}
	ok(t, look(long, first)) // the others are there, and who chose knows
	_, err := long.At(first).Lstat("/g")
	wantErr(t, err, fs.ErrNotExist)

	open := must(long.At(ended).OpenHandle(t.Context(), "/f"))(t)
	defer open.Close()
	r := must(b.vol.Purge(t.Context(), PurgeOptions{Before: ended.Add(time.Minute)}))(t)
	whole = must(b.vol.Whole(t.Context()))(t)
	if !whole.Purged.Equal(r.Newest) || whole.Purged.After(ended) || whole.Purged.Before(first) {
		t.Errorf("purged up to %v, the newest was %v", whole.Purged, r.Newest)
	}
	for what, err := range map[string]error{
		"stat": look(long, first), "just before": look(long, whole.Purged.Add(-1)),
		"list":    long.At(first).ReadDir(t.Context(), "/", func([]*Info) error { return nil }),
		"open":    func() error { _, err := long.At(first).OpenHandle(t.Context(), "/f"); return err }(),
		"restore": func() error { _, err := long.PlanRestore(t.Context(), RestoreAsk{At: first}); return err }(),
	} {
		var not *NotWhole
		if !errors.As(err, &not) || !not.Since.Equal(whole.Purged) || not.Chosen || !errors.Is(err, ErrNotKept) || !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", what, err)
		}
	}
	ok(t, look(long, whole.Purged))
	ok(t, look(w.History(nil), first)) // what is left of it, for who knows
	if at := must(long.First())(t); !at.Equal(whole.Purged) {
		t.Errorf("the first instant is %v, want %v", at, whole.Purged)
	}
	if got := must(long.At(ended).Lstat("/f"))(t); got.Size() != 3 {
		t.Errorf("a whole instant has %+v", got)
	}
	if _, err := open.ReadAt(make([]byte, 3), 0); err != nil {
		t.Errorf("reading on: %v", err)
	}
	versions := 0
	ok(t, long.Versions(t.Context(), "/f", time.Time{}, func(PathVersion) error { versions++; return nil }))
	if versions != 1 {
		t.Errorf("%d versions are left", versions)
	}

	// What never was current was in no view.
	clock.advance(time.Hour)
	f := openFile(t, w, "/f", os.O_WRONLY|os.O_TRUNC)
	must(f.Write(noise(1, 100)))(t)
	f.TransferError(fs.ErrClosed)
	f.Close()
	broken := must(b.vol.Purge(t.Context(), PurgeOptions{Before: clock.now().Add(time.Minute)}))(t)
	if is := must(b.vol.Whole(t.Context()))(t); broken.Versions == 0 || is.Purged.After(ended.Add(2*time.Hour)) {
		t.Errorf("after the purge of a broken overwrite (%+v): %+v", broken, is)
	}

	// The marks go with the volume.
	was := must(b.vol.Whole(t.Context()))(t)
	ok(t, w.Close())
	b.rotate()
	b.tidy(TidyOptions{FoldAll: true, RepackAll: true})
	b.reopen()
	if is := must(b.vol.Whole(t.Context()))(t); !is.Purged.Equal(was.Purged) || !is.Lacking.Equal(was.Lacking) {
		t.Errorf("under a new key and opened again: %+v, want %+v", is, was)
	}
}

func anExactRestoreNeedsAWholeTime(t *testing.T) {
	clock := newHandClock()
	b := newBenchWith(t, Options{Now: clock.now})
	w := b.view()
	for _, name := range []string{"/a", "/b", "/c"} {
		put(t, w, name, []byte(name))
	}
	first := b.instant()
	clock.advance(time.Hour)
	ok(t, w.Remove("/a"))
	put(t, w, "/d", []byte("later"))
	second := b.instant()
	clock.advance(time.Hour)
	ok(t, w.Remove("/b"))
	ok(t, w.Remove("/c"))
	third := b.instant()
	must(b.vol.Purge(t.Context(), PurgeOptions{Before: second.Add(time.Minute)}))(t) // /a
	chosen := must(b.vol.PlanPurge(t.Context(), func(s Superseded) bool { return s.Path == "/b" }))(t)
	ok(t, chosen.Execute(t.Context(), nil))
	whole := must(b.vol.Whole(t.Context()))(t)
	h := w.History(nil)
	for at, choice := range map[time.Time]bool{first: false, second: true, whole.Lacking.Add(-1): true} {
		var not *NotWhole
		if _, err := h.PlanRestore(t.Context(), RestoreAsk{At: at, Exact: true}); !errors.As(err, &not) || not.Chosen != choice || !not.Since.Equal(whole.Since()) {
			t.Errorf("exactly as of %v: %v", at, err)
		}
	}
	if _, err := h.PlanRestore(t.Context(), RestoreAsk{At: third, Exact: true}); err != nil {
		t.Errorf("exactly as of a whole time: %v", err)
	}

	put(t, w, "/e", []byte("now"))
	plan := must(h.PlanRestore(t.Context(), RestoreAsk{At: second}))(t)
	if !plan.Lacks.Equal(whole.Since()) {
		t.Errorf("the plan lacks something before %v", plan.Lacks)
	}
	ok(t, plan.Execute(t.Context()))
	if got := names(t, w, "/"); !slices.Equal(got, []string{"c", "d", "e"}) {
		t.Errorf("restored %q: what is gone is gone, what came later stays", got)
	}

	// A plan that was made before something of its time was purged.
	clock.advance(time.Hour)
	plan = must(h.PlanRestore(t.Context(), RestoreAsk{At: third, Exact: true}))(t)
	ok(t, w.Remove("/d"))
	must(b.vol.Purge(t.Context(), PurgeOptions{Before: clock.now().Add(time.Hour)}))(t)
	var not *NotWhole
	if err := plan.Execute(t.Context()); !errors.As(err, &not) {
		t.Errorf("a plan of before the purge: %v", err)
	}
}

// TestOperatorsRestoreWhatIsLeftBelowPurgedDirectories: their attributes of then are gone, and what is in them is not.
func TestOperatorsRestoreWhatIsLeftBelowPurgedDirectories(t *testing.T) {
	t.Parallel()
	clock := newHandClock()
	b := newBenchWith(t, Options{Now: clock.now})
	w := b.view()
	ok(t, w.MkdirAll("/a/b", 0))
	put(t, w, "/a/b/old", []byte("old"))
	put(t, w, "/a/b/kept", []byte("kept"))
	then := b.instant()
	clock.advance(time.Hour)
	for _, dir := range []string{"/", "/a", "/a/b"} { // each gets attributes that are not those of then
		ok(t, w.Chmod(dir, 0o711))
	}
	put(t, w, "/a/b/old", []byte("newer"))
	purged := b.instant()
	clock.advance(time.Hour)
	ok(t, w.RemoveAll("/a"))
	must(b.vol.Purge(t.Context(), PurgeOptions{Before: purged.Add(time.Minute)}))(t)

	for _, to := range []string{"", "/elsewhere/b"} {
		plan := must(w.History(nil).PlanRestore(t.Context(), RestoreAsk{At: then, From: "/a/b", To: to}))(t)
		if plan.Lacks.IsZero() {
			t.Error("the plan does not say that something may be missing")
		}
		ok(t, plan.Execute(t.Context()))
		dir := plan.Ask.To
		if got := names(t, w, dir); !slices.Equal(got, []string{"kept"}) {
			t.Errorf("in %s: %q", dir, got)
		}
		wantContent(t, w, dir+"/kept", []byte("kept"))
		if i := must(w.Stat(dir))(t); i.Mode().Perm()&0o700 != 0o700 {
			t.Errorf("%s has mode %v", dir, i.Mode())
		}
	}
	_, err := w.History(nil).PlanRestore(t.Context(), RestoreAsk{At: then, From: "/a/b/old"})
	wantErr(t, err, ErrPurged)
	var not *NotWhole
	if _, err := w.History(func() time.Time { return time.Unix(0, 0) }).At(then).Lstat("/a/b"); !errors.As(err, &not) {
		t.Errorf("a client sees %v", err)
	}
}

// anOpeningLooksAgainAtWhatWasPurgedMeanwhile: between the look at a name and the pin of its file another session replaces or removes it, and it is purged.
// Who opens then gets what the name leads to now, as who had come a moment later.
func anOpeningLooksAgainAtWhatWasPurgedMeanwhile(t *testing.T) {
	for what, c := range map[string]struct {
		meanwhile func(t *testing.T, w *View)
		flag      int
		want      string // content after the close; "" = the opening is refused: there is nothing
	}{
		"removed, uploaded whole":           {func(t *testing.T, w *View) { ok(t, w.Remove("/f")) }, os.O_WRONLY | os.O_CREATE | os.O_TRUNC, "new"},
		"replaced, uploaded whole":          {func(t *testing.T, w *View) { put(t, w, "/g", []byte("other")); ok(t, w.Rename("/g", "/f")) }, os.O_WRONLY | os.O_CREATE | os.O_TRUNC, "new"},
		"removed, truncated and not made":   {func(t *testing.T, w *View) { ok(t, w.Remove("/f")) }, os.O_WRONLY | os.O_TRUNC, ""},
		"overwritten, read and written":     {func(t *testing.T, w *View) { put(t, w, "/f", []byte("other")) }, os.O_RDWR, "newer"},
		"removed, read and written or made": {func(t *testing.T, w *View) { ok(t, w.Remove("/f")) }, os.O_RDWR | os.O_CREATE, "new"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			other := b.view()
			put(t, other, "/f", noise(1, 200_000)) // in a blob: an opening to read looks into it
			done := false
			w := b.viewWith(ViewOptions{Writer: "test", Supersede: func(Superseding) error {
				if !done {
					done = true
					c.meanwhile(t, other)
					must(b.vol.Purge(t.Context(), PurgeOptions{Before: oneSecond().Add(time.Hour)}))(t)
				}
				return nil
			}})
			f, err := w.OpenHandle(t.Context(), "/f", c.flag, 0)
			if c.want == "" {
				wantErr(t, err, fs.ErrNotExist)
				if errors.Is(err, ErrPurged) {
					t.Errorf("it is said to be purged, and not to be there: %v", err)
				}
				return
			}
			ok(t, err)
			write(t, f, []byte("new"))
			ok(t, f.Close())
			if got := string(get(t, other, "/f")); !done || got != c.want {
				t.Errorf("/f holds %q, want %q", brief([]byte(got)), c.want)
			}
		})
	}
}
