package statecopy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"sallyport/vfs/blob"
)

// Source hands out a state (package copier, over the admin socket).
type Source interface {
	// Next returns accounts that have to be copied, again or at last; none = everything fits, and File gives the rest.
	Next(ctx context.Context) ([]AccountID, error)
	// Account begins an account, whose database and list of blobs fn reads to their ends. ErrGone if it was destroyed.
	Account(ctx context.Context, id AccountID, fn func(version uint32, treeSize int64, tree io.Reader, listSize int64, list io.Reader) error) error
	// Blobs hands out blobs of the account that was begun last. One that is gone has size -1.
	Blobs(ctx context.Context, account AccountID, ids []blob.ID, fn func(id blob.ID, size int64, r io.Reader) error) error
	// Check authenticates segments that were read back; ErrDamaged, or ErrPurged if nobody can tell any more.
	Check(ctx context.Context, account AccountID, id blob.ID, header, sealed []byte, first uint64, final bool) error
	// File gives a file that belongs to no account, or ManifestName.
	File(ctx context.Context, name string, fn func(size int64, r io.Reader) error) error
}

// ErrPurged: a blob was purged since it was copied, so nobody can tell whether its copy is right.
var ErrPurged = errors.New("purged since it was copied")

// ManifestName is what Source.File calls the manifest.
const ManifestName = manifestName

// Target is where a copy goes: a Dir, or a Stream.
type Target interface {
	Begin() error
	Drop(AccountID) error
	File(ctx context.Context, name string, size int64, r io.Reader) error
	HasFile(context.Context, Entry) bool
	HasBlob(AccountID, Blob) bool
	Blob(ctx context.Context, account AccountID, b Blob, size int64, r io.Reader) error
	Settle() error
	Verify(context.Context, Entry) error
	Commit(ctx context.Context, m *Manifest, text io.Reader) error
}

// Done is what Run did.
type Done struct {
	Head
	Copied  uint64 `json:"copied"`       // blobs
	Written uint64 `json:"written"`      // bytes of blobs
	Had     uint64 `json:"had"`          // blobs that were there
	Checked uint64 `json:"checked"`      // blobs that were read back and authenticated
	Purged  uint64 `json:"not_checked"`  // blobs that nobody could check, because they were purged meanwhile
	Rounds  int    `json:"rounds"`       // how often something had to be copied again, keys having been rotated, and once
	Audit   uint64 `json:"audit_record"` // of its completion
}

// Options of Run.
type Options struct {
	Deep bool // read back and authenticate every byte of every blob, and not only the ends of those that are new
	// Progress is told of every account that is whole.
	Progress func(account AccountID, d *Done)
}

const (
	batchBlobs = 64
	batchBytes = 8 << 20 // an average batch, so that one request does not last for hours
)

// Run makes a copy, verifies it, and puts it in force.
func Run(ctx context.Context, from Source, to Target, o Options) (*Done, error) {
	r := &runner{from: from, to: to, o: o, done: &Done{}}
	if err := to.Begin(); err != nil {
		return r.done, err
	}
	for {
		list, err := from.Next(ctx)
		if err != nil {
			return r.done, err
		}
		r.done.Rounds++
		if len(list) == 0 {
			return r.done, r.finish(ctx)
		}
		for _, id := range list {
			if err := r.account(ctx, id); err != nil {
				return r.done, err
			}
			if o.Progress != nil {
				o.Progress(id, r.done)
			}
		}
	}
}

type runner struct {
	from Source
	to   Target
	o    Options
	done *Done
}

// account copies one, its database before its blobs.
func (r *runner) account(ctx context.Context, id AccountID) error {
	if err := r.to.Drop(id); err != nil {
		return err
	}
	list, err := os.CreateTemp("", "sallyport-list-")
	if err != nil {
		return err
	}
	defer list.Close()
	if err := os.Remove(list.Name()); err != nil {
		return err
	}
	err = r.from.Account(ctx, id, func(version uint32, treeSize int64, tree io.Reader, listSize int64, blobs io.Reader) error {
		if err := r.to.File(ctx, TreeFile(id, version), treeSize, tree); err != nil {
			return err
		}
		return r.to.File(ctx, ListFile(id), listSize, io.TeeReader(blobs, list))
	})
	if errors.Is(err, ErrGone) {
		return r.to.Drop(id)
	}
	if err == nil {
		err = r.blobs(ctx, id, list)
	}
	if errors.Is(err, ErrGone) {
		return r.to.Drop(id)
	}
	if err != nil {
		return err
	}
	return r.to.Settle()
}

