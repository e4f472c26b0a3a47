package copier

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/server/audit"
	"sallyport/server/statecopy"
)

// heldFiles are the open descriptors of this process that lie below a directory and have no name any more.
func heldFiles(t *testing.T, dir string) (list []string) {
	t.Helper()
	for _, fd := range must(os.ReadDir("/proc/self/fd"))(t) {
		to, err := os.Readlink("/proc/self/fd/" + fd.Name())
		if err == nil && strings.HasPrefix(to, dir+"/") && strings.HasSuffix(to, " (deleted)") {
			list = append(list, to)
		}
	}
	return list
}

// TestWhoBreaksOffLeavesNothingOpen: in the database, in the list, between the two and behind both.
func TestWhoBreaksOffLeavesNothingOpen(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	a := h.account(map[string][]byte{"one": noise(100_000, 1)})
	for _, part := range []float64{0, 0.3, 1, 1.5, 2} {
		l := must(h.c.Begin(t.Context(), "test", ""))(t)
		p := must(l.Account(t.Context(), a))(t)
		if n := len(heldFiles(t, h.dir)); n != 2 {
			t.Fatalf("%d files are held; the test does not see them", n)
		}
		n := int64(min(part, 1)*float64(p.TreeSize) + max(part-1, 0)*float64(p.ListSize))
		must(io.CopyN(io.Discard, p.Read, n))(t)
		if err := l.End(); err != nil {
			t.Fatal(err)
		}
		if left := heldFiles(t, h.dir); len(left) > 0 {
			t.Errorf("broken off at %v: %q", part, left)
		}
		if _, err := io.Copy(io.Discard, p.Read); part < 2 && err == nil {
			t.Errorf("broken off at %v: it can be read on", part)
		}
	}
	l := must(h.c.Begin(t.Context(), "test", ""))(t)
	for range 2 { // asked for twice
		must(l.Account(t.Context(), a))(t)
	}
	if n := len(heldFiles(t, h.dir)); n != 2 {
		t.Errorf("%d files are held after asking twice", n)
	}
	if err := h.c.Close(); err != nil {
		t.Fatal(err)
	}
	if left := heldFiles(t, h.dir); len(left) > 0 {
		t.Errorf("after the end of the copier: %q", left)
	}
}

// TestSealingEndsWhatIsUnderWay: the end of the copier, or of the lease's owner, ends a call that is at work, and waits for it; nothing is
// signed after it.
func TestSealingEndsWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	a := h.account(map[string][]byte{"one": noise(100_000, 1)})
	var l *Lease
	ended := make(chan error, 1)
	h.c.o.Pending = func() ([]byte, error) { // in the middle of Next
		go func() { ended <- h.c.Close() }()
		<-l.Context().Done()
		select {
		case err := <-ended:
			t.Errorf("the copier ended while a call was at work: %v", err)
		default:
		}
		return nil, nil
	}
	l = must(h.c.Begin(t.Context(), "test", ""))(t)
	if list := must(l.Next(t.Context()))(t); len(list) != 1 {
		t.Fatalf("%v", list)
	}
	p := must(l.Account(t.Context(), a))(t)
	must(io.Copy(io.Discard, p.Read))(t)
	if list, err := l.Next(t.Context()); err == nil {
		t.Fatalf("it went on: %v", list)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if left := heldFiles(t, h.dir); len(left) > 0 {
		t.Errorf("left open: %q", left)
	}
	if _, err := l.Next(t.Context()); !errors.Is(err, ErrNoLease) {
		t.Errorf("after its end: %v", err)
	}
	if got := h.results(); got[len(got)-1] != "interrupted" {
		t.Errorf("recorded: %q", got)
	}
}

// TestWhatIsRememberedOfCopies: the last one in force, incomplete or not, and the last drill without findings; sealed, over a restart; a file that was
// changed or is of another server costs the knowledge and nothing else.
func TestWhatIsRememberedOfCopies(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.account(map[string][]byte{"one": noise(100_000, 1)})
	b := h.account(map[string][]byte{"two": noise(100_000, 2)})
	if last := h.c.Last(); last.Copy != nil || last.Drill != nil {
		t.Fatalf("before any: %+v", last)
	}
	to := filepath.Join(t.TempDir(), "copy")
	broken := errors.New("broken")
	if _, err := h.copyTo(to, statecopy.Options{}, func(step string) error {
		if step == "file" {
			return broken
		}
		return nil
	}); !errors.Is(err, broken) || h.c.Last().Copy != nil {
		t.Fatalf("a copy that broke off: %v, %+v", err, h.c.Last())
	}
	first := must(h.copyTo(to, statecopy.Options{}, nil))(t)
	if c := h.c.Last().Copy; c == nil || c.ID != first.ID || c.Damaged != 0 || c.At.Before(first.Made) {
		t.Fatalf("after a copy: %+v", c)
	}
	made := time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)
	must(h.c.Drilled(t.Context(), "uid:7", Drill{ID: first.ID, Made: made, Findings: 3}))(t)
	if h.c.Last().Drill != nil {
		t.Error("a drill with findings is remembered as good")
	}
	must(h.c.Drilled(t.Context(), "uid:7", Drill{ID: first.ID, Made: made, Deep: true}))(t)
	h.spoil(b) // restarts, too
	second := must(h.copyTo(to, statecopy.Options{}, nil))(t)
	h.restart(0)
	last := h.c.Last()
	if last.Copy == nil || last.Copy.ID != second.ID || last.Copy.Damaged != 1 {
		t.Errorf("after the second copy: %+v", last.Copy)
	}
	if last.Drill == nil || last.Drill.ID != first.ID || !last.Drill.Made.Equal(made) {
		t.Errorf("the drill: %+v", last.Drill)
	}
	var drills []string
	if err := h.log.Tail(t.Context(), 100, false, func(r audit.Record) error {
		if r.Action == audit.StateDrill {
			drills = append(drills, r.Who+" "+r.Result)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if strings.Join(drills, "|") != "uid:7 findings|uid:7 good" {
		t.Errorf("recorded: %q", drills)
	}
	file := filepath.Join(h.dir, lastFile)
	sealed := must(os.ReadFile(file))(t)
	if bytes.Contains(sealed, []byte(second.ID)) || bytes.Contains(sealed, []byte(`"copy"`)) {
		t.Error("it is in clear")
	}
	for _, bad := range [][]byte{{}, sealed[:20], append(bytes.Clone(sealed[:len(sealed)-1]), sealed[len(sealed)-1]^1), make([]byte, 100_000)} {
		if err := os.WriteFile(file, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		h.restart(0)
		if last := h.c.Last(); last.Copy != nil || last.Drill != nil {
			t.Errorf("of %d bytes: %+v", len(bad), last)
		}
	}
}
