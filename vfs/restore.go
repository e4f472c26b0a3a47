package vfs

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"time"
)

// RestoreAsk says what to bring back.
type RestoreAsk struct {
	At    time.Time // the state to bring back
	From  string    // what, by its path of then; empty = "/", everything
	To    string    // where to; empty = where it was. The directories above are made if they are missing
	Exact bool      // what is there now and was not then is removed; otherwise it is kept
}

// RestoreTotals are what a restore would do, or has done. Names are files, symlinks and directories.
type RestoreTotals struct {
	Created uint64 // names that are not there
	Changed uint64 // names whose content or attributes differ: what is there goes to history
	Moved   uint64 // Exact: what has another name within the place now and gets its own back
	Removed uint64 // Exact: names that go to history
	Same    uint64 // names that are as they were

	Conflicts uint64 // left alone: a directory with something in it is where a file was (Exact removes it), or the name is not allowed there
	Busy      uint64 // left alone: somebody is uploading to the name, or writes what would have to be copied
	Purged    uint64 // left alone: retention has let it go
	Damaged   uint64 // left alone: the stored data failed its integrity check

	Bytes  uint64 // sizes of the files among Created and Changed
	Copied uint64 // of these, bytes that have to be copied, because their file is elsewhere now; all others are shared with history
	Grows  int64  // by how much the bytes of current files grow; may be negative
	Files  int64  // by how many the number of current files grows
}

// RestoreAction is what becomes of a name.
type RestoreAction string

const (
	RestoreCreate   RestoreAction = "create"
	RestoreChange   RestoreAction = "change"
	RestoreMove     RestoreAction = "move"
	RestoreRemove   RestoreAction = "remove"
	RestoreConflict RestoreAction = "conflict"
	RestoreBusy     RestoreAction = "busy"
	RestorePurged   RestoreAction = "purged"
	RestoreDamaged  RestoreAction = "damaged"
)

// RestoreItem is a name that a restore changes or cannot change.
type RestoreItem struct {
	Action RestoreAction
	Path   string // where it is restored to
	From   string // its path of then; empty for what is removed
	Dir    bool
	Link   bool // a symlink
	Bytes  uint64
}

// RestorePlan is what a restore would do. It holds totals and no list, whatever it concerns.
type RestorePlan struct {
	RestoreTotals
	Ask RestoreAsk // From and To are canonical
	// Lacks is zero if all is known of the instant. Otherwise something may be missing that was destroyed since; nothing is from this instant on.
	Lacks time.Time

	// Enter is called before each transaction of Execute, and what it returns after it: who gives rights by path keeps paths from being
	// changed meanwhile. Judge is asked in between, with what the transaction would change, by the paths that this has now: directories may
	// have been renamed since the plan was made. An error of it ends Execute and is returned as it is. nil = nobody is asked.
	Enter func() (leave func())
	Judge func([]RestoreItem) error

	// Progress is called after each transaction with what is done so far; an error ends Execute. nil = nothing is told.
	Progress func(RestoreTotals) error

	h    *History
	done RestoreTotals
}

// PlanRestore finds what restoring would do. Nothing is changed. From is a file, a symlink or a directory with all that is below
// it, by its path as it was. Errors are those of a Past, and of a View for To; and NotWhole for an exact restore of an instant of which
// anything was destroyed since.
//
// A restore makes new versions of what is there, gives removed files their names back, and copies what has got
// another name since. It overwrites nothing: what it replaces or removes is history afterwards, so that restoring the instant before it
// (with Exact) undoes it. Restoring twice does nothing the second time. The owner's mode bits bind for the place itself, and not below it.
//
// Of what is moved back (Exact), the plan counts the name that it has now neither as removed nor as kept.
func (h *History) PlanRestore(ctx context.Context, ask RestoreAsk) (*RestorePlan, error) {
	p := &RestorePlan{Ask: ask, h: h}
	r := &restorer{h: h, past: h.At(ask.At), ask: ask, exact: ask.Exact, dry: true}
	err := r.run(ctx)
	p.Ask, p.RestoreTotals, p.Lacks = r.ask, r.totals, r.lacks
	if err != nil {
		return nil, err
	}
	return p, nil
}

// Items yields what the plan would do, but for what is the same already, directory by directory.
func (p *RestorePlan) Items(ctx context.Context) iter.Seq2[RestoreItem, error] {
	return func(yield func(RestoreItem, error) bool) {
		stop := errors.New("enough")
		r := &restorer{h: p.h, past: p.h.At(p.Ask.At), ask: p.Ask, exact: p.Ask.Exact, dry: true}
		r.visit = func(i RestoreItem) error {
			if !yield(i, nil) {
				return stop
			}
			return nil
		}
		if err := r.run(ctx); err != nil && !errors.Is(err, stop) {
			yield(RestoreItem{}, err)
		}
	}
}

// Result is what Execute has done so far. Not to be called while it runs.
func (p *RestorePlan) Result() RestoreTotals { return p.done }

// Execute restores, as things are when it comes to them, in transactions of at most 128 names, each durable and with the
// events of its view (Change "restore", "remove", "rmdir"). After an error or a crash some is restored and the rest is not; executing
// the plan, or a new one, again goes on. The quota is asked for the whole before anything is done, and again for each part. One
// Execute of a volume runs at a time, and no purge or folding meanwhile.
func (p *RestorePlan) Execute(ctx context.Context) error {
	v := p.h.w.vol
	unlock, err := v.tidy(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	r := &restorer{h: p.h, past: p.h.At(p.Ask.At), ask: p.Ask, exact: p.Ask.Exact, progress: p.Progress, enter: p.Enter, allow: p.Judge}
	err = v.do(ctx, func(c *core) error {
		if c.failed.Load() {
			return ErrReadOnly
		}
		if err := c.ask(p.Grows, p.Files); err != nil {
			return err
		}
		c.yield(p.Grows, p.Files)
		return nil
	})
	if err != nil {
		return fail("restore", p.Ask.To, err)
	}
	err = r.run(ctx)
	p.done = r.totals
	return err
}

// notRestored sorts out errors that concern one name only.
func notRestored(err error) (RestoreAction, bool) {
	switch {
	case errors.Is(err, ErrPurged), errors.Is(err, ErrNotKept):
		return RestorePurged, true
	case errors.Is(err, ErrIntegrity):
		return RestoreDamaged, true
	case errors.Is(err, ErrBusy), errors.Is(err, fs.ErrExist), errors.Is(err, ErrNotEmpty):
		return RestoreBusy, true
	}
	return "", false
}
