package meta

import (
	"context"
	"fmt"
	"runtime"

	"go.etcd.io/bbolt"
	"golang.org/x/sync/errgroup"

	"sallyport/crypto/record"
)

// sealedRecord is one record as it lies in bbolt's memory map: valid as long as the transaction.
type sealedRecord struct {
	dbkey  []byte // kind ‖ key
	sealed []byte
}

// sweepBatch is how many records go to a worker at once.
const sweepBatch = 512

// sweep hands every record but the head to the workers, one batch at a time
// each; which worker gets which is not determined. It ends with the first error. Keys must rise strictly.
func sweep(ctx context.Context, tx *bbolt.Tx, workers int, work func(worker int, batch []sealedRecord) error) error {
	return sweepKinds(ctx, tx, buckets(), workers, work)
}

// sweepKinds is sweep of some kinds of records.
func sweepKinds(ctx context.Context, tx *bbolt.Tx, kinds []record.Domain, workers int, work func(worker int, batch []sealedRecord) error) error {
	g, ctx := errgroup.WithContext(ctx)
	batches := make(chan []sealedRecord, workers)
	for w := range workers {
		g.Go(func() error {
			return guard(func() error {
				for batch := range batches {
					if err := work(w, batch); err != nil {
						return err
					}
				}
				return nil
			})
		})
	}
	g.Go(func() error {
		defer close(batches)
		return guard(func() error { return produce(ctx, tx, kinds, batches) })
	})
	return g.Wait()
}

func produce(ctx context.Context, tx *bbolt.Tx, kinds []record.Domain, batches chan<- []sealedRecord) error {
	send := func(batch []sealedRecord) error {
		select {
		case batches <- batch:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	batch := make([]sealedRecord, 0, sweepBatch)
	for _, kind := range kinds {
		if kind == record.DomainHead {
			continue
		}
		bucket := tx.Bucket([]byte{byte(kind)})
		if bucket == nil {
			return fmt.Errorf("%w: no bucket of %s records", ErrIntegrity, kindName(kind))
		}
		c := bucket.Cursor()
		for k, v := c.First(); k != nil; k, v = c.Next() {
			batch = append(batch, sealedRecord{append([]byte{byte(kind)}, k...), v})
			if len(batch) < sweepBatch {
				continue
			}
			if err := send(batch); err != nil {
				return err
			}
			batch = make([]sealedRecord, 0, sweepBatch)
		}
	}
	return send(batch)
}

// verifySet checks the buckets, the head, and the count and sum of all records.
func (db *store) verifySet(ctx context.Context, skip bool) error {
	tx, err := db.bolt.Begin(false)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := checkBuckets(tx); err != nil {
		return err
	}
	snap := newSnapshot(tx)
	db.newCaches(snap.seen)
	h, err := db.readHead(snap)
	if err != nil {
		return err
	}
	db.published.Store(&publishedHead{seen: snap.seen, head: h})
	if skip {
		return nil
	}
	workers := runtime.GOMAXPROCS(0)
	sums, counts := make([]record.Sum, workers), make([]uint64, workers)
	err = sweep(ctx, tx, workers, func(worker int, batch []sealedRecord) error {
		for _, r := range batch {
			db.keys.Set().Add(&sums[worker], r.dbkey, r.sealed)
		}
		counts[worker] += uint64(len(batch))
		return nil
	})
	if err != nil {
		return err
	}
	return checkSum(&h, sums, counts)
}

func checkSum(h *head, sums []record.Sum, counts []uint64) error {
	var sum record.Sum
	records := uint64(0)
	for i := range sums {
		sum = addSums(sum, sums[i])
		records += counts[i]
	}
	if records != h.records {
		return fmt.Errorf("%w: %d records, the head says %d", ErrIntegrity, records, h.records)
	}
	if sum != h.sum {
		return fmt.Errorf("%w: records were changed, replaced or swapped", ErrIntegrity)
	}
	return nil
}

// checkBuckets admits exactly the buckets that plant makes, and one head.
func checkBuckets(tx *bbolt.Tx) error {
	n := 0
	err := tx.ForEach(func(name []byte, _ *bbolt.Bucket) error {
		if len(name) != 1 || name[0] < 1 || int(name[0]) >= kinds {
			return fmt.Errorf("%w: a foreign bucket", ErrIntegrity)
		}
		n++
		return nil
	})
	if err != nil {
		return err
	}
	if n != len(buckets()) {
		return fmt.Errorf("%w: a bucket is missing", ErrIntegrity)
	}
	c := tx.Bucket([]byte{byte(record.DomainHead)}).Cursor()
	if k, _ := c.First(); string(k) != headKey {
		return dangling(record.DomainHead)
	}
	if k, _ := c.Next(); k != nil {
		return fmt.Errorf("%w: more than one head", ErrIntegrity)
	}
	return nil
}
