package vfs

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
)

// FuzzResolve gives the volume any path: it answers with a canonical path or a known refusal, and a canonical path is its
// own canonical path.
func FuzzResolve(f *testing.F) {
	for _, seed := range []string{"", "/", "a/../b", "../../etc/passwd", "d/l/f", "loop/x", "d//./f/", "\x00", "nope/..", strings.Repeat("../", 1500) + "d", "e\u0301"} {
		f.Add(seed)
	}
	b := newBench(f)
	w := b.view()
	ok(f, w.MkdirAll("d/s", 0))
	put(f, w, "d/f", []byte("f"))
	put(f, w, "\u00e9", []byte("f"))
	ok(f, w.Symlink("../d/./s/..", "d/l"))
	ok(f, w.Symlink("/loop", "loop"))
	ok(f, w.Symlink("../../../../d/f", "out"))
	f.Fuzz(func(t *testing.T, name string) {
		for _, follow := range []bool{true, false} {
			p, err := w.Resolve(name, follow)
			if err != nil {
				for _, e := range []error{fs.ErrNotExist, ErrNotDir, ErrLoop, ErrBadName, ErrNameTooLong} {
					if errors.Is(err, e) {
						return
					}
				}
				t.Fatalf("%q: %v", name, err)
			}
			if !strings.HasPrefix(p, "/") || strings.Contains(p, "//") || strings.Contains(p+"/", "/../") || strings.Contains(p+"/", "/./") {
				t.Fatalf("%q is %q", name, p)
			}
			again, err := w.Resolve(p, follow)
			if err != nil || again != p {
				t.Fatalf("%q is %q, which is %q, %v", name, p, again, err)
			}
		}
	})
}
