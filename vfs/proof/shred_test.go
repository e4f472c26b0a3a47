package proof

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"sallyport/crypto/keyring"
	"sallyport/crypto/record"
	"sallyport/crypto/stream"
	"sallyport/vfs"
)

// The shred proof: a thief has every file of the state directory as it was
// after each step of its life, and some secrets of today, and looks for what was purged.
//
// What the thief tries: every seal.json with every keyring, by every secret; every
// place of every database file, free pages included, where a record could
// begin, with every account key found; every blob with every data key found.

// archive is every content that each file ever had.
type archive struct {
	files map[string][][]byte
}

func (a *archive) take(t testing.TB, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if a.files == nil {
			a.files = map[string][][]byte{}
		}
		if !slices.ContainsFunc(a.files[rel], func(b []byte) bool { return bytes.Equal(b, data) }) {
			a.files[rel] = append(a.files[rel], data)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// thief looks through an archive.
type thief struct {
	t       testing.TB
	archive *archive
	secrets []func() keyring.Seal // of today: a seal's secret, or a root itself; a new one for each try

	accounts []*record.AccountKeys
	inline   [][]byte              // plaintext of versions, which holds small files
	data     map[string]record.Key // by blob id
}

// knownRoot opens what one root opens.
type knownRoot struct {
	keyring.Seal
	root []byte
}

func (s knownRoot) Unwrap(context.Context, []byte) ([]byte, error) { return bytes.Clone(s.root), nil }

// search finds every key that can be had.
func (th *thief) search() {
	th.openKeyrings()
	for path, images := range th.archive.files {
		if strings.HasPrefix(filepath.Base(path), "tree-") {
			for _, image := range images {
				th.searchTree(image)
			}
		}
	}
}

func (th *thief) finds(canary []byte) bool {
	for _, plain := range th.inline {
		if bytes.Contains(plain, canary) {
			return true
		}
	}
	for path, images := range th.archive.files {
		dir, name := filepath.Split(path)
		if !strings.Contains(dir, "/blobs/") {
			continue
		}
		id, err := hex.DecodeString(filepath.Base(dir) + name)
		key, ok := th.data[string(id)]
		if err != nil || !ok {
			continue
		}
		for _, image := range images {
			if bytes.Contains(th.openBlob(id, key, image), canary) {
				return true
			}
		}
	}
	return false
}

// openKeyrings finds every account key that a secret leads to.
func (th *thief) openKeyrings() {
	seen := map[[16]byte]bool{}
	for _, seal := range th.archive.files["seal.json"] {
		for _, ring := range th.archive.files["keyring"] {
			for _, secret := range th.secrets {
				dir := scratch(th.t)
				for name, data := range map[string][]byte{"seal.json": seal, "keyring": ring} {
					if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
						th.t.Fatal(err)
					}
				}
				k, err := keyring.Open(th.t.Context(), dir, secret())
				if err != nil {
					continue
				}
				for _, id := range k.Accounts() {
					keys, err := k.Account(id)
					if err == nil && !seen[keys.DirToken(1)] {
						seen[keys.DirToken(1)] = true
						th.accounts = append(th.accounts, keys)
					}
				}
				k.Close()
			}
		}
	}
}

// searchTree tries each place of a database file where a record could begin. In a page, and in what is left of one, the key stands
// before the record: a blob's id, or inode and number of a version, are 16 bytes.
func (th *thief) searchTree(image []byte) {
	for _, keys := range th.accounts {
		begin := binary.BigEndian.AppendUint32([]byte{1}, keys.Version())
		for at := 16; ; {
			i := bytes.Index(image[at:], begin)
			if i < 0 {
				break
			}
			at += i
			th.tryRecord(keys, image[at-16:at], image[at:])
			at++
		}
	}
}

func (th *thief) tryRecord(keys *record.AccountKeys, key, rest []byte) {
	for _, kind := range []record.Domain{record.DomainBlobKey, record.DomainVersion} {
		for blocks := 1; blocks <= 80 && 45+64*blocks <= len(rest); blocks++ {
			plain, err := keys.Box().Open(nil, kind, append([]byte{byte(kind)}, key...), rest[:45+64*blocks])
			if err != nil {
				continue
			}
			if kind == record.DomainVersion {
				th.inline = append(th.inline, plain)
				return
			}
			n := binary.BigEndian.Uint32(plain)
			if data, err := keys.DataKey([16]byte(key), plain[4:4+n]); err == nil {
				if th.data == nil {
					th.data = map[string]record.Key{}
				}
				th.data[string(key)] = *data
			}
			return
		}
	}
}

// openBlob reads what authenticates of a blob, under whichever account it is.
func (th *thief) openBlob(id []byte, key record.Key, image []byte) (plain []byte) {
	for _, keys := range th.accounts {
		account := keys.ID()
		aad := slices.Concat([]byte("sallyport.blob.v1\x00"), account[:], id)
		o, err := stream.NewOpener((*[32]byte)(&key), aad, image[24:98])
		if err != nil {
			continue
		}
		for i := uint64(0); ; i++ {
			from := header + int(i)*stride
			if from >= len(image) {
				return plain
			}
			piece := image[from:min(from+stride, len(image))]
			more, err := o.Open(nil, piece, i, len(piece) < stride)
			if err != nil {
				return plain
			}
			plain = append(plain, more...)
		}
	}
	return plain
}

// tapped remembers the roots that it wraps, as a thief who reads the memory of today has the newest.
type tapped struct {
	keyring.Seal
	mu    sync.Mutex
	roots [][]byte
}

func (s *tapped) Wrap(ctx context.Context, root []byte) ([]byte, error) {
	s.mu.Lock()
	s.roots = append(s.roots, bytes.Clone(root))
	s.mu.Unlock()
	return s.Seal.Wrap(ctx, root)
}

func (s *tapped) current() keyring.Seal { return knownRoot{s.Seal, s.roots[len(s.roots)-1]} }

// vault is a seal that can destroy: a transit key whose old versions are trimmed, or a key in hardware.
type vault struct {
	mu    sync.Mutex
	roots map[string][]byte
}

// Kind is one that seal.json knows and that has no parameters.
func (*vault) Kind() string { return "keyfile" }

func (s *vault) Wrap(_ context.Context, root []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	handle := record.NewKey()
	if s.roots == nil {
		s.roots = map[string][]byte{}
	}
	s.roots[string(handle[:])] = bytes.Clone(root)
	return handle[:], nil
}

func (s *vault) Unwrap(_ context.Context, wrapped []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if root := s.roots[string(wrapped)]; root != nil {
		return bytes.Clone(root), nil
	}
	return nil, keyring.ErrWrongKey
}

func (s *vault) DestroyOld(_ context.Context, wrapped, _ []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.roots, string(wrapped))
	return nil
}

