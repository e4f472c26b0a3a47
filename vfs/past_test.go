package vfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/vfs/meta"
)

// instant is that of the volume's last commit.
func (b *bench) instant() time.Time {
	b.t.Helper()
	var at int64
	ok(b.t, b.vol.do(context.Background(), func(c *core) error {
		return c.db.View(func(tx *meta.Tx) error { at = tx.Stats().LastInstant; return nil })
	}))
	return time.Unix(0, at)
}

// now is the clock of bench that a test moves by hand; each look at it is a nanosecond later.
type handClock struct{ atomic.Int64 }

func newHandClock() *handClock {
	c := &handClock{}
	c.Store(time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC).UnixNano())
	return c
}

func (c *handClock) now() time.Time          { return time.Unix(0, c.Add(1)) }
func (c *handClock) advance(d time.Duration) { c.Add(int64(d)) }

func pastNames(t testing.TB, p *Past, dir string) []string {
	t.Helper()
	var out []string
	ok(t, p.ReadDir(t.Context(), dir, func(batch []*Info) error {
		for _, i := range batch {
			out = append(out, i.Name())
		}
		return nil
	}))
	slices.Sort(out)
	return out
}

func pastContent(t testing.TB, p *Past, name string) []byte {
	t.Helper()
	f := must(p.OpenHandle(t.Context(), name))(t)
	defer f.Close()
	return must(io.ReadAll(f))(t)
}

func thePastIsAsItWas(t *testing.T) {
	clock := newHandClock()
	b := newBenchWith(t, Options{Now: clock.now})
	w := b.view()
	ok(t, w.Mkdir("/d", 0))
	ok(t, w.Mkdir("/d/sub", 0))
	put(t, w, "/d/f", noise(1, 100_000))
	put(t, w, "/d/sub/g", []byte("g"))
	ok(t, w.Symlink("d/f", "/l"))
	ok(t, w.SetAttr("/d/f", AttrChange{Mode: ptr(os.FileMode(0o600)), Mtime: ptr(time.Unix(1000, 5))}))
	dir := stat(t, w, "/d")
	then := b.instant()
	clock.advance(time.Hour)

	put(t, w, "/d/f", []byte("new"))
	ok(t, w.SetAttr("/d/f", AttrChange{Mode: ptr(os.FileMode(0o644))}))
	ok(t, w.Rename("/d", "/e"))
	ok(t, w.RemoveAll("/e/sub"))
	ok(t, w.Remove("/l"))
	ok(t, w.Symlink("e/f", "/l"))
	put(t, w, "/d", []byte("a file where a directory was"))
	pending := openFile(t, w, "/e/f", os.O_RDWR) // what is not committed is nobody's past
	must(pending.Write([]byte("pending")))(t)

	p := w.History(nil).At(then)
	if got := pastNames(t, p, "/"); !slices.Equal(got, []string{"d", "l"}) {
		t.Errorf("/ held %q", got)
	}
	if got := pastNames(t, p, "/d"); !slices.Equal(got, []string{"f", "sub"}) {
		t.Errorf("/d held %q", got)
	}
	for _, name := range []string{"/d/f", "/l", "d/sub/../f"} {
		if got := pastContent(t, p, name); !bytes.Equal(got, noise(1, 100_000)) {
			t.Errorf("%s held %s", name, brief(got))
		}
		i := must(p.Stat(name))(t)
		if i.Size() != 100_000 || i.Mode() != 0o600 || !i.ModTime().Equal(time.Unix(1000, 5)) {
			t.Errorf("%s was %d bytes, %v, of %v", name, i.Size(), i.Mode(), i.ModTime())
		}
	}
	if got := must(p.Stat("/d"))(t); !got.ModTime().Equal(dir.ModTime()) || got.Mode() != dir.Mode() {
		t.Errorf("/d was %v of %v, want %v of %v", got.Mode(), got.ModTime(), dir.Mode(), dir.ModTime())
	}
	if got := pastContent(t, p, "/d/sub/g"); string(got) != "g" {
		t.Errorf("a file in a directory that is gone held %q", got)
	}
	if at := must(p.Resolve("/l", true))(t); at != "/d/f" {
		t.Errorf("the symlink led to %s", at)
	}
	if to := must(p.Readlink("/l"))(t); to != "d/f" {
		t.Errorf("the symlink was %q", to)
	}
	for _, name := range []string{"/e", "/d/f/x", "/none/x"} {
		_, err := p.Stat(name)
		if name == "/d/f/x" {
			wantErr(t, err, ErrNotDir)
		} else {
			wantErr(t, err, fs.ErrNotExist)
		}
	}
	_, err := p.OpenHandle(t.Context(), "/d")
	wantErr(t, err, ErrIsDir)
	_, err = w.History(nil).At(then.Add(-24 * time.Hour)).Stat("/d")
	wantErr(t, err, fs.ErrNotExist)
	ok(t, pending.Close())
}

