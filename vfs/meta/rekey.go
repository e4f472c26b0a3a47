package meta

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"

	"go.etcd.io/bbolt"

	"sallyport/crypto/record"
)

// ErrRekeying means that the database is getting a new key already.
var ErrRekeying = errors.New("meta: the database is getting a new key already")

// ErrOutrun means that more was written during a copy than may wait in memory for it. The database goes on as it is; try again when it is quieter.
var ErrOutrun = errors.New("meta: more was written than a copy under a new key could follow")

const (
	// rekeyBatch is how many bytes of records are put into the new file at once.
	rekeyBatch = 8 << 20
	// Changes are carried over until so few are left, or so often; then the database can be frozen for the rest.
	rekeyFew    = 256
	rekeyRounds = 16
)

// Rekeyed is a copy of a database under another key of its account. It follows
// what is committed in the database until Freeze, and takes its place with
// Adopt. One goroutine uses it, and ends it with Adopt, Abort or Suspend.
type Rekeyed struct {
	db      *DB
	st      *store
	path    string // of the file in the end
	changes *changes

	sum     record.Sum
	records uint64
	shred   uint64 // what was purged before the copy was begun: nothing of it is in the copy
	frozen  bool
}

// Rekey writes path+".new", a compact copy of the database under keys: every
// record sealed anew under the tokens of keys, every data key wrapped anew.
// The database is in use meanwhile; its file cannot reuse pages while it is read, about 10 µs per record.
// Memory is bounded: records are sorted in a file without a name beside path, and of what is written meanwhile 64 MiB
// may wait; ErrOutrun if it becomes more.
//
// The copy is made of a set of records that authenticates as a whole, so a
// record that was put back below the running server is not taken over. ErrIntegrity then.
func (db *DB) Rekey(ctx context.Context, path string, keys *record.AccountKeys) (*Rekeyed, error) {
	r := &Rekeyed{db: db, path: path, st: &store{owner: db, path: path, keys: keys, noSync: true}}
	snap, err := r.begin(ctx)
	if err != nil {
		return nil, fmt.Errorf("copying metadata under a new key: %w", err)
	}
	err = r.copy(ctx, snap)
	for round := 0; err == nil && round < rekeyRounds; round++ {
		var n int
		if n, err = r.catchUp(); n < rekeyFew {
			break
		}
	}
	if err == nil {
		err = ctx.Err()
	}
	if err == nil && !db.noSync {
		err = r.st.bolt.Sync() // most of it, so that Freeze is short
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("copying metadata under a new key: %w", err), r.Abort())
	}
	return r, nil
}

// begin takes a snapshot, and has every later commit noted.
func (r *Rekeyed) begin(ctx context.Context) (*snapshot, error) {
	db := r.db
	if err := db.takeLead(ctx); err != nil {
		return nil, err
	}
	defer db.handOver()
	r.changes = &changes{mover: &mover{from: db.keys, to: r.st.keys}, limit: notesLimit}
	if !db.changes.CompareAndSwap(nil, r.changes) {
		return nil, ErrRekeying
	}
	btx, err := db.bolt.Begin(false)
	if err != nil {
		db.changes.Store(nil)
		return nil, ErrClosed
	}
	return newSnapshot(btx), nil
}

// copy puts every record of the snapshot into a new file, in the order of their new keys.
func (r *Rekeyed) copy(ctx context.Context, snap *snapshot) error {
	sp, err := newSpill(filepath.Dir(r.path), filepath.Base(r.path)+".tmp-*")
	if err != nil {
		return errors.Join(err, guard(snap.tx.Rollback))
	}
	defer sp.close() // it has no name: nothing can be lost
	err = r.sortAll(ctx, snap, sp)
	if err = errors.Join(err, guard(snap.tx.Rollback)); err != nil {
		return err
	}
	making := r.path + ".new"
	if err := os.Remove(making); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := r.st.openBolt(making, true); err != nil {
		return err
	}
	return guard(func() error { return r.fill(ctx, sp) })
}

