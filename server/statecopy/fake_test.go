package statecopy

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/vfs/blob"
)

// fake is a state that is nothing but bytes, as a Source. Its tests are of the form of a copy; package copier tests real ones.
type fake struct {
	key      ed25519.PrivateKey
	accounts map[AccountID]*fakeAccount
	small    map[string][]byte

	// step is called before each thing that is handed out, with its name; nil = nothing.
	step func(name string) error

	have   map[AccountID]Holding
	damage map[AccountID][]string
	last   map[AccountID]Holding
	sums   map[AccountID][2]Entry
	text   []byte
}

type fakeAccount struct {
	version uint32
	tree    []byte
	blobs   map[blob.ID][]byte
	open    map[blob.ID]bool
	lost    map[blob.ID]int // bytes after which the blob cannot be read
	broken  bool
}

func newFake() *fake {
	return &fake{
		key: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize)), accounts: map[AccountID]*fakeAccount{},
		small: map[string][]byte{
			SealFile: []byte("{}"), RingFile: []byte("ring"), PolicyFile: []byte("policy"), AuditHead: []byte("head"), Pending: []byte("notes"),
			AuditFile("00000000000000000001.log"): []byte("records"), IdentityFile("server.key"): []byte("sealed"),
		},
	}
}

// add makes an account whose bytes depend on n.
func (f *fake) add(n byte, blobs ...int) AccountID {
	id := AccountID{n, 1}
	a := &fakeAccount{version: 1, tree: bytes.Repeat([]byte{n}, 5000), blobs: map[blob.ID][]byte{}, open: map[blob.ID]bool{}, lost: map[blob.ID]int{}}
	for i, size := range blobs {
		a.blobs[blob.ID{byte(i + 1), n}] = bytes.Repeat([]byte{n, byte(i)}, size/2)
	}
	f.accounts[id] = a
	return id
}

func (f *fake) at(name string) error {
	if f.step == nil {
		return nil
	}
	return f.step(name)
}

func (a *fakeAccount) commit() [32]byte { return sha256.Sum256(a.tree) }

func (f *fake) Have(_ context.Context, manifest io.Reader) error {
	m, have, err := ReadHoldings(manifest, nil)
	if err == nil && m.SignedBy(f.key.Public().(ed25519.PublicKey)) {
		f.have = have
	}
	return f.at("have")
}

func (f *fake) Next(context.Context) (list []Todo, err error) {
	if f.sums == nil {
		f.sums, f.damage, f.last = map[AccountID][2]Entry{}, map[AccountID][]string{}, map[AccountID]Holding{}
	}
	for id, a := range f.accounts {
		if _, done := f.sums[id]; !done && f.damage[id] == nil {
			h := f.have[id].Whole
			list = append(list, Todo{id, h != nil && !h.Kept && h.Commit == a.commit()})
		}
	}
	slices.SortFunc(list, func(a, b Todo) int { return slices.Compare(a.ID[:], b.ID[:]) })
	if len(list) == 0 {
		f.text, err = f.manifest()
	}
	return list, errors.Join(err, f.at("next"))
}

func (f *fake) Account(_ context.Context, id AccountID, fn func(uint32, int64, io.Reader, int64, io.Reader) error) error {
	if err := f.at("account"); err != nil {
		return err
	}
	a := f.accounts[id]
	if a == nil {
		return ErrGone
	}
	if a.broken {
		f.damage[id] = []string{"its database is damaged"}
		return fmt.Errorf("%w: its database", ErrAtSource)
	}
	var list bytes.Buffer
	w, err := NewList(&list)
	for _, b := range slices.SortedFunc(maps.Keys(a.blobs), func(a, b blob.ID) int { return slices.Compare(a[:], b[:]) }) {
		size := int64(len(a.blobs[b]))
		err = errors.Join(err, w.Add(Blob{b, size, a.open[b]}))
	}
	if err := errors.Join(err, w.Flush()); err != nil {
		return err
	}
	f.sums[id] = [2]Entry{entryOf(TreeFile(id, a.version), a.tree), entryOf(ListFile(id), list.Bytes())}
	return fn(a.version, int64(len(a.tree)), f.body("tree", a.tree), int64(list.Len()), f.body("list", list.Bytes()))
}

func entryOf(name string, data []byte) Entry {
	return Entry{name, int64(len(data)), sha256.Sum256(data)}
}

// body hands out bytes, in two steps.
func (f *fake) body(name string, data []byte) io.Reader {
	half := len(data) / 2
	return io.MultiReader(bytes.NewReader(data[:half]), &stepping{f: f, name: name}, bytes.NewReader(data[half:]))
}

type stepping struct {
	f    *fake
	name string
}

func (s *stepping) Read([]byte) (int, error) {
	if err := s.f.at(s.name); err != nil {
		return 0, err
	}
	return 0, io.EOF
}

func (f *fake) Blobs(_ context.Context, account AccountID, ids []blob.ID, fn func(blob.ID, int64, io.Reader) error) error {
	for _, id := range ids {
		a := f.accounts[account]
		data, ok := a.blobs[id]
		if !ok {
			return ErrGone
		}
		r := f.body("blob", data)
		if n, lost := a.lost[id]; lost {
			r = io.MultiReader(bytes.NewReader(data[:n]), unreadable{})
		}
		if err := fn(id, int64(len(data)), r); err != nil {
			return err
		}
	}
	return nil
}

type unreadable struct{}

