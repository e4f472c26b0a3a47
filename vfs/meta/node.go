package meta

import (
	"sallyport/crypto/record"
)

// Inode numbers are never reused. Root is 1.
type Inode uint64

// Root is the inode of the volume's root directory. It is its own Parent.
const Root Inode = 1

// Kind of an inode.
type Kind uint8

// Kinds of inode. The numbers are on disk.
const (
	File Kind = 1 + iota
	Dir
	Symlink
)

// maxTarget is the longest symlink target, bytes.
const maxTarget = 4096

// State of a version. The numbers are on disk.
type State uint8

const (
	Complete    State = 1 + iota
	Partial           // an interrupted upload of a new name: current, visible, resumable
	Interrupted       // an interrupted overwrite: history only, never current
)

// Attr is what listings need without opening a version.
type Attr struct {
	Size         uint64 // bytes
	Mode         uint32 // permission bits only
	Mtime, Atime int64  // ns since 1970; what the client set or the commit instant
	Created      int64  // ns since 1970; what the client set or the instant of NewNode
	State        State  // of the current version; 0 = a file that has none yet
}

// Node is an inode's record.
type Node struct {
	ID       Inode
	Kind     Kind
	Changed  int64  // instant of the last change
	Version  uint64 // current version number; 0 = none yet
	Versions uint64 // highest version number given, those of interrupted versions included
	Children uint64 // live entries of a directory
	Parent   Inode  // directory that holds the live entry (there are no hard links); 0 = unlinked
	Target   string // symlink
	Attr
	// Interrupted is set when a broken overwrite left bytes in history: REST>0, APPE and non-truncating writes are
	// refused until a complete upload or removal.
	Interrupted bool

	// Where the inode is, or was when it had a name last: the way from the root is found without a search. Kept by Link and Unlink.
	Home Inode  // directory; 0 = it never had a name
	Name string // in Home
	Left int64  // instant at which the last name ended; 0 while there is a live one, and before the first
	Past uint64 // past names that are not purged: who has neither those nor a live name can go

	unplaced bool // a record of format 1, which does not know the four fields above
}

func (n *Node) encode() []byte {
	e := encoder{make([]byte, 0, 128+len(n.Target)+len(n.Name))}
	e.u8(uint8(n.Kind))
	e.i64(n.Changed)
	e.u64(n.Version)
	e.u64(n.Versions)
	e.u64(n.Children)
	e.u64(uint64(n.Parent))
	e.attr(&n.Attr)
	e.bool(n.Interrupted)
	e.str(n.Target)
	if n.unplaced {
		return e.b
	}
	e.u64(uint64(n.Home))
	e.i64(n.Left)
	e.u64(n.Past)
	e.str(n.Name)
	return e.b
}

func decodeNode(id Inode, b []byte) (*Node, error) {
	d := decoder{b: b}
	n := &Node{
		ID:       id,
		Kind:     Kind(d.oneOf(uint8(File), uint8(Symlink))),
		Changed:  d.instant(),
		Version:  d.u64(),
		Versions: d.u64(),
		Children: d.u64(),
		Parent:   Inode(d.u64()),
		Attr:     d.attr(),
	}
	n.Interrupted = d.bool()
	n.Target = d.str(maxTarget)
	if n.unplaced = len(d.b) == 0; !n.unplaced {
		n.Home, n.Left, n.Past, n.Name = Inode(d.u64()), d.instant(), d.u64(), d.str(maxName)
	}
	if n.Version > n.Versions || n.Kind != Dir && n.Children != 0 || n.Kind != Symlink && n.Target != "" || n.State == Interrupted {
		d.fail()
	}
	return n, d.end()
}

func (e *encoder) attr(a *Attr) {
	e.u64(a.Size)
	e.u32(a.Mode)
	e.i64(a.Mtime)
	e.i64(a.Atime)
	e.i64(a.Created)
	e.u8(uint8(a.State))
}

func (d *decoder) attr() Attr {
	return Attr{Size: d.u64(), Mode: d.u32(), Mtime: d.i64(), Atime: d.i64(), Created: d.i64(), State: State(d.oneOf(0, uint8(Interrupted)))}
}

