package proof

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"
)

// lastWords is how long before go test ends a run that takes too long its tables are printed.
const lastWords = 5 * time.Second

// unfinished prints the tables of a run that will not end as it should, so that it tells what it did, and with which seed. Cases are counted
// when the chunk that they belong to is through.
func (m *machine) unfinished(out io.Writer, why string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	share := 0
	for _, a := range m.attacks {
		share += a.share
	}
	fmt.Fprintf(out, "\nthe tamper machine did not finish its %d cases: %s; %d findings\n%s\n", share, why, m.failed, tables(m.attacks, time.Since(m.began), m.seed))
}

// watch prints the tables when the run is interrupted, which ends it, and shortly before its time is up. Owner: who calls stop.
func (m *machine) watch(out io.Writer, exit func(int)) (stop func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	var late <-chan time.Time
	if t, ok := m.t.(*testing.T); ok {
		if end, ok := t.Deadline(); ok {
			late = time.After(time.Until(end) - lastWords)
		}
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case s := <-signals:
				m.unfinished(out, s.String())
				exit(1)
				return
			case <-late:
				m.unfinished(out, "its time is up")
			case <-done:
				return
			}
		}
	}()
	return func() { signal.Stop(signals); close(done); <-ended }
}

// TestAnInterruptedTamperMachineTellsWhatItDid sends this process the signal of Ctrl-C.
func TestAnInterruptedTamperMachineTellsWhatItDid(t *testing.T) {
	a := &attack{kind: "flip a bit", target: "blob", n: 1000, share: 1000, done: 250, refused: 249, store: &store{name: "s"}}
	m := &machine{t: t, seed: 42, attacks: []*attack{a}, began: time.Now(), failed: 3}
	var out strings.Builder
	code := make(chan int, 1)
	stop := m.watch(&out, func(c int) { code <- c })
	if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if c := <-code; c == 0 {
		t.Error("an interrupted run ends as a success")
	}
	stop()
	for _, want := range []string{"did not finish its 1000 cases: interrupt; 3 findings", "flip a bit", "250 cases, 249 refused, 1 answered exactly; seed 42"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it does not say %q:\n%s", want, out.String())
		}
	}
}
