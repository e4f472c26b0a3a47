package meta

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"sallyport/crypto/record"
	"sallyport/vfs/pagecheck"
)

// TestPeekSeesTheNewestCommit: with the database open or closed, small or large; the same commit is the same in a copy, every
// commit is another one, and pages that lead nowhere are damage.
func TestPeekSeesTheNewestCommit(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	seen := map[Commit]bool{}
	for i := range 12 {
		d.update(t, func(tx *Tx) error {
			for j := range 50 { // until no bucket but that of the head lies in the first page
				if err := tx.PutBlob(&BlobKey{ID: [16]byte{byte(i), byte(j), 1}, State: BlobOpen}); err != nil {
					return err
				}
			}
			return nil
		})
		want, err := d.Commit()
		if err != nil {
			t.Fatal(err)
		}
		got, err := Peek(d.path)
		if err != nil || got != want || seen[got] {
			t.Fatalf("commit %d: %x, want %x, %v; seen before: %v", i, got, want, err, seen[got])
		}
		seen[got] = true
	}
	// buckets that are just small enough to lie in the first page are too many for one
	spread := newDB(t)
	branch := false
	for n := range 12 {
		btx, err := spread.bolt.Begin(true)
		for _, kind := range buckets() {
			if err == nil && kind != record.DomainHead {
				err = btx.Bucket([]byte{byte(kind)}).Put([]byte{byte(n), 1}, make([]byte, 60))
			}
		}
		if err == nil {
			err = btx.Commit()
		}
		if err != nil {
			t.Fatal(err)
		}
		want, err := spread.Commit()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := Peek(spread.path); err != nil || got != want {
			t.Fatalf("after %d commits: %x, want %x, %v", n, got, want, err)
		}
		image, err := os.ReadFile(spread.path)
		if err != nil {
			t.Fatal(err)
		}
		branch = branch || native.Uint16(image[pagecheck.Roots(image)[0]*pagecheck.Size+8:]) == pageBranch
	}
	if !branch {
		t.Error("the first page was never a branch")
	}
	want, err := d.Commit()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "copy.db")
	if _, err := d.CopyTo(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	if got, err := Peek(path); err != nil || got != want {
		t.Errorf("in a copy: %x, %v", got, err)
	}
	image, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(image); at += 1009 { // whatever is flipped: an answer or damage, and no panic
		image[at] ^= 0xff
		if err := os.WriteFile(path, image, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Peek(path); err != nil && !errors.Is(err, ErrIntegrity) {
			t.Fatalf("at %d: %v", at, err)
		}
		image[at] ^= 0xff
	}
	for _, size := range []int{0, pagecheck.Size, 2 * pagecheck.Size} {
		if err := os.WriteFile(path, image[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Peek(path); !errors.Is(err, ErrIntegrity) {
			t.Errorf("cut at %d: %v", size, err)
		}
	}
}
