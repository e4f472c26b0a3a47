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
	Base     uint64 // Current().N when the document was read
	Name     string // file name for positions; "" = policy.yaml
	Text     []byte // YAML
	Who, Why string
}

type revisionRecord struct {
	N    uint64    `json:"n"`
	At   time.Time `json:"at"`
	Who  string    `json:"who"`
	Why  string    `json:"why,omitempty"`
	Name string    `json:"name"`
	Text []byte    `json:"text"`
}

// Current is the newest revision; before the first change it has N 0 and the built-in document, which grants nothing.
func (db *DB) Current() *policy.Revision { return db.current.Load() }

// Apply checks the document and makes it the newest revision, durably, if Base still is. Otherwise ErrConflict; a
// *policy.ParseError if the document is not valid.
func (db *DB) Apply(ctx context.Context, c Change) (*policy.Revision, error) {
	if c.Name == "" {
		c.Name = policy.DefaultName
	}
	doc, err := policy.Parse(c.Name, c.Text)
	if err != nil {
		return nil, err
	}
	var r *policy.Revision
	err = db.change(ctx, func(t *tx) error {
		if c.Base != t.h.Revision {
			return fmt.Errorf("%w: it is at revision %d, not %d", ErrConflict, t.h.Revision, c.Base)
		}
		r, err = t.putRevision(c.Name, doc, c.Who, c.Why)
		return err
	}, func() { db.current.Store(r) })
	if err != nil {
		return nil, err
	}
	db.tellChange(r)
	return r, nil
}

// putRevision adds the next revision.
func (t *tx) putRevision(name string, doc *policy.Document, who, why string) (*policy.Revision, error) {
	t.h.Revision++
	r := revisionRecord{N: t.h.Revision, At: t.db.o.Now().UTC().Round(0), Who: who, Why: why, Name: name, Text: doc.Text()}
	if err := t.put(revisionKey(r.N), encode(r)); err != nil {
		return nil, err
	}
	return &policy.Revision{N: r.N, At: r.At, Who: who, Why: why, Document: doc}, nil
}

func (t *tx) revision(n uint64) (*policy.Revision, error) {
	if n == 0 {
		return &policy.Revision{Document: policy.Default()}, nil
	}
	plain, err := t.get(revisionKey(n))
	if err != nil {
		return nil, err
	}
	if plain == nil {
		return nil, ErrNoRevision
	}
	r, err := decode[revisionRecord](plain)
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

// Revisions returns up to limit revisions, the newest first, that are older than before (0 = from the newest on).
func (db *DB) Revisions(before uint64, limit int) ([]*policy.Revision, error) {
	var list []*policy.Revision
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
			r, err := t.revision(n)
			if err != nil {
				return err
			}
			list = append(list, r)
		}
		return nil
	})
	return slices.Clip(list), err
}
