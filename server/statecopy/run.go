package statecopy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"sallyport/vfs/blob"
)

// Todo is an account that has to be copied.
type Todo struct {
	ID AccountID
	// Same: the server has what the manifest given to Have names, so a target that has it, too, needs nothing.
	Same bool
}

// Note tells the server what became of an account at the target.
type Note struct {
	Account AccountID
	// Kept: it was Same, and the target has all of it.
	Kept bool
	// Retained is what the target keeps of it, if it is damaged.
	Retained Retained
	// What is damaged of it and could not be copied; "" = nothing.
	What string
}

// Source hands out a state (package copier, over the admin socket).
type Source interface {
	// Have gives the source the manifest of the copy in force at the target, whose place this one is to take. ErrOther if that would
	// destroy the copy of something else.
	Have(ctx context.Context, manifest io.Reader) error
	// Next returns accounts that have to be copied, again or at last; none = everything fits, and File gives the rest.
	Next(ctx context.Context) ([]Todo, error)
	// Account begins an account, whose database and list of blobs fn reads to their ends. ErrGone if it was destroyed, or has to be
	// asked for once more after Next; ErrAtSource if it is damaged, which the source has noted.
	Account(ctx context.Context, id AccountID, fn func(version uint32, treeSize int64, tree io.Reader, listSize int64, list io.Reader) error) error
	// Blobs hands out blobs of the account that was begun last. One that is gone has size -1. One that cannot be read is
	// ErrAtSource, from r, and the others come all the same.
	Blobs(ctx context.Context, account AccountID, ids []blob.ID, fn func(id blob.ID, size int64, r io.Reader) error) error
	// Check authenticates segments that were read back; ErrDamaged, or ErrPurged if nobody can tell any more.
	Check(ctx context.Context, account AccountID, id blob.ID, header, sealed []byte, first uint64, final bool) error
	// Note tells what became of accounts.
	Note(ctx context.Context, notes []Note) error
	// File gives a file that belongs to no account, or ManifestName.
	File(ctx context.Context, name string, fn func(size int64, r io.Reader) error) error
}

// ErrPurged: a blob was purged since it was copied, so nobody can tell whether its copy is right.
var ErrPurged = errors.New("purged since it was copied")

// ManifestName is what Source.File calls the manifest.
const ManifestName = manifestName

// Target is where a copy goes: a Dir, or a Stream.
type Target interface {
	// Begin begins a copy; replace: what is there is of something else, and stays untouched until Commit.
	Begin(replace bool) error
	Have() (io.ReadCloser, error)
	Drop(AccountID) error
	Keep(ctx context.Context, id AccountID, deep bool, blob func(Blob) error) (bool, error)
	Retain(ctx context.Context, id AccountID, broken bool) (Retained, error)
	File(ctx context.Context, name string, size int64, r io.Reader) error
	HasFile(context.Context, Entry) bool
	HasBlob(AccountID, Blob) bool
	Blob(ctx context.Context, account AccountID, b Blob, size int64, r io.Reader) error
	Settle() error
	Sync() error
	Verify(context.Context, Entry) error
	Commit(ctx context.Context, m *Manifest, text io.ReadSeeker) error
}

// Done is what Run did.
type Done struct {
	Head
	Copied  uint64 `json:"copied"`       // blobs
	Written uint64 `json:"written"`      // bytes of blobs
	Had     uint64 `json:"had"`          // blobs that were there
	Same    uint64 `json:"same"`         // accounts that had not changed and were there
	Checked uint64 `json:"checked"`      // blobs that were read back and authenticated
	Purged  uint64 `json:"not_checked"`  // blobs that nobody could check, because they were purged meanwhile
	Mended  uint64 `json:"mended"`       // blobs that were damaged in the copy, and were copied anew
	Rounds  int    `json:"rounds"`       // how often something had to be copied again, keys having been rotated, and once
	Audit   uint64 `json:"audit_record"` // of its completion
	// Damage is what could not be copied, because the server has it no more as it was written.
	Damage []Damage `json:"-"`
}

// Options of Run.
type Options struct {
	Deep bool // read back and authenticate every byte of every blob, and not only the ends of those that are new
	// Replace puts the copy in the place of one that is of another server or state (ErrOther); nothing of that is used but blobs that are the
	// same, and to know that it is Deep.
	Replace bool
	// Progress is told of every account that is whole.
	Progress func(account AccountID, d *Done)
}

// Run makes a copy, verifies it, and puts it in force. What is damaged at the source is left out, and no error: see Done.Damage.
func Run(ctx context.Context, from Source, to Target, o Options) (*Done, error) {
	o.Deep = o.Deep || o.Replace
	r := &runner{from: from, to: to, o: o, done: &Done{}, same: map[AccountID]bool{}}
	err := to.Begin(o.Replace)
	if err == nil && !o.Replace {
		err = r.have(ctx)
	}
	for err == nil {
		var list []Todo
		if list, err = from.Next(ctx); err != nil {
			break
		}
		r.done.Rounds++
		if len(list) == 0 {
			return r.done, r.finish(ctx)
		}
		err = r.round(ctx, list)
	}
	return r.done, err
}

