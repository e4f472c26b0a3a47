package policydb

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"sallyport/crypto/record"
)

func heldDB(t *testing.T) (*DB, Options, record.AccountID) {
	t.Helper()
	o := options(t)
	db := open(t, o)
	id := record.AccountID{1}
	if _, err := db.CreateAccount(t.Context(), NewAccount{Name: "acme", ID: id, Who: "root"}); err != nil {
		t.Fatal(err)
	}
	return db, o, id
}

func TestHoldsAreDurableAndNumbered(t *testing.T) {
	t.Parallel()
	db, o, id := heldDB(t)
	for _, at := range []string{"/cases/42/", "", "/cases/42"} {
		if _, err := db.Hold(t.Context(), "acme", at, "case 42", "root"); err != nil {
			t.Fatal(err)
		}
	}
	if was, err := db.Release(t.Context(), "acme", 3); err != nil || was.Path != "/cases/42" {
		t.Fatalf("released %+v, %v", was, err)
	}
	if _, err := db.Release(t.Context(), "acme", 3); !errors.Is(err, ErrNoHold) {
		t.Errorf("released twice: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = open(t, o)
	list, err := db.Holds(id)
	want := []Hold{{1, "/cases/42", "case 42", "root", noon}, {2, "/", "case 42", "root", noon}}
	if err != nil || !slices.Equal(list, want) {
		t.Errorf("holds %+v, %v", list, err)
	}
	if h, err := db.Hold(t.Context(), "acme", "/x", "again", "root"); err != nil || h.N != 4 {
		t.Errorf("a number was given twice: %+v, %v", h, err)
	}
	if _, err := db.Hold(t.Context(), "nobody", "/", "", ""); !errors.Is(err, ErrNoAccount) {
		t.Errorf("hold on nobody: %v", err)
	}
	for _, at := range []string{"relative", "/a\x00b", "/" + strings.Repeat("a", 5000)} {
		if _, err := db.Hold(t.Context(), "acme", at, "", ""); !errors.Is(err, ErrBadHold) {
			t.Errorf("hold on %.10q: %v", at, err)
		}
	}
}

func TestAccountOnHoldIsNotRemoved(t *testing.T) {
	t.Parallel()
	db, _, id := heldDB(t)
	h, err := db.Hold(t.Context(), "acme", "/a", "case", "root")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.RemoveAccount(t.Context(), "acme", "root"); !errors.Is(err, ErrHeld) {
		t.Errorf("removed: %v", err)
	}
	if _, err := db.Account("acme"); err != nil {
		t.Error(err)
	}
	if _, err := db.Release(t.Context(), "acme", h.N); err != nil {
		t.Fatal(err)
	}
	if _, err := db.RemoveAccount(t.Context(), "acme", "root"); err != nil {
		t.Errorf("after the release: %v", err)
	}
	if list, err := db.Holds(id); err != nil || len(list) != 0 {
		t.Errorf("left behind: %+v, %v", list, err)
	}
}
