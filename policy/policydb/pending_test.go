package policydb

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/policy"
)

func text(max string) []byte { return []byte("version: 1\nsite: {session: {max: " + max + "}}\n") }

func sessions(db *DB) int { return db.Current().Resolve("").Session.Max }

func TestUnconfirmedChangeGoesBackByItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := options(t)
		o.Now = time.Now
		db := open(t, o)
		var told, undone []*policy.Revision
		db.OnChange(func(r *policy.Revision) { told = append(told, r) })
		db.OnRollback(func(r *policy.Revision) { undone = append(undone, r) })
		if _, err := db.Apply(t.Context(), Change{Text: text("4"), Who: "root"}); err != nil {
			t.Fatal(err)
		}
		r, err := db.Apply(t.Context(), Change{Base: 1, Text: text("9"), Who: "root", Confirm: 10 * time.Minute})
		if err != nil || sessions(db) != 9 {
			t.Fatal(r, err)
		}
		if _, err := db.Apply(t.Context(), Change{Base: 2, Text: text("5")}); !errors.Is(err, ErrPending) {
			t.Errorf("a change on top of one that waits: %v", err)
		}
		if _, err := db.CreateAccount(t.Context(), NewAccount{Name: "a", ID: id(1), Grants: map[string]string{"protocols": "[sftp]"}}); !errors.Is(err, ErrPending) {
			t.Errorf("an account with grants on top of one that waits: %v", err)
		}
		time.Sleep(10*time.Minute - time.Second)
		synctest.Wait()
		if sessions(db) != 9 {
			t.Fatal("it went back before its time")
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if sessions(db) != 4 || db.Current().N != 3 || db.Current().Who != Automatic {
			t.Fatalf("after its time: %+v", db.Current())
		}
		if len(told) != 3 || len(undone) != 1 || undone[0].N != 3 {
			t.Errorf("told %d, undone %v", len(told), undone)
		}
		if p, err := db.Pending(); p != nil || err != nil {
			t.Errorf("still pending: %v, %v", p, err)
		}
	})
}

func TestConfirmedChangeStays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := options(t)
		o.Now = time.Now
		db := open(t, o)
		if _, err := db.Confirm(t.Context(), 1); !errors.Is(err, ErrNotPending) {
			t.Errorf("nothing to confirm: %v", err)
		}
		if _, err := db.Apply(t.Context(), Change{Text: text("9"), Confirm: time.Minute}); err != nil {
			t.Fatal(err)
		}
		if p, err := db.Confirm(t.Context(), 1); err != nil || p.Revision != 1 {
			t.Fatal(p, err)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if sessions(db) != 9 || db.Current().N != 1 {
			t.Errorf("%+v", db.Current())
		}
	})
}

// Somebody confirms late: their change has gone back, and another operator's waits by now. It must not stay because of them.
func TestLateConfirmationKeepsNobodyElsesChange(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := options(t)
		o.Now = time.Now
		db := open(t, o)
		if _, err := db.Apply(t.Context(), Change{Text: text("9"), Who: "first", Confirm: time.Minute}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if _, err := db.Apply(t.Context(), Change{Base: 2, Text: text("3"), Who: "second", Confirm: time.Minute}); err != nil {
			t.Fatal(err)
		}
		for _, n := range []uint64{0, 1, 2, 4} {
			if _, err := db.Confirm(t.Context(), n); !errors.Is(err, ErrConflict) {
				t.Errorf("confirming revision %d while 3 waits: %v", n, err)
			}
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if sessions(db) == 3 || db.Current().N != 4 {
			t.Errorf("the second change stays: %+v", db.Current())
		}
	})
}

// The wait for a confirmation outlives the server, and what is overdue at the start never comes into force again.
func TestPendingOutlivesTheServer(t *testing.T) {
	t.Parallel()
	now := noon
	o := options(t)
	o.Now = func() time.Time { return now }
	db := open(t, o)
	for i, c := range []Change{{Text: text("4")}, {Text: text("9"), Confirm: time.Hour}} {
		c.Base = uint64(i)
		if _, err := db.Apply(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	reopen := func() {
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		db = open(t, o)
	}
	now = now.Add(59 * time.Minute)
	reopen()
	if sessions(db) != 9 {
		t.Fatal("it went back before its time")
	}
	now = now.Add(time.Minute)
	reopen()
	if sessions(db) != 4 || db.Current().N != 3 {
		t.Fatalf("overdue at the start: %+v", db.Current())
	}
	var undone *policy.Revision
	db.OnRollback(func(r *policy.Revision) { undone = r })
	if undone == nil || undone.N != 3 {
		t.Errorf("whoever asks later is not told: %v", undone)
	}
	reopen()
	if db.Current().N != 3 {
		t.Error("it went back twice")
	}
}

func TestRollbackMakesARevision(t *testing.T) {
	t.Parallel()
	db := open(t, options(t))
	for i, n := range []string{"4", "9"} {
		if _, err := db.Apply(t.Context(), Change{Base: uint64(i), Text: text(n)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := db.Rollback(t.Context(), 1, 1, "root", ""); !errors.Is(err, ErrConflict) {
		t.Errorf("from an old base: %v", err)
	}
	r, err := db.Rollback(t.Context(), 1, 2, "root", "oops")
	if err != nil || r.N != 3 || sessions(db) != 4 {
		t.Fatal(r, err)
	}
	list, err := db.History(0, 9)
	if err != nil || len(list) != 3 || list[0].Why != "oops" || len(list[0].Diff) != 1 || list[0].Diff[0].Mark != policy.Tighter || list[1].Diff[0].Mark != policy.Looser {
		t.Errorf("history %+v, %v", list, err)
	}
	if _, err := db.Rollback(t.Context(), 7, 3, "root", ""); !errors.Is(err, ErrNoRevision) {
		t.Errorf("to nothing: %v", err)
	}
}
