//go:build fixture

package proof

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/hex"
	"encoding/json"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/crypto/keyring"
	"sallyport/policy/policydb"
	"sallyport/server/audit"
	"sallyport/vfs"
)

// TestMakeFixture writes state.tar.gz and manifest.json into the directory that SALLYPORT_FIXTURE names. It is for the
// next format: the fixture of an old one is never made again.
//
//	SALLYPORT_FIXTURE=$PWD/testdata/fixtures/vN go test -tags fixture -run TestMakeFixture ./vfs/proof
func TestMakeFixture(t *testing.T) {
	to := os.Getenv("SALLYPORT_FIXTURE")
	if to == "" {
		t.Fatal("SALLYPORT_FIXTURE names no directory")
	}
	m := newMaker(t)
	m.alice()
	m.bob()
	m.carol()
	m.site()
	m.finish()
	got := readState(t, copyDir(t, m.dir))
	compare(t, got, m.want)
	out, err := runReader(t, m.dir)
	check(t, err)
	compare(t, fromReader(t, out), m.want)
	if t.Failed() {
		return
	}
	text, err := json.MarshalIndent(m.want, "", " ")
	check(t, err)
	check(t, os.WriteFile(filepath.Join(to, "manifest.json"), append(text, '\n'), 0o644))
	m.pack(filepath.Join(to, "state.tar.gz"))
}

type maker struct {
	t    *testing.T
	dir  string // of what will be packed
	open *wholeSite
	want manifest
}

// made is one inode, with all names it has or had.
type made struct {
	file fixtureFile
	gone bool
}

func newMaker(t *testing.T) *maker {
	t.Helper()
	m := &maker{t: t, dir: scratch(t), want: manifest{Accounts: map[string]fixtureAccount{}}}
	key, err := keyring.NewKeyFile(filepath.Join(m.dir, "key"))
	check(t, err)
	ring, err := keyring.Create(context.Background(), filepath.Join(m.dir, "state"), key)
	check(t, err)
	check(t, ring.Close())
	m.open, err = openSite(m.dir)
	check(t, err)
	check(t, m.open.fs.Close()) // each account has a builder of its own
	m.open.fs = nil
	return m
}

// account begins the next account.
func (m *maker) account(name string, seed uint64) *tracker {
	m.t.Helper()
	c := &corpus{ring: m.open.ring}
	b := newBuilder(m.t, c, filepath.Join(m.dir, "state", "accounts"), seed<<32)
	return &tracker{builder: b, name: name, files: map[string]*made{}}
}

// tracker is a builder that writes down the history of every name too.
type tracker struct {
	*builder
	name  string
	files map[string]*made
	gone  []struct {
		name string
		*made
	}
}

// version notes that the file now has its content of b.truth as its newest version.
func (k *tracker) version(name string) {
	n := k.files[name]
	if n == nil {
		n = &made{file: fixtureFile{Kind: 1, Mode: 0o644, State: 1}}
		k.files[name] = n
	}
	data := k.truth[name].content
	n.file.Size, n.file.SHA256, n.file.State = uint64(len(data)), digest(data), 1
	n.file.Versions = append(n.file.Versions, fixtureVersion{1, n.file.Size, n.file.SHA256})
}

func (k *tracker) put(name string, n int)        { k.builder.put(name, n); k.version(name) }
func (k *tracker) edit(name string, s, o, n int) { k.builder.edit(name, s, o, n); k.version(name) }

func (k *tracker) mkdir(name string) {
	k.builder.mkdir(name)
	k.files[name] = &made{file: fixtureFile{Kind: 2, Mode: 0o755, State: 1}}
}

func (k *tracker) symlink(target, name string) {
	k.builder.symlink(target, name)
	k.files[name] = &made{file: fixtureFile{Kind: 3, Mode: 0o777, State: 1, Target: target}}
}

func (k *tracker) lost(name string) {
	k.gone = append(k.gone, struct {
		name string
		*made
	}{name, k.files[name]})
	delete(k.files, name)
}

func (k *tracker) rename(from, to string) {
	k.builder.rename(from, to)
	n := k.files[from]
	k.lost(from)
	if k.files[to] != nil {
		k.lost(to)
	}
	k.files[to] = n
}

