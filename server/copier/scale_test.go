package copier

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sallyport/crypto/keyring"
	"sallyport/server/audit"
	"sallyport/server/statecopy"
	"sallyport/vfs"
)

// TestManyAccounts measures copies of as many accounts as SALLYPORT_COPIES says, each of which has one file of 4 KiB and a small one: a first copy, one
// without changes, and one of which ten changed; beside each, somebody else opens volumes, writes to them and appends to the audit log.
// Making the accounts takes longer than the measurement. `make copies` runs it.
func TestManyAccounts(t *testing.T) {
	n, _ := strconv.Atoi(os.Getenv("SALLYPORT_COPIES"))
	if n == 0 {
		t.Skip("SALLYPORT_COPIES says of how many accounts")
	}
	h := newHouse(t)
	ids := make([]keyring.AccountID, n)
	began := time.Now()
	for i := range ids {
		ids[i] = h.account(map[string][]byte{"file": noise(4096, byte(i)), "small": []byte("small")})
		if i%5000 == 4999 {
			h.reopen() // nobody has ten thousand accounts in use
			fmt.Printf("%d accounts made in %v\n", i+1, time.Since(began).Round(time.Second))
		}
	}
	h.reopen()
	to := filepath.Join(t.TempDir(), "copy")
	h.measured("first copy", to, ids, statecopy.Options{})
	h.measured("nothing changed", to, ids, statecopy.Options{})
	for i := range 10 {
		h.write(ids[i*(n/10)], map[string][]byte{"small": fmt.Appendf(nil, "changed %d", i)})
	}
	h.measured("10 accounts changed", to, ids, statecopy.Options{})
	h.measured("--deep", to, ids, statecopy.Options{Deep: true})
}

// measured makes a copy, and says what it cost.
func (h *house) measured(what, to string, ids []keyring.AccountID, o statecopy.Options) {
	h.t.Helper()
	ctx, cancel := context.WithCancel(h.t.Context())
	var others sync.WaitGroup
	var waits []time.Duration
	others.Go(func() { waits = h.meanwhile(ctx, ids) })
	runtime.GC()
	var most uint64
	others.Go(func() { most = mostHeap(ctx) })
	cpu, read, wrote, began := used(), counted("rchar"), counted("wchar"), time.Now()
	done, err := h.copyTo(to, o, nil)
	took := time.Since(began)
	cpu, read, wrote = used()-cpu, counted("rchar")-read, counted("wchar")-wrote
	cancel()
	others.Wait()
	if err != nil {
		h.t.Fatal(err)
	}
	slices.Sort(waits)
	fmt.Printf("%-20s %6.1f s, %6.2f CPU s, %7.1f MB read, %7.1f MB written, heap at most %d MB; %d accounts taken over, %d blobs copied; %d operations of others meanwhile, median %v, 99 %% %v, longest %v\n",
		what, took.Seconds(), cpu.Seconds(), read/1e6, wrote/1e6, most>>20, done.Same, done.Copied, len(waits), waits[len(waits)/2].Round(time.Microsecond),
		waits[len(waits)*99/100].Round(time.Microsecond), waits[len(waits)-1].Round(time.Microsecond))
}

// meanwhile does what a login and an upload do below the front-ends, every 20 ms, until ctx ends: how long each took.
func (h *house) meanwhile(ctx context.Context, ids []keyring.AccountID) (waits []time.Duration) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		began := time.Now()
		if err := h.visit(context.WithoutCancel(ctx), ids[i*7919%min(100, len(ids))]); err != nil {
			h.t.Error(err)
			return append(waits, 0)
		}
		waits = append(waits, time.Since(began))
		select {
		case <-ctx.Done():
			return waits
		case <-tick.C:
		}
	}
}

func (h *house) visit(ctx context.Context, id keyring.AccountID) error {
	if _, err := h.db.AccountByID(id); err != nil {
		return err
	}
	if err := h.log.Append(ctx, audit.Event{Action: audit.Login, Account: audit.ID(id)}); err != nil {
		return err
	}
	v, err := h.fs.Volume(ctx, id)
	if err != nil {
		return err
	}
	w := v.View(vfs.ViewOptions{Writer: "test"})
	defer w.Close()
	_, err = w.Stat("file")
	return err
}

func used() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// counted is a counter of /proc/self/io: bytes of read and write calls, pages that are mapped are not among them.
func counted(name string) float64 {
	data, err := os.ReadFile("/proc/self/io")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		if v, ok := strings.CutPrefix(line, name+": "); ok {
			n, _ := strconv.ParseFloat(strings.TrimSpace(v), 64)
			return n
		}
	}
	return 0
}

func mostHeap(ctx context.Context) (most uint64) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var m runtime.MemStats
	for {
		runtime.ReadMemStats(&m)
		most = max(most, m.HeapAlloc)
		select {
		case <-ctx.Done():
			return most
		case <-tick.C:
		}
	}
}
