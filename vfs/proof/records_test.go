package proof

import (
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"
)

// rec is a record as it lies in a database file.
type rec struct {
	bucket byte
	kind   string
	key    string
	value  []byte
	at     int // offset of the value in the file
}

// records reads the records of a database image.
func records(t testing.TB, image []byte) []rec {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, image, 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, PageSize: pageSize})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var all []rec
	err = db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
			n := bucketNumber(name)
			return b.ForEach(func(k, v []byte) error {
				all = append(all, rec{bucket: n, kind: kindOf(n, k), key: string(k), value: append([]byte(nil), v...), at: offset(db, v, image)})
				return nil
			})
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
