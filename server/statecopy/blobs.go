package statecopy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"sallyport/vfs/blob"
)

const (
	batchBlobs = 64
	batchBytes = 8 << 20 // an average batch, so that one request does not last for hours
)

// maxNotedBlobs bounds what is told of one account: a disk can lose thousands of blobs at once.
const maxNotedBlobs = 100

// blobs copies those of one account that are not there.
type blobs struct {
	*runner
	account AccountID

	batch   []Blob
	size    int64
	damaged []Note
	more    int // beyond maxNotedBlobs
}

func (r *blobs) copy(ctx context.Context, list *os.File) error {
	if _, err := list.Seek(0, io.SeekStart); err != nil {
		return err
	}
	err := ReadList(list, func(b Blob) error {
		if r.to.HasBlob(r.account, b) {
			r.done.Had++
			if !r.o.Deep {
				return nil
			}
			err := r.check(ctx, r.account, b)
			if !errors.Is(err, ErrDamaged) {
				return err
			}
			r.done.Had-- // the disk of the copy lost it: it is copied anew
			r.done.Mended++
		}
		r.batch, r.size = append(r.batch, b), r.size+b.Size
		if len(r.batch) < batchBlobs && r.size < batchBytes {
			return nil
		}
		return r.fetch(ctx)
	})
	if err == nil {
		err = r.fetch(ctx)
	}
	if err == nil && r.more > 0 {
		r.damaged = append(r.damaged, Note{Account: r.account, What: fmt.Sprintf("and %d more blobs", r.more)})
	}
	return err
}

// lost notes a blob that the source has no more. What the copy has of it goes: it is not what was written either.
func (r *blobs) lost(ctx context.Context, b Blob, format string, args ...any) error {
	if len(r.damaged) >= maxNotedBlobs {
		r.more++
	} else {
		r.damaged = append(r.damaged, Note{Account: r.account, What: fmt.Sprintf("blob %s ", b.ID) + fmt.Sprintf(format, args...)})
	}
	if d, ok := r.to.(*Dir); ok {
		return d.dropBlob(r.account, b)
	}
	return ctx.Err()
}

// fetch copies a batch.
func (r *blobs) fetch(ctx context.Context) error {
	batch := r.batch
	r.batch, r.size = nil, 0
	if len(batch) == 0 {
		return nil
	}
	ids := make([]blob.ID, len(batch))
	for i := range batch {
		ids[i] = batch[i].ID
	}
	at := 0
	var came []Blob
	err := r.from.Blobs(ctx, r.account, ids, func(id blob.ID, size int64, body io.Reader) error {
		if at == len(batch) || batch[at].ID != id {
			return damaged("the server gave another blob than it was asked for")
		}
		b := batch[at]
		at++
		ok, err := r.take(ctx, b, size, body)
		if ok {
			came = append(came, b)
		}
		return err
	})
	if err == nil && at != len(batch) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return err
	}
	for _, b := range came {
		err := r.check(ctx, r.account, b)
		if errors.Is(err, ErrDamaged) {
			r.done.Copied--
			err = r.lost(ctx, b, "does not authenticate: %v", err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// take takes one blob; ok is false if the source has it no more.
func (r *blobs) take(ctx context.Context, b Blob, size int64, body io.Reader) (ok bool, err error) {
	switch {
	case size < 0 && b.Open && b.Size == 0:
		return false, nil
	case size < 0:
		return false, r.lost(ctx, b, "is missing")
	case size < b.Size || !b.Open && size != b.Size:
		if _, err := io.Copy(io.Discard, body); err != nil && !errors.Is(err, ErrAtSource) {
			return false, err
		}
		return false, r.lost(ctx, b, "has %d bytes and not %d", size, b.Size)
	}
	err = r.to.Blob(ctx, r.account, b, size, body)
	if errors.Is(err, ErrAtSource) {
		return false, r.lost(ctx, b, "cannot be read: %v", err)
	}
	if err == nil {
		r.done.Copied++
		r.done.Written += uint64(size)
	}
	return err == nil, err
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
	f, _, err := d.openPart(d.blob(account, b))
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
