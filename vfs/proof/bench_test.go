package proof

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"go.etcd.io/bbolt"

	"sallyport/vfs"
)

// offset is where a value lies in the file: bbolt's memory map tells, except where bbolt made a copy of a small bucket.
// Sealed values differ, so their bytes are found in the pages in use once and not more.
func offset(db *bbolt.DB, v, image []byte) int {
	if at := int(uintptr(unsafe.Pointer(unsafe.SliceData(v))) - db.Info().Data); at >= 0 && at <= len(image)-len(v) && bytes.Equal(image[at:at+len(v)], v) {
		return at
	}
	for _, page := range pagesInTree(image) {
		if at := bytes.Index(image[page*pageSize:(page+1)*pageSize], v); at >= 0 {
			return page*pageSize + at
		}
	}
	panic("proof: internal error: a record is nowhere")
}

// bench is one worker's copy of the stores. An attack changes files in place, and restore puts back what it changed.
type bench struct {
	c     *corpus
	dir   string // directory of volumes
	store *store // under attack
	rng   *rand.Rand

	fs    *vfs.FS // of the volume that stays open over online attacks, and of the peer
	vol   *vfs.Volume
	peers *vfs.FS
	peer  *vfs.Volume

	patches []patch         // bytes changed in place
	dirty   map[string]bool // files to be put back whole, by path below the account's directory
}

type patch struct {
	name string
	off  int
	n    int
}

func newBench(t testing.TB, c *corpus) *bench {
	t.Helper()
	b := &bench{c: c, dir: scratch(t), dirty: map[string]bool{}, rng: rand.New(rand.NewPCG(1, 1))}
	for _, s := range slices.Concat(c.stores, c.sites, []*store{c.peer}) {
		b.store = s
		if err := b.plant(); err != nil {
			t.Fatal(err)
		}
	}
	b.store = nil
	ctx := context.Background()
	var err error
	if b.peers, err = vfs.Open(ctx, b.options()); err != nil {
		t.Fatal(err)
	}
	if b.peer, err = b.peers.Volume(ctx, c.peer.id); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.peers.Close() })
	return b
}

func (b *bench) options() vfs.Options {
	return vfs.Options{Dir: b.dir, Keyring: b.c.ring, IdleClose: -1}
}

func (b *bench) path(name string) string { return filepath.Join(b.dir, b.store.dirName(), name) }

