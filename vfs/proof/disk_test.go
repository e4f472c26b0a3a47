package proof

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
)

// callKind is what a system call does to files.
type callKind uint8

const (
	create callKind = iota
	mkdir
	unlink // of directories too
	rename
	link // a second name in the same directory
	write
	truncate
	syncCall
	reserve // disk space; neither content nor size change
	mark    // of the child, for the oracle: what was begun and what was acknowledged
)

// call is one recorded system call that succeeded.
type call struct {
	kind  callKind
	name  string // absolute path, or the text of a mark
	to    string // rename, link
	ino   uint64
	off   int64 // write; truncate: the new size
	data  []byte
	begun int // sync: number of calls recorded when it began; those are what it makes durable
}

// disk is what a program did to a directory, by inode, and from which every state can be made that a power loss may leave.
//
// The rules are the weakest that POSIX gives and the drivers of disks keep: what a successful fsync or fdatasync covers is there; of the
// rest, any part may be there, in any order. A write may be torn at sectors of 512 bytes; the file may have grown without
// the bytes. fsync of a file says nothing of its name: the directory must be synced. A rename is atomic. Two
// changes of one name come in their order.
type disk struct {
	root *object
}

// object is a file or a directory.
type object struct {
	dir   bool
	ops   []op
	syncs []sync1
}

type op struct {
	at   int // number of the call
	off  int64
	data []byte // write
	// size >= 0 truncates; -1 = not
	size int64
	// Directories: name now is child (nil: nothing); with from, child is what was at from.
	name, from string
	child      *object
}

// sync1 makes the ops before begun durable, from call at on.
type sync1 struct{ at, begun int }

// newDisk sorts a log by inode.
func newDisk(root string, log []call) (*disk, error) {
	d := &disk{root: &object{dir: true}}
	byPath := map[string]*object{root: d.root}
	byIno := map[uint64]*object{}
	parent := func(p string) (*object, error) {
		o := byPath[filepath.Dir(p)]
		if o == nil || !o.dir {
			return nil, fmt.Errorf("proof: %s has no directory", p)
		}
		return o, nil
	}
	for i, c := range log {
		if c.kind == mark || c.kind == reserve {
			continue
		}
		var o *object
		var err error
		switch c.kind {
		case create, mkdir, unlink, rename, link:
			if o, err = parent(c.name); err != nil {
				return nil, err
			}
		default:
			if o = byIno[c.ino]; o == nil { // by number, as the name may have changed since it was opened
				o = byPath[c.name]
			}
			if o == nil {
				return nil, fmt.Errorf("proof: call %d on unknown file %s", i, c.name)
			}
		}
		base := filepath.Base(c.name)
		switch c.kind {
		case create, mkdir:
			child := &object{dir: c.kind == mkdir}
			byPath[c.name], byIno[c.ino] = child, child
			o.ops = append(o.ops, op{at: i, name: base, child: child, size: -1})
		case unlink:
			forget(byPath, c.name, "")
			o.ops = append(o.ops, op{at: i, name: base, size: -1})
		case rename:
			if filepath.Dir(c.to) != filepath.Dir(c.name) {
				return nil, errors.New("proof: a rename to another directory is not modelled")
			}
			child := byPath[c.name]
			forget(byPath, c.to, "")
			forget(byPath, c.name, c.to)
			o.ops = append(o.ops, op{at: i, name: filepath.Base(c.to), from: base, child: child, size: -1})
		case link:
			if filepath.Dir(c.to) != filepath.Dir(c.name) {
				return nil, errors.New("proof: a link in another directory is not modelled")
			}
			child := byPath[c.name]
			byPath[c.to] = child
			o.ops = append(o.ops, op{at: i, name: filepath.Base(c.to), child: child, size: -1})
		case write:
			o.ops = append(o.ops, op{at: i, off: c.off, data: c.data, size: -1})
		case truncate:
			o.ops = append(o.ops, op{at: i, size: c.off})
		case syncCall:
			o.syncs = append(o.syncs, sync1{i, c.begun})
		}
	}
	return d, nil
}

// forget moves what is at and below a path, or drops it.
func forget(byPath map[string]*object, from, to string) {
	for p, o := range byPath {
		if p != from && !strings.HasPrefix(p, from+"/") {
			continue
		}
		delete(byPath, p)
		if to != "" {
			byPath[to+p[len(from):]] = o
		}
	}
}

// loss chooses what of the un-synced a power loss keeps.
type loss uint8