func (unreadable) Read([]byte) (int, error) { return 0, fmt.Errorf("%w: I/O error", ErrAtSource) }

func (f *fake) Check(_ context.Context, account AccountID, id blob.ID, header, sealed []byte, first uint64, final bool) error {
	if err := f.at("check"); err != nil {
		return err
	}
	data, ok := f.accounts[account].blobs[id]
	if !ok {
		return ErrPurged
	}
	rest := data[headerBytes+int(first)*segmentBytes:]
	if !bytes.Equal(header, data[:headerBytes]) || !bytes.HasPrefix(rest, sealed) || final != (len(rest) == len(sealed)) {
		return ErrDamaged
	}
	return nil
}

func (f *fake) Note(_ context.Context, notes []Note) error {
	for _, n := range notes {
		has := f.have[n.Account]
		if n.Kept {
			f.sums[n.Account] = [2]Entry{has.Whole.Tree, has.Whole.List}
		}
		if n.What != "" {
			f.damage[n.Account] = append(f.damage[n.Account], n.What)
		}
		keeps := Holding{}
		if n.Retained.Whole {
			whole := *has.Whole
			whole.Lacking = n.Retained.Lacking
			keeps.Whole = &whole
		}
		if n.Retained.Newest {
			keeps.Newest = has.Newest
		}
		f.last[n.Account] = keeps
	}
	return f.at("note")
}

func (f *fake) manifest() ([]byte, error) {
	var id [16]byte
	rand.Read(id[:])
	h := &Head{ID: hex.EncodeToString(id[:]), Made: time.Now(), Program: "test", Seal: "keyfile", Accounts: uint64(len(f.accounts)), Damaged: uint64(len(f.damage))}
	var files []Entry
	for name, data := range f.small {
		files = append(files, entryOf(name, data))
	}
	for _, e := range f.sums {
		files = append(files, e[:]...)
	}
	order := func(a, b AccountID) int { return slices.Compare(a[:], b[:]) }
	for id, last := range f.last {
		if h := last.Whole; h != nil {
			tree, list := h.Tree, h.List
			tree.Name, list.Name = Kept(id, h.Version)
			files = append(files, tree, list)
		}
		if h := last.Newest; h != nil {
			files = append(files, h.Tree, h.List)
		}
	}
	slices.SortFunc(files, func(a, b Entry) int { return cmp.Compare(a.Name, b.Name) })
	var b bytes.Buffer
	m, err := NewManifest(&b, h)
	for _, id := range slices.SortedFunc(maps.Keys(f.damage), order) {
		d := Damage{Account: id}
		if h := f.last[id].Whole; h != nil {
			d.Last, d.Lacking = h.Made, h.Lacking
		}
		if h := f.last[id].Newest; h != nil {
			d.Newest = h.Made
		}
		for _, d.What = range f.damage[id] {
			err = errors.Join(err, m.Damage(d))
		}
	}
	for _, id := range slices.SortedFunc(maps.Keys(f.sums), order) {
		if f.damage[id] == nil {
			err = errors.Join(err, m.Account(Account{ID: id, Commit: f.accounts[id].commit()}))
		}
	}
	for _, e := range files {
		err = errors.Join(err, m.Add(e))
	}
	if err == nil {
		err = m.Sign(f.key)
	}
	return b.Bytes(), err
}

func (f *fake) File(_ context.Context, name string, fn func(int64, io.Reader) error) error {
	data, ok := f.small[name]
	if name == ManifestName {
		data, ok = f.text, true
	}
	if !ok {
		return fs.ErrNotExist
	}
	return fn(int64(len(data)), f.body("file", data))
}

// again is what the next copy is made of.
func (f *fake) again() *fake {
	return &fake{key: f.key, accounts: f.accounts, small: f.small, step: f.step}
}

// run makes a copy into a directory.
func (f *fake) run(t testing.TB, path string, o Options) (*Done, error) {
	t.Helper()
	d, err := OpenDir(path, true)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	done, err := Run(t.Context(), f.again(), d, o)
	if err == nil {
		err = d.Clean(t.Context())
	}
	return done, err
}

// restore restores a copy into a new directory and returns its files.
func restore(t testing.TB, path, to string, o RestoreOptions) (map[string][]byte, error) {
	t.Helper()
	d, err := OpenDir(path, false)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	c, err := d.Current()
	if err == nil {
		err = Prepare(to, c.ID)
	}
	if err == nil {
		err = c.Restore(t.Context(), to, o)
	}
	return filesIn(t, to), err
}

func filesIn(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files[strings.TrimPrefix(path, dir+"/")], err = os.ReadFile(path)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return files
}

// want are the files of a restored state.
func (f *fake) want() map[string][]byte {
	files := map[string][]byte{}
	for name, data := range f.small {
		if !strings.HasPrefix(name, identityDir) {
			files[name] = data
		}
	}
	for id, a := range f.accounts {
		files[TreeFile(id, a.version)] = a.tree
		for b, data := range a.blobs {
			s := b.String()
			files[fmt.Sprintf("accounts/%x/blobs/%s/%s", id[:], s[:2], s[2:])] = data
		}
	}
	return files
}

func same(t testing.TB, got, want map[string][]byte) {
	t.Helper()
	for name, data := range want {
		if !bytes.Equal(got[name], data) {
			t.Errorf("%s has %d bytes, want %d", name, len(got[name]), len(data))
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s is there", name)
		}
	}
}
