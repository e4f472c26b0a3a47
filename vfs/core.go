package vfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"

	"sallyport/vfs/blob"
	"sallyport/vfs/blob/blobdir"
	"sallyport/vfs/content"
	"sallyport/vfs/meta"
)

// core is an opened volume: what is common to all sessions of the account.
type core struct {
	vol     *Volume
	db      *meta.DB
	blobs   blob.Store
	files   io.Closer      // what blobs lie in
	content *content.Store // over blobs; shared by all sessions for its buffers
	claims  *claims
	pins    *pins
	spares  spares
	holds   holds
	updates atomic.Uint64 // transactions that were asked for
	moves   atomic.Uint64 // grows before and after each transaction of housekeeping

	usages *meta.Usages // of a purge that goes on; the housekeeper's

	failed  atomic.Bool   // a commit failed: no writes until reopened
	damaged atomic.Uint64 // reads and opens that met ErrIntegrity
	handles atomic.Int64
	drafts  atomic.Int64
	// What uploads in progress will add to the live bytes and files when they commit; the quota counts it.
	pendingBytes, pendingFiles atomic.Int64
}

// openCore opens and verifies the volume and finishes what a crash left half done.
func openCore(ctx context.Context, v *Volume) (*core, error) {
	if err := v.fs.o.Keyring.Settle(); err != nil { // else a start after a crash might open another database than this one
		return nil, openError(v, err)
	}
	keys, err := v.fs.o.Keyring.Account(v.id)
	if err != nil {
		return nil, openError(v, err)
	}
	dir := v.fs.dir(v.id)
	files, err := blobdir.Open(filepath.Join(dir, "blobs"))
	if err != nil {
		return nil, openError(v, err)
	}
	store := blob.Store(files)
	if wrap := v.fs.o.testOnlyBlobs; wrap != nil {
		store = wrap(store)
	}
	tree := filepath.Join(dir, treeName(keys.Version()))
	_ = os.Remove(tree + unfinished) // of a repair that a crash cut off; that there is none is the rule
	db, err := meta.Open(ctx, tree, keys, meta.Options{Now: v.fs.o.Now})
	if err != nil {
		return nil, errors.Join(openError(v, err), files.Close())
	}
	c := &core{vol: v, db: db, blobs: store, files: files, claims: newClaims(), pins: newPins()}
	c.content = &content.Store{Blobs: store, Keys: blobKeys{c}, Account: v.id, Budget: v.fs.budget}
	if err := c.recover(ctx); err != nil {
		return nil, errors.Join(openError(v, err), c.close())
	}
	return c, nil
}

// openError is for the operator, who finds the volume by its id; the client gets what it wraps.
func openError(v *Volume, err error) error {
	cause := strings.ReplaceAll(err.Error(), v.fs.o.Dir+string(filepath.Separator), "")
	refused := func(why string, pub error) error {
		return &volumeError{text: fmt.Sprintf("volume %s %s (%s)", v.id, why, cause), err: pub}
	}
	switch pub := public(err); {
	case errors.Is(err, errors.ErrUnsupported):
		return refused("was written by a newer program: use that one, or restore the directory from a copy of before", pub)
	case errors.Is(err, fs.ErrNotExist):
		return refused("is missing or incomplete", fs.ErrNotExist)
	case errors.Is(pub, ErrIntegrity):
		return refused("is damaged and refused: `sallyport vfs verify --account NAME --repair` says what can be saved, or restore its directory from a copy", ErrIntegrity)
	case errors.Is(pub, ErrBusy):
		return refused("is in use by another server on this state directory", ErrBusy)
	default:
		return refused("cannot be opened", pub)
	}
}

func (c *core) close() error {
	return errors.Join(c.dropSpares(), c.db.Close(), c.files.Close())
}

// update is meta.Update that remembers a failed commit.
func (c *core) update(ctx context.Context, fn func(*meta.Tx) error) error {
	if c.failed.Load() {
		return ErrReadOnly
	}
	c.updates.Add(1)
	err := c.db.Update(ctx, fn)
	c.vol.changes.Add(1)
	if errors.Is(err, meta.ErrReadOnly) {
		c.failed.Store(true)
	}
	return err
}

// now is the clock of the volume, ns since 1970.
func (c *core) now() int64 { return c.vol.fs.o.Now().UnixNano() }

// blobFailed takes the error of ending a blob. A failed fsync is never retried and nothing more is written before the
// volume was reopened and verified; a full disk or damage elsewhere in the file is the upload's own misfortune.
func (c *core) blobFailed(err error) error {
	switch {
	case err == nil, errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, ErrQuota),
		errors.Is(err, content.ErrIntegrity), errors.Is(err, content.ErrBudget),
		errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
	default:
		c.failed.Store(true)
	}
	return err
}

// ask asks the quota for more bytes and files on top of what is live and pending. What it grants is pending from then on.
func (c *core) ask(bytes, files int64) error {
	b, n := c.pendingBytes.Add(bytes), c.pendingFiles.Add(files)
	fn := c.vol.reserve.Load()
	if fn == nil || bytes <= 0 && files <= 0 {
		return nil
	}
	var st meta.Stats
	if err := c.db.View(func(tx *meta.Tx) error { st = tx.Stats(); return nil }); err != nil {
		c.yield(bytes, files)
		return err
	}
	if err := (*fn)(int64(st.LiveBytes)+b, int64(st.Files)+n, int64(st.HistoryBytes)); err != nil {
		c.yield(bytes, files)
		return &quotaError{err}
	}
	return nil
}

// yield gives back what ask granted: it is live now, or will never be.
func (c *core) yield(bytes, files int64) {
	c.pendingBytes.Add(-bytes)
	c.pendingFiles.Add(-files)
}