const (
	keepNothing loss = iota
	keepAll
	keepSome    // each change or not
	keepTorn    // each change or not, writes by sectors
	keepNames   // all directories, no content
	keepContent // all content, no names
	keepSizes   // files have their sizes, new bytes are zero
	losses
)

func (l loss) String() string {
	return [losses]string{"nothing", "all", "some", "torn", "names only", "content only", "sizes only"}[l]
}

const sector = 512

// state writes to dir what a power loss after call p may leave.
func (d *disk) state(dir string, p int, l loss, rng *rand.Rand) error {
	return d.root.put(dir, p, l, rng)
}

// durable is how many of the ops, which are in order, a sync had made durable.
func (o *object) durable(p int) int {
	begun := 0
	for _, s := range o.syncs {
		if s.at < p {
			begun = max(begun, s.begun)
		}
	}
	n := 0
	for n < len(o.ops) && o.ops[n].at < begun {
		n++
	}
	return n
}

func (o *object) put(path string, p int, l loss, rng *rand.Rand) error {
	if !o.dir {
		return o.putFile(path, p, l, rng)
	}
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	entries := map[string]*object{}
	synced := o.durable(p)
	for i, op := range o.ops {
		if op.at >= p {
			break
		}
		keep := i < synced || l == keepAll || l == keepNames || l == keepSizes || (l == keepSome || l == keepTorn) && rng.IntN(2) == 0
		if !keep {
			continue
		}
		if op.from != "" {
			if entries[op.from] != op.child { // what was to be renamed has not come to the disk
				continue
			}
			delete(entries, op.from)
		}
		if entries[op.name] = op.child; op.child == nil {
			delete(entries, op.name)
		}
	}
	for name, child := range entries {
		if err := child.put(filepath.Join(path, name), p, l, rng); err != nil {
			return err
		}
	}
	return nil
}

func (o *object) putFile(path string, p int, l loss, rng *rand.Rand) error {
	img := &sparse{pages: map[int64]*[pageSize]byte{}}
	synced := o.durable(p)
	for i, op := range o.ops {
		if op.at >= p {
			break
		}
		switch {
		case i < synced || l == keepAll || l == keepContent, l == keepSome && rng.IntN(2) == 0:
			img.apply(op)
		case l == keepTorn && rng.IntN(4) > 0:
			img.tear(op, rng)
		case l == keepSizes:
			if op.size >= 0 {
				img.apply(op)
			}
			img.size = max(img.size, op.off+int64(len(op.data)))
		}
	}
	return img.store(path)
}

// sparse is the content of a file.
type sparse struct {
	size  int64
	pages map[int64]*[pageSize]byte
}

func (s *sparse) apply(o op) {
	if o.size >= 0 {
		s.cut(o.size)
		return
	}
	s.writeAt(o.off, o.data)
}

func (s *sparse) writeAt(off int64, data []byte) {
	s.size = max(s.size, off+int64(len(data)))
	for len(data) > 0 {
		page := s.pages[off/pageSize]
		if page == nil {
			page = new([pageSize]byte)
			s.pages[off/pageSize] = page
		}
		n := copy(page[off%pageSize:], data)
		off, data = off+int64(n), data[n:]
	}
}

func (s *sparse) cut(size int64) {
	if size < s.size {
		for i, page := range s.pages {
			if from := max(size-i*pageSize, 0); from < pageSize {
				clear(page[from:])
			}
		}
	}
	s.size = size
}

// tear applies some of the sectors of a write; a truncation is whole.
func (s *sparse) tear(o op, rng *rand.Rand) {
	if o.size >= 0 {
		s.cut(o.size)
		return
	}
	first := rng.IntN(2) == 0 // a beginning, as most disks do, or any sectors
	n := rng.IntN(len(o.data)/sector + 2)
	for at := 0; at < len(o.data); {
		next := min(len(o.data), at+sector-int((o.off+int64(at))%sector))
		if first && at/sector < n || !first && rng.IntN(2) == 0 {
			s.writeAt(o.off+int64(at), o.data[at:next])
		}
		at = next
	}
	if rng.IntN(2) == 0 {
		s.size = max(s.size, o.off+int64(len(o.data)))
	}
}

func (s *sparse) store(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	err = f.Truncate(s.size)
	for i, page := range s.pages {
		if n := min(pageSize, s.size-i*pageSize); n > 0 && err == nil {
			_, err = f.WriteAt(page[:n], i*pageSize)
		}
	}
	return errors.Join(err, f.Close())
}
