package proof

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/crypto/keyring"
	"sallyport/vfs"
	"sallyport/vfs/meta"
)

const (
	pageSize = 4096
	segment  = 65_536       // plaintext of a segment of a blob
	stride   = segment + 32 // as it lies in the blob
	header   = 128          // of a blob
	treeFile = "tree-1.db"  // metadata of an account whose key has version 1
)

// corpus is a state directory at rest with one account per store, and a peer that nobody attacks.
type corpus struct {
	key    *keyring.KeyFile
	ring   *keyring.Keyring
	state  string // seal.json and keyring
	stores []*store
	peer   *store
	sites  []*store // policy.db and audit logs, each by itself
	others *store   // policy.db of another site
}

// store is one account at rest: its files, what they must say, and what they were earlier.
type store struct {
	name  string
	id    keyring.AccountID
	files map[string][]byte // by path below the account's directory
	dirs  []string
	truth tree
	past  []past                     // after each operation, oldest first; the last is now
	users map[string]map[string]bool // by path of a blob: the live files that rely on it
	whole map[string]bool            // blobs that one of them relies on to the end
	// unclean stores were left by a crash: opening them writes.
	unclean bool

	// Of what is no volume: how to look at it, and what is in front of the names of what is attacked. It is all one file of its tree.
	ask       func(b *bench, want wish) (verdict, error)
	of        string
	rewritten bool                // looking at it writes
	earlier   []map[string][]byte // an audit log's files after each record
	fork      map[string][]byte   // and those of another history of it
	head      int                 // the last record that the head of an audit log names
}

// database is the name of the bbolt file.
func (s *store) database() string {
	if s.ask != nil {
		return policyFile
	}
	return treeFile
}

// past is the database at an earlier time, and what it said.
type past struct {
	image []byte
	truth tree
}

func (s *store) dirName() string { return hex.EncodeToString(s.id[:]) }

// scratch is a directory in memory where there is one with room: the machine opens
// volumes by the ten thousand, and each opening syncs a directory. All of them
// take 80 MB, and a container's /dev/shm has 64.
func scratch(t testing.TB) string {
	t.Helper()
	var s unix.Statfs_t
	if err := unix.Statfs("/dev/shm", &s); err == nil && s.Type == unix.TMPFS_MAGIC && s.Bavail*uint64(s.Bsize) >= 1<<30 {
		if dir, err := os.MkdirTemp("/dev/shm", "sallyport-proof-"); err == nil {
			t.Cleanup(func() { os.RemoveAll(dir) })
			return dir
		}
	}
	return t.TempDir()
}

// builder makes a store through the front door and writes down what it must hold.
type builder struct {
	t     testing.TB
	c     *corpus
	fs    *vfs.FS
	vol   *vfs.Volume
	view  *vfs.View
	dir   string
	truth tree
	past  []past
	id    keyring.AccountID
	seed  uint64
}

func emptyCorpus(t testing.TB) *corpus {
	t.Helper()
	c := &corpus{state: filepath.Join(scratch(t), "state")}
	var err error
	if c.key, err = keyring.NewKeyFile(filepath.Join(t.TempDir(), "key")); err != nil {
		t.Fatal(err)
	}
	if c.ring, err = keyring.Create(context.Background(), c.state, c.key); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.ring.Close() })
	return c
}

func newCorpus(t testing.TB) *corpus {
	t.Helper()
	c := emptyCorpus(t)
	dir := scratch(t)
	for i, recipe := range []struct {
		name string
		make func(*builder)
	}{
		{"sizes", buildSizes}, {"history", buildHistory}, {"tidied", buildTidied}, {"segments", buildSegments}, {"many", buildMany}, {"empty", func(*builder) {}},
		{"unfinished", nil}, {"peer", buildPeer},
	} {
		b := newBuilder(t, c, dir, uint64(i)<<32)
		var s *store
		if recipe.make == nil {
			s = b.unfinished()
		} else {
			recipe.make(b)
			s = b.store()
		}
		s.name = recipe.name
		if recipe.name == "peer" {
			c.peer = s
			continue
		}
		c.stores = append(c.stores, s)
	}
	c.sites = []*store{c.policyStore(t, 1), auditStore(t, c, false), auditStore(t, c, true)}
	c.others = emptyCorpus(t).policyStore(t, 2)
	return c
}

