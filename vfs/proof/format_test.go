package proof

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"sallyport/crypto/keyring"
	"sallyport/crypto/record"
)

// TestUnknownFormatsAreRefused gives every place that has a version one that this program does not know, authentic
// where the place is sealed: it is refused, the error says what is unknown, and nothing is written. The second reader refuses it too.
func TestUnknownFormatsAreRefused(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		says   string
		change func(*future)
	}{
		"seal.json":                  {`seal\.json: format "sallyport seal 9" is unknown`, func(f *future) { f.replace("state/seal.json", "sallyport seal 1", "sallyport seal 9") }},
		"keyring":                    {`keyring: .*(format|version|unknown)`, func(f *future) { f.replace("state/keyring", "SPKEYR1\n", "SPKEYR9\n") }},
		"record of the keyring":      {`keyring`, func(f *future) { f.poke("state/keyring", -109, 9) }},
		"wrapped key":                {`keyring`, func(f *future) { f.poke("state/keyring", 16+4+32, 9) }},
		"head of the audit log":      {`head.*record version 9 is unknown`, func(f *future) { f.poke("state/audit/head", 0, 9) }},
		"file of the audit log":      {`format "SPAUDIT9" is unknown`, func(f *future) { f.replace("state/audit/00000000000000000033.log", "SPAUDIT1", "SPAUDIT9") }},
		"record of the policy":       {`record version 9 is unknown`, func(f *future) { f.poke9(f.policyDB(), "policy1", "h") }},
		"format of the policy":       {`format 9 of the policy database is unknown`, (*future).policyFormat},
		"record of the database":     {`record version 9 is unknown`, func(f *future) { f.poke9(f.tree(), "\x0a", "head") }},
		"format of the database":     {`format 9 of the database is unknown.*written by a newer program|written by a newer program.*format 9 of the database is unknown`, (*future).treeFormat},
		"bucket of the database":     {`foreign bucket`, (*future).treeBucket},
		"layout of a version":        {`version 9 of a layout is unknown`, (*future).layoutVersion},
		"page of extents":            {`form 0x82 of a page of extents is unknown`, (*future).pageForm},
		"blob":                       {`integrity`, func(f *future) { f.blobs(0, []byte("SPBLOB9\n")) }},
		"algorithms of a blob":       {`integrity`, func(f *future) { f.blobs(24, []byte{9}) }},
		"database of the policy":     {`policy.*(damaged|no records)`, (*future).policyBucket},
		"reserved bytes of a layout": {`layout`, (*future).layoutReserved},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			f := &future{t: t}
			f.dir, _ = fixture(t, "v1")
			f.settle()
			c.change(f)
			before := f.files() // after the change, which says what is attacked
			err := openAndRead(f.dir)
			if err == nil {
				t.Fatal("it was taken")
			}
			if !regexp.MustCompile(c.says).MatchString(err.Error()) {
				t.Errorf("refused with %q, which does not match %q", err, c.says)
			}
			if after := f.files(); !maps.Equal(before, after) {
				t.Errorf("something was written: %v", changed(before, after))
			}
			if out, err := runReader(t, f.dir); err == nil {
				t.Errorf("reader.py took it and printed %d bytes", len(out))
			} else if !strings.Contains(err.Error(), "reader.py: damaged:") {
				t.Errorf("reader.py ended with %v", err)
			}
		})
	}
}

