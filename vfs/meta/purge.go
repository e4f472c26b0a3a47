package meta

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/text/unicode/norm"

	"sallyport/crypto/record"
)

// Purged is what a Purge took out of the database.
type Purged struct {
	Names, Versions, Inodes uint64
	Bytes                   uint64     // logical sizes of the versions of files
	Stored                  uint64     // bytes that are not stored any more: of what other versions share, nothing
	Blobs                   [][16]byte // doomed: their keys are gone

	found map[Inode]*usage // what the remaining versions rely on
	as    uint64           // state of DB.relaid in which it was found
}

// PurgeBy is how what a Purge destroys was found. It decides which of the marks in Stats it moves.
type PurgeBy uint8

const (
	ByClock  PurgeBy = 1 + iota // everything that ended before an instant, but for what is on hold or in use
	ByChoice                    // some of it: of what is left of that time, nobody can tell what is missing
)

// Purge forgets superseded names and versions for good: their records and, of blobs that no other version relies on, the
// keys. The files of those blobs are doomed. What is not in the time index any more is passed over, and so is
// a removed directory of which something is left. An inode goes with the last name or version that was superseded;
// what is live never does. From which instant on the past is whole is noted in the same transaction.
//
// Its cost is that of reading the remaining versions of each inode that are not known (nil = none is). When it is committed,
// Remember makes known what it has read.
func (tx *Tx) Purge(items []Superseded, by PurgeBy, known *Usages) (Purged, error) {
	if by < ByClock || by > ByChoice {
		return Purged{}, invalid("purge")
	}
	p := purge{tx: tx, known: known, touched: map[Inode]*relied{}}
	p.as, p.found = tx.db.owner.relaid.Load(), map[Inode]*usage{}
	kept := tx.head.kept // what live files use stays, so that all that goes out of it is not stored any more
	for i := range items {
		var err error
		if items[i].Entry != nil {
			err = p.name(items[i].Entry)
		} else {
			err = p.version(&items[i])
		}
		if err != nil {
			return Purged{}, fmt.Errorf("meta: purging: %w", err)
		}
	}
	for _, id := range p.order {
		if err := p.settle(id); err != nil {
			return Purged{}, fmt.Errorf("meta: purging: %w", err)
		}
	}
	if by == ByClock {
		tx.head.purged = max(tx.head.purged, p.ended)
	} else {
		tx.head.lacking = max(tx.head.lacking, p.ended)
	}
	p.Stored = kept - tx.head.kept
	if p.Names+p.Versions > 0 {
		tx.AwaitShred(max(p.Stored, 1)) // names and targets lie in free pages, too
	}
	return p.Purged, nil
}

// AwaitShred adds to the bytes that await shredding: what was purged before can be read by whoever has a data key that goes
// only now, and no purge counts that again.
func (tx *Tx) AwaitShred(bytes uint64) { tx.head.shred += bytes }

type purge struct {
	Purged
	tx      *Tx
	known   *Usages
	touched map[Inode]*relied // what purged versions of an inode relied on
	order   []Inode
	ended   int64 // the latest instant at which something ended that some view of the past lacks now
}

// name takes out a past name.
func (p *purge) name(en *Entry) error {
	tx := p.tx
	dirTok, nameTok := tx.tokens(en.Dir, en.Name)
	if !tx.exists(record.DomainPast, pastKey(dirTok, nameTok, en.Until)) {
		return nil
	}
	n, err := tx.edit(en.Inode)
	if err != nil {
		return dangling(record.DomainInode)
	}
	if n.Kind == Dir && n.Parent == 0 && n.Past == 1 && tx.hadEntries(n.ID) {
		return nil // else what is left of the directory could not be reached any more
	}
	tx.remove(record.DomainPast, pastKey(dirTok, nameTok, en.Until))
	tx.remove(record.DomainWhen, whenDirKey(dirTok, en.Until, nameTok))
	tx.remove(record.DomainWhen, whenNameKey(en.Until, dirTok, nameTok))
	if folded := norm.NFC.String(en.Name); folded != en.Name && !tx.hasPast(dirTok, nameTok) {
		tx.remove(record.DomainFold, foldKey(dirTok, tx.db.keys.FoldToken(uint64(en.Dir), folded), foldPast, nameTok))
		tx.head.folds--
	}
	p.Names++
	p.ended = max(p.ended, en.Until)
	n.Past--
	tx.putNode(n)
	p.touch(n.ID)
	return nil
}

