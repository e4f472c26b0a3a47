package server

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/crypto/keyring"
	"sallyport/crypto/record"
	"sallyport/server/audit"
)

func noted(t *testing.T) (*keyring.Keyring, string) {
	t.Helper()
	dir := t.TempDir()
	seal, err := keyring.NewKeyFile(filepath.Join(dir, "key"))
	check(t, err)
	k, err := keyring.Create(t.Context(), filepath.Join(dir, "state"), seal)
	check(t, err)
	t.Cleanup(func() { k.Close() })
	public, err := k.PendingPublic()
	check(t, err)
	path := filepath.Join(dir, "state", notesFile)
	n := &notes{path: path}
	check(t, n.begin(public))
	n.close()
	return k, path
}

func openedNotes(path string) *notes { return openNotes(path, slog.New(slog.DiscardHandler)) }

func attempt(i int) audit.Event {
	return audit.Event{Action: audit.UnsealRefused, Who: "uid:1001", Detail: fmt.Sprint("attempt ", i)}
}

// folded are the details of what a fold records.
func folded(t *testing.T, n *notes, k *keyring.Keyring) (details []string) {
	t.Helper()
	check(t, n.fold(k, func(events []audit.Event) error {
		for _, e := range events {
			details = append(details, e.Detail)
		}
		return nil
	}))
	return details
}

// TestNotesOutliveTheProcess: nothing is closed, as after kill -9.
func TestNotesOutliveTheProcess(t *testing.T) {
	t.Parallel()
	k, path := noted(t)
	first := openedNotes(path)
	first.note(attempt(1))
	first.note(attempt(2))
	second := openedNotes(path)
	second.note(attempt(3))
	data, err := os.ReadFile(path)
	check(t, err)
	if bytes.Contains(data, []byte("uid:1001")) || bytes.Contains(data, []byte("attempt")) {
		t.Error("the notes are in clear")
	}
	third := openedNotes(path)
	if err := third.fold(k, func([]audit.Event) error { return os.ErrPermission }); err == nil {
		t.Error("folded though nothing was recorded")
	}
	want := "[noted while sealed: attempt 1 noted while sealed: attempt 2 noted while sealed: attempt 3]"
	if got := folded(t, third, k); fmt.Sprint(got) != want {
		t.Errorf("got %q", got)
	}
	fourth := openedNotes(path)
	if got := folded(t, fourth, k); len(got) != 0 {
		t.Errorf("recorded twice: %q", got)
	}
	fourth.note(attempt(4))
	if got := folded(t, openedNotes(path), k); len(got) != 1 {
		t.Errorf("in the new file: %q", got)
	}
}

// TestNotesAreRecordedOnce: the process dies when they are in the audit log and there is no new file of notes yet, twice.
func TestNotesAreRecordedOnce(t *testing.T) {
	t.Parallel()
	k, path := noted(t)
	n := openedNotes(path)
	for i := range 3 {
		n.note(attempt(i))
	}
	n.close()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	check(t, err)
	_, err = f.WriteAt([]byte{0, 0, 0, 0, 0, 0, 0, 9}, int64(notesLostAt))
	check(t, err)
	_, err = f.WriteAt([]byte{0}, n.size-1) // the last one does not open
	check(t, errors.Join(err, f.Close()))
	box, err := k.Audit()
	check(t, err)
	dir := filepath.Join(t.TempDir(), "audit")
	for range 2 {
		dir = foldAndDie(t, openedNotes(path), k, dir, box)
	}
	log, err := audit.Open(audit.Options{Dir: dir, Box: box})
	check(t, err)
	defer log.Close()
	n = openedNotes(path)
	check(t, n.fold(k, func(e []audit.Event) error { return log.AppendAll(t.Context(), e) }))
	n.note(attempt(8))
	check(t, openedNotes(path).fold(k, func(e []audit.Event) error { return log.AppendAll(t.Context(), e) }))
	var got []string
	check(t, log.Tail(t.Context(), 100, false, func(r audit.Record) error {
		got = append(got, r.Detail)
		return nil
	}))
	slices.Sort(got)
	want := []string{
		"noted while sealed: attempt 0", "noted while sealed: attempt 1", "noted while sealed: attempt 8",
		"notes of attempts while sealed do not open: the file was damaged or changed", "refused attempts beyond those recorded singly",
	}
	if !slices.Equal(got, want) {
		t.Errorf("recorded %q, want %q", got, want)
	}
}

// foldAndDie has notes recorded and dies before a new file is begun. It returns what is on the disk of the log.
func foldAndDie(t *testing.T, n *notes, k *keyring.Keyring, dir string, box *record.Box) string {
	t.Helper()
	log, err := audit.Open(audit.Options{Dir: dir, Box: box})
	check(t, err)
	died := errors.New("here")
	err = n.fold(k, func(e []audit.Event) error { return errors.Join(log.AppendAll(t.Context(), e), died) })
	if err == nil || err.Error() != died.Error() {
		t.Fatalf("not recorded: %v", err)
	}
	rest := filepath.Join(t.TempDir(), "audit")
	check(t, os.CopyFS(rest, os.DirFS(dir)))
	n.close()
	check(t, log.Close())
	return rest
}

