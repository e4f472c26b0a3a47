package meta

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"

	"sallyport/crypto/record"
	"sallyport/vfs/pagecheck"
)

// initialMap is how much of the address space bbolt maps at least. When a
// file outgrows its map, a write waits for the open Views before it maps anew.
const initialMap = 64 << 20

// DB is one account's database. Safe for concurrent use.
type DB struct {
	// store is the leader's; newest is the same for everybody else. Only Rekeyed.Adopt
	// replaces it, with the lead in hand.
	*store
	newest atomic.Pointer[store]

	now    func() time.Time
	relaid atomic.Uint64 // how often versions were made to rely on something else
	acked  atomic.Uint64 // events up to this number have reached the chain
	commit func(commit func() error) error

	lastGroup int                     // members of the last group; the leader's
	changes   atomic.Pointer[changes] // what is committed while the database gets a new key; nil otherwise

	mu      sync.Mutex // guards all below
	queue   []*member  // waiting for a group
	leading bool       // someone commits a group, or has been told to
	idle    *sync.Cond // signalled when leading becomes false
	failed  error      // why there are no more writes
	closed  bool
}

// store is one bbolt file, the keys that its records are under, and what was
// read of it. An account that gets a new key moves to another one.
type store struct {
	owner *DB
	path  string
	bolt  *bbolt.DB
	keys  *record.AccountKeys
	// before are the tokens of names under earlier keys, for listings that were begun under those.
	before map[uint32]*record.Names

	entries   *cache[[2 * tokenSize]byte, *Entry]
	nodes     *cache[Inode, *Node]
	dirTokens *cache[Inode, token]
	pasts     *cache[pastName, *Entry]
	shapes    *cache[Inode, *shape]

	published atomic.Pointer[publishedHead] // of the newest commit

	noSync bool // in tests only
}

// publishedHead is the head as of the bbolt transaction of that number.
type publishedHead struct {
	seen uint64
	head head
}

// Open opens and verifies: the pages of the file, format version, head, and
// the set hash over every record (about 0.5 s per million). ErrIntegrity if one of them
// is not right, ErrLocked if another process has it open.
//
// A new database appears under its name whole or not at all.
func Open(ctx context.Context, path string, keys *record.AccountKeys, o Options) (*DB, error) {
	db := &DB{now: o.Now, commit: o.testOnlyCommit}
	db.store = &store{owner: db, path: path, keys: keys, noSync: o.testOnlyNoSync}
	db.newest.Store(db.store)
	db.idle = sync.NewCond(&db.mu)
	if db.now == nil {
		db.now = time.Now
	}
	if db.commit == nil {
		db.commit = func(commit func() error) error { return commit() }
	}
	open := db.openExisting
	if o.Create {
		open = db.create
	}
	if err := open(ctx, path, o.SkipSetHash); err != nil {
		return nil, fmt.Errorf("opening metadata: %w", err)
	}
	return db, nil
}

// openBolt opens the file; bbolt sees it only after openChecked has.
func (db *store) openBolt(path string, isNew bool) error {
	size := int64(0)
	if info, err := os.Stat(path); err == nil {
		size = info.Size()
	}
	return guard(func() (err error) {
		db.bolt, err = bbolt.Open(path, 0o600, &bbolt.Options{
			Timeout:         lockTimeout,
			NoFreelistSync:  true, // the file is read whole at Open anyway; every commit writes a page less
			FreelistType:    bbolt.FreelistMapType,
			InitialMmapSize: int(max(initialMap, 2*size)),
			PageSize:        pagecheck.Size,
			NoStatistics:    true,
			NoSync:          db.noSync,
			NoGrowSync:      db.noSync,
			OpenFile: func(path string, _ int, mode os.FileMode) (*os.File, error) {
				return openChecked(path, mode, isNew)
			},
		})
		return err
	})
}

func (db *DB) openExisting(ctx context.Context, path string, skip bool) error {
	if err := db.openBolt(path, false); err != nil {
		return err
	}
	if err := guard(func() error { return db.verifySet(ctx, skip) }); err != nil {
		return errors.Join(err, db.closeBolt())
	}
	if err := db.upgrade(ctx); err != nil {
		return errors.Join(err, db.closeBolt())
	}
	return nil
}

