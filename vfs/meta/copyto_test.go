package meta

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"sallyport/crypto/record"
)

// TestCopyHasTheInstantAndNothingDeleted copies a database that is changed meanwhile and before: the copy opens under the
// same keys, is the state of one commit, and its file holds no sealed record that was deleted.
func TestCopyHasTheInstantAndNothingDeleted(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	var gone [][]byte // sealed records that are deleted before the copy
	for i := range 300 {
		d.update(t, func(tx *Tx) error {
			return tx.PutBlob(&BlobKey{ID: [16]byte{byte(i), byte(i >> 8), 1}, State: BlobOpen, Name: fmt.Sprint(i)})
		})
	}
	d.view(t, func(tx *Tx) error {
		for i := range 150 {
			gone = append(gone, bytes.Clone(tx.snap.get(record.DomainBlobKey, []byte{byte(i), byte(i >> 8), 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})))
		}
		return nil
	})
	d.update(t, func(tx *Tx) error {
		for i := range 150 {
			if err := tx.DeleteBlob([16]byte{byte(i), byte(i >> 8), 1}); err != nil {
				return err
			}
		}
		return nil
	})
	before := statsOf(t, d.DB)
	path := filepath.Join(t.TempDir(), "copy.db")
	version, err := d.CopyTo(t.Context(), path)
	if err != nil || version != d.keys.Version() {
		t.Fatalf("version %d, %v", version, err)
	}
	d.update(t, func(tx *Tx) error { return tx.PutBlob(&BlobKey{ID: [16]byte{9, 9, 9}, State: BlobOpen}) })
	if _, err := d.CopyTo(t.Context(), path); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("over another file: %v", err)
	}
	image, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, sealed := range gone {
		if len(sealed) == 0 || bytes.Contains(image, sealed[29:]) {
			t.Fatal("the copy has a record that was deleted")
		}
	}
	copied, err := Open(t.Context(), path, d.keys, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer copied.Close()
	if got := statsOf(t, copied); got != before {
		t.Fatalf("the copy is of %+v, want %+v", got, before)
	}
}

// TestCopyOfADamagedDatabaseDoesNotOpen: CopyTo carries what is there, and opening the copy judges it.
func TestCopyOfADamagedDatabaseDoesNotOpen(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.update(t, func(tx *Tx) error { return tx.PutBlob(&BlobKey{ID: [16]byte{1}, State: BlobOpen}) })
	btx, err := d.bolt.Begin(true)
	if err != nil {
		t.Fatal(err)
	}
	if err := btx.Bucket([]byte{byte(record.DomainBlobKey)}).Delete(append([]byte{1}, make([]byte, 15)...)); err != nil {
		t.Fatal(err)
	}
	if err := btx.Commit(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "copy.db")
	if _, err := d.CopyTo(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), path, d.keys, Options{}); !errors.Is(err, ErrIntegrity) {
		t.Fatalf("opening the copy: %v", err)
	}
}

func statsOf(t *testing.T, db *DB) (st Stats) {
	t.Helper()
	if err := db.View(func(tx *Tx) error { st = tx.Stats(); return nil }); err != nil {
		t.Fatal(err)
	}
	return st
}

// TestACopyIsTheLastCommitIfNothingHappens: closing a database that was copied, events of which had reached the chain, commits nothing.
func TestACopyIsTheLastCommitIfNothingHappens(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.update(t, func(tx *Tx) error { return tx.Emit([]byte("event")) })
	d.AckLater(1)
	path := filepath.Join(t.TempDir(), "copy.db")
	if _, err := d.CopyTo(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	copied, err := Peek(path)
	if err != nil {
		t.Fatal(err)
	}
	d.reopen(t)
	if now, err := Peek(d.path); err != nil || now != copied {
		t.Errorf("after closing it: %x, %v; copied was %x", now, err, copied)
	}
}