func (k *tracker) remove(name string) { k.builder.remove(name); k.lost(name) }

// broken is an upload that breaks off after n bytes, into a new name or over an old one.
func (k *tracker) broken(name string, n int) {
	k.t.Helper()
	f := k.open(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
	data := k.noise(n)
	_, err := f.Write(data)
	k.must(err)
	f.TransferError(fs.ErrClosed)
	f.Close() // its error is the point
	v := fixtureVersion{2, uint64(n), digest(data)}
	if old := k.files[name]; old != nil {
		v.State = 3
		old.file.Versions = append(old.file.Versions, v)
	} else {
		k.files[name] = &made{file: fixtureFile{Kind: 1, Mode: 0o644, State: 2, Size: v.Size, SHA256: v.SHA256, Versions: []fixtureVersion{v}}}
	}
}

// account is the manifest's.
func (k *tracker) account() fixtureAccount {
	a := fixtureAccount{ID: k.dirName(), Enabled: true, Files: map[string]fixtureFile{}, Marks: &fixtureMarks{}}
	for name, n := range k.files {
		a.Files[printable(name)] = n.file
	}
	for _, g := range k.gone {
		a.Gone = append(a.Gone, fixtureGone{Name: printable(path.Base(g.name)), Versions: g.file.Versions})
	}
	return a
}

func (k *tracker) dirName() string { return hex.EncodeToString(k.id[:]) }

// alice has a volume of everything that a volume can hold, at rest.
func (m *maker) alice() {
	k := m.account("alice", 1)
	for name, n := range map[string]int{"/empty": 0, "/one": 1, "/inline": 4096, "/blob": 4097, "/segment and one": 65_537} {
		k.put(name, n)
	}
	when := time.Date(2019, 2, 28, 23, 59, 58, 987_654_321, time.UTC)
	k.must(k.view.Chtimes("/one", when, when))
	k.version("/one")
	k.must(k.view.Chmod("/one", 0o600))
	k.version("/one")
	k.files["/one"].file.Mtime, k.files["/one"].file.Mode = when.UnixNano(), 0o600
	k.put("/hole", 10)
	k.edit("/hole", 300_000, 150_000, 500)
	k.put("/all hole", 0)
	k.edit("/all hole", 200_000, 0, 0)

	for _, name := range []string{"/dir", "/dir/e\u0301", "/dir/deep"} { // the second is not in NFC
		k.mkdir(name)
	}
	for _, name := range []string{"/dir/e\u0301/A\u030angstro\u0308m", "/dir/new\nline", "/dir/\xff", "/dir/deep/" + strings.Repeat("n", 255)} {
		k.put(name, 33)
	}
	k.symlink("../dir/deep", "/dir/link")
	k.symlink("/nowhere", "/dir/dangling")

	for i := range 10 {
		k.put("/versions", 150*i+1)
	}
	for i := range 4 {
		k.edit("/versions", -1, 1351+i*900, 900) // appends: versions share blobs
	}
	k.edit("/versions", 3900, 100, 300)
	k.scatter("/scattered", 260)
	k.edit("/scattered", -1, 10, 20) // shares the pages
	k.synced("/synced", 3, 3000)
	k.broken("/partial", 5200)
	k.put("/overwritten", 4099)
	k.broken("/overwritten", 4500)

	k.put("/moved", 4101)
	k.rename("/moved", "/dir/moved")
	k.put("/target", 4100)
	k.rename("/dir/moved", "/target")
	for range 2 {
		k.put("/gone", 77)
		k.remove("/gone")
	}
	k.put("/dir/gone e\u0301", 5)
	k.remove("/dir/gone e\u0301")
	k.mkdir("/dir gone")
	k.put("/dir gone/in it", 12)
	k.remove("/dir gone/in it")
	k.remove("/dir gone")
	k.must(k.view.Close())
	k.must(k.fs.Close())
	a := k.account()
	a.Outbox = []string{"event /dir", "event /dir/e\u0301", "event /dir/deep", "event /dir gone"}
	m.want.Accounts["alice"] = a
}

// scatter writes so many small pieces, last to first, that the extents need pages.
func (k *tracker) scatter(name string, pieces int) {
	k.t.Helper()
	data := make([]byte, 100*pieces)
	f := k.open(name, os.O_WRONLY|os.O_CREATE)
	for i := pieces - 1; i >= 0; i-- {
		p := k.noise(15)
		copy(data[100*i:], p)
		_, err := f.WriteAt(p, int64(100*i))
		k.must(err)
	}
	k.must(f.Truncate(int64(len(data))))
	k.must(f.Close())
	k.truth[name] = node{content: data}
	k.version(name)
}

// synced writes a file with an fsync after each piece: each is a version.
func (k *tracker) synced(name string, pieces, size int) {
	k.t.Helper()
	f := k.open(name, os.O_WRONLY|os.O_CREATE)
	var data []byte
	for range pieces {
		p := k.noise(size)
		data = append(data, p...)
		_, err := f.Write(p)
		k.must(err)
		k.must(f.Sync())
		k.truth[name] = node{content: data}
		k.version(name)
	}
	k.must(f.Close())
}

// bob's server was killed during an upload, after an fsync: his blob is open.
func (m *maker) bob() {
	k := m.account("bob", 2)
	k.mkdir("/inbox")
	k.put("/inbox/old", 200)
	f := k.open("/inbox/upload", os.O_WRONLY|os.O_CREATE)
	data := k.noise(65_536 + 123)
	_, err := f.Write(data)
	k.must(err)
	k.must(f.Sync())
	k.truth["/inbox/upload"] = node{content: data}
	k.version("/inbox/upload")
	killed := copyDir(m.t, k.accountDir())
	k.must(f.Close())
	k.must(k.view.Close())
	k.must(k.fs.Close())
	k.must(os.RemoveAll(k.accountDir()))
	k.must(os.CopyFS(k.accountDir(), os.DirFS(killed)))
	a := k.account()
	a.Outbox = []string{"event /inbox"}
	m.want.Accounts["bob"] = a
}

// carol has a new key, and history of hers was purged before and after she got it: once some was chosen, and once everything went.
func (m *maker) carol() {
	ctx := context.Background()
	k := m.account("carol", 3)
	var marks fixtureMarks
	purge := func(chosen bool) {
		for name, n := range k.files { // what is left is the last version
			n.file.Versions = n.file.Versions[len(n.file.Versions)-1:]
			k.files[name] = n
		}
		emit := func(vfs.PurgeReceipt) []byte { return []byte("purge") }
		if !chosen {
			r, err := k.vol.Purge(ctx, vfs.PurgeOptions{Before: time.Now().Add(time.Hour), Emit: emit})
			k.must(err)
			marks.Purged = r.Newest.UnixNano()
			return
		}
		plan, err := k.vol.PlanPurge(ctx, func(vfs.Superseded) bool { return true })
		k.must(err)
		k.must(plan.Execute(ctx, emit))
		marks.Lacking = plan.Result().Newest.UnixNano()
	}
	for range 3 {
		k.put("/file", 70_000)
	}
	k.scatter("/pages", 200)
	purge(true)
	k.must(k.fs.Rotate(ctx, []keyring.AccountID{k.id}, func(r vfs.Rotated) { k.must(r.Err) }))
	for range 2 { // not by put, which looks at the database under the old key
		data := k.noise(5000)
		f := k.open("/new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
		_, err := f.Write(data)
		k.must(err)
		k.must(f.Close())
		k.truth["/new"] = node{content: data}
		k.version("/new")
	}
	purge(false)
	k.must(k.view.Close())
	k.must(k.fs.Close())
	a := k.account()
	a.Outbox, a.Marks = []string{"purge", "purge"}, &marks
	m.want.Accounts["carol"] = a
}

// site writes the policy, with credentials, and an audit log of several files.
func (m *maker) site() {
	ctx := context.Background()
	db := m.open.policy
	for _, name := range []string{"alice", "bob", "carol"} {
		a := m.want.Accounts[name]
		id, err := hex.DecodeString(a.ID)
		check(m.t, err)
		_, err = db.CreateAccount(ctx, policydb.NewAccount{Name: name, ID: keyring.AccountID(id), Who: "root", Why: "fixture",
			Grants: map[string]string{"protocols": "[sftp, ftps]", "paths": "[{path: /, allow: [all]}]"}})
		check(m.t, err)
	}
	key := "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFEAjb9c5vVHxN5pKQ6M+rsU0Glo8WmVBQ3BUpFwcRqB"
	p, _, _, _, err := ssh.ParseAuthorizedKey([]byte(key))
	check(m.t, err)
	_, err = db.AddKey(ctx, "alice", policydb.PublicKey{Blob: p.Marshal(), Comment: "of a fixture"}, "root")
	check(m.t, err)
	check(m.t, db.SetPassword(ctx, "alice", fixturePassword, "root"))
	check(m.t, db.SetEnabled(ctx, "bob", false, "root"))
	_, err = db.EnableSecond(ctx, "carol", "fixture", "root")
	check(m.t, err)
	check(m.t, db.Revoke(ctx, "serial:42", "root"))
	text := string(db.Current().Document.Text())
	_, err = db.Apply(ctx, policydb.Change{Base: db.Current().N, Text: []byte(text + "# the last revision\n"), Who: "root", Why: "fixture"})
	check(m.t, err)
	revisions, err := db.Revisions(0, 100)
	check(m.t, err)
	for _, r := range slices.Backward(revisions) {
		m.want.Policy = append(m.want.Policy, string(r.Document.Text()))
	}
	alice, bob := m.want.Accounts["alice"], m.want.Accounts["bob"]
	alice.Password, alice.Keys, bob.Enabled = fixturePassword, []string{ssh.FingerprintSHA256(p)}, false
	m.want.Accounts["alice"], m.want.Accounts["bob"] = alice, bob

	check(m.t, m.open.audit.Close())
	box, err := m.open.ring.Audit()
	check(m.t, err)
	signer, version, err := m.open.ring.AuditSigner()
	check(m.t, err)
	m.open.audit, err = audit.Open(audit.Options{Dir: filepath.Join(m.dir, "state", "audit"), Box: box, MaxFile: 2000, Signer: signer, KeyVersion: version})
	check(m.t, err)
	at := time.Date(2026, 11, 27, 12, 0, 0, 123_456_789, time.UTC)
	var id audit.ID
	check(m.t, id.UnmarshalText([]byte(alice.ID)))
	for i, action := range audit.Actions() {
		m.want.Audit = append(m.want.Audit, audit.Event{Time: at.Add(time.Duration(i) * time.Second), Action: action, Account: id, Session: "s1",
			Who: "root", Remote: netip.MustParseAddrPort("192.0.2.1:2222"), Protocol: "sftp", Client: "OpenSSH_9.9", Method: "publickey",
			Path: "/dir/\xff", To: "/e\u0301", Op: "write", Bytes: 1 << 40, Version: 7, Revision: 3, Count: 2, Result: "complete", Code: "SP-T21",
			Detail: "detail", Origin: alice.ID + "/" + strconv.Itoa(i)})
	}
	for i, e := range m.want.Audit { // one by one: each may begin a file
		check(m.t, m.open.audit.Append(ctx, e))
		if i%9 == 8 {
			check(m.t, m.open.audit.Sign(ctx))
		}
	}
}

// finish closes everything and cuts the databases to the pages in use; what bbolt keeps behind them is zeroes.
func (m *maker) finish() {
	check(m.t, m.open.close())
	check(m.t, filepath.WalkDir(m.dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(p) != ".db" {
			return err
		}
		image, err := readDatabase(p)
		if err != nil {
			return err
		}
		return os.WriteFile(p, image, 0o600)
	}))
	check(m.t, os.RemoveAll(filepath.Join(m.dir, "state", "lock")))
}

func (m *maker) pack(to string) {
	f, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	check(m.t, err)
	z, err := gzip.NewWriterLevel(f, gzip.BestCompression)
	check(m.t, err)
	w := tar.NewWriter(z)
	check(m.t, w.AddFS(os.DirFS(m.dir)))
	for _, c := range []io.Closer{w, z, f} {
		check(m.t, c.Close())
	}
}

func copyDir(t testing.TB, from string) string {
	t.Helper()
	to := filepath.Join(scratch(t), "copy")
	check(t, os.CopyFS(to, os.DirFS(from)))
	if key := filepath.Join(to, "key"); exists(key) {
		check(t, os.Chmod(key, 0o600))
	}
	return to
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
