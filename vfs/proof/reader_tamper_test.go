package proof

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"sallyport/crypto/record"
)

// TestSecondReaderFindsDamage attacks the fixture in one way of each kind. testdata/reader.py must refuse all of them, as
// the server does: the document says what a reader MUST check, and it is enough.
func TestSecondReaderFindsDamage(t *testing.T) {
	t.Parallel()
	const log = "state/audit/00000000000000000005.log"
	for what, attack := range map[string]func(*future){
		"seal.json: another root":       func(f *future) { f.replace("state/seal.json", `"epoch": 1`, `"epoch": 2`) },
		"seal.json: a byte of the root": func(f *future) { f.flip("state/seal.json", `"wrapped": "`) },
		"keyring: a byte of a key":      func(f *future) { f.poke("state/keyring", 100, 0xaa) },
		"keyring: cut":                  func(f *future) { f.edit("state/keyring", func(b []byte) []byte { return b[:len(b)-1] }) },
		"audit: a byte":                 func(f *future) { f.poke(log, 300, 0xaa) },
		"audit: a file is missing":      func(f *future) { check(f.t, os.Remove(f.path(log))) },
		"audit: cut before the head":    func(f *future) { check(f.t, os.Remove(f.path("state/audit/00000000000000000033.log"))) },
		"policy: a record is gone":      func(f *future) { f.drop(f.policyDB(), "policy1") },
		"policy: a name is gone": func(f *future) {
			check(f.t, openAndRead(f.dir)) // which makes the table of names
			f.drop(f.policyDB(), "names1")
		},
		"database: a record is gone":      func(f *future) { f.drop(f.tree(), string([]byte{byte(record.DomainWhen)})) },
		"database: two records exchanged": (*future).exchange,
		"blob: a byte of each":            func(f *future) { f.blobs(150, []byte{0xaa}) },
		"blob: one cut by a byte":         func(f *future) { f.oneBlob(func(b []byte) []byte { return b[:len(b)-1] }) },
		"blob: one with another's bytes":  (*future).swapBlobs,
		"blob: all are gone": func(f *future) {
			check(f.t, os.RemoveAll(filepath.Join(filepath.Dir(f.tree()), "blobs")))
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			f := &future{t: t}
			f.dir, _ = fixture(t, "v1")
			attack(f)
			out, err := runReader(t, f.dir)
			if err == nil {
				t.Fatalf("not noticed: it printed %d bytes", len(out))
			}
			if !strings.Contains(err.Error(), "reader.py: damaged:") {
				t.Errorf("it ended with %v", err)
			}
			if err := openAndRead(f.dir); err == nil {
				t.Error("the server did not notice")
			}
		})
	}
}

// flip changes the byte ten after the text.
func (f *future) flip(name, after string) {
	f.edit(name, func(b []byte) []byte {
		i := bytes.Index(b, []byte(after)) + len(after) + 10
		if b[i]++; b[i] > 'y' {
			b[i] = 'B'
		}
		return b
	})
}

// drop removes the first record of a bucket.
func (f *future) drop(path, bucket string) {
	f.bolt(path, func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(bucket))
		k, _ := b.Cursor().First()
		return b.Delete(bytes.Clone(k))
	})
}

// exchange gives two inodes each the other's record.
func (f *future) exchange() {
	f.bolt(f.tree(), func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte{byte(record.DomainInode)})
		c := b.Cursor()
		k1, v1 := c.First()
		k1, v1 = bytes.Clone(k1), bytes.Clone(v1)
		k2, v2 := c.Next()
		k2, v2 = bytes.Clone(k2), bytes.Clone(v2)
		if err := b.Put(k1, v2); err != nil {
			return err
		}
		return b.Put(k2, v1)
	})
}

// blobNames are the blobs of alice.
func (f *future) blobNames() (names []string) {
	f.t.Helper()
	found, err := filepath.Glob(filepath.Join(filepath.Dir(f.tree()), "blobs/*/*"))
	check(f.t, err)
	for _, p := range found {
		name, err := filepath.Rel(f.dir, p)
		check(f.t, err)
		names = append(names, name)
	}
	return names
}

func (f *future) oneBlob(fn func([]byte) []byte) { f.edit(f.blobNames()[0], fn) }

func (f *future) swapBlobs() {
	names := f.blobNames()
	other, err := os.ReadFile(f.path(names[1]))
	check(f.t, err)
	f.edit(names[0], func([]byte) []byte { return other })
}

// TestVectorsComeFromTheSecondImplementation runs the programs in Python that made the frozen vectors, those that must open and
// those that must not: they still write the same bytes.
func TestVectorsComeFromTheSecondImplementation(t *testing.T) {
	t.Parallel()
	python, err := readerPython()
	if err != nil {
		noReader(t)
	}
	for maker, vectors := range map[string]string{
		"crypto/record/testdata/record_vectors.py": "record.json",
		"crypto/stream/testdata/floe_vectors.py":   "floe.json",
		"vfs/meta/testdata/page_vectors.py":        "pages.json",
	} {
		maker := filepath.Join("..", "..", filepath.FromSlash(maker))
		want, err := os.ReadFile(filepath.Join(filepath.Dir(maker), vectors))
		check(t, err)
		got, err := exec.CommandContext(t.Context(), python, maker).Output()
		check(t, err)
		if !bytes.Equal(got, want) {
			t.Errorf("%s writes %d bytes that are not those of %s", maker, len(got), vectors)
		}
		if !bytes.Contains(want, []byte(`"ok": false`)) && !bytes.Contains(want, []byte(`"bad": -2`)) {
			t.Errorf("%s has none that must be refused", vectors)
		}
	}
}

// TestSecondReaderReadsPages lets testdata/reader.py decode the frozen pages of extents. The script prints the names of those that it
// reads as anything but what they hold, or takes where it must not.
func TestSecondReaderReadsPages(t *testing.T) {
	t.Parallel()
	python, err := readerPython()
	if err != nil {
		noReader(t)
	}
	const script = `
import json, sys
sys.dont_write_bytecode = True
import reader
for v in json.load(sys.stdin):
    try:
        got = reader.page_of_extents(bytes.fromhex(v["page"]))
    except reader.Damaged:
        got = None
    extents = [[int.from_bytes(got[at + i:at + i + (4 if i == 24 else 8)], "big") for i in (0, 8, 16, 24)]
               for at in range(0, len(got or b""), 32)]
    if (got is not None) != v["ok"] or extents != v["extents"]:
        print(v["name"])
print("read all")
`
	vectors, err := os.ReadFile(filepath.Join("..", "meta", "testdata", "pages.json"))
	check(t, err)
	cmd := exec.CommandContext(t.Context(), python, "-c", script)
	cmd.Dir, cmd.Stdin = filepath.Join("..", "..", "testdata"), bytes.NewReader(vectors)
	out, err := cmd.Output()
	check(t, err)
	if string(out) != "read all\n" {
		t.Errorf("not read as they are:\n%s", out)
	}
}
