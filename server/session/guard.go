package session

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"
	"time"

	"sallyport/policy"
	"sallyport/vfs"
)

// Guard is policy and audit around a volume's view: each call asks Permit on the current policy with resolved canonical
// paths. Errors: those of vfs, *policy.Denial, or ErrAudit. Safe for concurrent use.
//
// Changes of the tree are recorded by the commit that makes them (ViewOptions.Note), so there is neither a change without
// its record nor a record without its change.
type Guard struct {
	s        *Session
	view     *vfs.View
	refusals pace

	mu    sync.Mutex // guards perms
	perms permsMemo

	testOnlyUsing func() // called between asking Permit and using the path
}

func newGuard(s *Session, v *vfs.View) *Guard { return &Guard{s: s, view: v} }

// pace lets a burst of records through, then one a second that counts the others: a client may walk a tree that it has no
// rights on as fast as it can send.
type pace struct {
	mu     sync.Mutex
	second int64
	here   int
	more   uint64
}

const refusalsPerSecond = 20

func (p *pace) note(now time.Time) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if sec := now.Unix(); sec != p.second {
		p.second, p.here = sec, 0
	}
	p.more++
	if p.here++; p.here > refusalsPerSecond {
		return 0
	}
	n := p.more
	p.more = 0
	return n
}

// begin says whether the session may do anything now.
func (g *Guard) begin() (*policy.Effective, error) {
	if d := g.s.conn.ended.Load(); d != nil {
		return nil, d
	}
	if g.s.conn.m.o.Audit.Err() != nil {
		return nil, ErrAudit
	}
	g.s.Touch()
	return g.s.Policy(), nil
}

func clean(name string) string { return path.Clean("/" + name) }

// shift is how an operation treats names.
type shift uint8

const (
	follow shift = iota // a final symlink is followed
	still               // a final symlink is itself
)

// resolve returns the canonical path of name. Where every path has the same rights it is not asked of the volume, because
// no answer could matter but for the reserved name, which the volume keeps itself.
func (g *Guard) resolve(p *policy.Effective, op policy.Op, name string, how shift) (string, error) {
	if p.Uniform() {
		return clean(name), nil
	}
	at, err := g.view.Resolve(name, how == follow)
	if err != nil {
		// Whether something exists is told only to those who may see it, wherever symlinks lead.
		seen := g.reached(name)
		if d := policy.Permit(p, op, seen); d != nil {
			return "", g.s.denied(d, op, seen)
		}
		return "", err
	}
	return at, nil
}

// reached is what a path that cannot be resolved would have led to, as far as that can be told.
func (g *Guard) reached(name string) string { return reachedBy(g.view.Resolve, name) }

// reachedBy is reached of the volume as resolve sees it.
func reachedBy(resolve func(name string, follow bool) (string, error), name string) string {
	if name = clean(name); strings.Count(name, "/") > vfs.MaxDepth {
		return name // nothing is there, and looking from every depth would take long
	}
	for dir, rest := path.Dir(name), path.Base(name); dir != "/"; dir, rest = path.Dir(dir), path.Join(path.Base(dir), rest) {
		if at, err := resolve(dir, true); err == nil {
			return path.Join(at, rest)
		}
	}
	return name
}

// do resolves one name, asks Permit, and runs fn with the path to use. what fn does with it cannot reach another place:
// nobody moves directories or symlinks of the account meanwhile.
func (g *Guard) do(op policy.Op, name string, how shift, fn func(p *policy.Effective, at string) error) error {
	p, err := g.begin()
	if err != nil {
		return err
	}
	if !p.Uniform() {
		g.s.account.names.RLock()
		defer g.s.account.names.RUnlock()
	}
	return g.permitted(p, op, name, how, fn)
}

// move is do for operations that can change where paths lead.
func (g *Guard) move(op policy.Op, name string, fn func(p *policy.Effective, at string) error) error {
	p, err := g.begin()
	if err != nil {
		return err
	}
	if !p.Uniform() {
		g.s.account.names.Lock()
		defer g.s.account.names.Unlock()
	}
	return g.permitted(p, op, name, still, fn)
}

func (g *Guard) permitted(p *policy.Effective, op policy.Op, name string, how shift, fn func(p *policy.Effective, at string) error) error {
	at, err := g.resolve(p, op, name, how)
	if err != nil {
		return err
	}
	if d := policy.Permit(p, op, at); d != nil {
		return g.s.denied(d, op, at)
	}
	if d := g.s.suspended(p); d != nil && changes(op) {
		return g.s.denied(d, op, at)
	}
	if p.Uniform() {
		at = name // as the client gave it: error texts and symlinks are the volume's
	}
	if g.testOnlyUsing != nil {
		g.testOnlyUsing()
	}
	return g.damage(fn(p, at), at)
}