func newBuilder(t testing.TB, c *corpus, dir string, seed uint64) *builder {
	t.Helper()
	ctx := context.Background()
	b := &builder{t: t, c: c, dir: dir, truth: tree{}, seed: seed}
	var err error
	if b.id, err = c.ring.NewAccount(ctx); err != nil {
		t.Fatal(err)
	}
	if b.fs, err = vfs.Open(ctx, vfs.Options{Dir: dir, Keyring: c.ring, IdleClose: -1}); err != nil {
		t.Fatal(err)
	}
	if err = b.fs.Create(ctx, b.id); err != nil {
		t.Fatal(err)
	}
	if b.vol, err = b.fs.Volume(ctx, b.id); err != nil {
		t.Fatal(err)
	}
	// Nobody drains the outbox, so that there are records of that kind.
	b.view = b.vol.View(vfs.ViewOptions{Writer: "builder", Note: func(ch vfs.Change) []byte {
		if ch.Op == "mkdir" {
			return []byte("event " + ch.Path)
		}
		return nil
	}})
	b.snap()
	return b
}

func (b *builder) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *builder) accountDir() string { return filepath.Join(b.dir, hex.EncodeToString(b.id[:])) }

// snap keeps the database as it is after an operation.
func (b *builder) snap() {
	b.t.Helper()
	image, err := readDatabase(filepath.Join(b.accountDir(), treeFile))
	b.must(err)
	b.past = append(b.past, past{image, b.truth.clone()})
}

// readDatabase reads a database without what lies behind the last page that bbolt uses: it makes the file far too long.
func readDatabase(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	first := make([]byte, 2*pageSize)
	if _, err := f.ReadAt(first, 0); err != nil {
		return nil, err
	}
	var end, newest uint64
	for _, at := range []int{16, pageSize + 16} {
		m := first[at:]
		if tx := binary.NativeEndian.Uint64(m[48:]); tx >= newest {
			newest, end = tx, binary.NativeEndian.Uint64(m[40:])
		}
	}
	image := make([]byte, end*pageSize)
	_, err = f.ReadAt(image, 0)
	return image, err
}

// noise is n random bytes, the same for the same builder and call.
func (b *builder) noise(n int) []byte {
	b.seed++
	p := make([]byte, n)
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], b.seed)
	rand.NewChaCha8(key).Read(p)
	return p
}

func (b *builder) open(name string, flag int) *vfs.File {
	b.t.Helper()
	f, err := b.view.OpenHandle(context.Background(), name, flag, 0o644)
	b.must(err)
	return f
}

// put uploads a file.
func (b *builder) put(name string, n int) {
	b.t.Helper()
	data := b.noise(n)
	f := b.open(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
	_, err := f.Write(data)
	b.must(err)
	b.must(f.Close())
	b.truth[name] = node{content: data}
	b.snap()
}

// edit writes n bytes at off into a file that exists, after cutting or extending it to size if that is not -1.
func (b *builder) edit(name string, size, off, n int) {
	b.t.Helper()
	data := append([]byte(nil), b.truth[name].content...)
	f := b.open(name, os.O_RDWR)
	if size >= 0 {
		b.must(f.Truncate(int64(size)))
		data = append(data, make([]byte, max(0, size-len(data)))...)[:size]
	}
	p := b.noise(n)
	_, err := f.WriteAt(p, int64(off))
	b.must(err)
	if n > 0 {
		data = append(data, make([]byte, max(0, off+n-len(data)))...)
		copy(data[off:], p)
	}
	b.must(f.Close())
	b.truth[name] = node{content: data}
	b.snap()
}

func (b *builder) mkdir(name string) {
	b.t.Helper()
	b.must(b.view.Mkdir(name, 0o755))
	b.truth[name] = node{mode: fs.ModeDir}
	b.snap()
}

func (b *builder) symlink(target, name string) {
	b.t.Helper()
	b.must(b.view.Symlink(target, name))
	b.truth[name] = node{mode: fs.ModeSymlink, content: []byte(target)}
	b.snap()
}

// rename moves a file.
func (b *builder) rename(from, to string) {
	b.t.Helper()
	b.must(b.view.Rename(from, to))
	b.truth[to] = b.truth[from]
	delete(b.truth, from)
	b.snap()
}

func (b *builder) remove(name string) {
	b.t.Helper()
	b.must(b.view.Remove(name))
	delete(b.truth, name)
	b.snap()
}

// last is one transaction that changes no content: what a damaged first page takes back.
func (b *builder) last() {
	b.t.Helper()
	b.must(b.view.Chmod("/", 0o700))
	b.snap()
}

// store closes the volume and takes it as it lies on the disk.
func (b *builder) store() *store {
	b.t.Helper()
	users, whole := map[string]map[string]bool{}, map[string]bool{}
	for name, n := range b.truth {
		if !n.mode.IsRegular() {
			continue
		}
		f := b.open(name, os.O_RDONLY)
		layout := f.Layout()
		for _, ref := range layout.Blobs {
			p := blobPath(ref.ID)
			if users[p] == nil {
				users[p] = map[string]bool{}
			}
			users[p][name] = true
			whole[p] = whole[p] || !ref.Open
		}
		b.must(f.Close())
	}
	b.must(b.view.Close())
	b.must(b.fs.Close())
	b.settle()
	s := b.take(b.accountDir())
	s.users, s.whole = users, whole
	return s
}

// settle opens and closes the volume until nothing is left to be done when it opens.
func (b *builder) settle() {
	b.t.Helper()
	for range 3 {
		f, err := vfs.Open(context.Background(), vfs.Options{Dir: b.dir, Keyring: b.c.ring, IdleClose: -1})
		b.must(err)
		_, err = f.Volume(context.Background(), b.id)
		b.must(err)
		b.must(f.Close())
		image, err := readDatabase(filepath.Join(b.accountDir(), treeFile))
		b.must(err)
		if bytes.Equal(image, b.past[len(b.past)-1].image) {
			return
		}
		b.snap()
	}
	b.t.Fatal("opening the volume writes every time")
}

// blobPath is where the blob lies below the account's directory.
func blobPath(id [16]byte) string {
	return filepath.Join("blobs", hex.EncodeToString(id[:1]), hex.EncodeToString(id[1:]))
}

func (b *builder) take(dir string) *store {
	b.t.Helper()
	s := &store{id: b.id, files: map[string][]byte{}, truth: b.truth, past: b.past}
	b.must(filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		if d.IsDir() {
			s.dirs = append(s.dirs, rel)
			return nil
		}
		if rel == treeFile {
			s.files[rel], err = readDatabase(p)
		} else {
			s.files[rel], err = os.ReadFile(p)
		}
		return err
	}))
	return s
}