// openAndRead opens everything, reads every file, and checks the volumes: what a client is not told stands in the findings.
func openAndRead(dir string) error {
	s, err := openSite(dir)
	if err != nil {
		return err
	}
	defer s.close()
	var errs []error
	if _, err := s.audit.Verify(); err != nil {
		errs = append(errs, err)
	}
	for _, id := range s.ring.Accounts() {
		if _, err := readFiles(s, id); err != nil {
			errs = append(errs, err)
			vol, err := s.fs.Volume(context.Background(), id)
			if err != nil {
				continue
			}
			_, err = vol.Verify(context.Background(), func(finding string) { errs = append(errs, errors.New(finding)) })
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func changed(before, after map[string]string) (names []string) {
	for name := range after {
		if before[name] != after[name] {
			names = append(names, name)
		}
	}
	for name := range before {
		if _, ok := after[name]; !ok {
			names = append(names, name)
		}
	}
	return names
}

// future changes an unpacked fixture as a newer program could have written it.
type future struct {
	t   *testing.T
	dir string
	// attacked is the directory of the account that was changed, if it was one: others open, and may be written to.
	attacked string
}

// settle opens everything once: a newer program brings an older database up to date, and finishes what a crash left.
func (f *future) settle() {
	f.t.Helper()
	s, err := openSite(f.dir)
	check(f.t, err)
	for _, id := range s.ring.Accounts() {
		_, err := s.fs.Volume(f.t.Context(), id)
		check(f.t, err)
	}
	check(f.t, s.close())
	check(f.t, os.RemoveAll(f.path("state/lock")))
}

func (f *future) path(name string) string { return filepath.Join(f.dir, filepath.FromSlash(name)) }

// files are the digests of all files, without the lock, which every start writes, and without the head of the audit log,
// which every clean stop writes once the log itself has opened.
func (f *future) files() map[string]string {
	f.t.Helper()
	all := map[string]string{}
	check(f.t, filepath.WalkDir(f.dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && filepath.Base(filepath.Dir(p)) == "accounts" && f.attacked != "" && p != f.attacked {
			return fs.SkipDir
		}
		if err != nil || d.IsDir() || d.Name() == "lock" || d.Name() == "head" {
			return err
		}
		data, err := os.ReadFile(p)
		all[p] = digest(data)
		return err
	}))
	return all
}

func (f *future) edit(name string, fn func([]byte) []byte) {
	f.t.Helper()
	data, err := os.ReadFile(f.path(name))
	check(f.t, err)
	check(f.t, os.WriteFile(f.path(name), fn(data), 0o600))
}

func (f *future) replace(name, from, to string) {
	f.t.Helper()
	f.edit(name, func(b []byte) []byte {
		if !bytes.Contains(b, []byte(from)) {
			f.t.Fatalf("%s has no %q", name, from)
		}
		return bytes.Replace(b, []byte(from), []byte(to), 1)
	})
}

// poke sets one byte; a negative offset counts from the end.
func (f *future) poke(name string, at int, to byte) {
	f.t.Helper()
	f.edit(name, func(b []byte) []byte {
		if at < 0 {
			at += len(b)
		}
		b[at] = to
		return b
	})
}

func (f *future) policyDB() string { return f.path("state/policy.db") }

// tree is the database of alice, who has the larger one.
func (f *future) tree() string {
	f.t.Helper()
	found, err := filepath.Glob(f.path("state/accounts/*/tree-1.db"))
	check(f.t, err)
	slices.SortFunc(found, func(a, b string) int { return int(f.size(b) - f.size(a)) })
	f.attacked = filepath.Dir(found[0])
	return found[0]
}

func (f *future) size(path string) int64 {
	i, err := os.Stat(path)
	check(f.t, err)
	return i.Size()
}

func (f *future) blobs(at int, put []byte) {
	f.t.Helper()
	found, err := filepath.Glob(f.path("state/accounts/*/blobs/*/*"))
	check(f.t, err)
	for _, p := range found {
		name, err := filepath.Rel(f.dir, p)
		check(f.t, err)
		f.edit(name, func(b []byte) []byte { copy(b[at:], put); return b })
	}
}

// bolt changes a database as bbolt would.
func (f *future) bolt(path string, fn func(*bbolt.Tx) error) {
	f.t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{PageSize: pageSize, NoFreelistSync: true, NoSync: true})
	check(f.t, err)
	check(f.t, db.Update(fn))
	check(f.t, db.Close())
}

// poke9 sets the version of one record.
func (f *future) poke9(path, bucket, key string) {
	f.t.Helper()
	f.bolt(path, func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(bucket))
		v := bytes.Clone(b.Get([]byte(key)))
		v[0] = 9
		return b.Put([]byte(key), v)
	})
}

// ring opens the keyring for fn.
func (f *future) ring(fn func(*keyring.Keyring)) {
	f.t.Helper()
	ring, err := keyring.Open(f.t.Context(), f.path("state"), &keyring.KeyFile{Path: f.path("key")})
	check(f.t, err)
	defer ring.Close()
	fn(ring)
}