func aHandleOnThePastChangesNothing(t *testing.T) {
	b := newBench(t)
	w := b.view()
	put(t, w, "/f", noise(1, 200_000))
	then := b.instant()
	put(t, w, "/f", []byte("now"))
	f := must(w.History(nil).At(then).OpenHandle(t.Context(), "/f"))(t)
	wantErr(t, f.SetAttr(AttrChange{Mode: ptr(os.FileMode(0))}), fs.ErrPermission)
	wantErr(t, f.Truncate(0), fs.ErrPermission)
	_, err := f.Write([]byte("x"))
	wantErr(t, err, fs.ErrPermission)
	i := must(f.Stat())(t).(*Info)
	if i.Size() != 200_000 || i.Version() != 1 || i.Name() != "f" {
		t.Errorf("the handle says %d bytes, version %d, %q", i.Size(), i.Version(), i.Name())
	}
	buf := make([]byte, 10)
	must(f.ReadAt(buf, 100_000))(t)
	if !bytes.Equal(buf, noise(1, 200_000)[100_000:100_010]) {
		t.Error("it reads other bytes")
	}
	ok(t, f.Close())
	wantContent(t, w, "/f", []byte("now"))
	if n := stat(t, w, "/f").Version(); n != 2 {
		t.Errorf("the file of now is at version %d", n)
	}
}

func theHorizonIsTheEndOfThePast(t *testing.T) {
	clock := newHandClock()
	b := newBenchWith(t, Options{Now: clock.now})
	w := b.view()
	put(t, w, "/f", []byte("one"))
	first := b.instant()
	clock.advance(time.Hour)
	put(t, w, "/f", []byte("two"))
	second := b.instant()
	clock.advance(time.Hour)
	ok(t, w.Remove("/f"))

	var horizon atomic.Int64
	h := w.History(func() time.Time { return time.Unix(0, horizon.Load()) })
	look := func(at time.Time) error { _, err := h.At(at).Stat("/f"); return err }
	versions := func() (n int) {
		err := h.Versions(t.Context(), "/f", time.Time{}, func(PathVersion) error { n++; return nil })
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		return n
	}
	open := must(h.At(first).OpenHandle(t.Context(), "/f"))(t)
	defer open.Close()
	var old PathVersion
	ok(t, h.Versions(t.Context(), "/f", time.Time{}, func(v PathVersion) error {
		if v.State == VersionSuperseded {
			old = v
		}
		return nil
	}))
	ok(t, look(first))
	if n := versions(); n != 2 {
		t.Fatalf("%d versions", n)
	}
	wantErr(t, look(clock.now().Add(time.Second)), ErrFuture)

	horizon.Store(second.UnixNano())
	wantErr(t, look(first), ErrNotKept)
	ok(t, look(second))
	if n := versions(); n != 1 {
		t.Errorf("%d versions since the second", n)
	}
	_, err := h.OpenVersion(t.Context(), "/f", old)
	wantErr(t, err, ErrNotKept)

	// Nothing is kept: not even the present is a past.
	h = w.History(clock.now)
	wantErr(t, look(second), ErrNotKept)
	wantErr(t, look(clock.now()), ErrNotKept)
	if n := versions(); n != 0 {
		t.Errorf("%d versions of nothing", n)
	}
	_, _, _, err = h.Last("/f")
	wantErr(t, err, ErrNotKept)
}

