package vfs

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"sallyport/crypto/keyring"
	"sallyport/policy/policydb"
	"sallyport/server/audit"
	"sallyport/server/clock"
)

// TestIndependentReader writes a state directory of every kind of thing and has
// testdata/reader.py read it, which was written from docs/FORMAT.md alone: the
// document is right and enough, or one of the two implementations is wrong.
func TestIndependentReader(t *testing.T) {
	t.Parallel()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("needs python3")
	}
	if err := exec.CommandContext(t.Context(), python, "-c", "import cryptography").Run(); err != nil {
		t.Skip("needs the Python package cryptography")
	}
	reader, err := os.ReadFile(filepath.Join("..", "testdata", "reader.py")) // here, so that a change of it runs the test again
	ok(t, err)
	base := t.TempDir()
	seal, err := keyring.NewKeyFile(filepath.Join(base, "key"))
	ok(t, err)
	b := &bench{t: t, state: filepath.Join(base, "state")}
	b.ring, err = keyring.Create(t.Context(), b.state, seal)
	ok(t, err)
	defer b.ring.Close()
	b.id, err = b.ring.NewAccount(t.Context())
	ok(t, err)
	b.start(Options{})
	ok(t, b.fs.Create(t.Context(), b.id))
	b.open()
	want := fillVolume(t, b.view())
	events := fillSite(t, b)
	leap := fillClock(t, b)
	copied := copyState(t, b.state) // with an upload under way: its blob is open
	ok(t, b.fs.Close())

	for _, state := range []string{copied, b.state} {
		cmd := exec.CommandContext(t.Context(), python, "-", state, seal.Path)
		cmd.Stdin = bytes.NewReader(reader)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("reader.py: %v\n%s", err, stderr(err))
		}
		var got struct {
			Accounts map[string]map[string]readFile
			Policy   struct {
				Accounts map[string]string
				Text     string
			}
			Audit []struct{ Action, Path string }
			Clock readClock
		}
		ok(t, json.Unmarshal(out, &got))
		tree := got.Accounts[b.id.String()]
		for name := range want {
			got := tree[name]
			if want[name].Created == 0 {
				got.Created = 0 // by the clock
			}
			if got != want[name] {
				t.Errorf("%q: read %+v, want %+v", name, got, want[name])
			}
		}
		if len(tree) != len(want) {
			t.Errorf("read %d names, want %d: %q", len(tree), len(want), slices.Sorted(maps.Keys(tree)))
		}
		if got.Policy.Accounts["alice"] != b.id.String() {
			t.Errorf("policy: read accounts %v", got.Policy.Accounts)
		}
		if len(got.Audit) != len(events) || got.Audit[1].Path != string(events[1].Path) {
			t.Errorf("audit: read %v", got.Audit)
		}
		if c := got.Clock; c.Ahead || c.Behind || c.Doubt || c.Since != 0 || c.Now != leap.To || c.Wall != leap.To ||
			c.Count != "00000000000000000000000000000007" || c.Counted != int64(time.Hour+time.Minute) || c.Base != leap.To || c.Unproven != 0 || c.Known != leap.Since+int64(3*time.Minute) || !slices.Equal(c.Leaps, []readLeap{leap}) {
			t.Errorf("clock: read %+v, want %+v", c, leap)
		}
	}
	sealed, err := os.ReadFile(filepath.Join(copied, "clock"))
	ok(t, err)
	sealed[len(sealed)-1] ^= 1
	ok(t, os.WriteFile(filepath.Join(copied, "clock"), sealed, 0o600))
	cmd := exec.CommandContext(t.Context(), python, "-", copied, seal.Path)
	cmd.Stdin = bytes.NewReader(reader)
	if _, err := cmd.Output(); !bytes.Contains(stderr(err), []byte("reader.py: damaged:")) {
		t.Errorf("a damaged clock: %v %s", err, stderr(err))
	}
}

// readClock is what reader.py says of the last known time; ns since 1970.
type readClock struct {
	Ahead  bool
	Behind bool `json:"confirmed_behind"`
	Doubt  bool
	Now    int64
	Wall   int64
	Since  int64
	Leaps  []readLeap

	Count    string // which it is, in hexadecimal
	Counted  int64
	Base     int64
	Unproven int64
	Known    int64
}

type readLeap struct{ Since, From, To int64 }

// fillClock is a server that was off for a hundred days, and an operator who confirms it an hour later.
func fillClock(t *testing.T, b *bench) readLeap {
	t.Helper()
	box, err := b.ring.Policy()
	ok(t, err)
	start := time.Date(2026, 3, 1, 12, 0, 0, 7, time.UTC)
	wall, elapsed := start, time.Duration(0)
	for day := range 2 {
		wall = wall.AddDate(0, 0, 100*day)
		// Between two looks is an hour of the machine's, which is longer than this test.
		c := clock.Open(clock.Options{Path: filepath.Join(b.state, "clock"), Box: box, Every: time.Hour, Wall: func() time.Time { return wall }, Elapsed: func() time.Duration { return elapsed },
			Count: func() clock.Count { return clock.Count{Of: [16]byte{15: byte(6 + day)}, Time: time.Minute + elapsed} }})
		c.Begin(start.Add(time.Duration(day)*3*time.Minute), func(clock.State) {}) // as if the audit log were further: leaps may be missing
		if day == 1 {
			wall, elapsed = wall.Add(time.Hour), elapsed+time.Hour
			_, err := c.Confirm(c.State().Offset)
			ok(t, err)
		}
		ok(t, c.Close())
	}
	return readLeap{Since: start.UnixNano(), From: start.Add(time.Hour).UnixNano(), To: wall.UnixNano()}
}

