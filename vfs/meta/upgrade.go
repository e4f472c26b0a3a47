package meta

import (
	"context"

	"sallyport/crypto/record"
)

// upgradeBatch is how many inodes one transaction of an upgrade brings up to date.
const upgradeBatch = 4096

// place is what an inode of format 1 does not say of itself.
type place struct {
	home Inode
	name string
	left int64
	past uint64
}

// upgrade brings a database of format 1 to 3 to the one of today.
//
// Since format 2 an inode knows where it lies and how many past names it has.
// A crash in between leaves a database of format 1 in which some inodes know it already: the next opening
// counts anew and goes on. It needs memory for the names of all inodes, once.
//
// Since format 3 the head knows what was destroyed. Before, nobody wrote that down: so nothing from before the upgrade is taken to be whole.
//
// Since format 4 the head knows how many bytes are kept for history alone. They are counted once, from all versions.
func (db *DB) upgrade(ctx context.Context) error {
	switch db.published.Load().head.format {
	case formatVersion:
		return nil
	case 2, 3:
		return db.Update(ctx, func(tx *Tx) error {
			root, err := tx.edit(Root)
			if err != nil {
				return dangling(record.DomainInode)
			}
			tx.putNode(root) // a head is not written alone
			return tx.finishUpgrade()
		})
	}
	places := map[Inode]*place{}
	if err := db.View(func(tx *Tx) error { return tx.places(places) }); err != nil {
		return err
	}
	for from, done := Inode(0), false; !done; {
		var next Inode
		err := db.Update(ctx, func(tx *Tx) (err error) {
			next, done, err = tx.upgradeNodes(from, places)
			return err
		})
		if err != nil {
			return err
		}
		from = next
	}
	return nil
}

// places collects the names, of which each inode has at most one that is live.
func (tx *Tx) places(to map[Inode]*place) error {
	of := func(id Inode) *place {
		if to[id] == nil {
			to[id] = &place{}
		}
		return to[id]
	}
	for f := range tx.scan(record.DomainPast, nil, nil) {
		en, err := tx.openPast(f)
		if err != nil {
			return err
		}
		p := of(en.Inode)
		p.past++
		if en.Until >= p.left {
			p.home, p.name, p.left = en.Dir, en.Name, en.Until
		}
	}
	for f := range tx.scan(record.DomainEntry, nil, nil) {
		en, err := tx.foundEntry(f, true)
		if err != nil {
			return err
		}
		p := of(en.Inode)
		p.home, p.name, p.left = en.Dir, en.Name, 0
	}
	of(Root).home = Root
	return nil
}

// upgradeNodes rewrites the next inodes from the given one on; the last batch changes the format.
func (tx *Tx) upgradeNodes(from Inode, places map[Inode]*place) (next Inode, done bool, err error) {
	n := 0
	for f := range tx.scan(record.DomainInode, nil, inodeKey(from)) {
		if n == upgradeBatch {
			return next, false, nil
		}
		plain, err := tx.openFound(record.DomainInode, f)
		if err != nil {
			return 0, false, err
		}
		if len(f.key) != 8 {
			return 0, false, broken(record.DomainInode, errMalformed)
		}
		node, err := decodeNode(Inode(be64(f.key)), plain)
		if err != nil {
			return 0, false, broken(record.DomainInode, err)
		}
		if p := places[node.ID]; p != nil {
			node.Home, node.Name, node.Left, node.Past = p.home, p.name, p.left, p.past
		}
		node.unplaced = false
		tx.putNode(node)
		next, n = node.ID+1, n+1
	}
	return next, true, tx.finishUpgrade()
}

func (tx *Tx) finishUpgrade() error {
	if tx.head.format < 3 {
		tx.head.lacking = tx.head.last
	}
	tx.head.format = formatVersion
	return tx.recount()
}
