package proof

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path"

	"sallyport/vfs"
)

// node is what must be found at one path.
type node struct {
	mode    fs.FileMode // type bits only
	content []byte      // of a file, or the target of a symlink

	// loose is set for a file whose upload a crash cut off: any prefix of
	// content that has at least synced bytes is right; so is nothing at all where synced is -1.
	loose  bool
	synced int
}

// tree is what must be found in a volume, by path.
type tree map[string]node

func (t tree) clone() tree { return maps.Clone(t) }

// vague is the tree at some time before: of what was being uploaded there may be less, or nothing.
func (t tree) vague() tree {
	earlier := t.clone()
	for name, n := range earlier {
		if n.loose {
			n.synced = -1
			earlier[name] = n
		}
	}
	return earlier
}

// errWrong is the verdict that the machines look for: something else than exact bytes or an integrity error.
var errWrong = errors.New("WRONG")

func wrong(format string, a ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{errWrong}, a...)...)
}

const largeTree = 50

// tolerance says where an integrity error is as good as the right answer.
type tolerance struct {
	meta    bool                   // in names, attributes and lists
	content func(name string) bool // in the bytes of a file; nil = nowhere
}

// check compares everything that a session sees with the tree. how chooses the
// way of reading. It returns how many reads were refused.
//
// The files whose content may fail are read, and one in four of the others where content may fail at all (one in eight of a large tree).
func (t tree) check(w *vfs.View, how int, tol tolerance) (refused int, err error) {
	return t.checkBelow(w, "/", how, tol)
}

// checkBelow is check for what lies below one directory, when the tree has nothing else.
func (t tree) checkBelow(w *vfs.View, dir string, how int, tol tolerance) (refused int, err error) {
	found := tree{}
	if err := t.list(w, dir, found, tol, &refused); err != nil {
		return refused, err
	}
	for name, want := range t {
		if _, ok := found[name]; !ok && !(want.loose && want.synced < 0) && (!tol.meta || refused == 0) {
			return refused, wrong("%s is not listed", name)
		}
		if _, ok := found[name]; !ok && want.loose {
			continue
		}
		if skip := tol.content != nil && rand.IntN(4) > 0 || len(t) > largeTree && rand.IntN(8) > 0; skip && (tol.content == nil || !tol.content(name)) {
			continue
		}
		n, err := want.check(w, name, how, tol)
		if refused += n; err != nil {
			return refused, err
		}
	}
	return refused, nil
}

// list walks below dir: every name must be in the tree, and of the right kind and size.
func (t tree) list(w *vfs.View, dir string, found tree, tol tolerance, refused *int) error {
	var below []string
	err := w.ReadDir(context.Background(), dir, func(batch []*vfs.Info) error {
		for _, i := range batch {
			name := path.Join(dir, i.Name())
			want, ok := t[name]
			if _, twice := found[name]; !ok || twice {
				return wrong("%q is listed (before: %v)", name, twice)
			}
			found[name] = node{}
			if err := want.checkInfo(name, i); err != nil {
				return err
			}
			if i.IsDir() {
				below = append(below, name)
			}
		}
		return nil
	})
	if err != nil {
		return tolerate(err, tol.meta, refused, "listing "+dir)
	}
	for _, d := range below {
		if err := t.list(w, d, found, tol, refused); err != nil {
			return err
		}
	}
	return nil
}

// tolerate turns an integrity error into a count where it is allowed, and everything else into a finding.
func tolerate(err error, allowed bool, refused *int, doing string) error {
	switch {
	case errors.Is(err, errWrong):
		return err
	case allowed && errors.Is(err, vfs.ErrIntegrity):
		*refused++
		return nil
	}
	return wrong("%s: %v", doing, err)
}

func (n node) checkInfo(name string, i fs.FileInfo) error {
	if i.Mode().Type() != n.mode {
		return wrong("%s has type %v, want %v", name, i.Mode().Type(), n.mode)
	}
	size, want := i.Size(), int64(len(n.content))
	switch {
	case n.loose && size <= want && size >= int64(max(n.synced, 1)):
	case size != want:
		return wrong("%s has size %d, want %d", name, size, want)
	}
	return nil
}

