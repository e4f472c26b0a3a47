package policydb

import (
	"context"
	"errors"
	"fmt"
	"os"

	"go.etcd.io/bbolt"

	"sallyport/crypto/record"
)

// CopyTo writes the database as of one instant into a new file at path, and verifies it there, record by record. It returns
// the ids of its accounts. What was deleted from the database and still lies in its free pages (old password hashes, say) is not in
// the copy, which is not synced. After an error there is no such file.
func (db *DB) CopyTo(ctx context.Context, path string) (ids []record.AccountID, err error) {
	defer func() {
		if err != nil {
			os.Remove(path)
			err = fmt.Errorf("copying the policy database: %w", err)
		}
	}()
	c := &DB{o: db.o, set: db.set}
	c.o.Path = path
	if err := c.openBolt(path, true); err != nil {
		return nil, err
	}
	c.bolt.NoSync, c.bolt.NoGrowSync = true, true // else the file would be 16 MiB at least
	err = db.bolt.View(func(from *bbolt.Tx) error {
		return c.bolt.Update(func(to *bbolt.Tx) error { return copyBuckets(ctx, from, to) })
	})
	if err = errors.Join(err, c.bolt.Close()); err != nil {
		return nil, err
	}
	if err := c.openBolt(path, false); err != nil {
		return nil, err
	}
	if err = c.load(); err == nil {
		err = c.view(func(t *tx) error {
			return t.scanNames(func(_ string, id record.AccountID) error { ids = append(ids, id); return nil })
		})
	}
	return ids, errors.Join(err, c.bolt.Close())
}

func copyBuckets(ctx context.Context, from, to *bbolt.Tx) error {
	for _, name := range [][]byte{bucket, namesBucket} {
		source := from.Bucket(name)
		if source == nil {
			return fmt.Errorf("%w: a bucket is missing", ErrDamaged)
		}
		b, err := to.CreateBucket(name)
		if err != nil {
			return err
		}
		b.FillPercent = 0.95 // keys come in order
		err = source.ForEach(func(k, v []byte) error {
			if v == nil {
				return fmt.Errorf("%w: a bucket stands in the place of a record", ErrDamaged)
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			return b.Put(k, v)
		})
		if err != nil {
			return err
		}
	}
	return nil
}