// blobs copies those that are not there.
func (r *runner) blobs(ctx context.Context, id AccountID, list *os.File) error {
	var batch []Blob
	size := int64(0)
	flush := func() error {
		some := batch
		batch, size = nil, 0
		if len(some) == 0 {
			return nil
		}
		return r.fetch(ctx, id, some)
	}
	if _, err := list.Seek(0, io.SeekStart); err != nil {
		return err
	}
	err := ReadList(list, func(b Blob) error {
		if r.to.HasBlob(id, b) {
			r.done.Had++
			if r.o.Deep {
				return r.check(ctx, id, b)
			}
			return nil
		}
		batch, size = append(batch, b), size+b.Size
		if len(batch) < batchBlobs && size < batchBytes {
			return nil
		}
		return flush()
	})
	if err != nil {
		return err
	}
	return flush()
}

func (r *runner) fetch(ctx context.Context, account AccountID, batch []Blob) error {
	ids := make([]blob.ID, len(batch))
	for i := range batch {
		ids[i] = batch[i].ID
	}
	at := 0
	err := r.from.Blobs(ctx, account, ids, func(id blob.ID, size int64, body io.Reader) error {
		if at == len(batch) || batch[at].ID != id {
			return damaged("the server gave another blob than it was asked for")
		}
		b := batch[at]
		at++
		switch {
		case size < 0 && b.Open && b.Size == 0:
			return nil
		case size < b.Size || !b.Open && size != b.Size:
			return damaged("blob %s of account %x has %d bytes on the server, and not %d: `sallyport vfs verify` says more", id, account[:], size, b.Size)
		}
		r.done.Copied++
		r.done.Written += uint64(size)
		return r.to.Blob(ctx, account, b, size, body)
	})
	if err == nil && at != len(batch) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return err
	}
	for _, b := range batch {
		if err := r.check(ctx, account, b); err != nil {
			return err
		}
	}
	return nil
}

// The parts of a blob's file (docs/FORMAT.md "Blob file").
const (
	headerBytes  = 128
	segmentBytes = 65_568
	checkBytes   = 64 * segmentBytes // of one Check
)

// check reads a sealed blob back and has it authenticated: its end, or all of it.
func (r *runner) check(ctx context.Context, account AccountID, b Blob) error {
	d, ok := r.to.(*Dir)
	if !ok || b.Open { // a stream cannot be read back; what an open blob ends with, its next opening finds out
		return nil
	}
	f, err := os.Open(d.blob(account, b))
	if err != nil {
		return err
	}
	defer f.Close()
	header := make([]byte, headerBytes)
	if _, err := io.ReadFull(f, header); err != nil {
		return damaged("blob %s of account %x cannot be read back: %v", b.ID, account[:], err)
	}
	last := (b.Size - headerBytes) / segmentBytes
	first := last
	if r.o.Deep {
		first = 0
	}
	if _, err := f.Seek(headerBytes+first*segmentBytes, io.SeekStart); err != nil {
		return err
	}
	for buf := make([]byte, min(checkBytes, b.Size-headerBytes-first*segmentBytes)); first <= last; {
		n, err := io.ReadFull(f, buf)
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return damaged("blob %s of account %x cannot be read back: %v", b.ID, account[:], err)
		}
		segments := int64(n+segmentBytes-1) / segmentBytes
		err = r.from.Check(ctx, account, b.ID, header, buf[:n], uint64(first), first+segments > last)
		if errors.Is(err, ErrPurged) {
			r.done.Purged++
			return nil
		}
		if err != nil {
			return err
		}
		first += segments
	}
	r.done.Checked++
	return nil
}

// finish takes what belongs to no account, reads everything back but the blobs, and puts the copy in force.
func (r *runner) finish(ctx context.Context) error {
	text, err := os.CreateTemp("", "sallyport-manifest-")
	if err != nil {
		return err
	}
	defer text.Close()
	if err := os.Remove(text.Name()); err != nil {
		return err
	}
	size := int64(0)
	err = r.from.File(ctx, ManifestName, func(n int64, body io.Reader) error {
		size, err = io.Copy(text, body)
		if err == nil && size != n {
			err = io.ErrUnexpectedEOF
		}
		return err
	})
	if err != nil {
		return err
	}
	read := func() io.Reader { return io.NewSectionReader(text, 0, size) }
	m, err := ReadManifest(read(), func(e Entry) error {
		if _, ok := accountOf(e.Name); ok || r.to.HasFile(ctx, e) {
			return nil
		}
		return r.from.File(ctx, e.Name, func(n int64, body io.Reader) error {
			if n != e.Size {
				return damaged("%s came with %d bytes and not %d", e.Name, n, e.Size)
			}
			return r.to.File(ctx, e.Name, n, body)
		})
	})
	if err == nil {
		err = r.to.Settle()
	}
	if err != nil {
		return err
	}
	if _, err := ReadManifest(read(), func(e Entry) error { return r.to.Verify(ctx, e) }); err != nil {
		return fmt.Errorf("reading the copy back: %w", err)
	}
	r.done.Head = m.Head
	return r.to.Commit(ctx, m, read())
}

var (
	_ Target = (*Dir)(nil)
	_ Target = (*Stream)(nil)
)
