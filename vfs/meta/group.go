package meta

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"runtime/debug"
	"slices"
	"syscall"

	"sallyport/crypto/record"
)

// A group takes no more members than this, nor after so many bytes of
// changes: the first member waits for the last one's function.
const (
	maxMembers    = 256
	maxGroupBytes = 8 << 20
	// maxYields is how often a leader lets others run before it commits fewer members than the group before had.
	maxYields = 2
)

// member is one call of Update.
type member struct {
	ctx      context.Context
	fn       func(*Tx) error
	verdict  chan verdict // one slot: nobody waits to deliver
	promoted bool         // guarded by DB.mu
	solo     bool         // wants the lead and no group: see takeLead
}

// verdict tells a waiting member its result, or to lead the next group.
type verdict struct {
	lead     bool
	err      error
	panicked *memberPanic
}

// memberPanic carries a panic of a member's function to the goroutine that called Update.
type memberPanic struct {
	value any
	stack []byte
}

func (p *memberPanic) Error() string { return fmt.Sprintf("%v\n\nin Update:\n%s", p.value, p.stack) }

// Update runs fn in a group commit and returns after fsync. Concurrent updates share one transaction; a lone one does
// not wait for others. If fn returns an error or panics, nothing of it is applied, its caller gets the error or the panic, and other members of
// the group are unharmed. fn must have no effects but on tx, and may run on another goroutine.
//
// If the commit fails every member of the group gets ErrReadOnly with the cause, and no Update is accepted any more; whether the
// group is on disk shows when the database is reopened. A full disk that was noticed before anything was
// synced is the exception: nothing happened then, each member gets ENOSPC, and writes go on.
//
// When ctx ends before fn has run, fn does not run.
func (db *DB) Update(ctx context.Context, fn func(tx *Tx) error) error {
	m := &member{ctx: ctx, fn: fn, verdict: make(chan verdict, 1)}
	lead, err := db.enqueue(m)
	if err != nil {
		return err
	}
	done := ctx.Done()
	for {
		if lead {
			db.lead()
		}
		select {
		case v := <-m.verdict:
			if v.panicked != nil {
				panic(v.panicked)
			}
			if !v.lead {
				return v.err
			}
			lead = true
		case <-done:
			if db.withdraw(m) {
				return ctx.Err()
			}
			done = nil // a leader has it: only its verdict says what happened
		}
	}
}

// enqueue makes m the leader if there is none.
func (db *DB) enqueue(m *member) (lead bool, err error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	switch {
	case db.closed:
		return false, ErrClosed
	case db.failed != nil:
		return false, db.failed
	case m.ctx.Err() != nil:
		return false, m.ctx.Err()
	}
	db.queue = append(db.queue, m)
	lead = !db.leading
	db.leading = true
	return lead, nil
}

func (db *DB) withdraw(m *member) bool {
	db.mu.Lock()
	defer db.mu.Unlock()
	i := slices.Index(db.queue, m)
	if i < 0 || m.promoted {
		return false
	}
	db.queue = slices.Delete(db.queue, i, i+1)
	return true
}

// take takes up to n waiting members.
func (db *DB) take(n int) []*member {
	db.mu.Lock()
	defer db.mu.Unlock()
	n = min(n, len(db.queue))
	if i := slices.IndexFunc(db.queue[:n], func(m *member) bool { return m.solo }); i >= 0 {
		n = i
	}
	taken := db.queue[:n:n]
	db.queue = db.queue[n:]
	return taken
}

// lead commits one group, that of everyone who waits when it begins and of
// who comes while their functions run, and hands the lead to the first of those who came during the commit.
func (db *DB) lead() {
	var g *group
	defer func() {
		g.abandon()
		db.handOver()
	}()
	g = db.begin()
	size, yields := 0, 0
	for size < maxMembers && g.changes.bytes < maxGroupBytes {
		members := db.take(maxMembers - size)
		if len(members) == 0 {
			// Those whom the last group answered are likely to be on their way with their next update, if they only get
			// to run; no one is waited for after a lone member.
			if size >= db.lastGroup || yields == maxYields {
				break
			}
			yields++
			runtime.Gosched()
			continue
		}
		size += len(members)
		g.waiting = members
		for len(g.waiting) > 0 {
			m := g.waiting[0]
			g.waiting = g.waiting[1:]
			g.run(m)
		}
	}
	db.lastGroup = size
	g.finish()
}

