package policydb

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"

	"sallyport/vfs/pagecheck"
	"sallyport/vfs/pagecheck/pagetest"
)

type pair struct{ key, value []byte }

func records(t *testing.T, path string) []pair {
	t.Helper()
	var list []pair
	raw(t, path, func(tx *bbolt.Tx) error {
		return tx.ForEach(func(_ []byte, b *bbolt.Bucket) error {
			return b.ForEach(func(k, v []byte) error {
				list = append(list, pair{bytes.Clone(k), bytes.Clone(v)})
				return nil
			})
		})
	})
	return list
}

// tableOf is the bucket in which a record stands.
func tableOf(key []byte) []byte {
	if isName(key) {
		return namesBucket
	}
	return bucket
}

// raw changes the file as somebody with the disk could.
func raw(t *testing.T, path string, fn func(*bbolt.Tx) error) {
	t.Helper()
	b, err := bbolt.Open(path, 0o600, &bbolt.Options{NoSync: true, NoFreelistSync: true, PageSize: pagecheck.Size})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := b.Update(fn); err != nil {
		t.Fatal(err)
	}
}

// Every record flipped, dropped, exchanged with any other, put back to an earlier value, or added: found at opening.
func TestTamperedRecords(t *testing.T) {
	t.Parallel()
	o := options(t)
	db := open(t, o)
	fill(t, db)
	db.Close()
	before := records(t, o.Path)
	db = open(t, o)
	if err := db.SetEnabled(t.Context(), "alice-canary", false, "root"); err != nil { // the record that an attacker wants back
		t.Fatal(err)
	}
	if _, err := db.RemoveAccount(t.Context(), "bob-canary", "root"); err != nil {
		t.Fatal(err)
	}
	if _, err := db.CreateAccount(t.Context(), NewAccount{Name: "bob-canary", ID: id(9), Who: "root"}); err != nil { // the name of another now
		t.Fatal(err)
	}
	db.Close()
	image, err := os.ReadFile(o.Path)
	if err != nil {
		t.Fatal(err)
	}
	now := records(t, o.Path)
	o.Path = filepath.Join(t.TempDir(), "tampered.db")
	cases := 0
	try := func(what string, fn func(*bbolt.Tx) error) {
		t.Helper()
		cases++
		if err := os.WriteFile(o.Path, image, 0o600); err != nil {
			t.Fatal(err)
		}
		raw(t, o.Path, fn)
		if db, err := Open(t.Context(), o); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", what, err)
			if err == nil {
				db.Close()
			}
		}
	}
	for i, p := range now {
		for _, at := range []int{0, 1, 5, 29, len(p.value) / 2, len(p.value) - 1} {
			flipped := bytes.Clone(p.value)
			flipped[at] ^= 1
			try("flip", func(tx *bbolt.Tx) error { return tx.Bucket(tableOf(p.key)).Put(p.key, flipped) })
		}
		try("cut", func(tx *bbolt.Tx) error { return tx.Bucket(tableOf(p.key)).Put(p.key, p.value[:len(p.value)-1]) })
		try("drop", func(tx *bbolt.Tx) error { return tx.Bucket(tableOf(p.key)).Delete(p.key) })
		for j, q := range now {
			if i < j {
				try("exchange", func(tx *bbolt.Tx) error {
					return errors.Join(tx.Bucket(tableOf(p.key)).Put(p.key, q.value), tx.Bucket(tableOf(q.key)).Put(q.key, p.value))
				})
			}
		}
	}
	for _, p := range before {
		if i := find(now, p.key); i < 0 || !bytes.Equal(now[i].value, p.value) {
			try("put back", func(tx *bbolt.Tx) error { return tx.Bucket(tableOf(p.key)).Put(p.key, p.value) })
		}
	}
	for _, p := range now { // the set hash does not say which table
		try("other table", func(tx *bbolt.Tx) error {
			from, to := bucket, namesBucket
			if isName(p.key) {
				from, to = to, from
			}
			return errors.Join(tx.Bucket(from).Delete(p.key), tx.Bucket(to).Put(p.key, p.value))
		})
	}
	for _, table := range [][]byte{bucket, namesBucket} {
		try("add", func(tx *bbolt.Tx) error { return tx.Bucket(table).Put([]byte("a-new-record-here"), now[0].value) })
		try("add a name", func(tx *bbolt.Tx) error { return tx.Bucket(table).Put([]byte("n-new-record-here"), now[0].value) })
		try("no table", func(tx *bbolt.Tx) error { return tx.DeleteBucket(table) })
		try("empty table", func(tx *bbolt.Tx) error {
			err := tx.DeleteBucket(table)
			if err == nil {
				_, err = tx.CreateBucket(table)
			}
			return err
		})
	}
	t.Logf("%d cases", cases)
	if cases < 90 {
		t.Errorf("only %d cases", cases)
	}
}

func find(list []pair, key []byte) int {
	for i, p := range list {
		if bytes.Equal(p.key, key) {
			return i
		}
	}
	return -1
}

// Pages that would crash bbolt, some in ways that nothing can recover from.
func TestHostilePages(t *testing.T) {
	t.Parallel()
	o := options(t)
	db := open(t, o)
	fill(t, db)
	for i := range 40 { // enough for a branch page
		if _, err := db.CreateAccount(t.Context(), NewAccount{Name: fmt.Sprintf("account-%d", i), ID: [16]byte{9, byte(i)}, Who: "root"}); err != nil {
			t.Fatal(err)
		}
	}
	db.Close()
	image, err := os.ReadFile(o.Path)
	if err != nil {
		t.Fatal(err)
	}
	o.Path = filepath.Join(t.TempDir(), "hostile.db")
	for what, bad := range pagetest.Hostile(t, image) {
		if err := os.WriteFile(o.Path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if db, err := Open(t.Context(), o); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", what, err)
			if err == nil {
				db.Close()
			}
		}
	}
}

// A file with damaged pages is refused or opens whole; it never crashes the server.
func TestDamagedFile(t *testing.T) {
	t.Parallel()
	o := options(t)
	db := open(t, o)
	fill(t, db)
	db.Close()
	image, err := os.ReadFile(o.Path)
	if err != nil {
		t.Fatal(err)
	}
	o.Path = filepath.Join(t.TempDir(), "damaged.db")
	rng := rand.New(rand.NewPCG(1, 2))
	whole := 0
	for i := range 300 {
		bad := bytes.Clone(image)
		switch i % 3 {
		case 0:
			bad[rng.IntN(len(bad))] ^= byte(1 + rng.IntN(255))
		case 1:
			at := rng.IntN(len(bad))
			clear(bad[at:min(at+4096, len(bad))])
		default:
			bad = bad[:rng.IntN(len(bad))]
		}
		if err := os.WriteFile(o.Path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		db, err := Open(t.Context(), o)
		if err != nil {
			continue
		}
		list, err := db.Accounts()
		if err != nil || len(list) != 2 || db.Current().N != 3 {
			t.Errorf("case %d: opened with %d accounts at revision %d, %v", i, len(list), db.Current().N, err)
		}
		whole++
		db.Close()
	}
	t.Logf("%d of 300 opened whole (the damage was in unused pages)", whole)
}