type runner struct {
	from Source
	to   Target
	o    Options
	done *Done
	same map[AccountID]bool // taken over from the copy before
}

// have tells the source what is there.
func (r *runner) have(ctx context.Context) error {
	f, err := r.to.Have()
	if err != nil || f == nil {
		return err
	}
	defer f.Close()
	return r.from.Have(ctx, f)
}

// mostNotes bounds what is told the source at a time.
const mostNotes = 1000

func (r *runner) round(ctx context.Context, list []Todo) error {
	var notes []Note
	for i, x := range list {
		n, err := r.one(ctx, x)
		if err != nil {
			return err
		}
		notes = append(notes, n...)
		if last := i == len(list)-1; len(notes) >= mostNotes || last && len(notes) > 0 {
			if err := r.from.Note(ctx, notes); err != nil {
				return err
			}
			notes = notes[:0]
		}
		if r.o.Progress != nil {
			r.o.Progress(x.ID, r.done)
		}
	}
	return nil
}

// one copies an account, or takes it over.
func (r *runner) one(ctx context.Context, x Todo) ([]Note, error) {
	delete(r.same, x.ID)
	if err := r.to.Drop(x.ID); err != nil {
		return nil, err
	}
	if x.Same {
		ok, err := r.keep(ctx, x.ID)
		if err != nil {
			return nil, err
		}
		if ok {
			r.same[x.ID] = true
			r.done.Same++
			return []Note{{Account: x.ID, Kept: true}}, nil
		}
	}
	notes, err := r.account(ctx, x.ID)
	broken := errors.Is(err, ErrAtSource)
	switch {
	case errors.Is(err, ErrGone):
		return nil, r.to.Drop(x.ID)
	case broken:
		err = r.to.Drop(x.ID)
		notes = []Note{{Account: x.ID}}
	}
	if err != nil || len(notes) == 0 {
		return nil, err
	}
	notes[0].Retained, err = r.to.Retain(ctx, x.ID, broken)
	return notes, err
}

func (r *runner) keep(ctx context.Context, id AccountID) (bool, error) {
	had := r.done.Had
	ok, err := r.to.Keep(ctx, id, r.o.Deep, func(b Blob) error {
		r.done.Had++
		if !r.o.Deep {
			return nil
		}
		return r.check(ctx, id, b)
	})
	if !ok {
		r.done.Had = had
	}
	return ok, err
}

// account copies one, its database before its blobs. The notes are of what is damaged.
func (r *runner) account(ctx context.Context, id AccountID) ([]Note, error) {
	list, err := os.CreateTemp("", "sallyport-list-")
	if err != nil {
		return nil, err
	}
	defer list.Close()
	if err := os.Remove(list.Name()); err != nil {
		return nil, err
	}
	err = r.from.Account(ctx, id, func(version uint32, treeSize int64, tree io.Reader, listSize int64, blobs io.Reader) error {
		if err := r.to.File(ctx, TreeFile(id, version), treeSize, tree); err != nil {
			return err
		}
		return r.to.File(ctx, ListFile(id), listSize, io.TeeReader(blobs, list))
	})
	if err != nil {
		return nil, err
	}
	b := &blobs{runner: r, account: id}
	if err := b.copy(ctx, list); err != nil {
		return nil, err
	}
	return b.damaged, r.to.Settle()
}

// finish takes what belongs to no account, reads back what was written but the blobs, and puts the copy in force.
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
	read := func() *io.SectionReader { return io.NewSectionReader(text, 0, size) }
	m, err := ReadManifest(read(), func(e Entry) error {
		if ofAccount(e.Name) || r.to.HasFile(ctx, e) {
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
		err = errors.Join(r.to.Settle(), r.to.Sync())
	}
	if err != nil {
		return err
	}
	_, err = ReadManifest(read(), func(e Entry) error {
		if id, ok := accountOf(e.Name); ok && r.same[id] {
			return nil // Keep has compared it
		}
		return r.to.Verify(ctx, e)
	})
	if err != nil {
		return fmt.Errorf("reading the copy back: %w", err)
	}
	r.done.Head, r.done.Damage = m.Head, m.Damage
	return r.to.Commit(ctx, m, read())
}

func ofAccount(name string) bool {
	_, whole := accountOf(name)
	_, kept := keptOf(name)
	return whole || kept
}

var (
	_ Target = (*Dir)(nil)
	_ Target = (*Stream)(nil)
)