func (n node) check(w *vfs.View, name string, how int, tol tolerance) (refused int, err error) {
	i, err := w.Lstat(name)
	if err != nil {
		return refused, tolerate(err, tol.meta, &refused, "lstat "+name)
	}
	if err := n.checkInfo(name, i); err != nil {
		return 0, err
	}
	switch {
	case n.mode == fs.ModeSymlink:
		target, err := w.Readlink(name)
		if err != nil {
			return refused, tolerate(err, tol.meta, &refused, "readlink "+name)
		}
		if target != string(n.content) {
			return 0, wrong("%s leads to %q, want %q", name, target, n.content)
		}
	case n.mode.IsRegular():
		want := n.content
		if n.loose {
			want = want[:i.Size()]
		}
		err := read(w, name, want, how)
		allowed := tol.meta || tol.content != nil && tol.content(name)
		if err != nil {
			return refused, tolerate(err, allowed, &refused, "reading "+name)
		}
	}
	return refused, nil
}

// Ways of reading a file.
const (
	byRead    = iota // Read to the end
	byWriteTo        // WriteTo, as downloads do
	byPieces         // ReadAt backwards, in pieces that end on no border
	byEditor         // ReadAt through a handle that may write
	ways
)

// read reads a file and compares every byte that is served, errors or not. The
// error is of the read, or errWrong.
func read(w *vfs.View, name string, want []byte, how int) (err error) {
	flag := os.O_RDONLY
	if i, err := w.Lstat(name); how == byEditor && err == nil && i.(*vfs.Info).Partial() {
		how = byRead // the Close of a handle that may write would end the upload, and change the volume (I2)
	}
	if how == byEditor {
		flag = os.O_RDWR
	}
	f, err := w.OpenHandle(context.Background(), name, flag, 0)
	if how == byEditor && (errors.Is(err, vfs.ErrInterrupted) || errors.Is(err, fs.ErrPermission)) {
		how = byRead
		f, err = w.OpenHandle(context.Background(), name, os.O_RDONLY, 0)
	}
	if err != nil {
		return err
	}
	defer func() {
		if cerr := f.Close(); err == nil && cerr != nil {
			err = cerr
		}
	}()
	switch how {
	case byPieces, byEditor:
		return readPieces(f, want, how)
	}
	var got bytes.Buffer
	got.Grow(len(want) + bytes.MinRead)
	if how == byWriteTo {
		_, err = f.WriteTo(&got)
	} else {
		_, err = got.ReadFrom(struct{ io.Reader }{f})
	}
	if !bytes.HasPrefix(want, got.Bytes()) {
		return wrong("%s: served %d bytes that were never written, error %v", name, got.Len(), err)
	}
	if err == nil && got.Len() != len(want) {
		return wrong("%s: served %d of %d bytes as a success", name, got.Len(), len(want))
	}
	return err
}

func readPieces(f *vfs.File, want []byte, how int) error {
	step := 70_001
	if how == byEditor {
		step = len(want) + 1
	}
	var first error
	buf := make([]byte, min(step, len(want)+1))
	for at := (len(want) / step) * step; at >= 0; at -= step {
		n, err := f.ReadAt(buf, int64(at))
		rest := min(len(buf), len(want)-at)
		switch {
		case err == io.EOF && n == rest, err == nil && n == len(buf):
			if n > rest || !bytes.Equal(buf[:n], want[at:at+n]) {
				return wrong("served other bytes at %d", at)
			}
		case err == io.EOF, err == nil:
			return wrong("served %d bytes at %d, error %v, of %d", n, at, err, len(want))
		default:
			if n != 0 && !bytes.Equal(buf[:n], want[at:at+n]) {
				return wrong("served other bytes at %d beside %v", at, err)
			}
			if first == nil || !errors.Is(err, vfs.ErrIntegrity) {
				first = err
			}
		}
	}
	return first
}