func TestAPurgedVersionIsSaidToBePurged(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	put(t, w, "/f", noise(1, 20<<20)) // more than a reader keeps
	put(t, w, "/gone", []byte("x"))
	then := b.instant()
	p := w.History(nil).At(then)
	open := must(p.OpenHandle(t.Context(), "/f"))(t)
	defer open.Close()
	var v PathVersion
	ok(t, w.History(nil).Versions(t.Context(), "/f", time.Time{}, func(pv PathVersion) error { v = pv; return nil }))
	put(t, w, "/f", []byte("two"))
	v.Until = b.instant()
	b.purge(all)
	_, err := p.Stat("/f")
	wantErr(t, err, ErrPurged)
	_, err = p.OpenHandle(t.Context(), "/f")
	wantErr(t, err, ErrPurged)
	_, err = w.History(nil).OpenVersion(t.Context(), "/f", v)
	wantErr(t, err, ErrPurged)
	if _, err := open.ReadAt(make([]byte, 10), 0); err != nil { // what is open is read on, or said to be gone
		wantErr(t, err, ErrPurged)
	}
	if got := pastNames(t, p, "/"); !slices.Equal(got, []string{"f", "gone"}) {
		t.Errorf("/ held %q", got)
	}
}

// versionLine is a version for comparison.
func versionLine(v PathVersion) string {
	return fmt.Sprintf("%s %d %s", v.State, v.Size(), v.Writer)
}

func aPathHasAllItsVersions(t *testing.T) {
	clock := newHandClock()
	b := newBenchWith(t, Options{Now: clock.now})
	w := b.viewWith(ViewOptions{Writer: "w"})
	lines := func(name string) (out []string) {
		t.Helper()
		last := time.Time{}
		ok(t, w.History(nil).Versions(t.Context(), name, time.Time{}, func(v PathVersion) error {
			if v.At.Before(last) || v.Until.IsZero() != (v.State == VersionLive) {
				t.Errorf("%s: version at %v after one at %v, until %v, %v", name, v.At, last, v.Until, v.State)
			}
			last = v.At
			out = append(out, versionLine(v))
			return nil
		}))
		return out
	}
	ok(t, w.MkdirAll("/a/b", 0))
	put(t, w, "/a/b/f", noise(1, 1))
	put(t, w, "/a/b/f", noise(1, 2))
	broken := openFile(t, w, "/a/b/f", os.O_WRONLY|os.O_TRUNC)
	write(t, broken, noise(1, 200_000))
	broken.TransferError(errors.New("cut"))
	ok(t, broken.Close())
	put(t, w, "/a/b/f", noise(1, 3))
	stamp(t, w, "/a/b/f", 1000) // no version of its own
	ok(t, w.Rename("/a/b/f", "/a/b/g"))
	put(t, w, "/a/b/f", noise(1, 4))
	ok(t, w.RemoveAll("/a"))
	clock.advance(time.Minute)
	ok(t, w.MkdirAll("/a/b", 0))
	put(t, w, "/a/b/f", noise(1, 5))

	want := []string{"superseded 1 w", "superseded 2 w", "interrupted 200000 w", "deleted 3 w", "deleted 4 w", "live 5 w"}
	if got := lines("/a/b/f"); !slices.Equal(got, want) {
		t.Errorf("versions of /a/b/f: %q, want %q", got, want)
	}
	if got := lines("/a/b/g"); !slices.Equal(got, []string{"deleted 3 w"}) {
		t.Errorf("versions of /a/b/g: %q", got)
	}
	if got := lines("/a/b"); len(got) != 0 {
		t.Errorf("a directory has versions: %q", got)
	}
	var got []string
	ok(t, w.History(nil).Names(t.Context(), "/a/b", func(batch []*Info) error {
		for _, i := range batch {
			got = append(got, i.Name())
		}
		return nil
	}))
	slices.Sort(got)
	if !slices.Equal(got, []string{"f", "g"}) {
		t.Errorf("names in /a/b: %q", got)
	}
	ok(t, w.History(nil).Versions(t.Context(), "/a/b/f", time.Time{}, func(v PathVersion) error {
		f := must(w.History(nil).OpenVersion(t.Context(), "/a/b/f", v))(t)
		defer f.Close()
		if data := must(io.ReadAll(f))(t); !bytes.Equal(data, noise(1, int(v.Size()))) {
			t.Errorf("version of %d bytes holds %s", v.Size(), brief(data))
		}
		return nil
	}))
	err := w.History(nil).Versions(t.Context(), "/never", time.Time{}, nil)
	wantErr(t, err, fs.ErrNotExist)
}

