package proof

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"sallyport/crypto/keyring"
	"sallyport/server/audit"
)

// fixtures are state directories that were written once, each by a program as it was when its format was the newest, and are never
// written again: what lies on people's disks must open for ever.
var fixtures = map[string]struct{ state, manifest string }{ // SHA-256
	"v1": {"4ca9abc03c88a925e479cd8d96198ddd429fd1ce37848c00e567de13a9793af0", "dd3f3f2023c4f28a1c52f51c03e72f80801590a32374b7ffe4dd5aa260b31bfd"},
	"v2": {"5ec4d07e0ba904bd44eb4cdbe568110122b3d76cfdc96ae46a6e1c24fd0d3b73", "eeeed681ce599eec0c959f88a35152f13a3f8dba2a45f403d52eb69ff8e96eba"},
	"v3": {"f42518b1f1485c18a77ba3386fa2143115a1dfe272e10c60336221f6e6209a99", "0c08e64d89934ae6da5b0c266e2f1218bd1d7ee88f0d5ef2cda28a094aab81fc"},
	"v4": {"895f8147a2fb92746ad367772eebebe4f290d4df9f0afcf201395abc56ffa72d", "5f5336c6b6e8f3656fb9eb5a2739ec2d66e243c2270bc9a3e4ed0a57887b70f7"},
}

const fixtureDir = "../../testdata/fixtures"

// manifest is what must be found in a fixture, as it was known when it was written.
type manifest struct {
	Accounts map[string]fixtureAccount // by name
	Policy   []string                  // the document of each revision
	Audit    []audit.Event
}

type fixtureAccount struct {
	ID       string
	Enabled  bool
	Password string   // "" = none
	Keys     []string // fingerprints
	Files    map[string]fixtureFile
	Gone     []fixtureGone // in the order in which the names went
	Outbox   []string      // events not yet in the log
	Marks    *fixtureMarks `json:",omitempty"` // since format 3
}

// fixtureMarks say up to when history was destroyed; 0 = none ever was.
type fixtureMarks struct{ Purged, Lacking int64 }

// fixtureFile is one live name. Names that are not UTF-8 stand in JSON with U+FFFD.
type fixtureFile struct {
	Kind     int // 1 file, 2 directory, 3 symlink
	Size     uint64
	Mode     uint32
	Mtime    int64 `json:",omitempty"` // ns, where a client set it
	State    int
	SHA256   string           `json:",omitempty"`
	Target   string           `json:",omitempty"`
	Versions []fixtureVersion `json:",omitempty"` // the oldest first
}

type fixtureVersion struct {
	State  int // 1 complete, 2 partial, 3 interrupted
	Size   uint64
	SHA256 string
}

type fixtureGone struct {
	Name     string
	Versions []fixtureVersion `json:",omitempty"`
}

