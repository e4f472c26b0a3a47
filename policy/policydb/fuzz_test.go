package policydb

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
	"golang.org/x/crypto/bcrypt"

	"sallyport/crypto/record"
	"sallyport/vfs/pagecheck/pagetest"
)

// FuzzPages changes bytes of the file, with or without making bbolt's own sums right again: it opens with all that was
// in it, or as damaged.
func FuzzPages(f *testing.F) {
	o := options(f)
	db := open(f, o)
	fill(f, db)
	if err := db.Close(); err != nil {
		f.Fatal(err)
	}
	image, err := os.ReadFile(o.Path)
	if err != nil {
		f.Fatal(err)
	}
	image = image[:min(len(image), 24*4096)]
	for _, at := range []uint32{16, 40, 4096 + 16, 2*4096 + 8, 3*4096 + 20, 4*4096 + 100} {
		f.Add(at, []byte{1, 2, 3, 4}, true)
		f.Add(at, []byte{0xff}, false)
	}
	f.Fuzz(func(t *testing.T, at uint32, change []byte, fixSums bool) {
		b := bytes.Clone(image)
		copy(b[int(at)%len(b):], change)
		if fixSums {
			pagetest.FixSums(b)
		}
		o := o
		o.Path = filepath.Join(t.TempDir(), "policy.db")
		if err := os.WriteFile(o.Path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		db, err := Open(t.Context(), o)
		if err != nil {
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, errors.ErrUnsupported) {
				t.Fatal(err)
			}
			return
		}
		defer db.Close()
		if _, err := db.Accounts(); err != nil {
			t.Error(err)
		}
		if _, err := db.Revisions(0, 100); err != nil {
			t.Error(err)
		}
	})
}

// FuzzValues puts an authentic record of any content into the place of one that is there, with a set hash that fits: it
// is refused or read, and nothing panics.
func FuzzValues(f *testing.F) {
	o := options(f)
	db := open(f, o)
	fill(f, db)
	var keys [][]byte
	err := db.view(func(t *tx) error {
		for _, b := range []*bbolt.Bucket{t.b, t.names} {
			if err := scan(b, nil, func(key, sealed []byte) error {
				plain, err := t.open(key, sealed)
				keys = append(keys, bytes.Clone(key))
				f.Add(uint8(len(keys)-1), plain)
				return err
			}); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = db.Close()
	}
	if err != nil {
		f.Fatal(err)
	}
	image, err := os.ReadFile(o.Path)
	if err != nil {
		f.Fatal(err)
	}
	image = image[:min(len(image), 24*4096)] // behind them are zeroes
	f.Add(uint8(0), []byte(`{"name":"x","id":"00","keys":[{"blob":"AAAA"}],"hash":"$2b$99$"}`))
	f.Fuzz(func(t *testing.T, which uint8, plain []byte) {
		key := keys[int(which)%len(keys)]
		o := o
		o.Path = filepath.Join(t.TempDir(), "policy.db")
		if err := os.WriteFile(o.Path, image, 0o600); err != nil {
			t.Fatal(err)
		}
		raw(t, o.Path, func(tx *bbolt.Tx) error { return put(o, tx, key, plain) })
		db, err := Open(t.Context(), o)
		if err != nil {
			return
		}
		defer db.Close()
		list, err := db.Accounts()
		if err != nil {
			return
		}
		for _, a := range list {
			if !costs(a.hash) {
				a.CheckPassword("secret")
			}
			for i := range a.Keys {
				a.Keys[i].Fingerprint()
			}
		}
		_, _ = db.Revisions(0, 100)
	})
}

// costs says whether a password is hashed to be compared with it, which takes long and parses nothing.
func costs(hash string) bool {
	foreign, _ := strings.CutPrefix(hash, imported)
	_, _, _, argon := parseArgon(foreign)
	_, _, _, pbkdf2 := parsePBKDF2(hash)
	_, err := bcrypt.Cost([]byte(foreign))
	return argon == nil || pbkdf2 == nil || err == nil
}

// FuzzHash reads stored and imported hashes: what is taken has parameters within bounds, and is written as it was read.
func FuzzHash(f *testing.F) {
	for _, s := range []string{
		formatPBKDF2(pbkdf2Tests, make([]byte, 16), make([]byte, 32)), formatArgon(argonTests, make([]byte, 16), make([]byte, 32)),
		"$2b$04$" + strings.Repeat("a", 53), "$2y$10$" + strings.Repeat(".", 53), imported + "$2a$04$", "$argon2id$v=19$m=65536,t=3,p=4$c2FsdHNhbHQ$a2V5a2V5a2V5a2V5a2V5",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if c, salt, key, err := parseArgon(s); err == nil {
			if c.memory > maxArgonMemory || c.time > maxArgonTime || len(salt) < 8 || len(key) < 16 {
				t.Errorf("%q: %+v", s, c)
			}
			if _, _, _, err := parseArgon(formatArgon(c, salt, key)); err != nil {
				t.Errorf("%q is not read again: %v", s, err)
			}
		}
		if n, salt, key, err := parsePBKDF2(s); err == nil {
			if n > pbkdf2Most || len(salt) < 16 || len(key) < 16 {
				t.Errorf("%q: %d iterations", s, n)
			}
			if _, _, _, err := parsePBKDF2(formatPBKDF2(n, salt, key)); err != nil {
				t.Errorf("%q is not read again: %v", s, err)
			}
		}
		if stored, err := importHash(s); err == nil && !strings.HasPrefix(stored, imported) {
			t.Errorf("%q is taken as our own: %q", s, stored)
		}
	})
}

// put writes a record as the database would, head and set hash included.
func put(o Options, tx *bbolt.Tx, key, plain []byte) error {
	b, at := tx.Bucket(bucket), tx.Bucket(tableOf(key))
	sealed := o.box(key).Seal(nil, domain(key), key, plain)
	if string(key) == "h" {
		return b.Put(key, sealed)
	}
	text, err := o.Box.Open(nil, record.DomainPolicy, []byte("h"), b.Get([]byte("h")))
	if err != nil {
		return err
	}
	h, err := decode[head](text)
	if err != nil {
		return err
	}
	set := newSet(o.Token)
	set.Remove(&h.Sum, key, at.Get(key))
	set.Add(&h.Sum, key, sealed)
	if err := at.Put(key, sealed); err != nil {
		return err
	}
	return b.Put([]byte("h"), o.Box.Seal(nil, record.DomainPolicy, []byte("h"), encode(h)))
}