// sortAll opens, moves and seals every record, on all processors.
func (r *Rekeyed) sortAll(ctx context.Context, snap *snapshot, sp *spill) error {
	h, err := r.db.store.headOf(snap)
	if err != nil {
		return err
	}
	r.shred = h.shred
	workers := runtime.GOMAXPROCS(0)
	sums, counts := make([]record.Sum, workers), make([]uint64, workers)
	hands := make([]*hand, workers)
	for i := range hands {
		hands[i] = &hand{mover: mover{from: r.changes.mover.from, to: r.st.keys}, sorter: sorter{spill: sp, limit: sorterBytes}}
	}
	err = sweep(ctx, snap.tx, workers, func(worker int, batch []sealedRecord) error {
		counts[worker] += uint64(len(batch))
		return hands[worker].take(batch, &sums[worker])
	})
	if err != nil {
		return err
	}
	if err := checkSum(&h, sums, counts); err != nil {
		return err
	}
	for _, w := range hands {
		r.sum = addSums(r.sum, w.sum)
		r.records += w.count
		if err := w.sorter.flush(); err != nil {
			return err
		}
	}
	if r.records != h.records {
		return fmt.Errorf("%w: %d records became %d under the new key", ErrIntegrity, h.records, r.records)
	}
	return nil
}

// hand is one worker of sortAll.
type hand struct {
	mover         mover
	sorter        sorter
	plain, sealed []byte // scratch

	sum   record.Sum // of what it made
	count uint64
}

