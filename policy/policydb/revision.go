package policydb

import (
	"context"
	"fmt"
	"slices"
	"time"

	"sallyport/policy"
)

// Change is a new policy document, made from revision Base.
type Change struct {
	Base uint64 // Current().N when the document was read
	Name string // file name for the positions of errors; "" = policy.yaml
	Text []byte // YAML
	// Document is Text read by the caller, to spare a second reading; nil = not read.
	Document *policy.Document
	Who, Why string
	// Confirm is the time within which Confirm must be called, or the change goes back by itself; 0 = it stays.
	Confirm time.Duration
}

type revisionRecord struct {
	N    uint64    `json:"n"`
	At   time.Time `json:"at"`
	Who  string    `json:"who"`
	Why  string    `json:"why,omitempty"`
	Name string    `json:"name"`
	Text []byte    `json:"text"`
	// Diff to the revision before, as it was shown then.
	Diff []policy.Difference `json:"diff,omitempty"`
}

// Current is the newest revision; before the first change it has N 0 and the built-in document, which grants nothing.
func (db *DB) Current() *policy.Revision { return db.current.Load() }

// Apply checks the document and makes it the newest revision, durably, if Base still is. Otherwise ErrConflict; ErrPending
// while another change waits for its confirmation; a *policy.ParseError if the document is not valid.
func (db *DB) Apply(ctx context.Context, c Change) (*policy.Revision, error) {
	doc, err := c.document()
	if err != nil {
		return nil, err
	}
	var r *policy.Revision
	var pending *Pending
	err = db.change(ctx, func(t *tx) error {
		if c.Base != t.h.Revision {
			return fmt.Errorf("%w: it is at revision %d, not %d", ErrConflict, t.h.Revision, c.Base)
		}
		if r, err = t.putRevision(doc, c.Who, c.Why); err != nil || c.Confirm <= 0 {
			return err
		}
		pending = &Pending{Revision: r.N, Back: c.Base, Until: r.At.Add(c.Confirm), Who: c.Who}
		return t.put(pendingKey, encode(pending))
	}, func() { db.current.Store(r) })
	if err != nil {
		return nil, err
	}
	if pending != nil {
		db.arm(pending)
	}
	db.tellChange(r)
	return r, nil
}

// document of a change. A revision calls its document policy.yaml, whatever file it came from.
func (c *Change) document() (*policy.Document, error) {
	if c.Document != nil {
		return c.Document.Renamed(policy.DefaultName), nil
	}
	doc, err := policy.Parse(cmpOr(c.Name, policy.DefaultName), c.Text)
	if err != nil {
		return nil, err
	}
	return doc.Renamed(policy.DefaultName), nil
}

// putRevision adds the next revision.
func (t *tx) putRevision(doc *policy.Document, who, why string) (*policy.Revision, error) {
	if err := t.free(); err != nil {
		return nil, err
	}
	t.h.Revision++
	r := revisionRecord{N: t.h.Revision, At: t.db.o.Now().UTC().Round(0), Who: who, Why: why, Name: policy.DefaultName, Text: doc.Text(),
		Diff: policy.Diff(t.db.current.Load().Document, doc)}
	if err := t.put(revisionKey(r.N), encode(r)); err != nil {
		return nil, err
	}
	return &policy.Revision{N: r.N, At: r.At, Who: who, Why: why, Document: doc}, nil
}

func (t *tx) revision(n uint64) (*policy.Revision, error) {
	if n == 0 {
		return &policy.Revision{Document: policy.Default()}, nil
	}
	r, err := t.entry(n)
	if err != nil {
		return nil, err
	}
	doc, err := policy.Parse(r.Name, r.Text)
	if err != nil {
		return nil, fmt.Errorf("revision %d: %w", n, err)
	}
	return &policy.Revision{N: r.N, At: r.At, Who: r.Who, Why: r.Why, Document: doc}, nil
}

// Revision returns one revision; ErrNoRevision if there is none of that number.
func (db *DB) Revision(n uint64) (r *policy.Revision, err error) {
	err = db.view(func(t *tx) error { r, err = t.revision(n); return err })
	return r, err
}

// At returns the revision that was in force at a time: the built-in one before the first.
func (db *DB) At(when time.Time) (r *policy.Revision, err error) {
	err = db.view(func(t *tx) error {
		h, err := t.head()
		if err != nil {
			return err
		}
		n := h.Revision
		for ; n > 0; n-- {
			e, err := t.entry(n)
			if err != nil {
				return err
			}
			if !e.At.After(when) {
				break
			}
		}
		r, err = t.revision(n)
		return err
	})
	return r, err
}

// Entry is a line of the history: a revision without its document.
type Entry struct {
	N        uint64
	At       time.Time
	Who, Why string
	Diff     []policy.Difference // to the revision before
}

func (t *tx) entry(n uint64) (*revisionRecord, error) {
	plain, err := t.get(revisionKey(n))
	if err != nil {
		return nil, err
	}
	if plain == nil {
		return nil, ErrNoRevision
	}
	return decode[revisionRecord](plain)
}

// History returns up to limit entries, the newest first, that are older than before (0 = from the newest on).
func (db *DB) History(before uint64, limit int) ([]Entry, error) {
	var list []Entry
	err := db.view(func(t *tx) error {
		h, err := t.head()
		if err != nil {
			return err
		}
		n := h.Revision
		if before > 0 {
			n = min(n, before-1)
		}
		for ; n > 0 && len(list) < limit; n-- {
			r, err := t.entry(n)
			if err != nil {
				return err
			}
			list = append(list, Entry{r.N, r.At, r.Who, r.Why, r.Diff})
		}
		return nil
	})
	return slices.Clip(list), err
}

// Revisions is History with the documents; each is read, so ask for few.
func (db *DB) Revisions(before uint64, limit int) ([]*policy.Revision, error) {
	entries, err := db.History(before, limit)
	if err != nil {
		return nil, err
	}
	var list []*policy.Revision
	for _, e := range entries {
		r, err := db.Revision(e.N)
		if err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	return list, nil
}
