package ftpd

import (
	"errors"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"

	"sallyport/vfs"
)

// errNotListable: MLSD of something that is not a directory. RFC 3659, section 7.2.1: 501.
var errNotListable = errors.New("ftpd: not a directory")

// listing streams one LIST, NLST or MLSD. Directories are never held whole: entries go out as the volume reads them.
type listing struct {
	c      *control
	op     *op
	dir    string // where the entries are
	prefix string // in front of names (NLST)
	match  string // pattern of names; empty = all
	now    time.Time
	buf    []byte
}

// openListing checks that there is something to list, so that errors come before 150.
func (c *control) openListing(o *op) (func(io.Writer) error, error) {
	l := &listing{c: c, op: o, now: time.Now()}
	arg := o.arg
	if o.verb != "MLSD" {
		arg = skipOptions(arg)
	}
	l.dir = c.abs(arg)
	if o.verb == "NLST" && arg != "" {
		l.prefix = strings.TrimSuffix(arg, "/") + "/"
	}
	e, err := c.login.Files().Stat(l.dir)
	switch {
	case err == nil && e.IsDir():
		return l.directory, nil
	case err == nil && o.verb == "MLSD":
		return nil, errNotListable
	case err == nil:
		l.prefix = strings.TrimSuffix(arg, path.Base(arg))
		return l.single(e), nil
	case errors.Is(err, fs.ErrNotExist) && o.verb != "MLSD" && strings.ContainsAny(path.Base(l.dir), "*?["):
		return l.glob(arg)
	}
	return nil, err
}

// skipOptions drops the options of ls that many clients send in front of the path.
func skipOptions(arg string) string {
	for strings.HasPrefix(arg, "-") {
		_, arg, _ = strings.Cut(arg, " ")
		arg = strings.TrimLeft(arg, " ")
	}
	return arg
}

// glob serves patterns in the last component, which clients of the old school expand on the server (mget).
func (l *listing) glob(arg string) (func(io.Writer) error, error) {
	l.match = path.Base(l.dir)
	l.dir = path.Dir(l.dir)
	l.prefix = strings.TrimSuffix(arg, l.match)
	if _, err := path.Match(l.match, ""); err != nil {
		return nil, fs.ErrNotExist
	}
	e, err := l.c.login.Files().Stat(l.dir)
	if err != nil {
		return nil, err
	}
	if !e.IsDir() {
		return nil, vfs.ErrNotDir
	}
	return l.directory, nil
}

func (l *listing) single(e entry) func(io.Writer) error {
	return func(w io.Writer) error {
		l.dir = path.Dir(l.dir)
		if err := l.add(w, e); err != nil {
			return err
		}
		return l.flush(w)
	}
}

func (l *listing) directory(w io.Writer) error {
	l.buf = make([]byte, 0, listBuffer+2*maxLine)
	err := l.c.login.Files().ReadDir(l.op.ctx, l.dir, func(e entry) error {
		if l.match != "" {
			if ok, _ := path.Match(l.match, e.Name()); !ok {
				return nil
			}
		}
		return l.add(w, e)
	})
	if err != nil {
		return err
	}
	return l.flush(w)
}

// add appends an entry. Full buffers go out: one flush per 64 KiB, not one per entry (F12).
func (l *listing) add(w io.Writer, e entry) error {
	switch l.op.verb {
	case "MLSD":
		l.buf = append(l.appendFacts(l.buf, path.Join(l.dir, e.Name()), e), ' ')
	case "LIST":
		l.buf = l.appendLong(l.buf, e)
	case "NLST":
		l.buf = appendName(l.buf, l.prefix)
	}
	l.buf = appendName(l.buf, e.Name())
	if l.op.verb == "LIST" && e.Mode()&fs.ModeSymlink != 0 {
		l.buf = appendName(append(l.buf, " -> "...), l.target(path.Join(l.dir, e.Name())))
	}
	l.buf = append(l.buf, '\r', '\n')
	if len(l.buf) >= listBuffer {
		return l.flush(w)
	}
	return nil
}

func (l *listing) flush(w io.Writer) error {
	if len(l.buf) == 0 {
		return nil
	}
	_, err := w.Write(l.buf)
	l.buf = l.buf[:0]
	if s, ok := w.(dataStream); ok && err == nil {
		return s.flush() // a long listing is to be seen early
	}
	return err
}

func (l *listing) appendFacts(b []byte, name string, e entry) []byte {
	return l.c.appendFacts(b, name, e)
}

func (c *control) appendFacts(b []byte, name string, e entry) []byte {
	files := c.login.Files()
	target := ""
	if c.mlst&factType != 0 && e.Mode()&fs.ModeSymlink != 0 {
		target, _ = files.Readlink(name)
	}
	if c.mlst&factPerm == 0 {
		return c.mlst.fact(b, e, nil, target)
	}
	return c.mlst.fact(b, e, files.Perms(name), target)
}

// target of a symlink; empty if it cannot be read, which is no reason to lose the listing.
func (l *listing) target(name string) string {
	t, err := l.c.login.Files().Readlink(name)
	if err != nil {
		return ""
	}
	return t
}

// appendLong appends what ls -l prints in front of the name. Times are UTC; owner and group say nothing: a volume has one owner.
func (l *listing) appendLong(b []byte, e entry) []byte {
	b = appendMode(b, e.Mode())
	b = append(b, "   1 owner    group    "...)
	digits := len(b)
	b = strconv.AppendInt(b, e.Size(), 10)
	if pad := 12 - (len(b) - digits); pad > 0 {
		b = append(b, "            "[:pad]...)
		copy(b[digits+pad:], b[digits:len(b)-pad])
		copy(b[digits:digits+pad], "            ")
	}
	t := e.ModTime().UTC()
	layout := " Jan _2 15:04 "
	if age := l.now.Sub(t); age > 180*24*time.Hour || age < -24*time.Hour {
		layout = " Jan _2  2006 "
	}
	return t.AppendFormat(b, layout)
}

func appendMode(b []byte, m fs.FileMode) []byte {
	switch {
	case m.IsDir():
		b = append(b, 'd')
	case m&fs.ModeSymlink != 0:
		b = append(b, 'l')
	default:
		b = append(b, '-')
	}
	const rwx = "rwxrwxrwx"
	for i := range len(rwx) {
		if m&(1<<(8-i)) != 0 {
			b = append(b, rwx[i])
		} else {
			b = append(b, '-')
		}
	}
	return b
}

// appendName appends a name as the data connection carries it. It is no Telnet stream, so only what would end the line goes.
func appendName(b []byte, name string) []byte {
	if !strings.ContainsAny(name, "\r\n\x00") {
		return append(b, name...)
	}
	for i := range len(name) {
		if c := name[i]; c == '\r' || c == '\n' || c == 0 {
			b = append(b, '?')
		} else {
			b = append(b, c)
		}
	}
	return b
}