func info(i os.FileInfo, err error) (*vfs.Info, error) {
	if err != nil {
		return nil, err
	}
	return i.(*vfs.Info), nil
}

// Stat follows symlinks.
func (g *Guard) Stat(name string) (i *vfs.Info, err error) {
	if h, err := g.past(name); h != nil || err != nil {
		return pastly(h, err, func() (*vfs.Info, error) { return h.stat(true) })
	}
	err = g.do(policy.OpStat, name, follow, func(_ *policy.Effective, at string) (err error) {
		i, err = info(g.view.Stat(at))
		return err
	})
	return i, err
}

// Lstat does not follow a final symlink.
func (g *Guard) Lstat(name string) (i *vfs.Info, err error) {
	if h, err := g.past(name); h != nil || err != nil {
		return pastly(h, err, func() (*vfs.Info, error) { return h.stat(false) })
	}
	err = g.do(policy.OpStat, name, still, func(_ *policy.Effective, at string) (err error) {
		i, err = info(g.view.Lstat(at))
		return err
	})
	return i, err
}

// ReadDir streams a directory in batches; what the account may not see is left out.
func (g *Guard) ReadDir(ctx context.Context, name string, fn func([]*vfs.Info) error) error {
	if h, err := g.past(name); h != nil || err != nil {
		if err == nil {
			err = h.readDir(ctx, fn)
		}
		return err
	}
	p, err := g.begin()
	if err != nil {
		return err
	}
	// Names stand still until the directory is open, which the first batch proves, and not for the rest of the listing,
	// which runs at the client's pace.
	release := func() {}
	if !p.Uniform() {
		g.s.account.names.RLock()
		release = sync.OnceFunc(g.s.account.names.RUnlock)
		defer release()
	}
	at, err := g.resolve(p, policy.OpList, name, follow)
	if err != nil {
		return err
	}
	if d := policy.Permit(p, policy.OpList, at); d != nil {
		return g.s.denied(d, policy.OpList, at)
	}
	use := at
	if p.Uniform() {
		use = name
	}
	if g.testOnlyUsing != nil {
		g.testOnlyUsing()
	}
	shows := clean(use) == "/" && g.shows(p)
	reserved := func() error {
		release() // the client may take its time over this name, too
		if !shows {
			return nil
		}
		shows = false
		return fn([]*vfs.Info{vfs.VirtualDir(policy.Reserved[1:], g.now())})
	}
	hide := p.Upload.Interrupted == "hide"
	all := p.ListsAll(at) && !hide
	err = g.view.ReadDir(ctx, use, func(batch []*vfs.Info) error {
		if err := reserved(); err != nil {
			return err
		}
		if _, err := g.begin(); err != nil { // a long listing ends with its session
			return err
		}
		if all {
			return fn(batch)
		}
		var seen []*vfs.Info
		for _, i := range batch {
			if p.Shows(at, path.Join(at, i.Name())) && !(hide && i.Partial()) {
				seen = append(seen, i)
			}
		}
		if len(seen) == 0 {
			return nil
		}
		return fn(seen)
	})
	if err == nil {
		err = reserved() // of an empty directory
	}
	return g.damage(err, at)
}

// Mkdir makes one directory.
func (g *Guard) Mkdir(name string, perm fs.FileMode) error {
	return g.do(policy.OpMkdir, name, still, func(_ *policy.Effective, at string) error { return g.view.Mkdir(at, perm) })
}

// MkdirAll makes a directory and what is missing above it; each needs the right.
func (g *Guard) MkdirAll(name string, perm fs.FileMode) error {
	full := clean(name)
	for i := 1; i <= len(full); i++ {
		if i < len(full) && full[i] != '/' || full == "/" {
			continue
		}
		if at, err := g.Stat(full[:i]); err == nil && at.IsDir() {
			continue
		}
		if err := g.Mkdir(full[:i], perm); err != nil {
			if at, again := g.Stat(full[:i]); again == nil && at.IsDir() {
				continue // somebody else made it
			}
			return err
		}
	}
	return nil
}

// Remove removes a file or a symlink.
func (g *Guard) Remove(name string) error {
	return g.do(policy.OpDelete, name, still, func(_ *policy.Effective, at string) error { return g.view.RemoveFile(at) })
}