func TestManyVersionsComeInPages(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	const n = 2*versionPage + 10
	var middle time.Time
	for i := range n {
		put(t, w, "/f", noise(1, i%7))
		if i == n/2 {
			middle = b.instant()
		}
	}
	count := func(since time.Time) (got int) {
		ok(t, w.History(nil).Versions(t.Context(), "/f", since, func(v PathVersion) error {
			if want := n - 1; got == want && v.State != VersionLive || v.State == VersionLive && v.Version() != n {
				t.Errorf("version %d: %v", v.Version(), v.State)
			}
			got++
			return nil
		}))
		return got
	}
	if got := count(time.Time{}); got != n {
		t.Errorf("%d versions, want %d", got, n)
	}
	if got := count(middle); got != n-n/2 {
		t.Errorf("%d versions since the middle, want %d", got, n-n/2)
	}
}

// Programs that save under another name and rename it make a new file each time.
func TestAPathHasTheVersionsOfAllFilesThatHadIt(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	const n = maxHomes + 40
	for i := range n {
		put(t, w, "/new", noise(uint64(i), 10))
		ok(t, w.Rename("/new", "/f"))
	}
	h := w.History(nil)
	for _, most := range []int{stayPage, 7} {
		var last time.Time
		count := 0
		r := &versionReader{h: h, name: "/f", most: most}
		for more := true; more; {
			var page []PathVersion
			var err error
			page, more, err = r.view(t.Context())
			ok(t, err)
			for _, v := range page {
				if count++; !v.At.After(last) {
					t.Errorf("version %d is from %v, the one before from %v", count, v.At, last)
				}
				last = v.At
			}
		}
		if count != n {
			t.Errorf("%d versions by %d, want %d", count, most, n)
		}
	}
}

// theTimeOfADirectory: it is what protocols show, and its past does not grow with each file.
func theTimeOfADirectory(t *testing.T) {
	clock := newHandClock()
	b := newBenchWith(t, Options{Now: clock.now})
	w := b.view()
	ok(t, w.Mkdir("/d", 0))
	first := stat(t, w, "/d")
	for i := range 20 {
		put(t, w, fmt.Sprintf("/d/%d", i), nil)
	}
	if i := stat(t, w, "/d"); i.Version() != first.Version() || !i.ModTime().Equal(first.ModTime()) {
		t.Errorf("version %d of %v within the second of version %d", i.Version(), i.ModTime(), first.Version())
	}
	then := b.instant()
	clock.advance(2 * time.Second)
	ok(t, w.Remove("/d/1"))
	ok(t, w.Remove("/d/2"))
	i := stat(t, w, "/d")
	if i.Version() != first.Version()+1 || i.ModTime().Sub(first.ModTime()) < 2*time.Second {
		t.Errorf("version %d of %v after %v", i.Version(), i.ModTime(), first.ModTime())
	}
	if was := must(w.History(nil).At(then).Stat("/d"))(t); !was.ModTime().Equal(first.ModTime()) {
		t.Errorf("it was of %v, want %v", was.ModTime(), first.ModTime())
	}
}