// plant writes the whole store.
func (b *bench) plant() error {
	for _, d := range b.store.dirs {
		if err := os.MkdirAll(b.path(d), 0o700); err != nil {
			return err
		}
	}
	for name, data := range b.store.files {
		if err := os.WriteFile(b.path(name), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// begin makes s the store under attack; online keeps its volume open.
func (b *bench) begin(s *store, online bool) (err error) {
	b.store = s
	if !online {
		return nil
	}
	ctx := context.Background()
	if b.fs, err = vfs.Open(ctx, b.options()); err != nil {
		return err
	}
	b.vol, err = b.fs.Volume(ctx, s.id)
	return err
}

func (b *bench) end() error {
	if b.fs == nil {
		return nil
	}
	err := b.fs.Close()
	b.fs, b.vol = nil, nil
	return err
}

// patch writes p at off of a file.
func (b *bench) patch(name string, off int, p []byte) error {
	b.patches = append(b.patches, patch{name, off, len(p)})
	return writeAt(b.path(name), off, p)
}

func writeAt(path string, off int, p []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(p, int64(off))
	return errors.Join(err, f.Close())
}

// flip changes bits of one byte.
func (b *bench) flip(name string, off int, mask byte) error {
	return b.patch(name, off, []byte{b.store.files[name][off] ^ mask})
}

// put replaces a file.
func (b *bench) put(name string, data []byte) error {
	b.dirty[name] = true
	return os.WriteFile(b.path(name), data, 0o600)
}

// cut truncates a file.
func (b *bench) cut(name string, n int) error {
	b.dirty[name] = true
	return os.Truncate(b.path(name), int64(n))
}

// remove removes whatever is at name.
func (b *bench) remove(name string) error {
	b.dirty[name] = true
	return os.RemoveAll(b.path(name))
}

// edit changes records through bbolt, so that the pages are in order.
func (b *bench) edit(fn func(tx *bbolt.Tx) error) error {
	name := b.store.database()
	b.dirty[name] = true
	db, err := bbolt.Open(b.path(name), 0o600, &bbolt.Options{NoFreelistSync: true, NoSync: true, NoGrowSync: true, PageSize: pageSize, FreelistType: bbolt.FreelistMapType})
	if err != nil {
		return err
	}
	return errors.Join(db.Update(fn), db.Close())
}

// restore puts everything back. all is for cases after which a volume was opened that writes when it is.
func (b *bench) restore(all bool) error {
	if all {
		dir := filepath.Join(b.dir, b.store.dirName())
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
		b.patches, b.dirty = b.patches[:0], map[string]bool{}
		return b.plant()
	}
	for name := range b.dirty {
		delete(b.dirty, name)
		data, ok := b.store.files[name]
		if info, err := os.Lstat(b.path(name)); err == nil && (!info.Mode().IsRegular() || !ok) {
			if err := os.RemoveAll(b.path(name)); err != nil {
				return err
			}
		}
		if !ok {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(b.path(name)), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(b.path(name), data, 0o600); err != nil {
			return err
		}
	}
	// Pages that an attack puts back may be a tree between two operations, which an opening finishes: it writes, more than was patched.
	attacked := slices.ContainsFunc(b.patches, func(p patch) bool { return p.name == b.store.database() })
	for _, p := range b.patches {
		if err := writeAt(b.path(p.name), p.off, b.store.files[p.name][p.off:p.off+p.n]); err != nil {
			return err
		}
	}
	b.patches = b.patches[:0]
	if !attacked || b.vol != nil {
		return nil
	}
	if now, err := os.ReadFile(b.path(b.store.database())); err != nil || !bytes.Equal(now, b.store.files[b.store.database()]) {
		return b.restore(true)
	}
	return nil
}

// pristine checks that restore has left nothing behind.
func (b *bench) pristine() error {
	seen := 0
	root := filepath.Join(b.dir, b.store.dirName())
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		seen++
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		got, err := os.ReadFile(p)
		if err == nil && string(got) != string(b.store.files[rel]) {
			err = fmt.Errorf("proof: internal error: %s is not as it was", rel)
		}
		return err
	})
	if err == nil && seen != len(b.store.files) {
		err = fmt.Errorf("proof: internal error: %d files, want %d", seen, len(b.store.files))
	}
	return err
}

// wish is what an attack must lead to.
type wish struct {
	refuse    bool   // the volume must not open
	mayRefuse bool   // the volume may be refused; if it opens, all is as below
	missing   bool   // a refusal may say that the volume is missing
	trees     []tree // any of these is right; nil = the truth
	tol       tolerance
	findings  bool // Verify must have some
	silent    bool // Verify must have none
	rarely    bool // ask Verify, which reads every blob, in one case of four
}

// verdict of one case.
type verdict struct {
	refused bool // the volume, or at least one read, was refused
}

// judge asks the oracle.
func (b *bench) judge(want wish, how int) (verdict, error) {
	if b.rng.IntN(8) == 0 {
		if err := b.askPeer(how); err != nil {
			return verdict{}, err
		}
	}
	if b.store.ask != nil {
		return b.store.ask(b, want)
	}
	vol := b.vol
	if vol == nil {
		f, err := vfs.Open(context.Background(), b.options())
		if err != nil {
			return verdict{}, err
		}
		vol, err = f.Volume(context.Background(), b.store.id)
		if err != nil {
			return verdict{refused: true}, errors.Join(b.refusal(err, want), f.Close())
		}
		v, err := b.ask(vol, want, how)
		return v, errors.Join(err, f.Close())
	}
	return b.ask(vol, want, how)
}

// refusal checks that a volume was refused for the right reason, in words for the operator.
func (b *bench) refusal(err error, want wish) error {
	switch {
	case !want.refuse && !want.mayRefuse:
		return wrong("refused: %v", err)
	case want.missing && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, vfs.ErrIO)):
	case !errors.Is(err, vfs.ErrIntegrity):
		return wrong("refused for another reason: %v", err)
	case !strings.Contains(err.Error(), b.store.dirName()) || !strings.Contains(err.Error(), "damaged"):
		return wrong("the refusal does not say which volume is damaged: %v", err)
	}
	if strings.Contains(err.Error(), b.dir) {
		return wrong("the refusal names a host path: %v", err)
	}
	return nil
}

// ask looks at everything in an open volume.
func (b *bench) ask(vol *vfs.Volume, want wish, how int) (v verdict, err error) {
	if want.refuse {
		return v, wrong("the volume opens")
	}
	w := vol.View(vfs.ViewOptions{Writer: "oracle"})
	defer func() { err = errors.Join(err, w.Close()) }()
	trees := want.trees
	if trees == nil {
		trees = []tree{b.store.truth}
	}
	earlier := false // an earlier tree than the first is there: blobs made since have lost their keys, and Verify says so
	for i, t := range trees {
		var n int
		if n, err = t.check(w, how, want.tol); err == nil {
			v.refused, earlier = n > 0, i > 0
			break
		}
	}
	if err != nil {
		return v, err
	}
	if !want.findings && !want.silent || (want.rarely || len(b.store.truth) > largeTree) && b.rng.IntN(4) > 0 {
		return v, nil
	}
	var findings []string
	if _, err := vol.Verify(context.Background(), func(f string) { findings = append(findings, f) }); err != nil {
		return v, wrong("verify: %v", err)
	}
	if want.findings && len(findings) == 0 {
		return v, wrong("verify finds nothing")
	}
	if want.silent && !earlier && len(findings) > 0 {
		return v, wrong("verify finds %q", findings)
	}
	return v, nil
}

// askPeer reads the account that nobody attacks, whose volume stays open.
func (b *bench) askPeer(how int) error {
	w := b.peer.View(vfs.ViewOptions{Writer: "peer"})
	defer w.Close()
	if err := read(w, "/small", b.c.peer.truth["/small"].content, how); err != nil {
		return wrong("another account is concerned: %v", err)
	}
	return nil
}