func (w *hand) take(batch []sealedRecord, old *record.Sum) error {
	from, to := w.mover.from, w.mover.to
	for _, rec := range batch {
		from.Set().Add(old, rec.dbkey, rec.sealed)
		kind := record.Domain(rec.dbkey[0])
		plain, err := from.Box().Open(w.plain[:0], kind, rec.dbkey, rec.sealed)
		if err != nil {
			return broken(kind, err)
		}
		w.plain = plain
		err = w.mover.move(kind, rec.dbkey[1:], plain, false, func(dbkey, plain []byte) error {
			w.sealed = to.Box().Seal(w.sealed[:0], record.Domain(dbkey[0]), dbkey, plain)
			to.Set().Add(&w.sum, dbkey, w.sealed)
			w.count++
			return w.sorter.add(dbkey, w.sealed)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// fill puts the sorted records into the new file.
func (r *Rekeyed) fill(ctx context.Context, sp *spill) error {
	btx, err := r.st.bolt.Begin(true)
	if err != nil {
		return err
	}
	defer func() { btx.Rollback() }() // without effect after Commit
	for _, kind := range buckets() {
		if _, err := btx.CreateBucket([]byte{byte(kind)}); err != nil {
			return err
		}
	}
	var bucket *bbolt.Bucket
	kind, size := byte(0), 0
	err = sp.merge(func(dbkey, sealed []byte) error {
		if size > rekeyBatch {
			if err := errors.Join(ctx.Err(), btx.Commit()); err != nil {
				return err
			}
			if btx, err = r.st.bolt.Begin(true); err != nil {
				return err
			}
			kind, size = 0, 0
		}
		if dbkey[0] != kind {
			kind = dbkey[0]
			bucket = btx.Bucket([]byte{kind})
			bucket.FillPercent = 0.95 // keys come in order
		}
		size += len(dbkey) + len(sealed)
		return bucket.Put(append([]byte(nil), dbkey[1:]...), append([]byte(nil), sealed...))
	})
	if err != nil {
		return err
	}
	return btx.Commit()
}

// Follow carries over what was committed meanwhile, so that it does not wait in memory: for a copy whose Freeze is not near.
func (r *Rekeyed) Follow() error {
	if _, err := r.catchUp(); err != nil {
		return fmt.Errorf("following changes under a new key: %w", err)
	}
	return nil
}

// catchUp carries over what was committed since the last time, and counts it.
func (r *Rekeyed) catchUp() (int, error) {
	list, err := r.changes.take()
	if err != nil || len(list) == 0 {
		return 0, err
	}
	return len(list), guard(func() error {
		btx, err := r.st.bolt.Begin(true)
		if err != nil {
			return err
		}
		defer btx.Rollback() // without effect after Commit
		for _, c := range list {
			if err := r.apply(btx, c); err != nil {
				return err
			}
		}
		return btx.Commit()
	})
}

func (r *Rekeyed) apply(btx *bbolt.Tx, c movedRecord) error {
	set, kind := r.st.keys.Set(), record.Domain(c.dbkey[0])
	bucket, key := btx.Bucket(c.dbkey[:1]), c.dbkey[1:]
	if old := bucket.Get(key); old != nil {
		set.Remove(&r.sum, c.dbkey, old)
		r.records--
	}
	if c.gone {
		return bucket.Delete(key)
	}
	sealed := r.st.keys.Box().Seal(nil, kind, c.dbkey, c.plain)
	set.Add(&r.sum, c.dbkey, sealed)
	r.records++
	return bucket.Put(key, sealed)
}

// Freeze stops commits in the database until Adopt, Abort or Suspend, carries
// over the rest, and gives the copy its name, durably. Views go on.
func (r *Rekeyed) Freeze(ctx context.Context) error {
	if err := r.db.takeLead(ctx); err != nil {
		return fmt.Errorf("freezing metadata for its new key: %w", err)
	}
	r.frozen = true
	if err := r.finish(); err != nil {
		return fmt.Errorf("finishing metadata under a new key: %w", err)
	}
	return nil
}

func (r *Rekeyed) finish() error {
	db := r.db
	db.mu.Lock()
	failed := db.failed
	db.mu.Unlock()
	if failed != nil {
		return failed
	}
	if _, err := r.catchUp(); err != nil {
		return err
	}
	h := db.published.Load().head
	if r.records != h.records {
		return fmt.Errorf("%w: the copy has %d records, the database %d", ErrIntegrity, r.records, h.records)
	}
	h.sum = r.sum
	h.generation++
	h.shred -= r.shred // what was purged since has been in the new file, and may lie in its free pages
	r.st.noSync, r.st.bolt.NoSync, r.st.bolt.NoGrowSync = db.noSync, db.noSync, db.noSync
	err := guard(func() error {
		btx, err := r.st.bolt.Begin(true)
		if err != nil {
			return err
		}
		defer btx.Rollback() // without effect after Commit
		dbkey := append([]byte{byte(record.DomainHead)}, headKey...)
		if err := btx.Bucket(dbkey[:1]).Put(dbkey[1:], r.st.keys.Box().Seal(nil, record.DomainHead, dbkey, h.encode())); err != nil {
			return err
		}
		seen := uint64(btx.ID())
		r.st.newCaches(seen)
		r.st.published.Store(&publishedHead{seen: seen, head: h})
		return btx.Commit()
	})
	if err == nil {
		err = os.Rename(r.path+".new", r.path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(r.path))
	}
	return err
}

// Adopt puts the copy in the place of the database, which must be frozen; the
// keys in force must be the copy's from now on. The old file is removed when the last View of it has
// ended. The error is of that only: the copy is in use.
func (r *Rekeyed) Adopt() error {
	db, old := r.db, r.db.store
	r.st.before = maps.Clone(old.before)
	if r.st.before == nil {
		r.st.before = map[uint32]*record.Names{}
	}
	r.st.before[old.keys.Version()] = old.keys.Names()
	db.store = r.st
	db.newest.Store(r.st)
	r.release()
	err := os.Remove(old.path)
	if err == nil {
		err = syncDir(filepath.Dir(old.path))
	}
	return errors.Join(err, old.closeBolt())
}

// Abort removes the copy; the database goes on as it is.
func (r *Rekeyed) Abort() error {
	r.release()
	err := r.st.closeBolt()
	for _, path := range []string{r.path + ".new", r.path} {
		if e := os.Remove(path); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// Suspend is for when it is not known whether the copy's keys or the
// database's are in force: both files stay, and the database takes no more writes until it
// is opened again (ErrReadOnly, wrapping cause).
func (r *Rekeyed) Suspend(cause error) error {
	r.db.mu.Lock()
	r.db.failed = fmt.Errorf("%w: %w", ErrReadOnly, cause)
	r.db.mu.Unlock()
	r.release()
	return r.st.closeBolt()
}

// release lets commits go on that nobody needs to note any more.
func (r *Rekeyed) release() {
	r.db.changes.CompareAndSwap(r.changes, nil)
	if r.frozen {
		r.frozen = false
		r.db.handOver()
	}
}