func (f *future) policyFormat() {
	f.ring(func(ring *keyring.Keyring) {
		box, err := ring.Policy()
		check(f.t, err)
		f.bolt(f.policyDB(), func(tx *bbolt.Tx) error {
			b := tx.Bucket([]byte("policy1"))
			plain, err := box.Open(nil, record.DomainPolicy, []byte("h"), b.Get([]byte("h")))
			check(f.t, err)
			var head map[string]json.RawMessage
			check(f.t, json.Unmarshal(plain, &head))
			head["format"] = []byte("9")
			plain, err = json.Marshal(head)
			check(f.t, err)
			return b.Put([]byte("h"), box.Seal(nil, record.DomainPolicy, []byte("h"), plain))
		})
	})
}

func (f *future) policyBucket() {
	f.bolt(f.policyDB(), func(tx *bbolt.Tx) error {
		if _, err := tx.CreateBucket([]byte("policy9")); err != nil {
			return err
		}
		return tx.DeleteBucket([]byte("policy1"))
	})
}

func (f *future) treeBucket() {
	f.bolt(f.tree(), func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte{99}); return err })
}

// account finds the keys of the account of a database.
func (f *future) account(tree string, fn func(*record.AccountKeys)) {
	f.ring(func(ring *keyring.Keyring) {
		id, err := hex.DecodeString(filepath.Base(filepath.Dir(tree)))
		check(f.t, err)
		keys, err := ring.Account(keyring.AccountID(id))
		check(f.t, err)
		fn(keys)
	})
}

var headPlace = append([]byte{byte(record.DomainHead)}, "head"...)

func (f *future) treeFormat() {
	tree := f.tree()
	f.account(tree, func(keys *record.AccountKeys) {
		f.bolt(tree, func(tx *bbolt.Tx) error {
			b := tx.Bucket(headPlace[:1])
			plain, err := keys.Box().Open(nil, record.DomainHead, headPlace, b.Get(headPlace[1:]))
			check(f.t, err)
			binary.BigEndian.PutUint16(plain, 9)
			return b.Put(headPlace[1:], keys.Box().Seal(nil, record.DomainHead, headPlace, plain))
		})
	})
}

func (f *future) layoutVersion()  { f.layouts(0) }
func (f *future) layoutReserved() { f.layouts(1) }

// pageForm gives every page of extents a form that is not known.
func (f *future) pageForm() {
	f.records(record.DomainExtents, func(plain []byte) { plain[0] = 0x82 })
}

// layouts sets one byte of every layout to 9.
func (f *future) layouts(at int) {
	f.records(record.DomainVersion, func(plain []byte) {
		writer := 8 + 8 + 37 // behind at, previous and attr
		layout := writer + 2 + int(binary.BigEndian.Uint16(plain[writer:])) + 4
		plain[layout+at] = 9
	})
}

// records changes all records of a kind, and sets the set hash to what they then are.
func (f *future) records(kind record.Domain, change func(plain []byte)) {
	tree := f.tree()
	f.account(tree, func(keys *record.AccountKeys) {
		f.bolt(tree, func(tx *bbolt.Tx) error {
			h := tx.Bucket(headPlace[:1])
			head, err := keys.Box().Open(nil, record.DomainHead, headPlace, h.Get(headPlace[1:]))
			check(f.t, err)
			sum := record.Sum(head[18:50])
			b := tx.Bucket([]byte{byte(kind)})
			var all []rec
			check(f.t, b.ForEach(func(k, v []byte) error {
				all = append(all, rec{key: string(k), value: bytes.Clone(v)})
				return nil
			}))
			for _, r := range all {
				place := append([]byte{byte(kind)}, r.key...)
				plain, err := keys.Box().Open(nil, kind, place, r.value)
				check(f.t, err)
				change(plain)
				sealed := keys.Box().Seal(nil, kind, place, plain)
				keys.Set().Remove(&sum, place, r.value)
				keys.Set().Add(&sum, place, sealed)
				check(f.t, b.Put([]byte(r.key), sealed))
			}
			copy(head[18:50], sum[:])
			return h.Put(headPlace[1:], keys.Box().Seal(nil, record.DomainHead, headPlace, head))
		})
	})
}