func TestRowsOfLossesAreRemembered(t *testing.T) {
	t.Parallel()
	clock := newHandClock()
	b := newBenchWith(t, Options{Now: clock.now})
	w := b.view()
	fill := func() {
		ok(t, w.Mkdir("/d", 0))
		for i := range 2 * lossLeast {
			put(t, w, fmt.Sprintf("/d/%d", i), []byte("x"))
		}
		clock.advance(time.Hour)
	}
	h := w.History(nil)
	rows := func() []Loss { t.Helper(); return must(h.Losses(t.Context()))(t) }
	fill()
	ok(t, w.Remove("/d/0")) // not worth telling
	clock.advance(time.Hour)
	if r := rows(); len(r) != 0 {
		t.Fatalf("rows %v", r)
	}
	ok(t, w.RemoveAll("/d"))
	r := rows()
	if len(r) != 1 || r[0].Count != 2*lossLeast {
		t.Fatalf("rows %v", r)
	}
	if got := pastNames(t, h.At(r[0].Before), "/d"); len(got) != 2*lossLeast-1 {
		t.Errorf("just before it there were %q", got)
	}
	fill()
	for i := range lossLeast {
		ok(t, w.Remove(fmt.Sprintf("/d/%d", i)))
		rows() // what is read a little at a time is one row all the same
	}
	if r := rows(); len(r) != 2 || r[1].Count != lossLeast {
		t.Errorf("rows %v", r)
	}
	late := w.History(func() time.Time { return r[0].Before.Add(time.Minute) })
	if r := must(late.Losses(t.Context()))(t); len(r) != 1 {
		t.Errorf("rows since the horizon: %v", r)
	}
}

// TestThePastIsJudgedByThePathThatIsFound: canonical, and of what is not there the path that it would have.
func TestThePastIsJudgedByThePathThatIsFound(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	ok(t, w.MkdirAll("/a/b", 0))
	put(t, w, "/a/b/f", []byte("f"))
	ok(t, w.Symlink("a/b", "/l"))
	refuse := errors.New("not for you")
	var asked string
	p := w.History(nil).At(b.instant())
	for _, c := range []struct{ name, want string }{
		{"/l/f", "/a/b/f"}, {"a/./b/../b/f", "/a/b/f"}, {"/l/none", "/a/b/none"}, {"/l/none/x", "/a/b/none/x"}, {"/l/f/x", "/a/b/f/x"}, {"/none/x/y", "/none/x/y"},
	} {
		for _, answer := range []error{nil, refuse} {
			j := p.Judged(func(path string) error { asked = path; return answer })
			for op, do := range map[string]func() error{
				"stat":    func() error { _, err := j.Stat(c.name); return err },
				"lstat":   func() error { _, err := j.Lstat(c.name); return err },
				"resolve": func() error { _, err := j.Resolve(c.name, true); return err },
				"readdir": func() error { return j.ReadDir(t.Context(), c.name, func([]*Info) error { return nil }) },
				"open": func() error {
					f, err := j.OpenHandle(t.Context(), c.name)
					if err == nil {
						err = f.Close()
					}
					return err
				},
			} {
				asked = ""
				if err := do(); asked != c.want || (err == refuse) != (answer == refuse) { //nolint:errorlint // exactly that one
					t.Errorf("%s %s: asked for %q, want %q; %v", op, c.name, asked, c.want, err)
				}
			}
		}
	}
}
