package policydb

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/text/unicode/norm"

	"sallyport/crypto/record"
)

var (
	// ErrHeld: the account is on hold, or something in it, and must not be destroyed.
	ErrHeld   = errors.New("policydb: the account is on hold")
	ErrNoHold = errors.New("policydb: no such hold")
	// ErrBadHold: not a path, or too many holds of one account.
	ErrBadHold = errors.New("policydb: not a path to hold")
)

// maxHolds bounds the holds of one account: a purge asks each of them of each item.
const maxHolds = 1000

// Hold forbids to destroy what is at and below a path of an account, and what was there. Immutable.
//
// Holds are records of their own and not part of the policy: a policy is written, planned and rolled back as a whole, and no slip
// in an editor may end a hold. They are not in the account's volume either: they must be found without opening it, must survive
// its repair, and the destruction of an account must see them in the transaction that begins it.
type Hold struct {
	N      uint64    `json:"n"`    // number; never given twice within an account
	Path   string    `json:"path"` // canonical, NFC; "/" = the whole account
	Reason string    `json:"reason"`
	Who    string    `json:"who"`
	At     time.Time `json:"at"`
}

// holdRecord is at l ‖ token(account id).
type holdRecord struct {
	ID    record.AccountID `json:"id"`
	Last  uint64           `json:"last"` // number that was given last
	Holds []Hold           `json:"holds"`
}

func (db *DB) holdKey(id record.AccountID) []byte {
	t := db.o.Token("holds of account", id.String())
	return append([]byte{'l'}, t[:]...)
}

func (t *tx) holds(id record.AccountID) (*holdRecord, error) {
	plain, err := t.get(t.db.holdKey(id))
	if err != nil {
		return nil, err
	}
	if plain == nil {
		return &holdRecord{ID: id}, nil
	}
	r, err := decode[holdRecord](plain)
	if err == nil && r.ID != id {
		err = fmt.Errorf("%w: holds of one account in the place of another's", ErrDamaged)
	}
	return r, err
}

// Holds of an account, in the order in which they were made.
func (db *DB) Holds(id record.AccountID) (list []Hold, err error) {
	err = db.view(func(t *tx) error {
		r, err := t.holds(id)
		if err == nil {
			list = r.Holds
		}
		return err
	})
	return list, err
}

// Hold puts a path of an account on hold; "" or "/" is the account. When it returns no purge begins to destroy anything there:
// it asks in the transaction that destroys. For one that has asked already see vfs.FS.Settle.
func (db *DB) Hold(ctx context.Context, account, at, reason, who string) (Hold, error) {
	if at == "" {
		at = "/"
	}
	if !strings.HasPrefix(at, "/") || strings.ContainsRune(at, 0) || len(at) > 4096 {
		return Hold{}, ErrBadHold
	}
	h := Hold{Path: norm.NFC.String(path.Clean(at)), Reason: reason, Who: who, At: db.o.Now().UTC().Round(0)}
	err := db.change(ctx, func(t *tx) error {
		id, err := t.id(account)
		if err != nil {
			return err
		}
		r, err := t.holds(id)
		if err != nil {
			return err
		}
		if len(r.Holds) >= maxHolds {
			return fmt.Errorf("%w: the account has %d holds already", ErrBadHold, maxHolds)
		}
		r.Last++
		h.N = r.Last
		r.Holds = append(r.Holds, h)
		return t.put(db.holdKey(id), encode(r))
	}, func() {})
	return h, err
}

// Release ends a hold by its number. ErrNoHold if there is none.
func (db *DB) Release(ctx context.Context, account string, n uint64) (Hold, error) {
	var was Hold
	err := db.change(ctx, func(t *tx) error {
		id, err := t.id(account)
		if err != nil {
			return err
		}
		r, err := t.holds(id)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(r.Holds, func(h Hold) bool { return h.N == n })
		if i < 0 {
			return ErrNoHold
		}
		was = r.Holds[i]
		r.Holds = slices.Delete(r.Holds, i, i+1)
		return t.put(db.holdKey(id), encode(r))
	}, func() {})
	return was, err
}
