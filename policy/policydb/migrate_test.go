package policydb

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"go.etcd.io/bbolt"

	"sallyport/crypto/record"
)

// writeOld makes a closed file into one of format 1, as the program of that format wrote it (docs/FORMAT.md "policy.db").
// The frozen fixture of testdata/fixtures/v1 is one that it really wrote.
func writeOld(t *testing.T, o Options) {
	t.Helper()
	db := open(t, o)
	accounts, err := db.Accounts()
	if err != nil {
		t.Fatal(err)
	}
	db.Close()
	raw(t, o.Path, func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucket)
		seal := func(letter byte, kind, name string, plain []byte) error {
			token := o.Token(kind, name)
			key := append([]byte{letter}, token[:]...)
			return b.Put(key, o.Box.Seal(nil, record.DomainAccounts, key, plain))
		}
		for _, a := range accounts {
			r, err := decode[accountRecord](a.encode())
			if err != nil {
				return err
			}
			if err := errors.Join(b.Delete(db.accountKey(a.ID)), seal('a', "account", a.Name, encode(oldAccountRecord{a.Name, *r})),
				seal('i', "account id", a.ID.String(), []byte(a.Name))); err != nil {
				return err
			}
		}
		head, err := (&tx1{o: o, b: b}).head(1)
		return errors.Join(err, b.Put([]byte("h"), head), tx.DeleteBucket(namesBucket))
	})
}

// tx1 sums up a table as it is.
type tx1 struct {
	o Options
	b *bbolt.Bucket
}

func (x *tx1) head(format int) ([]byte, error) {
	place := []byte("h")
	plain, err := x.o.Box.Open(nil, record.DomainPolicy, place, x.b.Get(place))
	if err != nil {
		return nil, err
	}
	h, err := decode[head](plain)
	if err != nil {
		return nil, err
	}
	h.Format, h.Count, h.Sum = format, 0, record.Sum{}
	set := newSet(x.o.Token)
	err = x.b.ForEach(func(k, v []byte) error {
		if !bytes.Equal(k, place) {
			set.Add(&h.Sum, k, v)
			h.Count++
		}
		return nil
	})
	return x.o.Box.Seal(nil, record.DomainPolicy, place, encode(h)), err
}

// state is what is known of accounts, and the documents.
func state(t *testing.T, db *DB) any {
	t.Helper()
	accounts, err := db.Accounts()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range accounts {
		if b, err := db.AccountByID(a.ID); err != nil || !reflect.DeepEqual(a, b) {
			t.Errorf("%s by its id: %+v, %v", a.Name, b, err)
		}
		if b, err := db.Account(a.Name); err != nil || !reflect.DeepEqual(a, b) {
			t.Errorf("%s by its name: %+v, %v", a.Name, b, err)
		}
	}
	history, err := db.History(0, 100)
	if err != nil {
		t.Fatal(err)
	}
	return []any{accounts, history, db.Current().Document.Text(), db.Trust()}
}

// A file of format 1 opens with all that was in it, is of format 2 then, and no record but those of the table of names
// and the documents has a name.
func TestMigration(t *testing.T) {
	t.Parallel()
	o := options(t)
	db := open(t, o)
	fill(t, db)
	want := state(t, db)
	db.Close()
	writeOld(t, o)
	for range 2 { // it is made once, and stays
		db = open(t, o)
		if got := state(t, db); !reflect.DeepEqual(got, want) {
			t.Fatalf("read\n%v, want\n%v", got, want)
		}
		db.Close()
	}
	names := 0
	for _, p := range records(t, o.Path) {
		plain, err := o.box(p.key).Open(nil, domain(p.key), p.key, p.value)
		if err != nil {
			t.Fatal(err)
		}
		isDocument := p.key[0] == 'r'
		if has := bytes.Contains(plain, []byte("alice-canary")) || bytes.Contains(plain, []byte("bob-canary")); has && !isName(p.key) && !isDocument {
			t.Errorf("a name stands in the record %q", p.key[:1])
		} else if has && isName(p.key) {
			names++
		}
	}
	if names != 2 {
		t.Errorf("%d names in the table of names", names)
	}
	db = open(t, o)
	if _, err := db.RemoveAccount(t.Context(), "alice-canary", "root"); err != nil {
		t.Fatal(err)
	}
	if _, err := db.CreateAccount(t.Context(), NewAccount{Name: "alice-canary", ID: id(7), Who: "root"}); err != nil {
		t.Error(err)
	}
	if _, err := db.AccountByID(id(1)); !errors.Is(err, ErrNoAccount) {
		t.Errorf("the id of a removed account: %v", err)
	}
}

// Whatever becomes of the commit, the file is of the one format or the other, whole.
func TestMigrationBreaksOff(t *testing.T) {
	t.Parallel()
	o := options(t)
	db := open(t, o)
	fill(t, db)
	want := state(t, db)
	db.Close()
	writeOld(t, o)
	errTest := errors.New("test")
	for what, commit := range map[string]func(*bbolt.Tx) error{
		"before": func(*bbolt.Tx) error { return errTest },
		"after":  func(b *bbolt.Tx) error { return errors.Join(b.Commit(), errTest) },
	} {
		o := o
		image, err := os.ReadFile(o.Path)
		if err != nil {
			t.Fatal(err)
		}
		o.Path = filepath.Join(t.TempDir(), "policy.db")
		if err := os.WriteFile(o.Path, image, 0o600); err != nil {
			t.Fatal(err)
		}
		broken := &DB{o: o, set: newSet(o.Token), testOnlyCommit: commit}
		if err := broken.open(); !errors.Is(err, errTest) {
			t.Fatalf("%s: %v", what, err)
		}
		db := open(t, o)
		if got := state(t, db); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: read\n%v, want\n%v", what, got, want)
		}
	}
}

// A file of format 1 that somebody changed is refused and stays as it is; so is one that has a table of names already.
func TestMigrationOfDamage(t *testing.T) {
	t.Parallel()
	o := options(t)
	db := open(t, o)
	fill(t, db)
	db.Close()
	writeOld(t, o)
	image, err := os.ReadFile(o.Path)
	if err != nil {
		t.Fatal(err)
	}
	list := records(t, o.Path)
	try := func(what string, want error, fn func(*bbolt.Tx) error) {
		t.Helper()
		if err := os.WriteFile(o.Path, image, 0o600); err != nil {
			t.Fatal(err)
		}
		raw(t, o.Path, fn)
		before := records(t, o.Path)
		if _, err := Open(t.Context(), o); !errors.Is(err, want) {
			t.Errorf("%s: %v", what, err)
		}
		if !reflect.DeepEqual(records(t, o.Path), before) {
			t.Errorf("%s: the file was changed", what)
		}
	}
	for i, p := range list {
		try("drop", ErrDamaged, func(tx *bbolt.Tx) error { return tx.Bucket(bucket).Delete(p.key) })
		for _, q := range list[:i] {
			try("exchange", ErrDamaged, func(tx *bbolt.Tx) error {
				b := tx.Bucket(bucket)
				return errors.Join(b.Put(p.key, q.value), b.Put(q.key, p.value))
			})
		}
	}
	try("a table of names", ErrDamaged, func(tx *bbolt.Tx) error { _, err := tx.CreateBucket(namesBucket); return err })
	try("format 3", errors.ErrUnsupported, func(tx *bbolt.Tx) error {
		head, err := (&tx1{o: o, b: tx.Bucket(bucket)}).head(3)
		return errors.Join(err, tx.Bucket(bucket).Put([]byte("h"), head))
	})
}
