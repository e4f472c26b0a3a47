package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"sallyport/vfs/meta"
)

// versions are those that the listing of a path tells.
func (b *bench) versions(w *View, name string) (list []PathVersion) {
	b.t.Helper()
	ok(b.t, w.History(nil).Versions(b.t.Context(), name, time.Time{}, func(v PathVersion) error { list = append(list, v); return nil }))
	return list
}

// stamp sets the times of a file as clients do after an upload.
func stamp(t testing.TB, w *View, name string, second int64) {
	t.Helper()
	ok(t, w.LsetAttr(name, AttrChange{Mtime: ptr(time.Unix(second, 0))}))
}

// manySorts calls fn with files of all sorts: in the metadata, in a blob, and with more extents than a record takes.
func manySorts(t *testing.T, w *View, fn func(name string, renew func())) {
	seed := uint64(0)
	for name, size := range map[string]int{"/few": 10, "/blob": 100_000} {
		fn(name, func() { seed++; put(t, w, name, noise(seed, size)) })
	}
	fn("/pieces", func() {
		if seed++; seed > 3 && exists(w, "/pieces") {
			f := openFile(t, w, "/pieces", os.O_WRONLY)
			must(f.WriteAt(noise(seed, 50), int64(seed)*1000))(t)
			ok(t, f.Close())
			return
		}
		fragmented(t, w, "/pieces", 300_000, 300, 3)
	})
}

func exists(w *View, name string) bool { _, err := w.Lstat(name); return err == nil }

// TestTimesAndModeMakeNoVersionInTheList: an upload that preserves times is one version of the path, with the times that were set, and each
// other content is another one; trees of each instant are as they were all the same.
func TestTimesAndModeMakeNoVersionInTheList(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	manySorts(t, w, func(name string, renew func()) {
		renew()
		before := len(b.versions(w, name)) - 1
		first, uploaded := stat(t, w, name), b.instant()
		stamp(t, w, name, 1000)
		stamped := b.instant()
		ok(t, w.SetAttr(name, AttrChange{Mode: ptr(os.FileMode(0o600))}))
		moded := b.instant()
		list := b.versions(w, name)[before:]
		if len(list) != 1 {
			t.Fatalf("%s: %d versions of one upload", name, len(list))
		}
		v := list[0]
		if v.State != VersionLive || v.Number != first.Version() || v.Version() != first.Version()+2 || !v.At.Equal(uploaded) || !v.AttrAt.Equal(moded) ||
			!v.ModTime().Equal(time.Unix(1000, 0)) || v.Mode() != 0o600 {
			t.Errorf("%s: version %d to %d, %v, of %v, attributes of %v: %v %v", name, v.Number, v.Version(), v.State, v.At, v.AttrAt, v.ModTime(), v.Mode())
		}
		for at, want := range map[time.Time]time.Time{uploaded: first.ModTime(), stamped: time.Unix(1000, 0)} {
			if i := must(w.History(nil).At(at).Stat(name))(t); !i.ModTime().Equal(want) || i.Mode() != first.Mode() {
				t.Errorf("%s: it was of %v, want %v, at %v", name, i.ModTime(), want, at)
			}
		}

		if name == "/pieces" { // the file lies elsewhere from here on: another content for nobody
			if r := b.tidy(TidyOptions{FoldAll: true}); r.Folded == 0 {
				t.Fatalf("tidied %+v", r)
			}
			if l := layoutOfPath(t, w, name); len(l.Extents) != 1 {
				t.Fatalf("%d extents after folding", len(l.Extents))
			}
			if list := b.versions(w, name)[before:]; len(list) != 1 {
				t.Errorf("%s: %d versions of one upload after folding", name, len(list))
			}
		}
		renew()
		replaced := b.instant()
		stamp(t, w, name, 2000)
		list = b.versions(w, name)[before:]
		if len(list) != 2 || list[0].State != VersionSuperseded || !list[0].Until.Equal(replaced) || !list[1].At.Equal(replaced) || list[1].ModTime().Unix() != 2000 {
			t.Errorf("%s: after another upload %+v", name, list)
		}
	})
	b.verify()

	ok(t, w.Symlink("few", "/link"))
	stamp(t, w, "/link", 1000)
	if list := b.versions(w, "/link"); len(list) != 1 || list[0].ModTime().Unix() != 1000 {
		t.Errorf("a symlink: %+v", list)
	}
}

// TestWhatIsCompletedIsAnotherVersion: the state of an upload is told from its bytes by nobody else.
func TestWhatIsCompletedIsAnotherVersion(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	f := openFile(t, w, "/f", wr)
	write(t, f, noise(1, 100_000))
	f.TransferError(errors.New("cut"))
	ok(t, f.Close())
	ok(t, openFile(t, w, "/f", os.O_WRONLY).Close()) // nothing was missing
	list := b.versions(w, "/f")
	if len(list) != 2 || !list[0].Partial() || list[1].Partial() {
		t.Errorf("versions %+v", list)
	}
}

// TestARestoredVersionIsAsTheListShowsIt: of AttrAt, with the times that were set after the upload.
func TestARestoredVersionIsAsTheListShowsIt(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	put(t, w, "/f", noise(1, 100))
	stamp(t, w, "/f", 1000)
	put(t, w, "/f", noise(2, 100))
	v := b.versions(w, "/f")[0]
	b.restore(w, RestoreAsk{At: v.AttrAt, From: "/f"})
	if i := stat(t, w, "/f"); !i.ModTime().Equal(v.ModTime()) || i.ModTime().Unix() != 1000 {
		t.Errorf("restored with %v, shown with %v", i.ModTime(), v.ModTime())
	}
	wantContent(t, w, "/f", noise(1, 100))
}

