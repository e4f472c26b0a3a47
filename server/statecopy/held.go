package statecopy

import (
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Held is a state of an account that a copy has.
type Held struct {
	Account
	Version    uint32 // of the account's key, under which Tree is
	Tree, List Entry
	Made       time.Time // of the copy that it was made for
	// Kept: it is from an earlier copy, because the account is damaged in this one. Of the Account only the ID is known then.
	Kept bool
	// Lacking are blobs of it that the disk of the copy has lost.
	Lacking uint64
}

// Holding is what a copy has of an account; nil = nothing.
type Holding struct {
	Whole  *Held // its last whole state
	Newest *Held // what could be copied of it since, if it was damaged then
}

// ReadHoldings reads a manifest for what it has of accounts that are known (nil = all). Nothing is authentic before SignedBy, and somebody else
// may have written it: what it costs to read goes by what is known.
func ReadHoldings(r io.Reader, known func(AccountID) bool) (*Manifest, map[AccountID]Holding, error) {
	if known == nil {
		known = func(AccountID) bool { return true }
	}
	now, before := map[AccountID]*Held{}, map[AccountID]*Held{} // below accountsDir, and keptDir
	of := func(all map[AccountID]*Held, id AccountID) *Held {
		h := all[id]
		if h == nil {
			h = &Held{Account: Account{ID: id}}
			all[id] = h
		}
		return h
	}
	m, err := ReadAccounts(r, func(a Account) error {
		if known(a.ID) {
			of(now, a.ID).Account = a
		}
		return nil
	}, func(e Entry) error {
		if id, ok := accountOf(e.Name); ok && known(id) {
			return of(now, id).take(e)
		}
		if id, ok := keptOf(e.Name); ok && known(id) {
			return of(before, id).take(e)
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	all := make(map[AccountID]Holding, len(now))
	for id, h := range now {
		if h.complete() {
			h.Made = m.Made
			all[id] = Holding{Whole: h}
		}
	}
	for _, d := range m.Damage { // of an account with several they tell the same
		has := Holding{}
		if h := now[d.Account]; h != nil && h.complete() {
			has.Newest = h
			if h.Commit = [len(h.Commit)]byte{}; !d.Newest.IsZero() {
				h.Made = d.Newest
			}
		}
		if h := before[d.Account]; h != nil && h.complete() {
			h.Made, h.Kept = d.Last, true
			has.Whole = h
		}
		if delete(all, d.Account); has != (Holding{}) {
			all[d.Account] = has
		}
	}
	return m, all, nil
}

// complete says whether both files are named.
func (h *Held) complete() bool { return h.Tree.Name != "" && h.List.Name != "" }

// take takes one of the files of the account.
func (h *Held) take(e Entry) error {
	base := filepath.Base(e.Name)
	if base == listName {
		h.List = e
		return nil
	}
	digits, _ := strings.CutSuffix(strings.TrimPrefix(base, "tree-"), ".db")
	version, err := strconv.ParseUint(digits, 10, 32)
	if err != nil || strconv.FormatUint(version, 10) != digits || h.Tree.Name != "" {
		return damaged("the manifest names %s", e.Name)
	}
	h.Tree, h.Version = e, uint32(version)
	return nil
}