// takeLead waits for the lead and returns with it: nothing is committed until
// handOver. Updates wait meanwhile, Views do not.
func (db *DB) takeLead(ctx context.Context) error {
	m := &member{ctx: ctx, verdict: make(chan verdict, 1), solo: true}
	lead, err := db.enqueue(m)
	if err != nil {
		return err
	}
	if !lead {
		select {
		case <-m.verdict: // solo members are never in a group: it is the lead
		case <-ctx.Done():
			if db.withdraw(m) {
				return ctx.Err()
			}
			<-m.verdict
		}
	}
	db.take1(m)
	return nil
}

// take1 takes the member that has the lead out of the queue.
func (db *DB) take1(m *member) {
	db.mu.Lock()
	defer db.mu.Unlock()
	if i := slices.Index(db.queue, m); i >= 0 {
		db.queue = slices.Delete(db.queue, i, i+1)
	}
}

func (db *DB) handOver() {
	db.mu.Lock()
	defer db.mu.Unlock()
	if len(db.queue) == 0 {
		db.leading = false
		db.idle.Broadcast()
		return
	}
	db.queue[0].promoted = true
	db.queue[0].verdict <- verdict{lead: true}
}

// group is the members that share one bbolt transaction. It belongs to its leader.
type group struct {
	db      *DB
	snap    *snapshot // nil if it could not begin
	head    head
	changes *overlay
	running *member       // its function is running
	waiting []*member     // taken, not yet run
	members []*member     // succeeded so far
	failed  error         // why it could not begin
	copies  *changes      // of a rekeying that goes on, or nil
	moved   []movedRecord // what copies is to get when the group is committed
}

func (db *DB) begin() *group {
	g := &group{db: db, changes: newOverlay()}
	db.mu.Lock()
	g.failed = db.failed
	db.mu.Unlock()
	if g.failed != nil {
		return g
	}
	g.failed = guard(func() error {
		btx, err := db.bolt.Begin(true)
		if err != nil {
			return ErrClosed
		}
		g.snap = newSnapshot(btx)
		g.head, err = db.headOf(g.snap)
		return err
	})
	return g
}

// run runs one member's function over what the members before it changed, and
// answers it if it fails.
func (g *group) run(m *member) {
	if err := errors.Join(g.failed, m.ctx.Err()); err != nil {
		m.verdict <- verdict{err: err}
		return
	}
	tx := &Tx{db: g.db.store, snap: g.snap, head: g.head, group: g.changes, own: newOverlay(), instant: g.db.instantAfter(g.head.last)}
	g.running = m
	panicked, err := g.call(m.fn, tx)
	g.running = nil
	if err == nil && len(tx.detached) > 0 {
		err = fmt.Errorf("meta: a directory with entries was left without a name: %w", syscall.ENOTEMPTY)
	}
	if err != nil || panicked != nil {
		m.verdict <- verdict{err: err, panicked: panicked}
		return
	}
	g.members = append(g.members, m)
	if len(tx.own.records) > 0 {
		tx.head.last = tx.instant
		g.head = tx.head
		g.changes.merge(tx.own)
	}
}

func (g *group) call(fn func(*Tx) error, tx *Tx) (panicked *memberPanic, err error) {
	defer func() {
		if p := recover(); p != nil {
			panicked = &memberPanic{p, debug.Stack()}
		}
	}()
	return nil, g.snap.guarded(func() error { return fn(tx) })
}

// finish commits and answers the members.
func (g *group) finish() error {
	err := g.failed
	switch {
	case g.snap == nil:
	case err != nil || len(g.changes.records) == 0:
		err = errors.Join(err, g.rollback())
	default:
		err = g.commit()
	}
	for _, m := range g.members {
		m.verdict <- verdict{err: err}
	}
	g.members = nil
	return err
}

// abandon answers who is left when a member's function ended the leader's
// goroutine (runtime.Goexit, as a test's FailNow does). Nothing is committed.
func (g *group) abandon() {
	if g == nil || g.running == nil && len(g.members) == 0 && len(g.waiting) == 0 {
		return
	}
	err := errors.Join(errors.New("meta: the goroutine that led the group ended: nothing was committed"), g.rollback())
	for _, m := range slices.Concat([]*member{g.running}, g.members, g.waiting) {
		if m != nil {
			m.verdict <- verdict{err: err}
		}
	}
}

func (g *group) rollback() error {
	if g.snap == nil {
		return nil
	}
	return guard(g.snap.tx.Rollback)
}