// victim is a site from which something was purged.
type victim struct {
	t       testing.TB
	dir     string
	archive archive
	ring    *keyring.Keyring
	fs      *vfs.FS
	id      keyring.AccountID

	keptLarge, keptSmall, goneLarge, goneSmall []byte
	gonePart                                   []byte // of a blob the rest of which is in use
	repacked                                   bool
}

func (v *victim) must(err error) {
	v.t.Helper()
	if err != nil {
		v.t.Fatal(err)
	}
}

func newVictim(t testing.TB, s keyring.Seal) *victim {
	t.Helper()
	v := &victim{t: t, dir: filepath.Join(scratch(t), "state")}
	var err error
	v.ring, err = keyring.Create(t.Context(), v.dir, s)
	v.must(err)
	t.Cleanup(func() { v.ring.Close() })
	v.id, err = v.ring.NewAccount(t.Context())
	v.must(err)
	v.fs, err = vfs.Open(t.Context(), vfs.Options{Dir: filepath.Join(v.dir, "accounts"), Keyring: v.ring, IdleClose: -1})
	v.must(err)
	t.Cleanup(func() { v.fs.Close() })
	v.must(v.fs.Create(t.Context(), v.id))
	vol, err := v.fs.Volume(t.Context(), v.id)
	v.must(err)
	w := vol.View(vfs.ViewOptions{Writer: "victim"})
	defer w.Close()
	put := func(name string, n int) []byte {
		data := record.NewKey()
		canary := bytes.Clone(data[:])
		f, err := open(w, name, os.O_WRONLY|os.O_CREATE)
		v.must(err)
		v.must(writeAll(f, append(bytes.Clone(canary), make([]byte, n)...)))
		v.must(f.Close())
		v.step()
		return canary
	}
	v.keptLarge, v.keptSmall = put("/kept-large", 100_000), put("/kept-small", 100)
	v.gonePart = put("/part", 300_000)
	f, err := open(w, "/part", os.O_WRONLY)
	v.must(err)
	v.must(writeAll(f, bytes.Repeat([]byte("new"), 30))) // the old version goes, and of its blob all but this stays in use
	v.must(f.Close())
	v.step()
	v.goneLarge, v.goneSmall = put("/gone-large", 100_000), put("/gone-small", 100)
	for _, name := range []string{"/gone-large", "/gone-small"} {
		v.must(w.Remove(name))
		v.step()
	}
	plan, err := vol.PlanPurge(t.Context(), func(vfs.Superseded) bool { return true })
	v.must(err)
	v.must(plan.Execute(t.Context(), nil))
	v.step()
	if n := vol.Stats().AwaitingShred; n != 100_000+100+2*32 {
		t.Errorf("%d bytes await shredding, want those of the two files: what was overwritten of the third lies in a blob that is in use", n)
	}
	return v
}

