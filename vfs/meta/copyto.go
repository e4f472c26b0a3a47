package meta

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"go.etcd.io/bbolt"

	"sallyport/crypto/record"
)

// CopyTo writes the database as of one instant into a new file at path: every record as it is stored, under the same
// keys, whose version it returns. What was deleted from the database and still lies in its free pages is not in the copy.
// The copy is not synced, and nothing of it was authenticated: open it with Open to do that.
//
// The database is in use meanwhile; its file cannot reuse pages, about 2 µs per record. fs.ErrExist if there is such a
// file; after an error there is none.
func (db *DB) CopyTo(ctx context.Context, path string) (version uint32, err error) {
	// What was acknowledged is removed now and not when the database is closed, or that would make another commit of it, of which the
	// next copy could not tell that nothing has happened. A full disk is no reason not to copy.
	_ = db.flushAcks()
	st, btx, err := db.beginView()
	if err != nil {
		return 0, fmt.Errorf("copying metadata: %w", err)
	}
	defer btx.Rollback()
	out := &store{owner: db, path: path, keys: st.keys, noSync: true}
	if err := out.openBolt(path, true); err != nil {
		if !errors.Is(err, fs.ErrExist) {
			os.Remove(path)
		}
		return 0, fmt.Errorf("copying metadata: %w", err)
	}
	err = guard(func() error {
		for _, kind := range buckets() {
			if err := copyBucket(ctx, btx, out.bolt, kind); err != nil {
				return err
			}
		}
		return nil
	})
	if err = errors.Join(err, out.closeBolt()); err != nil {
		os.Remove(path)
		return 0, fmt.Errorf("copying metadata: %w", err)
	}
	return st.keys.Version(), nil
}

// copyBucket copies one kind of record, in transactions of bounded size.
func copyBucket(ctx context.Context, from *bbolt.Tx, to *bbolt.DB, kind record.Domain) error {
	source := from.Bucket([]byte{byte(kind)})
	if source == nil {
		return fmt.Errorf("%w: no bucket of %s records", ErrIntegrity, kindName(kind))
	}
	cursor := source.Cursor()
	for k, v := cursor.First(); ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := to.Update(func(btx *bbolt.Tx) error {
			bucket, err := btx.CreateBucketIfNotExists([]byte{byte(kind)})
			if err != nil {
				return err
			}
			bucket.FillPercent = 0.95 // keys come in order
			for size := 0; k != nil && size < rekeyBatch; k, v = cursor.Next() {
				if v == nil {
					return fmt.Errorf("%w: a bucket stands in the place of a record", ErrIntegrity)
				}
				if err := bucket.Put(k, v); err != nil {
					return err
				}
				size += len(k) + len(v)
			}
			return nil
		})
		if err != nil || k == nil {
			return err
		}
	}
}
