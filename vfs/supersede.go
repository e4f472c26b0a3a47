package vfs

import (
	"errors"
	"io/fs"

	"sallyport/vfs/meta"
)

// Superseding is a file that is current and is about to become history.
type Superseding struct {
	Path      string
	Bytes     uint64 // of the file; of one that is opened to append, and of a commit: those that history has more then, mostly none
	History   uint64 // bytes that history has then
	Overwrite bool   // it is opened for writing; otherwise it is removed, or replaced by a rename
}

// maySupersede asks before it happens.
func (w *View) maySupersede(tx *meta.Tx, path string, n *meta.Node, overwrite bool) error {
	if w.o.Supersede == nil || n.Kind != meta.File {
		return nil
	}
	history, err := tx.HistoryAfter(n)
	if err != nil {
		return err
	}
	return w.supersede(Superseding{Path: path, Bytes: n.Size, History: history, Overwrite: overwrite})
}

// mayOpenOver is maySupersede for an opening to write. Who can only append keeps what is there.
func (w *View) mayOpenOver(tx *meta.Tx, path string, n *meta.Node, h how) error {
	if w.o.Supersede == nil || !h.append || h.trunc || n.Kind != meta.File {
		return w.maySupersede(tx, path, n, true)
	}
	history, more, err := tx.HistoryAfterAppend(n)
	if err != nil {
		return err
	}
	return w.supersede(Superseding{Path: path, Bytes: more, History: history, Overwrite: true})
}

// mayShorten is maySupersede for what shortens an open file: a handle that was opened to append can do that, too.
func (in *inode) mayShorten(size int64) error {
	in.mu.Lock()
	id, path, committed := in.id, in.path, in.base.layout.Size
	in.mu.Unlock()
	if in.view.o.Supersede == nil || id == 0 || uint64(size) >= committed {
		return nil
	}
	return in.c.db.View(func(tx *meta.Tx) error {
		n, err := tx.Node(id)
		if errors.Is(err, fs.ErrNotExist) || err == nil && n.Parent == 0 {
			return nil // it is history, or not even that, already
		}
		if err != nil {
			return err
		}
		return in.view.maySupersede(tx, path, n, true)
	})
}

// asks tells whether a commit may make more history than was asked for when the file was opened: somebody else, or an earlier commit of this
// session, has made another version since, the name is gone, or the bytes are not whole and become history at once. n is as it was before.
func (p *publication) asks(n *meta.Node) bool {
	return p.in.view.o.Supersede != nil && n.Version != 0 && (n.Version != p.asked || n.Parent == 0 || p.state == meta.Interrupted)
}

// mayGrow is maySupersede for a commit that has been made in this transaction: by what history has grown with it.
func (w *View) mayGrow(tx *meta.Tx, path string, before uint64) error {
	after := tx.Stats().HistoryBytes
	if after <= before {
		return nil
	}
	return w.supersede(Superseding{Path: path, Bytes: after - before, History: after, Overwrite: true})
}

func (w *View) supersede(s Superseding) error {
	if err := w.o.Supersede(s); err != nil {
		return &quotaError{err}
	}
	return nil
}
