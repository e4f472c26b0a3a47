package vfs

import (
	"context"
	"errors"
	"time"

	"sallyport/vfs/meta"
)

// tidyPage is how many version records are looked at in one view.
const tidyPage = 512

// TidyOptions bound one Tidy. The zero value: no fold, no repack, all that is left over.
type TidyOptions struct {
	Fold      bool          // files in many pieces
	FoldAll   bool          // files in more than one piece, at any cost
	Repack    bool          // blobs of which at least half, and 1 MiB, is dead
	RepackAll bool          // every blob of which anything is dead: before a key is changed in order to erase what was purged
	MaxCopied int64         // bytes that fold and repack copy; then the next Tidy goes on from there; 0 = no limit
	Versions  int           // version records that are looked at; then the next Tidy goes on; 0 = all
	Wait      time.Duration // quarantine; 0 = 1 hour, negative = none
}

// TidyResult counts what a Tidy did.
type TidyResult struct {
	Looked           uint64 // version records
	Folded, Repacked uint64 // files
	Copied           uint64 // bytes, also those for nothing
	Busy             uint64 // files left for another time: somebody is writing them
	Damaged          uint64 // files left as they are, because they cannot be read
	Swept            uint64 // key records that nothing relied on
	Quarantined      uint64 // the same, left until their time is over
	Done             bool   // all of the volume was looked at, from the beginning to the end, by this call and those before
}

// Tidy does the housekeeping that no policy asks for, while the volume is in use: it unlinks what is doomed, gives up key records that
// nothing relies on, and folds and repacks as told. Each step is complete in itself, so a crash or an error
// leaves nothing to repair. One housekeeper of a volume is at work at a time.
func (v *Volume) Tidy(ctx context.Context, o TidyOptions) (*TidyResult, error) {
	unlock, err := v.tidy(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	res := &TidyResult{}
	err = v.do(ctx, func(c *core) error {
		t := tidier{c: c, o: o, res: res}
		for _, step := range []func(context.Context) error{c.giveUpLeft, c.removeDoomed, t.sweep, c.removeOrphans, t.files} {
			if err := step(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	f := v.fs
	f.folded.Add(res.Folded)
	f.repacked.Add(res.Repacked)
	f.swept.Add(res.Swept)
	f.copied.Add(res.Copied)
	return res, public(err)
}

// RepackAll repacks every blob of which anything is dead. Busy or damaged files in the result hold parts of purged data
// under keys that live on: whoever wants to erase it by changing the account's key tries again first.
func (v *Volume) RepackAll(ctx context.Context) (*TidyResult, error) {
	v.forgetPlace()
	return v.Tidy(ctx, TidyOptions{RepackAll: true})
}

func (v *Volume) forgetPlace() {
	v.mu.Lock()
	v.swept = 0
	v.mu.Unlock()
}

type tidier struct {
	c   *core
	o   TidyOptions
	res *TidyResult
}

// files folds and repacks from where the last Tidy stopped.
func (t *tidier) files(ctx context.Context) error {
	if !t.o.Fold && !t.o.FoldAll && !t.o.Repack && !t.o.RepackAll {
		t.res.Done = true
		return nil
	}
	v := t.c.vol
	v.mu.Lock()
	at := v.swept
	v.mu.Unlock()
	for {
		some, next, err := t.look(ctx, at)
		if err != nil {
			return err
		}
		for _, f := range some {
			if err := t.file(ctx, f); err != nil {
				return err
			}
			if at = f.id + 1; t.spent() {
				next = at
				break
			}
		}
		at = next
		v.mu.Lock()
		v.swept = at
		v.mu.Unlock()
		if at == 0 || t.spent() {
			t.res.Done = at == 0
			return ctx.Err()
		}
	}
}

func (t *tidier) spent() bool {
	return t.o.MaxCopied > 0 && t.res.Copied >= uint64(t.o.MaxCopied) || t.o.Versions > 0 && t.res.Looked >= uint64(t.o.Versions)
}

// candidate is a file with blobs.
type candidate struct {
	id   meta.Inode
	fold bool
}

// look finds the next files that have blobs; next is the inode to go on from, 0 at the end.
func (t *tidier) look(ctx context.Context, from meta.Inode) (some []candidate, next meta.Inode, err error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	number := uint64(0)
	for n := tidyPage; n == tidyPage && len(some) < 2; { // a file is known whole when the next one has begun
		n = 0
		err = t.c.db.View(func(tx *meta.Tx) error {
			return tx.VersionsFrom(from, number, func(l meta.Located) bool {
				if len(l.Blobs) > 0 {
					if k := len(some); k == 0 || some[k-1].id != l.Inode {
						some = append(some, candidate{id: l.Inode})
					}
					some[len(some)-1].fold = some[len(some)-1].fold || worthFolding(&l)
				}
				from, number = l.Inode, l.N+1
				n++
				return n < tidyPage
			})
		})
		t.res.Looked += uint64(n)
		if err != nil {
			return nil, 0, err
		}
		if n < tidyPage {
			return some, 0, nil
		}
	}
	if k := len(some); k > 1 && some[k-1].id == from { // it may go on
		some = some[:k-1]
	}
	return some, from, nil
}

// file folds and repacks one.
func (t *tidier) file(ctx context.Context, f candidate) error {
	if t.o.Fold && f.fold || t.o.FoldAll {
		n, done, err := t.c.fold(ctx, f.id, t.o.FoldAll)
		if t.res.Copied += n; done {
			t.res.Folded++
		} else if n > 0 {
			t.res.Busy++
		}
		if err := t.tolerate(ctx, err); err != nil {
			return err
		}
	}
	if !t.o.Repack && !t.o.RepackAll {
		return nil
	}
	n, done, err := t.c.repack(ctx, f.id, t.o.RepackAll)
	switch t.res.Copied += n; {
	case err != nil:
	case !done:
		t.res.Busy++
	case n > 0:
		t.res.Repacked++
	}
	return t.tolerate(ctx, err)
}

// tolerate lets one damaged file be no reason to leave all others as they are.
func (t *tidier) tolerate(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil || t.c.failed.Load() || !errors.Is(public(err), ErrIntegrity) {
		return err
	}
	t.res.Damaged++
	return nil
}