// TestVeryManyChangesOfTimesComeInPages: they are one version, however many views it takes to read them, with what broke off in between.
func TestVeryManyChangesOfTimesComeInPages(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	const n = 2*versionsLooked + 100
	put(t, w, "/f", noise(1, 10))
	first := b.instant()
	b.inDir("/f", func(c *core, id meta.Inode) error {
		for i := range n {
			err := c.update(t.Context(), func(tx *meta.Tx) error {
				node, err := tx.Node(id)
				if err != nil {
					return err
				}
				if i%1000 == 999 {
					err = tx.AddVersion(node, &meta.Version{Attr: meta.Attr{State: meta.Interrupted, Mode: 0o644}})
				}
				return errors.Join(err, setAttr(tx, node, "", attrs{mtime: ptr(int64(i + 1))}))
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	last := b.instant()
	put(t, w, "/f", noise(2, 10))
	r := &versionReader{h: w.History(nil), name: "/f", most: stayPage, from: math.MinInt64}
	views, broken := 0, 0
	var list []PathVersion
	for more := true; more; views++ {
		var page []PathVersion
		var err error
		page, more, err = r.view(t.Context())
		ok(t, err)
		for _, v := range page {
			if v.State == VersionInterrupted {
				broken++
			} else {
				list = append(list, v)
			}
		}
	}
	if views < 3 || broken != n/1000 {
		t.Errorf("%d views, %d broken", views, broken)
	}
	if len(list) != 2 || !list[0].At.Equal(first) || !list[0].AttrAt.Equal(last) || list[0].ModTime().UnixNano() != n || list[1].State != VersionLive {
		t.Errorf("versions %+v", list)
	}
}

// TestTheListOfVersionsIsThatOfContents compares it with what it should be, over what files go through: uploads, times, names, removals,
// broken overwrites and restores.
func TestTheListOfVersionsIsThatOfContents(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		b := newBench(t)
		w := b.view()
		rnd := rand.New(rand.NewPCG(seed, 1))
		var want []string // contents that /f had, in turns
		now, broken := "", 0
		has := func(content string) {
			if content != now && content != "" {
				want = append(want, content)
			}
			now = content
		}
		for i := range 60 {
			switch n := rnd.IntN(10); {
			case n < 3:
				content := fmt.Sprintf("content %d", i)
				put(t, w, "/f", []byte(content))
				has(content)
			case n < 7 && now != "":
				stamp(t, w, "/f", int64(i))
			case n == 7 && now != "":
				f := openFile(t, w, "/f", os.O_WRONLY|os.O_TRUNC)
				write(t, f, noise(1, 200_000))
				f.TransferError(io.ErrUnexpectedEOF)
				ok(t, f.Close())
				broken++
			case n == 8 && now != "":
				ok(t, w.Rename("/f", fmt.Sprintf("/g%d", i)))
				has("")
			case n == 9 && now != "":
				ok(t, w.Remove("/f"))
				has("")
			}
		}
		var got []string
		ok(t, w.History(nil).Versions(t.Context(), "/f", time.Time{}, func(v PathVersion) error {
			if v.State == VersionInterrupted {
				broken--
				return nil
			}
			f := must(w.History(nil).OpenVersion(t.Context(), "/f", v))(t)
			defer f.Close()
			got = append(got, string(must(io.ReadAll(f))(t)))
			return nil
		}))
		if !slices.Equal(got, want) || broken != 0 {
			t.Fatalf("seed %d: versions %q, want %q; %d broken ones are missing", seed, got, want, broken)
		}
	}
}

// TestHandlesOnThePastCountAsTheViews: of instants and of versions, with those on the present, and what could not be opened does not.
func TestHandlesOnThePastCountAsTheViews(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	const most = 6
	w := b.viewWith(ViewOptions{MaxOpen: most})
	put(t, w, "/f", noise(1, 100_000))
	then := b.instant()
	put(t, w, "/f", noise(2, 100_000))
	h := w.History(nil)
	old := b.versions(w, "/f")[0]
	opens := []func() (*File, error){
		func() (*File, error) { return w.OpenHandle(t.Context(), "/f", os.O_RDONLY, 0) },
		func() (*File, error) { return h.At(then).OpenHandle(t.Context(), "/f") },
		func() (*File, error) { return h.OpenVersion(t.Context(), "/f", old) },
	}
	var open []*File
	for i := range most {
		open = append(open, must(opens[i%len(opens)]())(t))
	}
	for _, try := range opens {
		_, err := try()
		wantErr(t, err, ErrTooMany)
	}
	ok(t, open[1].Close())
	for range 2 * most {
		_, err := h.At(then).OpenHandle(t.Context(), "/none")
		wantErr(t, err, fs.ErrNotExist)
	}
	open[1] = must(opens[2]())(t)
	_, err := opens[1]()
	wantErr(t, err, ErrTooMany)
	ok(t, w.Close()) // with all of them
	if n := b.vol.core.handles.Load(); n != 0 {
		t.Errorf("%d handles are left", n)
	}
}
