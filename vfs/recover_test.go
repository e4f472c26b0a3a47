package vfs

import (
	"fmt"
	"slices"
	"testing"

	"sallyport/crypto/keyring"
)

// TestRecoveryIsRecorded has the event of a recovered upload in the transaction that recovers it, with its whole path.
func TestRecoveryIsRecorded(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	ok(t, w.MkdirAll("in/sub", 0))
	put(t, w, "in/old", []byte("old"))
	f, g := openFile(t, w, "in/sub/new", wr), openFile(t, w, "in/old", wr)
	write(t, f, noise(1, 6<<20))
	write(t, g, noise(1, 6<<20))
	ok(t, w.Rename("in", "moved"))
	c := b.crash()
	ok(t, f.Close())
	ok(t, g.Close())
	ok(t, c.vol.Drain(t.Context(), func([]byte) error { t.Error("an event that nobody asked for"); return nil }))

	f = openFile(t, w, "moved/sub/again", wr)
	write(t, f, noise(1, 6<<20))
	var events []string
	d := b.crashWith(Options{Recovered: func(id keyring.AccountID, ch Change) []byte {
		return fmt.Appendf(nil, "%v %s %s %s %v", id == b.id, ch.Op, ch.Path, ch.Result, ch.Bytes >= 1<<20)
	}})
	ok(t, f.Close())
	ok(t, d.vol.Drain(t.Context(), func(e []byte) error { events = append(events, string(e)); return nil }))
	if want := []string{"true upload /moved/sub/again partial true"}; !slices.Equal(events, want) {
		t.Fatalf("events %q, want %q", events, want)
	}
}
