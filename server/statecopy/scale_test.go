package statecopy

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"sallyport/vfs/blob"
)

// TestManyAccounts measures the side of the target with as many accounts as SALLYPORT_TARGET says: what a copy costs beside the server's
// work. `make copies` runs it.
func TestManyAccounts(t *testing.T) {
	n, _ := strconv.Atoi(os.Getenv("SALLYPORT_TARGET"))
	if n == 0 {
		t.Skip("SALLYPORT_TARGET says of how many accounts")
	}
	f := newFake()
	for i := range n {
		id := AccountID{byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i), 1}
		f.accounts[id] = &fakeAccount{version: 1, tree: fmt.Appendf(make([]byte, 16<<10), "%d", i), blobs: map[blob.ID][]byte{{byte(i), 1}: make([]byte, 4096)}}
	}
	path := filepath.Join(t.TempDir(), "copy")
	for _, what := range []string{"first copy", "nothing changed", "10 accounts changed"} {
		if what == "10 accounts changed" {
			for i := range 10 {
				f.accounts[AccountID{0, 0, byte(i * 7), byte(i), 1}].tree[0]++
			}
		}
		runtime.GC()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		cpu, began := used(), time.Now()
		done, err := f.run(t, path, Options{})
		took := time.Since(began)
		cpu = used() - cpu
		runtime.ReadMemStats(&after)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("%-20s %6.1f s, %6.2f CPU s, %d accounts taken over; heap %d MB before, %d MB after\n", what, took.Seconds(), cpu.Seconds(), done.Same, before.HeapAlloc>>20, after.HeapAlloc>>20)
	}
}

func used() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