// Rmdir removes an empty directory.
func (g *Guard) Rmdir(name string) error {
	return g.do(policy.OpDelete, name, still, func(_ *policy.Effective, at string) error { return g.view.Rmdir(at) })
}

// Rename moves a file or a directory; a file or an empty directory at the new name is replaced.
func (g *Guard) Rename(from, to string) error {
	return g.rename(from, to, func(p *policy.Effective, from, to string) error {
		if d := policy.Permit(p, policy.OpOverwrite, clean(to)); d != nil {
			err := g.view.RenameNew(from, to) // without the right to replace, and nobody can slip a file in between
			if errors.Is(err, fs.ErrExist) {
				return g.s.denied(d, policy.OpOverwrite, clean(to))
			}
			return err
		}
		return g.view.Rename(from, to)
	})
}

// RenameNew is Rename that replaces nothing: fs.ErrExist.
func (g *Guard) RenameNew(from, to string) error {
	return g.rename(from, to, func(_ *policy.Effective, from, to string) error { return g.view.RenameNew(from, to) })
}

func (g *Guard) rename(from, to string, fn func(p *policy.Effective, from, to string) error) error {
	return g.move(policy.OpRename, from, func(p *policy.Effective, from string) error {
		at, err := g.resolve(p, policy.OpRename, to, still)
		if err != nil {
			return err
		}
		// Everything that moves along, and everything below the new name, needs the right.
		for _, end := range []string{clean(from), at} {
			if d := policy.PermitTree(p, policy.OpRename, end); d != nil {
				return g.s.denied(d, policy.OpRename, end)
			}
		}
		if i, err := g.view.Lstat(from); err == nil && !i.IsDir() {
			if d := policy.PermitName(p, at); d != nil {
				return g.s.denied(d, policy.OpRename, at)
			}
		}
		if p.Uniform() {
			at = to
		}
		return fn(p, from, at)
	})
}

// Symlink makes link point to target, which may be any text: rights are asked where a path leads, when it is used.
func (g *Guard) Symlink(target, link string) error {
	return g.move(policy.OpSymlink, link, func(_ *policy.Effective, at string) error { return g.view.Symlink(target, at) })
}

// Readlink returns the text of a symlink.
func (g *Guard) Readlink(name string) (target string, err error) {
	if h, err := g.past(name); h != nil || err != nil {
		return pastly(h, err, func() (string, error) { return h.readlink() })
	}
	err = g.do(policy.OpStat, name, still, func(_ *policy.Effective, at string) (err error) {
		target, err = g.view.Readlink(at)
		return err
	})
	return target, err
}

// Resolve returns the canonical path; the last component need not exist.
func (g *Guard) Resolve(name string) (string, error) {
	if h, err := g.past(name); h != nil || err != nil {
		return pastly(h, err, func() (string, error) { return h.canonical() })
	}
	p, err := g.begin()
	if err != nil {
		return "", err
	}
	at, err := g.view.Resolve(name, true)
	seen := at
	if err != nil {
		seen = g.reached(name)
	}
	if d := policy.Permit(p, policy.OpStat, seen); d != nil {
		return "", g.s.denied(d, policy.OpStat, seen)
	}
	return at, err
}

// SetAttr follows symlinks; a change of size needs the right to overwrite.
func (g *Guard) SetAttr(name string, a vfs.AttrChange) error {
	return g.setAttr(name, follow, a, g.view.SetAttr)
}

// LsetAttr does not follow a final symlink.
func (g *Guard) LsetAttr(name string, a vfs.AttrChange) error {
	return g.setAttr(name, still, a, g.view.LsetAttr)
}

func (g *Guard) setAttr(name string, how shift, a vfs.AttrChange, set func(string, vfs.AttrChange) error) error {
	op := policy.OpSetAttr
	if a.Size != nil {
		op = policy.OpOverwrite
	}
	return g.do(op, name, how, func(p *policy.Effective, at string) error {
		if a.Size != nil {
			if d := tooLarge(p, *a.Size); d != nil {
				return g.s.denied(d, op, clean(at))
			}
		}
		return set(at, a)
	})
}

// tooLarge is upload.max_size.
func tooLarge(p *policy.Effective, size int64) *policy.Denial {
	if p.Upload.MaxSize == 0 || size <= p.Upload.MaxSize {
		return nil
	}
	return p.Deny(policy.CodeMaxSize, "upload.max_size")
}