// commit seals the changes into bbolt and commits them.
func (g *group) commit() error {
	err := g.ack()
	if err == nil {
		err = guard(g.apply)
	}
	seen := g.snap.seen + 1
	if err == nil {
		g.retire(seen)
		err = g.db.commit(func() error { return guard(g.snap.tx.Commit) })
	}
	if err != nil {
		return g.commitFailed(err)
	}
	g.db.published.Store(&publishedHead{seen: seen, head: g.head})
	g.publish(seen)
	g.copies.add(g.moved)
	return nil
}

// commitFailed decides whether writes may go on. They may if the disk was
// full while pages were written: those pages belong to no one yet, and no sync was asked for that could have failed.
func (g *group) commitFailed(cause error) error {
	g.rollback() // closed already unless bbolt panicked or never came to commit; the cause is what counts
	var at *fs.PathError
	full := errors.Is(cause, syscall.ENOSPC) || errors.Is(cause, syscall.EDQUOT)
	if full && errors.As(cause, &at) && at.Op == "write" {
		g.retire(g.snap.seen)
		return fmt.Errorf("meta: committing: %w", cause)
	}
	err := fmt.Errorf("%w: %w", ErrReadOnly, cause)
	g.db.mu.Lock()
	defer g.db.mu.Unlock()
	g.db.failed = err
	return err
}

// ack removes the events that AckLater noted.
func (g *group) ack() error {
	upTo := g.db.acked.Load()
	if upTo == 0 {
		return nil
	}
	tx := &Tx{db: g.db.store, snap: g.snap, head: g.head, group: g.changes, own: newOverlay()}
	if err := g.snap.guarded(func() error { return tx.Ack(upTo) }); err != nil {
		return err
	}
	g.changes.merge(tx.own)
	return nil
}

// apply seals every change and keeps the count and the sum of records.
func (g *group) apply() error {
	h, box, set := &g.head, g.db.keys.Box(), g.db.keys.Set()
	g.copies = g.db.changes.Load()
	for _, key := range g.changes.all() {
		kind, dbkey, p := record.Domain(key[0]), []byte(key), g.changes.records[key]
		bucket, cursor := g.snap.bucket(kind), g.snap.cursor(kind)
		found, old := cursor.Seek(dbkey[1:])
		last := found == nil // behind all others of its bucket
		if !bytes.Equal(found, dbkey[1:]) {
			old = nil
		}
		if err := g.follow(kind, dbkey, old, p.plain); err != nil {
			return err
		}
		if old != nil {
			set.Remove(&h.sum, dbkey, old)
			h.records--
		}
		if p.plain == nil {
			if old == nil {
				continue
			}
			bucket.FillPercent = fillMiddle
			if err := cursor.Delete(); err != nil {
				return err
			}
			continue
		}
		sealed := box.Seal(nil, kind, dbkey, p.plain)
		set.Add(&h.sum, dbkey, sealed)
		h.records++
		if len(sealed) > len(old) && !last {
			bucket.FillPercent = fillMiddle
		}
		if err := bucket.Put(dbkey[1:], sealed); err != nil {
			return err
		}
	}
	h.generation++
	dbkey := append([]byte{byte(record.DomainHead)}, headKey...)
	return g.snap.bucket(record.DomainHead).Put(dbkey[1:], box.Seal(nil, record.DomainHead, dbkey, h.encode()))
}

// retire takes what changes out of the caches, before the commit can be seen.
func (g *group) retire(seen uint64) {
	var entries [][2 * tokenSize]byte
	var nodes []Inode
	var pasts []pastName
	var shapes []Inode
	for key := range g.changes.records {
		switch record.Domain(key[0]) {
		case record.DomainPast:
			pasts = append(pasts, pastNameOf([]byte(key[1:])))
		case record.DomainVersion:
			shapes = append(shapes, Inode(be64([]byte(key[1:]))))
		case record.DomainEntry:
			entries = append(entries, [2 * tokenSize]byte([]byte(key[1:])))
		case record.DomainInode:
			nodes = append(nodes, Inode(be64([]byte(key[1:]))))
		}
	}
	g.db.entries.retire(entries, seen)
	g.db.nodes.retire(nodes, seen)
	g.db.dirTokens.retire(nil, seen)
	g.db.pasts.retire(pasts, seen)
	g.db.shapes.retire(shapes, seen)
}

// publish puts what was changed into the caches, so that the next reader need not open it.
func (g *group) publish(seen uint64) {
	for key, p := range g.changes.records {
		switch v := p.obj.(type) {
		case *Entry:
			g.db.entries.add([2 * tokenSize]byte([]byte(key[1:])), v, seen)
		case *Node:
			g.db.nodes.add(v.ID, v, seen)
		}
	}
}