func TestNotesInMemoryAreRecordedOnce(t *testing.T) {
	t.Parallel()
	k, path := noted(t)
	check(t, os.Remove(path))
	n := openedNotes(path)
	n.note(attempt(1))
	n.note(attempt(1)) // alike, and another one
	var first, second []audit.Event
	if err := n.fold(k, func(e []audit.Event) error { first = e; return os.ErrPermission }); err == nil {
		t.Fatal("folded though nothing was recorded")
	}
	check(t, n.fold(k, func(e []audit.Event) error { second = e; return nil }))
	if len(first) != 2 || !slices.Equal(first, second) || first[0].Origin == first[1].Origin {
		t.Errorf("first %+v, then %+v", first, second)
	}
}

func TestNotesWhileSealedAreBounded(t *testing.T) {
	t.Parallel()
	k, path := noted(t)
	n := openedNotes(path)
	for i := range maxNotes + 7 {
		n.note(attempt(i))
	}
	info, err := os.Stat(path)
	check(t, err)
	if info.Size() > 1<<20 {
		t.Errorf("the file has %d bytes", info.Size())
	}
	n = openedNotes(path)
	n.note(attempt(0))
	var lost uint64
	check(t, n.fold(k, func(events []audit.Event) error {
		if len(events) != maxNotes+1 {
			t.Errorf("%d events", len(events))
		}
		lost = events[len(events)-1].Count
		return nil
	}))
	if lost != 8 {
		t.Errorf("%d beyond, want 8", lost)
	}
}

// TestNotesWithoutAFile: of a state that an earlier version made, until it is unsealed.
func TestNotesWithoutAFile(t *testing.T) {
	t.Parallel()
	k, path := noted(t)
	check(t, os.Remove(path))
	n := openedNotes(path)
	for i := range maxNotes + 7 {
		n.note(attempt(i))
	}
	if got := folded(t, n, k); len(got) != maxNotes+1 {
		t.Errorf("%d notes", len(got))
	}
	n.note(attempt(1))
	if got := folded(t, openedNotes(path), k); len(got) != 1 {
		t.Errorf("there is a file now, and in it: %q", got)
	}
}

// TestNotesThatWereCutOffOrChanged: what stands is recorded, what does not open is counted, and the file is gone on with.
func TestNotesThatWereCutOffOrChanged(t *testing.T) {
	t.Parallel()
	k, path := noted(t)
	n := openedNotes(path)
	var ends []int64
	for i := range 3 {
		n.note(attempt(i))
		ends = append(ends, n.size)
	}
	whole, err := os.ReadFile(path)
	check(t, err)
	for _, size := range []int64{ends[1], ends[1] + 1, ends[1] + 3, ends[1] + 4, ends[2] - 1} {
		check(t, os.WriteFile(path, whole[:size], 0o600))
		n := openedNotes(path)
		n.note(attempt(9))
		if got := folded(t, openedNotes(path), k); len(got) != 3 || got[2] != "noted while sealed: attempt 9" {
			t.Errorf("cut off at %d: %q", size, got)
		}
	}
	entry := func(i int) []byte {
		from := int64(notesStart)
		if i > 0 {
			from = ends[i-1]
		}
		return whole[from:ends[i]]
	}
	head := whole[:notesStart]
	flipped := bytes.Clone(whole)
	flipped[ends[0]+100] ^= 1
	foreign := bytes.Clone(whole)
	copy(foreign[notesIDAt:], "another file's id")
	for what, c := range map[string]struct {
		data   []byte
		opened int
	}{
		"a byte":           {flipped, 1}, // and what follows it in the chain
		"another order":    {bytes.Join([][]byte{head, entry(1), entry(0), entry(2)}, nil), 0},
		"one left out":     {bytes.Join([][]byte{head, entry(0), entry(2)}, nil), 1},
		"another file's":   {foreign, 0},
		"no file of notes": {[]byte("something else"), 0},
		"nothing":          {nil, 0},
	} {
		check(t, os.WriteFile(path, c.data, 0o600))
		got := folded(t, openedNotes(path), k)
		if len(got) != c.opened+1 || !strings.Contains(got[c.opened], "do not open") {
			t.Errorf("%s: %q", what, got)
		}
	}
}

// TestForgedNotesSayNothingButAttempts: whoever can write to the disk has the public key, and can note whatever he wants.
func TestForgedNotesSayNothingButAttempts(t *testing.T) {
	t.Parallel()
	k, path := noted(t)
	n := openedNotes(path)
	late := time.Date(9999, 12, 31, 23, 59, 0, 0, time.FixedZone("", -23*3600)) // in UTC it is in the year 10000, which JSON cannot say
	for _, e := range []audit.Event{
		{Action: audit.Login, Session: "s1", Detail: "forged"},
		{Action: audit.ServerStop, Detail: "forged"},
		{Action: audit.UnsealRefused, Time: late, Detail: "forged"},
		{Action: audit.UnsealRefused, Who: "uid 7", Session: "s1", Origin: "of a volume", Path: "/x", Version: 3, Detail: "kept"},
	} {
		n.note(e)
	}
	var got []audit.Event
	check(t, openedNotes(path).fold(k, func(events []audit.Event) error { got = events; return nil }))
	for i := range got { // given here, not by whoever wrote the note
		if !strings.HasPrefix(got[i].Origin, "note:") {
			t.Errorf("origin %q", got[i].Origin)
		}
		got[i].Origin = ""
	}
	want := []audit.Event{
		{Action: audit.UnsealRefused, Who: "uid 7", Detail: "noted while sealed: kept"},
		{Action: audit.UnsealRefused, Count: 3, Detail: "notes of attempts while sealed do not open: the file was damaged or changed"},
	}
	if !slices.Equal(got, want) {
		t.Fatalf("recorded %+v, want %+v", got, want)
	}
	for _, e := range got {
		e.Encode() // it panics for what it cannot write
	}
}
