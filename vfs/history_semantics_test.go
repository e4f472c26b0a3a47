package vfs

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"
)

// historySentences are those of docs/SEMANTICS.md "History".
var historySentences = map[string]func(*testing.T){
	"H1": func(t *testing.T) {
		b := newBench(t)
		w := b.view()
		put(t, w, "/f", []byte("one"))
		put(t, w, "/f", []byte("two"))
		put(t, w, "/g", []byte("three"))
		ok(t, w.Remove("/g"))
		if r := b.purge(all); r.Names != 1 || r.Versions != 2 || r.Inodes != 1 {
			t.Errorf("purged %+v", r)
		}
		wantContent(t, w, "/f", []byte("two"))
		wantNames(t, w, "/", "f")
		if r := b.purge(all); r.Names+r.Versions != 0 {
			t.Errorf("there was more: %+v", r)
		}
	},
	"H2": func(t *testing.T) {
		b := newBench(t)
		w := b.view()
		put(t, w, "/f", noise(1, 200_000))
		f := openFile(t, w, "/f", os.O_RDWR)
		must(f.WriteAt([]byte("x"), 0))(t)
		put(t, b.view(), "/f", noise(2, 200_000))
		if r := b.purge(all); r.Busy != 1 || r.Versions != 0 {
			t.Errorf("purged %+v while it is being written", r)
		}
		ok(t, f.Close())
		if r := b.purge(all); r.Busy != 0 || r.Versions != 2 {
			t.Errorf("purged %+v", r)
		}
	},
	"H3": func(t *testing.T) {
		b := newBench(t)
		w := b.view()
		put(t, w, "/f", noise(1, 20<<20)) // more than a reader keeps
		r := openFile(t, b.view(), "/f", os.O_RDONLY)
		defer r.Close()
		put(t, w, "/f", noise(2, 10))
		b.purge(all)
		got := make([]byte, 100)
		if n, err := r.ReadAt(got, 0); err == nil && !bytes.Equal(got[:n], noise(1, 100)) {
			t.Errorf("read other bytes of a purged version")
		} else if err != nil {
			wantErr(t, err, ErrPurged)
		}
		anOpeningLooksAgainAtWhatWasPurgedMeanwhile(t)
	},
	"H4": func(t *testing.T) {
		b := newBench(t)
		w := b.view()
		want := fragmented(t, w, "/f", 1<<20, 300, 3)
		before := stat(t, w, "/f").node
		r := openFile(t, b.view(), "/f", os.O_RDONLY)
		defer r.Close()
		got := make([]byte, 100)
		must(r.ReadAt(got, 0))(t)
		b.purge(all)
		if res := b.tidy(TidyOptions{FoldAll: true, RepackAll: true}); res.Folded+res.Repacked == 0 {
			t.Errorf("tidied %+v", res)
		}
		if all := must(io.ReadAll(io.NewSectionReader(r, 0, 1<<20)))(t); !bytes.Equal(all, want) {
			t.Error("an open handle reads something else")
		}
		wantContent(t, w, "/f", want)
		if after := stat(t, w, "/f").node; after != before {
			t.Errorf("the file is %+v, was %+v", after, before)
		}
	},
	"H5": func(t *testing.T) {
		b, paths := heldBench(t)
		w := b.view()
		ok(t, w.Mkdir("/h", 0o755))
		put(t, w, "/h/f", noise(1, 1000))
		put(t, w, "/h/f", noise(2, 1000))
		paths.Store(&[]string{"/h"})
		ok(t, w.Rename("/h/f", "/f"))
		ok(t, w.Remove("/f"))
		if r := b.purge(all); r.Bytes != 0 {
			t.Errorf("purged %+v", r)
		}
		paths.Store(&[]string{})
		if r := b.purge(all); r.Bytes != 2000 {
			t.Errorf("purged %+v when nothing was on hold any more", r)
		}
	},
	"H6": func(t *testing.T) {
		b := newBench(t)
		refuse := errors.New("too much")
		var asked []Superseding
		w := b.viewWith(ViewOptions{Writer: "test", Supersede: func(s Superseding) error {
			asked = append(asked, s)
			if s.History > 1500 {
				return refuse
			}
			return nil
		}})
		for i, name := range []string{"/a", "/b", "/c"} {
			put(t, w, name, noise(uint64(i), 1000))
		}
		ok(t, w.Remove("/a"))
		_, err := w.OpenHandle(t.Context(), "/b", os.O_WRONLY, 0)
		for _, err := range []error{err, w.Remove("/b"), w.Rename("/c", "/b"), w.RemoveAll("/b"), w.SetAttr("/b", AttrChange{Size: ptr(int64(1))})} {
			wantErr(t, err, ErrQuota)
			wantErr(t, err, refuse)
		}
		wantContent(t, w, "/b", noise(1, 1000))
		wantContent(t, w, "/c", noise(2, 1000))
		if st := b.vol.Stats(); st.HistoryBytes != 1000 || len(asked) != 6 || asked[0] != (Superseding{"/a", 1000, 1000, false}) || asked[1] != (Superseding{"/b", 1000, 2000, true}) {
			t.Errorf("%d bytes in history, asked %+v", st.HistoryBytes, asked)
		}
	},
	"H7":  thePastIsAsItWas,
	"H8":  func(t *testing.T) { theHorizonIsTheEndOfThePast(t); aPurgedTimeIsRefused(t) },
	"H9":  aPathHasAllItsVersions,
	"H10": aRemovedTreeComesBack,
	"H11": func(t *testing.T) { aRestoreKeepsWhatCameLater(t); anExactRestoreNeedsAWholeTime(t) },
	"H12": aHandleOnThePastChangesNothing,
}
