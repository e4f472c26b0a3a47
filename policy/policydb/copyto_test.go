package policydb

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestCopyIsWholeAndHasNothingDeleted copies a database out of which an account went: the copy opens, has the rest, and its
// file does not hold the sealed record of the account that is gone.
func TestCopyIsWholeAndHasNothingDeleted(t *testing.T) {
	t.Parallel()
	o := options(t)
	db := open(t, o)
	fill(t, db)
	accounts, err := db.Accounts()
	if err != nil || len(accounts) < 1 {
		t.Fatal(accounts, err)
	}
	if _, err := db.CreateAccount(t.Context(), NewAccount{Name: "passing", ID: id(77), Who: "test"}); err != nil {
		t.Fatal(err)
	}
	var gone []byte
	key := db.accountKey(id(77))
	if err := db.view(func(t *tx) error { gone = bytes.Clone(t.b.Get(key)); return nil }); err != nil || len(gone) == 0 {
		t.Fatal(len(gone), err)
	}
	if _, err := db.RemoveAccount(t.Context(), "passing", "test"); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "copy.db")
	ids, err := db.CopyTo(t.Context(), path)
	if err != nil || len(ids) != len(accounts) {
		t.Fatalf("%d accounts, want %d: %v", len(ids), len(accounts), err)
	}
	image, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(image, gone) {
		t.Error("the copy has the record of an account that was removed")
	}
	o.Path = path
	c := open(t, o)
	if c.Current().N != db.Current().N {
		t.Errorf("revision %d, want %d", c.Current().N, db.Current().N)
	}
}

// TestCopyOfADamagedDatabaseIsRefused: what does not verify is not handed out.
func TestCopyOfADamagedDatabaseIsRefused(t *testing.T) {
	t.Parallel()
	db := open(t, options(t))
	fill(t, db)
	btx, err := db.bolt.Begin(true)
	if err != nil {
		t.Fatal(err)
	}
	if err := btx.Bucket(bucket).Delete(revisionKey(1)); err != nil {
		t.Fatal(err)
	}
	if err := btx.Commit(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "copy.db")
	if _, err := db.CopyTo(t.Context(), path); !errors.Is(err, ErrDamaged) {
		t.Errorf("copied: %v", err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("the copy is there")
	}
}
