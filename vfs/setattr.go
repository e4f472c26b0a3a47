package vfs

import (
	"errors"
	"io/fs"

	"sallyport/vfs/extent"
	"sallyport/vfs/meta"
)

// setAttr makes a version of n with other attributes and the same content. No version if nothing differs.
func setAttr(tx *meta.Tx, n *meta.Node, writer string, a attrs) error {
	at := n.Attr
	a.over(&at)
	if at == n.Attr {
		return nil
	}
	v := &meta.Version{Inode: n.ID, Writer: writer, Attr: at}
	if n.Kind == meta.File {
		old, err := tx.Version(n.ID, n.Version)
		if err != nil {
			return err
		}
		v.Layout = old.Layout
	}
	return tx.AddVersion(n, v)
}

// lookupExact is the inode of exactly that name; 0 if there is none.
func lookupExact(tx *meta.Tx, s slot) (meta.Inode, error) {
	e, err := tx.Lookup(s.dir, s.name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return 0, nil
	case err != nil:
		return 0, err
	case e.Name != s.name:
		return 0, nil
	}
	return e.Inode, nil
}

// layoutOf is where the current content of a file lies.
func layoutOf(tx *meta.Tx, n *meta.Node) (*extent.Layout, error) {
	v, err := tx.Version(n.ID, n.Version)
	if err != nil {
		return nil, err
	}
	return &v.Layout, nil
}
