package vfs

import (
	"errors"
	"io/fs"
	"strings"

	"sallyport/vfs/meta"
)

// pathfinder finds the way from the root to slots by what inodes say of themselves, and remembers the directories. It is
// good for one transaction.
type pathfinder struct {
	tx   *meta.Tx
	dirs map[meta.Inode]string // path with a slash at the end
}

// of is the path of a slot: its directories by the names that they have now, or had last. What lies below a
// directory that is purged begins with its own name, without a slash.
func (p *pathfinder) of(s slot) (string, error) {
	dir, err := p.dir(s.dir)
	return dir + s.name, err
}

func (p *pathfinder) dir(id meta.Inode) (string, error) {
	var below []*meta.Node
	at, found := "", false
	for up := id; ; {
		if up == meta.Root {
			at = "/"
			break
		}
		if at, found = p.dirs[up]; found {
			break
		}
		n, err := p.tx.Node(up)
		if errors.Is(err, fs.ErrNotExist) || err == nil && (n.Home == 0 || len(below) > MaxPath) {
			break
		}
		if err != nil {
			return "", err
		}
		below = append(below, n)
		up = n.Home
	}
	if p.dirs == nil {
		p.dirs = map[meta.Inode]string{}
	}
	var b strings.Builder
	b.WriteString(at)
	for i := len(below) - 1; i >= 0; i-- {
		b.WriteString(below[i].Name + "/")
		p.dirs[below[i].ID] = b.String()
	}
	return b.String(), nil
}

// pathOf is the path of one slot.
func pathOf(tx *meta.Tx, s slot) (string, error) { return (&pathfinder{tx: tx}).of(s) }