// Node returns an inode's record, fs.ErrNotExist if there is none. The copy
// is the caller's.
func (tx *Tx) Node(id Inode) (*Node, error) {
	n, err := tx.node(id)
	if err != nil {
		return nil, err
	}
	own := *n
	return &own, nil
}

// node returns a shared record: it must not be changed.
func (tx *Tx) node(id Inode) (*Node, error) {
	n, shared, err := tx.readNode(id)
	if err == nil && !shared {
		tx.db.nodes.add(id, n, tx.snap.seen)
	}
	return n, err
}

// nodePassing is Node for what will not be asked for again soon: it is not remembered.
func (tx *Tx) nodePassing(id Inode) (*Node, error) {
	n, shared, err := tx.readNode(id)
	if err == nil && shared {
		own := *n
		return &own, nil
	}
	return n, err
}

// readNode returns a record and whether others have it too.
func (tx *Tx) readNode(id Inode) (n *Node, shared bool, err error) {
	var kb [8]byte
	key := appendU64(kb[:0], uint64(id))
	p := tx.pending(record.DomainInode, key)
	if p != nil {
		if p.plain == nil {
			return nil, false, absent("inode")
		}
		return p.obj.(*Node), true, nil
	}
	if n, ok := tx.db.nodes.get(id, tx.snap.seen); ok {
		return n, true, nil
	}
	plain, err := tx.load(record.DomainInode, key)
	if err != nil {
		return nil, false, err
	}
	if plain == nil {
		return nil, false, absent("inode")
	}
	n, err = decodeNode(id, plain)
	if err != nil {
		return nil, false, broken(record.DomainInode, err)
	}
	return n, false, nil
}

// edit returns a copy of an inode's record to change and give to putNode.
func (tx *Tx) edit(id Inode) (*Node, error) { return tx.Node(id) }

// putNode takes n over: it must not be changed any more.
func (tx *Tx) putNode(n *Node) {
	tx.put(record.DomainInode, inodeKey(n.ID), n.encode(), n)
}

// NewNode makes an inode: ID and Changed are filled in, times of zero
// become the instant. Link gives it a name. A directory or symlink gets
// its first version, of attributes, at once; a file has none until AddVersion.
func (tx *Tx) NewNode(n *Node) error {
	if n.Kind < File || n.Kind > Symlink || len(n.Target) > maxTarget || n.Kind != Symlink && n.Target != "" {
		return invalid("inode of impossible kind or target")
	}
	tx.head.nextInode++
	n.ID = tx.head.nextInode - 1
	n.Changed = tx.instant
	n.Version, n.Versions, n.Children, n.Parent = 0, 0, 0, 0
	if n.Mtime == 0 {
		n.Mtime = tx.instant
	}
	if n.Atime == 0 {
		n.Atime = tx.instant
	}
	if n.Created == 0 {
		n.Created = tx.instant
	}
	n.State = 0
	n.Home, n.Name, n.Left, n.Past, n.unplaced = 0, "", 0, 0, false
	if n.Kind == File {
		n.Size = 0
	}
	first := *n
	tx.putNode(&first)
	if n.Kind == File {
		return nil
	}
	v := &Version{Attr: n.Attr}
	v.State = Complete
	return tx.AddVersion(n, v)
}

// PutNode rewrites what a caller may change of an inode without making a
// version: Mode, Mtime, Atime, Interrupted and Target. The rest is kept as it is
// stored and filled in in n, with Changed.
func (tx *Tx) PutNode(n *Node) error {
	cur, err := tx.edit(n.ID)
	if err != nil {
		return err
	}
	if len(n.Target) > maxTarget || cur.Kind != Symlink && n.Target != "" {
		return invalid("symlink target")
	}
	cur.Mode, cur.Mtime, cur.Atime = n.Mode, n.Mtime, n.Atime
	cur.Interrupted, cur.Target = n.Interrupted, n.Target
	cur.Changed = tx.instant
	tx.putNode(cur)
	*n = *cur
	return nil
}