func (v *victim) step() { v.archive.take(v.t, v.dir) }

// shred runs the shred epoch, or leaves out its last part. It re-packs first, as the server does.
func (v *victim) shred(epoch bool) {
	v.t.Helper()
	if epoch {
		v.repacked = true
		got, err := v.fs.Shred(v.t.Context(), vfs.ShredOptions{Repack: v.repack})
		v.must(err)
		if len(got.Accounts) != 1 || got.Accounts[0].Err != nil || got.Bytes == 0 || !got.NewRoot || got.Epoch != 2 {
			v.t.Errorf("receipt %+v", got)
		}
		again, err := v.fs.Shred(v.t.Context(), vfs.ShredOptions{})
		v.must(err)
		if len(again.Accounts) != 0 || again.NewRoot {
			v.t.Errorf("nothing awaits shredding, and yet: %+v", again)
		}
	} else {
		v.must(v.fs.Rotate(v.t.Context(), []keyring.AccountID{v.id}, func(r vfs.Rotated) { v.must(r.Err) }))
	}
	v.step()
}

func (v *victim) repack(ctx context.Context, vol *vfs.Volume) error {
	r, err := vol.RepackAll(ctx)
	if err == nil && r.Repacked+r.Busy+r.Damaged != 1 {
		v.t.Errorf("re-packed %+v, want the one file of which a part was purged", r)
	}
	v.step()
	return err
}

// attack says what a thief with these secrets of today finds.
func (v *victim) attack(what string, wantGone bool, secrets ...func() keyring.Seal) {
	v.t.Helper()
	th := &thief{t: v.t, archive: &v.archive, secrets: secrets}
	th.search()
	for name, canary := range map[string][]byte{"large": v.keptLarge, "small": v.keptSmall} {
		if !th.finds(canary) {
			v.t.Errorf("%s: the thief does not even find the %s file that is there: the attack proves nothing", what, name)
		}
	}
	for name, canary := range map[string][]byte{"large file": v.goneLarge, "small file": v.goneSmall} {
		if got := th.finds(canary); got != wantGone {
			v.t.Errorf("%s: the purged %s is found: %v, want %v", what, name, got, wantGone)
		}
	}
	if got, want := th.finds(v.gonePart), wantGone || !v.repacked; got != want {
		v.t.Errorf("%s: the purged part of a file is found: %v, want %v", what, got, want)
	}
}

func keyFile(t testing.TB) *keyring.KeyFile {
	t.Helper()
	k, err := keyring.NewKeyFile(filepath.Join(t.TempDir(), "key"))
	if err != nil {
		t.Fatal(err)
	}
	return k
}