// hadEntries tells whether a directory has past entries that are not purged.
func (tx *Tx) hadEntries(dir Inode) bool {
	dirTok := tx.dirToken(dir)
	for range tx.scan(record.DomainPast, dirTok[:], nil) {
		return true
	}
	return false
}

func (tx *Tx) hasPast(dirTok, nameTok token) bool {
	for range tx.scan(record.DomainPast, entryKey(dirTok, nameTok), nil) {
		return true
	}
	return false
}

// version takes out a superseded version.
func (p *purge) version(s *Superseded) error {
	tx := p.tx
	index := whenVersionKey(s.At, s.Inode, s.Version)
	if !tx.exists(record.DomainWhen, index) {
		return nil
	}
	n, err := tx.node(s.Inode)
	if err != nil {
		return dangling(record.DomainInode)
	}
	if n.Version == s.Version {
		return fmt.Errorf("%w: the current version of inode %d is indexed as superseded", ErrIntegrity, n.ID)
	}
	v, err := p.forget(n, s.Version)
	if err != nil {
		return err
	}
	if v.State != Interrupted { // else no instant ever showed it
		p.ended = max(p.ended, s.At)
	}
	tx.remove(record.DomainWhen, index)
	return nil
}

// forget removes a version's record and notes what it relied on.
func (p *purge) forget(n *Node, number uint64) (*storedVersion, error) {
	tx := p.tx
	v, err := tx.stored(n.ID, number)
	if err != nil {
		return nil, dangling(record.DomainVersion)
	}
	tx.remove(record.DomainVersion, versionKey(n.ID, number))
	tx.head.versions--
	tx.head.kept -= uint64(len(v.Layout.Inline))
	p.Versions++
	if n.Kind == File {
		tx.head.history -= v.Size
		p.Bytes += v.Size
	}
	p.touch(n.ID).add(v)
	return v, nil
}

func (p *purge) touch(id Inode) *relied {
	if p.touched[id] == nil {
		p.touched[id] = newRelied()
		p.order = append(p.order, id)
	}
	return p.touched[id]
}

// settle removes an inode that has neither names nor superseded versions left, and the blobs and pages that only the purged
// versions of an inode relied on.
func (p *purge) settle(id Inode) error {
	n, err := p.tx.node(id)
	if err != nil {
		return dangling(record.DomainInode)
	}
	if n.Parent == 0 && n.Past == 0 && !p.tx.hasOldVersions(n) {
		if n.Version != 0 {
			if _, err := p.forget(n, n.Version); err != nil { // with its last name, which has moved the mark
				return err
			}
		}
		p.tx.remove(record.DomainInode, inodeKey(id))
		p.Inodes++
	}
	free := p.touched[id]
	if free.none() {
		return nil
	}
	all, err := p.tx.unused(n, free, p.known.get(id, p.as))
	if err != nil {
		return err
	}
	if all == nil {
		all = &usage{} // what was known before is not right any more
	}
	p.found[id] = all
	doomed, err := p.tx.drop(id, free)
	p.Blobs = append(p.Blobs, doomed...)
	return err
}

// hasOldVersions tells whether an inode has a version beside its current one.
func (tx *Tx) hasOldVersions(n *Node) bool {
	for f := range tx.scan(record.DomainVersion, inodeKey(n.ID), nil) {
		if len(f.key) != 16 || be64(f.key[8:]) != n.Version {
			return true
		}
	}
	return false
}

// giveUp dooms a blob that no version relies on. One that is still being written stays: its draft, or recovery, ends it.
func (tx *Tx) giveUp(id [16]byte) (doomed bool, err error) {
	b, err := tx.Blob(id)
	switch {
	case errors.Is(err, fs.ErrNotExist): // damage that Verify reports; there is no key to remove
		return false, nil
	case err != nil:
		return false, err
	case b.State == BlobOpen:
		return false, nil
	}
	return true, tx.Doom(id)
}
