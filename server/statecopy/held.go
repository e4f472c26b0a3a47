package statecopy

import (
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Held is the last whole state of an account that a copy has.
type Held struct {
	Account
	Version    uint32 // of the account's key, under which Tree is
	Tree, List Entry
	Made       time.Time // of the copy that it was made for
	// Kept: it is from an earlier copy, because the account is damaged in this one. Of the Account only the ID is known then.
	Kept bool
}

// ReadHeld reads a manifest for what it has of accounts. Nothing is authentic before SignedBy.
func ReadHeld(r io.Reader) (*Manifest, map[AccountID]*Held, error) {
	all := map[AccountID]*Held{}
	of := func(id AccountID) *Held {
		h := all[id]
		if h == nil {
			h = &Held{Account: Account{ID: id}}
			all[id] = h
		}
		return h
	}
	m, err := ReadAccounts(r, func(a Account) error { of(a.ID).Account = a; return nil }, func(e Entry) error {
		id, ok := accountOf(e.Name)
		kept := false
		if !ok {
			if id, kept = keptOf(e.Name); !kept {
				return nil
			}
		}
		h := of(id)
		if kept && !h.Kept { // the last whole state is better than a damaged one
			*h = Held{Account: Account{ID: id}, Kept: true}
		}
		return h.take(e)
	})
	if err != nil {
		return nil, nil, err
	}
	for _, d := range m.Damage {
		if h := all[d.Account]; h != nil && h.Kept {
			h.Made = d.Last
		} else {
			delete(all, d.Account)
		}
	}
	for id, h := range all {
		if h.Tree.Name == "" || h.List.Name == "" {
			delete(all, id)
		} else if !h.Kept {
			h.Made = m.Made
		}
	}
	return m, all, nil
}

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
