package facetest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"
	"time"
)

// face is one way to a volume.
type face interface {
	name() string
	login(*account) (client, error)
	// handles says whether files are opened and then read and written anywhere. FTP has transfers only.
	handles() bool
}

func faces() []face { return []face{aferoFace{}, sftpFace{}, ftpsFace{}} }

// mode is how an upload treats what is there.
type mode int

const (
	overwrite mode = iota // whole content; the name may be new
	extend                // at the end; the name may be new
	resume                // at an offset of what exists; what lies beyond is dropped
)

// client is one session. Its errors are *failure. Not safe for concurrent use, but for what is said of transfers: while one
// is under way on an FTP session, the session does nothing else.
type client interface {
	// Lstat does not follow a final symlink.
	Lstat(name string) (entry, error)
	// Size follows symlinks.
	Size(name string) (int64, error)
	List(dir string) ([]entry, error)
	Mkdir(name string) error
	Rmdir(name string) error
	Remove(name string) error // a file or a symlink
	Rename(from, to string) error
	Symlink(target, link string) error
	Readlink(name string) (string, error)
	Chmod(name string, m fs.FileMode) error
	SetTime(name string, t time.Time) error
	Get(name string, off int64) (io.ReadCloser, error)
	Put(name string, how mode, off int64) (upload, error)
	// Open is for faces with handles.
	Open(name string, flag int) (handle, error)
	// RenameNew replaces nothing. For faces with handles.
	RenameNew(from, to string) error
	// Truncate by path. For faces with handles.
	Truncate(name string, size int64) error
	// Close ends the session in order and waits until the server has let go of it.
	Close() error
	// Cut breaks its connection, whatever is under way, and waits until the server has let go of it.
	Cut() error
}

// upload is a transfer under way.
type upload interface {
	io.Writer
	io.Closer
	// Break ends the transfer, not the session, before its end. The server has then taken all that was written, unless all
	// is false: then a part of it.
	Break() (all bool, err error)
}

// handle is an open file.
type handle interface {
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
	Size() (int64, error)
	Sync() error
	Close() error
}

// entry is what every face tells of a name.
type entry struct {
	name   string
	kind   byte  // 'f', 'd', 'l'
	size   int64 // of files
	mode   fs.FileMode
	mtime  int64 // seconds since 1970
	target string
}

func entryOf(i os.FileInfo) entry {
	e := entry{name: i.Name(), kind: 'f', mode: i.Mode().Perm(), mtime: i.ModTime().Unix()}
	switch {
	case i.IsDir():
		e.kind = 'd'
	case i.Mode()&fs.ModeSymlink != 0:
		e.kind = 'l'
	default:
		e.size = i.Size()
	}
	return e
}

// class is what an error means, in whatever words a face says it.
type class string

const (
	good        class = ""
	notExist    class = "does not exist"
	exists      class = "exists"
	permission  class = "permission denied"
	isDir       class = "is a directory"
	notDir      class = "not a directory"
	notEmpty    class = "not empty"
	tooManyLink class = "too many symlinks"
	tooLong     class = "name too long"
	badName     class = "name not allowed"
	interrupted class = "interrupted upload"
	invalid     class = "not possible"
	busy        class = "busy"
	tooManyOpen class = "too many open files"
	tooLarge    class = "too large"
	quota       class = "over quota"
	restart     class = "restart beyond the end" // FTP only
	unknown     class = "?"
)

// failure is an error of a face with its class.
type failure struct {
	class class
	said  string // by the face
}

func (f *failure) Error() string { return string(f.class) + ": " + f.said }

func failed(c class, said string) error { return &failure{c, said} }

// errInexpressible is the result of what a face has no words for. A case that gets it is wrong.
var errInexpressible = errors.New("this face cannot say that")

// classOf is good for nil.
func classOf(err error) class {
	if err == nil {
		return good
	}
	if f := (*failure)(nil); errors.As(err, &f) {
		return f.class
	}
	return unknown
}

// read downloads all of a file.
func read(c client, name string) ([]byte, error) {
	r, err := c.Get(name, 0)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	if cerr := r.Close(); err == nil {
		err = cerr
	}
	return b, err
}

// put uploads all of a file.
func put(c client, name string, how mode, off int64, content []byte) error {
	u, err := c.Put(name, how, off)
	if err != nil {
		return err
	}
	_, err = u.Write(content)
	_, cut := errors.AsType[*net.OpError](err) // FTP ends the data connection when it refuses, and says why in the reply
	if cerr := u.Close(); err == nil || cut && cerr != nil {
		err = cerr
	}
	return err
}

// snapshot is all that a session sees: one line for each path.
func snapshot(c client) (string, error) {
	var lines []string
	var walk func(dir string) error
	walk = func(dir string) error {
		list, err := c.List(dir)
		if cl := classOf(err); cl == permission {
			lines = append(lines, fmt.Sprintf("%q cannot be listed", dir))
			return nil
		}
		if err != nil {
			return fmt.Errorf("listing %q: %w", dir, err)
		}
		for _, e := range list {
			name := strings.TrimSuffix(dir, "/") + "/" + e.name
			line := fmt.Sprintf("%q %c %04o %d", name, e.kind, e.mode, e.mtime)
			one, err := c.Lstat(name)
			if err != nil {
				if classOf(err) != permission {
					return fmt.Errorf("lstat of %q: %w", name, err)
				}
				lines = append(lines, line+" "+string(permission))
				continue
			}
			if one.kind != e.kind || one.size != e.size || one.mode != e.mode || one.mtime != e.mtime {
				return fmt.Errorf("%q: the listing says %+v, lstat says %+v", name, e, one)
			}
			switch e.kind {
			case 'f':
				b, err := read(c, name)
				if c := classOf(err); c == permission {
					line += fmt.Sprintf(" %d bytes that cannot be read", e.size)
					break
				}
				if err != nil {
					return fmt.Errorf("reading %q: %w", name, err)
				}
				if int64(len(b)) != e.size {
					return fmt.Errorf("%q: %d bytes read, size %d", name, len(b), e.size)
				}
				line += fmt.Sprintf(" %d bytes %x", e.size, sha256.Sum256(b))
			case 'l':
				target, err := c.Readlink(name)
				if strings.ContainsAny(target, "; \r\n") || errors.Is(err, errInexpressible) {
					target, err = "what FTP cannot tell", nil
				}
				if err != nil {
					return fmt.Errorf("readlink of %q: %w", name, err)
				}
				line += fmt.Sprintf(" -> %q", target)
			}
			lines = append(lines, line)
			if e.kind == 'd' {
				if err := walk(name); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if err := walk("/"); err != nil {
		return "", err
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n"), nil
}
