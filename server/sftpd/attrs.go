package sftpd

import (
	"fmt"
	"io/fs"
	"math"
	"strconv"
	"time"

	"sallyport/vfs"
)

// Attribute flags: draft-ietf-secsh-filexfer-02, section 5.
const (
	attrSize     = 0x00000001
	attrOwner    = 0x00000002
	attrMode     = 0x00000004
	attrTimes    = 0x00000008
	attrExtended = 0x80000000
	attrKnown    = attrSize | attrOwner | attrMode | attrTimes | attrExtended
)

// POSIX file types as they travel in the permissions field.
const (
	modeType    = 0o170000
	modeDir     = 0o040000
	modeRegular = 0o100000
	modeSymlink = 0o120000
)

// ownerID is the uid and gid of everything: a volume has one owner, whose name
// users-groups-by-id@openssh.com tells. 1000 is the first ordinary user on most
// systems, so that a listing does not look as if it belonged to root.
const ownerID = 1000

// info is what a listing and a STAT need; *vfs.Info has it.
type info interface {
	fs.FileInfo
	ATime() time.Time
}

// attrs of a request. Owner is read and dropped: chown has no effect here.
type attrs struct {
	flags        uint32
	size         uint64
	mode         uint32
	atime, mtime uint32
}

// readAttrs reads an ATTRS field. Unknown flag bits make it malformed, because
// the length of what follows would be unknown.
func readAttrs(f *fields) attrs {
	a := attrs{flags: f.uint32()}
	if a.flags&^uint32(attrKnown) != 0 {
		f.bad = true
		return attrs{}
	}
	if a.flags&attrSize != 0 {
		a.size = f.uint64()
	}
	if a.flags&attrOwner != 0 {
		f.uint32()
		f.uint32()
	}
	if a.flags&attrMode != 0 {
		a.mode = f.uint32()
	}
	if a.flags&attrTimes != 0 {
		a.atime = f.uint32()
		a.mtime = f.uint32()
	}
	if a.flags&attrExtended != 0 {
		for n := f.uint32(); n > 0 && f.ok(); n-- {
			f.bytes()
			f.bytes()
		}
	}
	if a.size > math.MaxInt64 {
		f.bad = true
	}
	return a
}

// change is what a SETSTAT asks of the volume; empty for a chown alone.
func (a attrs) change() (c vfs.AttrChange, empty bool) {
	if a.flags&attrSize != 0 {
		n := int64(a.size)
		c.Size = &n
	}
	if a.flags&attrMode != 0 {
		m := fs.FileMode(a.mode & 0o777)
		c.Mode = &m
	}
	if a.flags&attrTimes != 0 {
		at, mt := time.Unix(int64(a.atime), 0), time.Unix(int64(a.mtime), 0)
		c.Atime, c.Mtime = &at, &mt
	}
	return c, a.flags&(attrSize|attrMode|attrTimes) == 0
}

// perm is the mode for something new.
func (a attrs) perm(otherwise fs.FileMode) fs.FileMode {
	if a.flags&attrMode == 0 {
		return otherwise
	}
	return fs.FileMode(a.mode & 0o777)
}

// attrs appends the ATTRS field of fi.
func (p packet) attrs(fi info) packet {
	p = p.uint32(attrSize | attrOwner | attrMode | attrTimes)
	p = p.uint64(uint64(max(fi.Size(), 0)))
	p = p.uint32(ownerID).uint32(ownerID)
	p = p.uint32(unixMode(fi.Mode()))
	return p.uint32(unixTime(fi.ATime())).uint32(unixTime(fi.ModTime()))
}

func unixMode(m fs.FileMode) uint32 {
	u := uint32(m.Perm())
	switch {
	case m.IsDir():
		return u | modeDir
	case m&fs.ModeSymlink != 0:
		return u | modeSymlink
	}
	return u | modeRegular
}

// unixTime clamps to what 32 bits can say: 1970 to 2106.
func unixTime(t time.Time) uint32 {
	return uint32(min(max(t.Unix(), 0), math.MaxUint32))
}

// longName is a line of `ls -l`, which clients show as it is: the form that
// draft-ietf-secsh-filexfer-02, section 7 recommends. Times are in UTC, because
// the server's zone is nobody's business.
func longName(fi info, owner string, now time.Time) string {
	t := fi.ModTime().UTC()
	stamp := "Jan _2 15:04"
	if now.Sub(t) > 180*24*time.Hour || t.Sub(now) > 24*time.Hour {
		stamp = "Jan _2  2006"
	}
	links := 1
	if fi.IsDir() {
		links = 2
	}
	return fmt.Sprintf("%s %4d %-8s %-8s %8s %s %s", modeString(fi.Mode()), links, owner, owner,
		strconv.FormatInt(fi.Size(), 10), t.Format(stamp), fi.Name())
}

func modeString(m fs.FileMode) string {
	b := []byte("-rwxrwxrwx")
	switch {
	case m.IsDir():
		b[0] = 'd'
	case m&fs.ModeSymlink != 0:
		b[0] = 'l'
	}
	for i := range 9 {
		if m&(1<<(8-i)) == 0 {
			b[1+i] = '-'
		}
	}
	return string(b)
}