// create makes the database under another name, with the root directory in
// it, and then renames it, so that a crash leaves nothing half-made behind.
func (db *DB) create(_ context.Context, path string, _ bool) error {
	if _, err := os.Lstat(path); err == nil {
		return &fs.PathError{Op: "create", Path: path, Err: fs.ErrExist}
	}
	making := path + ".new"
	if err := os.Remove(making); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := db.openBolt(making, true); err != nil {
		return err
	}
	err := db.plant()
	if err == nil {
		err = os.Rename(making, path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return errors.Join(err, db.closeBolt())
	}
	return nil
}

// plant makes the buckets, the root directory and the head, in one transaction.
func (db *DB) plant() error {
	btx, err := db.bolt.Begin(true)
	if err != nil {
		return err
	}
	for _, kind := range buckets() {
		if _, err := btx.CreateBucket([]byte{byte(kind)}); err != nil {
			return errors.Join(err, btx.Rollback())
		}
	}
	snap := newSnapshot(btx)
	db.newCaches(snap.seen)
	g := &group{db: db, snap: snap, head: head{format: formatVersion, nextInode: Root}, changes: newOverlay()}
	g.run(&member{ctx: context.Background(), verdict: make(chan verdict, 1), fn: func(tx *Tx) error {
		root := &Node{Kind: Dir, Attr: Attr{Mode: 0o755}}
		if err := tx.NewNode(root); err != nil {
			return err
		}
		tx.head.dirs++
		root.Parent, root.Home = Root, Root
		tx.putNode(root)
		return nil
	}})
	return g.finish()
}

func (db *store) newCaches(seen uint64) {
	db.entries = newCache[[2 * tokenSize]byte, *Entry](seen)
	db.nodes = newCache[Inode, *Node](seen)
	db.dirTokens = newCache[Inode, token](seen)
	db.pasts = newCache[pastName, *Entry](seen)
	db.shapes = newCache[Inode, *shape](seen)
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Close waits for running Updates and Views, removes what AckLater noted, and
// closes. Further calls return ErrClosed.
func (db *DB) Close() error {
	err := db.flushAcks()
	db.mu.Lock()
	if db.closed {
		db.mu.Unlock()
		return ErrClosed
	}
	db.closed = true
	for db.leading {
		db.idle.Wait()
	}
	db.mu.Unlock()
	return errors.Join(err, db.closeBolt())
}

func (db *DB) flushAcks() error {
	upTo := db.acked.Load()
	if upTo == 0 {
		return nil
	}
	err := db.Update(context.Background(), func(tx *Tx) error { return tx.Ack(upTo) })
	if errors.Is(err, ErrReadOnly) || errors.Is(err, ErrClosed) {
		return nil // whoever failed to commit has been told
	}
	return err
}

func (db *store) closeBolt() error {
	if db.bolt == nil {
		return nil
	}
	return guard(db.bolt.Close)
}

// View runs fn on a consistent snapshot. fn must be short, as it holds up
// writes that grow the database, and must not call Update. ErrIntegrity if the file
// turns out to be damaged.
func (db *DB) View(fn func(tx *Tx) error) error {
	st, btx, err := db.beginView()
	if err != nil {
		return err
	}
	defer btx.Rollback()
	snap := newSnapshot(btx)
	return snap.guarded(func() error {
		h, err := st.headOf(snap)
		if err != nil {
			return err
		}
		return fn(&Tx{db: st, snap: snap, head: h, instant: db.instantAfter(h.last)})
	})
}

// beginView begins a transaction on the newest store, which may be replaced meanwhile.
func (db *DB) beginView() (*store, *bbolt.Tx, error) {
	for {
		st := db.newest.Load()
		btx, err := st.bolt.Begin(false)
		if err == nil {
			return st, btx, nil
		}
		if db.newest.Load() == st {
			return nil, nil, ErrClosed
		}
	}
}

// headOf is the head of a snapshot; only one that was just overtaken must be read.
func (db *store) headOf(snap *snapshot) (head, error) {
	if p := db.published.Load(); p != nil && p.seen == snap.seen {
		return p.head, nil
	}
	return db.readHead(snap)
}

func (db *store) readHead(snap *snapshot) (head, error) {
	tx := &Tx{db: db, snap: snap}
	plain, err := tx.load(record.DomainHead, []byte(headKey))
	if err != nil {
		return head{}, err
	}
	if plain == nil {
		return head{}, dangling(record.DomainHead)
	}
	h, err := decodeHead(plain)
	if errors.Is(err, errors.ErrUnsupported) { // it is authentic: a newer program wrote it
		return head{}, err
	}
	if err != nil {
		return head{}, broken(record.DomainHead, err)
	}
	return h, nil
}

func (db *DB) instantAfter(last int64) int64 { return max(db.now().UnixNano(), last+1) }