// fixture unpacks state.tar.gz and returns its directory, which has the state and the key beside it, and its manifest.
func fixture(t *testing.T, version string) (dir string, m manifest) {
	t.Helper()
	dir = scratch(t)
	packed, err := os.Open(filepath.Join(fixtureDir, version, "state.tar.gz"))
	check(t, err)
	defer packed.Close()
	plain, err := gzip.NewReader(packed)
	check(t, err)
	for tr := tar.NewReader(plain); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		check(t, err)
		path := filepath.Join(dir, filepath.FromSlash(h.Name))
		if h.Typeflag == tar.TypeDir {
			check(t, os.MkdirAll(path, 0o700))
			continue
		}
		data, err := io.ReadAll(tr)
		check(t, err)
		check(t, os.WriteFile(path, data, 0o600))
	}
	text, err := os.ReadFile(filepath.Join(fixtureDir, version, "manifest.json"))
	check(t, err)
	check(t, json.Unmarshal(text, &m))
	return dir, m
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestFixtures reads copies of the frozen states with the program as it is today, twice, because the first opening may
// write, and goes on living with them.
func TestFixtures(t *testing.T) {
	t.Parallel()
	for version := range fixtures {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			dir, want := fixture(t, version)
			for range 2 {
				compare(t, readState(t, dir), want)
			}
			if _, err := readerPython(); err == nil { // and the document says what the program made of it
				out, err := runReader(t, dir)
				check(t, err)
				compare(t, fromReader(t, out), want)
			}
			ring, err := keyring.Open(t.Context(), filepath.Join(dir, "state"), &keyring.KeyFile{Path: filepath.Join(dir, "key")})
			check(t, err)
			defer ring.Close()
			if _, err := ring.NewAccount(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestFixturesAreFrozen holds the files of the fixtures against their digests: whoever changes one must mean it.
func TestFixturesAreFrozen(t *testing.T) {
	t.Parallel()
	for version, want := range fixtures {
		for name, want := range map[string]string{"state.tar.gz": want.state, "manifest.json": want.manifest} {
			data, err := os.ReadFile(filepath.Join(fixtureDir, version, name))
			check(t, err)
			if got := digest(data); got != want {
				t.Errorf("%s of %s has changed (SHA-256 %s): it must stay as the program of its time wrote it. A new format gets a new fixture", name, version, got)
			}
		}
	}
}

// TestFixturesReadFromTheDocument has the reader that was written from docs/FORMAT.md read them.
func TestFixturesReadFromTheDocument(t *testing.T) {
	t.Parallel()
	for version := range fixtures {
		dir, want := fixture(t, version)
		out, err := runReader(t, dir)
		if err != nil {
			t.Fatal(err)
		}
		compare(t, fromReader(t, out), want)
	}
}

// readerPython finds what testdata/reader.py needs, once.
var readerPython = sync.OnceValues(func() (string, error) {
	python, err := exec.LookPath("python3")
	if err == nil {
		err = exec.Command(python, "-c", "import cryptography").Run()
	}
	return python, err
})

// errNoReader: there is no Python with the package cryptography.
var errNoReader = errors.New("testdata/reader.py cannot run here")

// noReader leaves out what needs it, but not where everything is to be proved.
func noReader(t testing.TB) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%v, and CI=true leaves nothing out: apt-get install python3-cryptography", errNoReader)
	}
	t.Skip(errNoReader)
}

// runReader reads dir/state with testdata/reader.py. Its error holds what it printed.
func runReader(t testing.TB, dir string) ([]byte, error) {
	t.Helper()
	python, err := readerPython()
	if err != nil {
		noReader(t)
	}
	reader, err := os.ReadFile(filepath.Join("..", "..", "testdata", "reader.py"))
	check(t, err)
	cmd := exec.CommandContext(context.Background(), python, "-", "--history", filepath.Join(dir, "state"), filepath.Join(dir, "key"))
	cmd.Stdin = bytes.NewReader(reader)
	out, err := cmd.Output()
	if e, ok := err.(*exec.ExitError); ok {
		err = errors.New(string(e.Stderr))
	}
	return out, err
}

// compare holds what was read against the manifest, name by name.
func compare(t *testing.T, got, want manifest) {
	t.Helper()
	for name, w := range want.Accounts {
		g := got.Accounts[name]
		for path, f := range w.Files {
			g := g.Files[path]
			if f.Mtime == 0 {
				g.Mtime = 0 // by the clock
			}
			if !reflect.DeepEqual(g, f) {
				t.Errorf("%s: %q: read %+v, want %+v", name, path, g, f)
			}
		}
		if len(g.Files) != len(w.Files) {
			t.Errorf("%s: read %d names, want %d", name, len(g.Files), len(w.Files))
		}
		if g.Password == unverified && w.Password != "" {
			g.Password = w.Password
		}
		g.Files, w.Files = nil, nil
		if w.Marks == nil {
			g.Marks = nil
		}
		if len(g.Gone) == 0 {
			g.Gone = nil
		}
		for _, gone := range [][]fixtureGone{g.Gone, w.Gone} { // two names may go at one instant
			slices.SortStableFunc(gone, func(a, b fixtureGone) int { return strings.Compare(a.Name, b.Name) })
		}
		if !reflect.DeepEqual(g, w) {
			t.Errorf("%s: read\n%+v, want\n%+v", name, g, w)
		}
	}
	if len(got.Accounts) != len(want.Accounts) {
		t.Errorf("read %d accounts, want %d", len(got.Accounts), len(want.Accounts))
	}
	if !reflect.DeepEqual(got.Policy, want.Policy) {
		t.Errorf("policy: read %q, want %q", got.Policy, want.Policy)
	}
	if len(got.Audit) != len(want.Audit) {
		t.Errorf("audit: read %d records, want %d", len(got.Audit), len(want.Audit))
		return
	}
	for i := range got.Audit {
		if g, w := string(got.Audit[i].Encode()), string(want.Audit[i].Encode()); g != w {
			t.Errorf("audit: record %d: read %s, want %s", i+1, g, w)
		}
	}
}
