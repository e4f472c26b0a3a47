package meta

import (
	"context"
	"fmt"
	"slices"
	"testing"
)

func (d *testDB) emit(t testing.TB, events ...string) {
	t.Helper()
	d.update(t, func(tx *Tx) error {
		for _, e := range events {
			if err := tx.Emit([]byte(e)); err != nil {
				return err
			}
		}
		return nil
	})
}

// outbox is what waits, as "number event".
func (d *testDB) outbox(t testing.TB) []string {
	t.Helper()
	var got []string
	d.view(t, func(tx *Tx) error {
		return tx.Outbox(func(seq uint64, event []byte) bool {
			got = append(got, fmt.Sprint(seq, " ", string(event)))
			return true
		})
	})
	return got
}

func (d *testDB) wantOutbox(t testing.TB, want ...string) {
	t.Helper()
	if got := d.outbox(t); !slices.Equal(got, want) {
		t.Errorf("outbox %q, want %q", got, want)
	}
}

func TestOutbox(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.emit(t, "a", "b")
	d.emit(t, "c")
	d.wantOutbox(t, "1 a", "2 b", "3 c")
	d.update(t, func(tx *Tx) error { return tx.Ack(1) })
	d.wantOutbox(t, "2 b", "3 c")

	records := d.published.Load().head.records
	d.AckLater(2)
	d.wantOutbox(t, "3 c")
	if got := d.published.Load().head.records; got != records {
		t.Errorf("AckLater changed the database by itself: %d records, then %d", records, got)
	}
	d.emit(t, "d") // takes the note along
	if got := d.published.Load().head.records; got != records {
		t.Errorf("%d records after one event more and one less, want %d", got, records)
	}
	d.AckLater(1) // never goes back
	d.wantOutbox(t, "3 c", "4 d")

	d.AckLater(1000) // events that are yet to come are not acknowledged
	d.wantOutbox(t)
	d.emit(t, "e")
	d.wantOutbox(t, "5 e")
	d.AckLater(5)
	d.reopen(t)
	d.wantOutbox(t)
	d.emit(t, "f") // numbers are not given twice
	d.wantOutbox(t, "6 f")
	d.clean(t)
}

// TestCrash copies the file while transactions run on, and opens the copy:
// what was committed when the copy began is there, events that were only noted come again.
func TestCrash(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.grow(t, 200)
	d.emit(t, "a")
	d.AckLater(1)
	want, err := dump(d.DB)
	if err != nil {
		t.Fatal(err)
	}
	unfinished := make(chan func(), 1)
	d.commit = func(commit func() error) error { // everything is sealed and put, nothing is committed
		copyFile(t, d.path, d.path+".copy")
		(<-unfinished)()
		return commit()
	}
	unfinished <- func() {
		c, err := Open(context.Background(), d.path+".copy", d.keys, d.o)
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		c.acked.Store(1)
		if got, err := dump(c); err != nil || got != want {
			t.Errorf("the copy reads differently: %v", err)
		}
		c.acked.Store(0)
		copied := &testDB{DB: c}
		copied.wantOutbox(t, "1 a")
		copied.clean(t)
	}
	d.update(t, mkfile("late"))
	d.clean(t)
}