// unfinished is what a crash leaves in the middle of uploads, and a blob that was to be unlinked.
func (b *builder) unfinished() *store {
	b.t.Helper()
	b.put("/old", 80_000)
	b.put("/appended", 70_000)
	type upload struct {
		name         string
		flag         int
		before, sync int
		after        int
	}
	var open []*vfs.File
	for _, u := range []upload{
		{"/new", os.O_WRONLY | os.O_CREATE, 300_000, 0, 0},
		{"/new and synced", os.O_WRONLY | os.O_CREATE, 200_000, 1, 150_000},
		{"/old", os.O_WRONLY | os.O_TRUNC, 200_000, 0, 0},
		{"/appended", os.O_WRONLY | os.O_APPEND, 140_000, 1, 140_000},
	} {
		f := b.open(u.name, u.flag)
		open = append(open, f)
		n := node{content: b.truth[u.name].content, loose: true, synced: -1}
		p := b.noise(u.before)
		_, err := f.Write(p)
		b.must(err)
		n.content = append(append([]byte(nil), n.content...), p...)
		if u.sync > 0 {
			b.must(f.Sync())
			n.synced = len(n.content)
			p = b.noise(u.after)
			_, err := f.Write(p)
			b.must(err)
			n.content = append(n.content, p...)
		}
		if u.name != "/old" { // what is overwritten stays current
			b.truth[u.name] = n
		}
	}
	b.snap()
	dir := filepath.Join(scratch(b.t), "crashed")
	b.must(os.CopyFS(dir, os.DirFS(b.accountDir())))
	for _, f := range open {
		f.TransferError(fs.ErrClosed)
		f.Close()
	}
	b.must(b.view.Close())
	b.must(b.fs.Close())
	b.doom(dir)
	s := b.take(dir)
	s.unclean = true
	s.past = append(s.past, past{s.files[treeFile], s.truth})
	return s
}

// doom leaves a blob that metadata has given up and nobody has unlinked yet.
func (b *builder) doom(dir string) {
	b.t.Helper()
	keys, err := b.c.ring.Account(b.id)
	b.must(err)
	db, err := meta.Open(context.Background(), filepath.Join(dir, treeFile), keys, meta.Options{Now: time.Now})
	b.must(err)
	id := [16]byte{0xd0, 0x0d}
	b.must(db.Update(context.Background(), func(tx *meta.Tx) error { return tx.Doom(id) }))
	b.must(db.Close())
	b.must(os.MkdirAll(filepath.Join(dir, filepath.Dir(blobPath(id))), 0o700))
	b.must(os.WriteFile(filepath.Join(dir, blobPath(id)), b.noise(300), 0o600))
}
