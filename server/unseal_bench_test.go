package server

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"sallyport/crypto/keyring"
	"sallyport/policy/policydb"
)

// BenchmarkUnseal opens everything that needs keys, as unsealing does, with as
// many accounts as SALLYPORT_BENCH_ACCOUNTS says (10,000 by default).
// Volumes open later, when somebody comes. Making them takes longer than the measurement.
func BenchmarkUnseal(b *testing.B) {
	n := 10_000
	if text := os.Getenv("SALLYPORT_BENCH_ACCOUNTS"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			b.Fatal(err)
		}
	}
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	c := DefaultConfig()
	c.State.Dir, c.Seal.KeyFile = filepath.Join(b.TempDir(), "state"), filepath.Join(b.TempDir(), "key")
	seal, err := keyring.NewKeyFile(c.Seal.KeyFile)
	must(err)
	k, err := keyring.Create(b.Context(), c.State.Dir, seal)
	must(err)
	must(k.Close())
	log := slog.New(slog.DiscardHandler)
	p, err := openParts(b.Context(), c, seal, c.formerSeal, log)
	must(err)
	for i := range n {
		id, err := p.keyring.NewAccount(b.Context())
		must(err)
		_, err = p.policy.CreateAccount(b.Context(), policydb.NewAccount{Name: fmt.Sprintf("account-%d", i), ID: id, Who: "bench"})
		must(err)
	}
	must(p.close())
	var used time.Duration // of the processors: what a busy machine tells, too
	for b.Loop() {
		began := cpu()
		p, err := openParts(b.Context(), c, seal, c.formerSeal, log)
		must(err)
		if len(p.keyring.Accounts()) != n {
			b.Fatal("accounts are missing")
		}
		b.StopTimer()
		used += cpu() - began
		must(p.close())
		b.StartTimer()
	}
	b.ReportMetric(used.Seconds()/float64(b.N), "cpu-s/op")
}

// cpu is what this process has had of the processors.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
