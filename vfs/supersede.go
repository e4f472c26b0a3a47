package vfs

import "sallyport/vfs/meta"

// Superseding is a file that is current and is about to become history.
type Superseding struct {
	Path      string
	Bytes     uint64 // of the file
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
	if err := w.o.Supersede(Superseding{Path: path, Bytes: n.Size, History: history, Overwrite: overwrite}); err != nil {
		return &quotaError{err}
	}
	return nil
}
