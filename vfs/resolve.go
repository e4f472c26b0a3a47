package vfs

import (
	"errors"
	"io/fs"
	"strings"

	"sallyport/vfs/meta"
)

// Owner's permission bits. There is one owner, so group and others never matter.
const (
	mayRead   = 0o400
	mayWrite  = 0o200
	mayTravel = 0o100
)

func permit(n *meta.Node, bits uint32) error {
	if n.Mode&bits != bits {
		return fs.ErrPermission
	}
	return nil
}

// place is where a path leads.
type place struct {
	slot             // directory and name; the root has an empty name
	path  string     // canonical
	home  *meta.Node // the directory
	node  *meta.Node // nil = nothing committed is there
	own   *inode     // this session's state of it, if it has any; set without node: its uncommitted new file
	asked string     // the last name as the client spelled it; differs from slot.name after an NFC fallback
}

func (p *place) root() bool { return p.name == "" }

// exact is the place for operations that make a name: bytes identify, so a name that only looks the same is another one.
func (p *place) exact() place {
	if p.asked == p.name {
		return *p
	}
	q := *p
	q.name, q.node, q.own = p.asked, nil, nil
	q.path = join(parent(p.path), p.asked)
	return q
}

func join(dir, name string) string {
	if dir == "/" {
		return "/" + name
	}
	return dir + "/" + name
}

func parent(path string) string {
	if i := strings.LastIndexByte(path, '/'); i > 0 {
		return path[:i]
	}
	return "/"
}

// allowed says whether a client may give something this name.
func (p *place) allowed() error {
	switch {
	case p.root():
		return fs.ErrExist
	case p.dir == meta.Root && p.name == reservedName:
		return ErrBadName
	}
	return nil
}

// walk resolves a client's path inside one transaction. Symlinks are followed within the volume, the last component's
// too if follow. The last component need not exist. fs.ErrNotExist if a directory on the way does not.
func (w *View) walk(tx *meta.Tx, name string, follow bool) (place, error) {
	root, err := tx.Node(meta.Root)
	if err != nil {
		return place{}, err
	}
	wk := walker{view: w, tx: tx, follow: follow}
	return wk.run(root, name)
}

// run walks from the root.
func (wk *walker) run(root *meta.Node, name string) (place, error) {
	if len(name) > MaxPath {
		return place{}, ErrNameTooLong
	}
	wk.at = append(make([]place, 0, 8), place{slot: slot{dir: meta.Root}, path: "/", home: root, node: root})
	wk.push(name)
	for {
		c, ok := wk.pop()
		if !ok {
			return wk.at[len(wk.at)-1], nil
		}
		if err := wk.step(c); err != nil {
			return place{}, err
		}
	}
}

type walker struct {
	view   *View
	tx     *meta.Tx
	follow bool
	past   bool     // as of the instant then, without what the session has open
	then   int64    // ns since 1970
	left   bool     // through directories, too, of which no attributes of then are left
	at     []place  // from the root to where we are
	todo   []string // rests of paths still to walk, the innermost last
	links  int
}

func (wk *walker) push(path string) { wk.todo = append(wk.todo, path) }

// pop takes the next component; "" and "." count for nothing.
func (wk *walker) pop() (string, bool) {
	for len(wk.todo) > 0 {
		last := len(wk.todo) - 1
		c, rest, _ := strings.Cut(wk.todo[last], "/")
		if wk.todo[last] = rest; rest == "" {
			wk.todo = wk.todo[:last]
		}
		if c != "" && c != "." {
			return c, true
		}
	}
	return "", false
}

// end says whether no component is left.
func (wk *walker) end() bool {
	for _, t := range wk.todo {
		for c := range strings.SplitSeq(t, "/") {
			if c != "" && c != "." {
				return false
			}
		}
	}
	return true
}

func (wk *walker) step(c string) error {
	cur := &wk.at[len(wk.at)-1]
	switch {
	case cur.node == nil && cur.own == nil:
		return fs.ErrNotExist
	case cur.node == nil || cur.node.Kind != meta.Dir:
		return ErrNotDir
	}
	if c == ".." {
		if len(wk.at) > 1 {
			wk.at = wk.at[:len(wk.at)-1]
		}
		return nil
	}
	if len(c) > MaxName || len(wk.at) > MaxDepth {
		return ErrNameTooLong
	}
	if strings.IndexByte(c, 0) >= 0 {
		return ErrBadName
	}
	if err := permit(cur.node, mayTravel); err != nil {
		return err
	}
	next, err := wk.look(cur, c)
	if err != nil {
		return err
	}
	if next.node != nil && next.node.Kind == meta.Symlink && (wk.follow || !wk.end()) {
		return wk.jump(next.node.Target)
	}
	if len(next.path) > MaxPath {
		return ErrNameTooLong
	}
	wk.at = append(wk.at, next)
	return nil
}

// look finds c in cur: exact bytes first, among the session's own new files and what is committed, then the NFC-equal name.
func (wk *walker) look(cur *place, c string) (place, error) {
	if wk.past {
		return wk.lookBack(cur, c)
	}
	next := place{slot: slot{cur.node.ID, c}, home: cur.node, asked: c}
	next.own = wk.view.ownNew(next.slot)
	e, err := wk.tx.Lookup(cur.node.ID, c)
	switch {
	case errors.Is(err, fs.ErrNotExist) || err == nil && e.Name != c && next.own != nil:
	case err != nil:
		return place{}, err
	default:
		next.name = e.Name
		if next.node, err = wk.tx.Node(e.Inode); err != nil {
			return place{}, err
		}
		if next.own == nil { // else another session made the name first, and ours goes on with its own file
			next.own = wk.view.ownInode(e.Inode)
		}
	}
	next.path = join(cur.path, next.name)
	return next, nil
}

// jump goes on at a symlink's target.
func (wk *walker) jump(target string) error {
	if wk.links++; wk.links > MaxSymlinks {
		return ErrLoop
	}
	if strings.HasPrefix(target, "/") {
		wk.at = wk.at[:1]
	}
	wk.push(target)
	return nil
}

// linked says whether a directory still has its name, so that something new in it can be reached.
func linked(tx *meta.Tx, dir meta.Inode) (*meta.Node, error) {
	n, err := tx.Node(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fs.ErrNotExist
	case err != nil:
		return nil, err
	case n.Kind != meta.Dir || n.Parent == 0 && n.ID != meta.Root:
		return nil, fs.ErrNotExist
	}
	return n, nil
}
