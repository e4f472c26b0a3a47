package vfs

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"

	"sallyport/vfs/meta"
)

// RemoveAll removes what is at name and below it; symlinks are removed, not followed. No error if nothing is there. It is
// not one transaction: what it could not remove stays, and the first error tells.
func (w *View) RemoveAll(name string) error { return w.RemoveAllJudged(name, nil, nil) }

// RemoveAllJudged is RemoveAll for somebody whose rights are asked by path. Before each transaction enter is called, and what it returns
// after it; judge is asked in between, with the paths that what goes has now: directories may have been renamed since it began. An error
// of it ends the removal and is returned as it is.
func (w *View) RemoveAllJudged(name string, enter func() (leave func()), judge func(paths []string) error) error {
	r := &remover{w: w, enter: enter, judge: judge}
	err := w.change("remove", name, func(ctx context.Context, c *core) error {
		p, err := w.at(c, name, false)
		switch {
		case errors.Is(err, fs.ErrNotExist) || err == nil && !p.exists():
			return nil
		case err != nil:
			return err
		}
		if p.kind() == meta.Dir {
			if err := r.clear(ctx, c, &p); err != nil {
				return err
			}
			if p.root() {
				return nil
			}
		}
		if p.node == nil {
			return r.giveUp(ctx, c, p.own, &p)
		}
		return r.step(c, []place{p}, func() error { return absentIsFine(w.unlink(ctx, c, &p)) })
	})
	if r.theirs != nil {
		return r.theirs
	}
	return err
}

// remover removes a tree.
type remover struct {
	w      *View
	enter  func() (leave func())
	judge  func(paths []string) error
	theirs error // of judge
}

// step does one transaction that removes names of one directory.
func (r *remover) step(c *core, names []place, do func() error) error {
	if r.judge == nil {
		return do()
	}
	defer r.enter()()
	var dir string
	err := c.db.View(func(tx *meta.Tx) (err error) {
		dir, err = (&pathfinder{tx: tx}).dir(names[0].dir)
		return err
	})
	if err != nil {
		return err
	}
	paths := make([]string, len(names))
	for i := range names {
		paths[i] = strings.TrimSuffix(dir, "/") + "/" + names[i].name
	}
	if r.theirs = r.judge(paths); r.theirs != nil {
		return r.theirs
	}
	return do()
}

// giveUp removes the session's own new file, whose name is no one else's yet: what came of it goes to history. It becomes visible first, for a
// moment, so it is judged before that: of a removal that is refused, nobody sees half a file.
func (r *remover) giveUp(ctx context.Context, c *core, in *inode, p *place) error {
	return r.step(c, []place{*p}, func() error {
		if err := in.yield(ctx, p); err != nil || p.node == nil {
			return err
		}
		return absentIsFine(r.w.unlink(ctx, c, p))
	})
}

// removeBatch is how many files RemoveAll takes into one transaction.
const removeBatch = 128

// clear removes everything in the directory at p. It goes by inodes, so that a directory that others replace by a symlink
// meanwhile leads nowhere else.
func (r *remover) clear(ctx context.Context, c *core, p *place) error {
	w := r.w
	if err := permit(p.node, mayRead|mayWrite|mayTravel); err != nil {
		return err
	}
	l := w.list(c, p.node.ID)
	for {
		batch, err := l.next()
		if err != nil || len(batch) == 0 {
			return err
		}
		var files []place
		for _, i := range batch {
			child := place{slot: slot{p.node.ID, i.name}, path: join(p.path, i.name), asked: i.name, home: p.node, node: &i.node}
			if i.IsDir() {
				if err := r.clear(ctx, c, &child); err != nil {
					return err
				}
				if err := r.step(c, []place{child}, func() error { return absentIsFine(w.unlink(ctx, c, &child)) }); err != nil {
					return err
				}
				continue
			}
			if i.node.ID == 0 { // the session's own new file
				if in := w.ownNew(child.slot); in != nil {
					child.node = nil
					if err := r.giveUp(ctx, c, in, &child); err != nil {
						return err
					}
				}
				continue
			}
			files = append(files, child)
		}
		for some := range slices.Chunk(files, removeBatch) {
			err := r.step(c, some, func() error {
				return c.update(ctx, func(tx *meta.Tx) error {
					for i := range some {
						if err := absentIsFine(w.unlinkTx(tx, &some[i])); err != nil {
							return err
						}
					}
					return nil
				})
			})
			if err != nil {
				return err
			}
		}
	}
}