// readFile is what reader.py says of a file, as far as it is compared.
type readFile struct {
	Kind    int
	Size    int64
	Mode    uint32
	Created int64 // of a test that set it; ns since 1970
	State   int
	SHA256  string
	Target  string
}

func regular(data []byte) readFile {
	sum := sha256.Sum256(data)
	return readFile{Kind: 1, Size: int64(len(data)), Mode: 0o644, State: 1, SHA256: hex.EncodeToString(sum[:])}
}

// fillVolume makes files of every layout, history, links and odd names, and
// leaves one upload open after an fsync.
func fillVolume(t *testing.T, w *View) map[string]readFile {
	t.Helper()
	want := map[string]readFile{}
	for i, size := range []int{0, 1, 4096, 4097, 5000, 65535, 65536, 65537, 200000, 1<<20 + 17} {
		name, data := "/f"+string(rune('0'+i)), noise(uint64(i), size)
		put(t, w, name, data)
		want[name] = regular(data)
	}
	ok(t, w.Mkdir("/d", 0o755))
	want["/d"] = readFile{Kind: 2, Mode: 0o755, State: 1}
	for _, name := range []string{"/d/e\u0301", "/d/a\nb", "/d/\xff"} {
		put(t, w, name, []byte(name))
		key := name
		if name == "/d/\xff" {
			key = "/d/\ufffd" // reader.py's \udcff is no character, and encoding/json says so
		}
		want[key] = regular([]byte(name))
	}
	old := time.Date(1950, 1, 2, 3, 4, 5, 6, time.UTC)
	ok(t, w.Symlink("../f1", "/d/link"))
	ok(t, w.LsetAttr("/d/link", AttrChange{Created: &old}))
	want["/d/link"] = readFile{Kind: 3, Mode: 0o777, Created: old.UnixNano(), State: 1, Target: "../f1"}

	// History: overwritten, renamed over, removed.
	put(t, w, "/f1", []byte("second version"))
	want["/f1"] = regular([]byte("second version"))
	ok(t, w.Rename("/f5", "/f6"))
	want["/f6"] = want["/f5"]
	delete(want, "/f5")
	ok(t, w.Remove("/f7"))
	delete(want, "/f7")

	// Holes, and more extents than one record and one page hold.
	sparse := make([]byte, 3000*1000)
	f := openFile(t, w, "/sparse", os.O_WRONLY|os.O_CREATE)
	for i := range 2999 {
		piece := noise(uint64(i), 10)
		copy(sparse[1000*(2998-i):], piece)
		if _, err := f.WriteAt(piece, int64(1000*(2998-i))); err != nil {
			t.Fatal(err)
		}
		if i%100 == 0 {
			ok(t, f.Sync()) // the window folds nothing together
		}
	}
	ok(t, f.Truncate(int64(len(sparse))))
	ok(t, f.Close())
	want["/sparse"] = regular(sparse)

	data := noise(77, 3*65536+100)
	open := openFile(t, w, "/open", os.O_WRONLY|os.O_CREATE)
	write(t, open, data)
	ok(t, open.Sync())
	want["/open"] = regular(data)
	return want
}

// fillSite makes a policy database and an audit log.
func fillSite(t *testing.T, b *bench) []audit.Event {
	t.Helper()
	box, err := b.ring.Policy()
	ok(t, err)
	names, err := b.ring.Names()
	ok(t, err)
	db, err := policydb.Open(t.Context(), policydb.Options{Path: filepath.Join(b.state, "policy.db"), Box: box, Token: b.ring.PolicyToken, Names: names, NameToken: b.ring.NameToken, PasswordCost: 4})
	ok(t, err)
	defer db.Close()
	_, err = db.CreateAccount(t.Context(), policydb.NewAccount{Name: "alice", ID: b.id, Who: "root"})
	ok(t, err)

	box, err = b.ring.Audit()
	ok(t, err)
	signer, version, err := b.ring.AuditSigner()
	ok(t, err)
	log, err := audit.Open(audit.Options{Dir: filepath.Join(b.state, "audit"), Box: box, Signer: signer, KeyVersion: version})
	ok(t, err)
	events := []audit.Event{{Action: audit.ServerStart}, {Action: audit.Upload, Account: audit.ID(b.id), Path: "/f1"}, {Action: audit.ServerStop}}
	ok(t, log.AppendAll(t.Context(), events))
	ok(t, log.Close())
	return events
}

func copyState(t *testing.T, state string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "state")
	ok(t, os.CopyFS(to, os.DirFS(state)))
	return to
}

func stderr(err error) []byte {
	if e, ok := err.(*exec.ExitError); ok {
		return slices.Clone(e.Stderr)
	}
	return nil
}
