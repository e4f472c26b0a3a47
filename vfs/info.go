package vfs

import (
	"io/fs"
	"time"

	"sallyport/vfs/meta"
)

// Info implements fs.FileInfo; Sys returns the Info itself.
type Info struct {
	name string
	node meta.Node
	past bool // of an old version
}

// VirtualDir is a directory that is no inode: a name by which something else can be reached, read only.
func VirtualDir(name string, at time.Time) *Info {
	t := nanos(at)
	return &Info{name: name, past: true, node: meta.Node{Kind: meta.Dir, Attr: meta.Attr{Mode: 0o555, Mtime: t, Atime: t, Created: t}}}
}

// Named is the same under another name.
func (i *Info) Named(name string) *Info {
	n := *i
	n.name = name
	return &n
}

func (i *Info) Name() string { return i.name }

// Size is bytes: of a file its content, of a symlink the length of its target, of a directory 0.
func (i *Info) Size() int64 {
	switch i.node.Kind {
	case meta.Symlink:
		return int64(len(i.node.Target))
	case meta.Dir:
		return 0
	}
	return int64(i.node.Size)
}

func (i *Info) Mode() fs.FileMode {
	m := fs.FileMode(i.node.Mode & 0o777)
	switch i.node.Kind {
	case meta.Dir:
		m |= fs.ModeDir
	case meta.Symlink:
		m |= fs.ModeSymlink
	}
	return m
}

func (i *Info) ModTime() time.Time { return time.Unix(0, i.node.Mtime) }
func (i *Info) IsDir() bool        { return i.node.Kind == meta.Dir }
func (i *Info) Sys() any           { return i }

// ATime is what a client set, else the modification time: reads are not recorded.
func (i *Info) ATime() time.Time {
	if i.node.Atime == 0 {
		return i.ModTime()
	}
	return time.Unix(0, i.node.Atime)
}

// Created is what a client set, else when the file was first uploaded or made.
func (i *Info) Created() time.Time { return time.Unix(0, i.node.Created) }

// Inode is unique in the volume and never reused; 0 for a new file before its first commit, and for old versions, which
// must not be taken for the file of now.
func (i *Info) Inode() uint64 {
	if i.past {
		return 0
	}
	return uint64(i.node.ID)
}

// Version counts from 1 with each commit of the file; 0 before the first.
func (i *Info) Version() uint64 { return i.node.Version }

// Partial says that the file is an interrupted upload, which can be resumed.
func (i *Info) Partial() bool { return i.node.State == meta.Partial }

// Interrupted says that a later upload of this file broke: the content is whole but old, and nothing may be appended.
func (i *Info) Interrupted() bool { return i.node.Interrupted }

var _ fs.FileInfo = (*Info)(nil)
