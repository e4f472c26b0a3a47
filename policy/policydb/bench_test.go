package policydb

import (
	"bytes"
	"fmt"
	"syscall"
	"testing"
	"time"
)

// BenchmarkApply10000 is a change of a policy of 10,000 accounts: read, check, difference, sealed, durable.
func BenchmarkApply10000(b *testing.B) {
	var t bytes.Buffer
	t.WriteString("version: 1\nsite: {session: {max: 16}}\ngroups:\n  partners: {protocols: [sftp, ftps], allow_from: [10.0.0.0/8]}\naccounts:\n")
	for i := range 10_000 {
		fmt.Fprintf(&t, "  account%05d: {groups: [partners], session: {max: %d}, backup: {retention_days: %d}} # customer %d\n", i, 1+i%16, 7+i%20, i)
	}
	texts := [][]byte{t.Bytes(), bytes.Replace(t.Bytes(), []byte("{max: 16}}\ngroups"), []byte("{max: 15}}\ngroups"), 1)}
	db := open(b, options(b))
	if _, err := db.Apply(b.Context(), Change{Text: texts[0]}); err != nil {
		b.Fatal(err)
	}
	before, n := cpu(b), uint64(1)
	for ; b.Loop(); n++ {
		r, err := db.Apply(b.Context(), Change{Base: n, Text: texts[n%2], Who: "bench"})
		if err != nil || r.N != n+1 {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(t.Len()))
	b.ReportMetric(float64((cpu(b)-before).Milliseconds())/float64(b.N), "cpu-ms/op") // what travels: the clock of a shared machine does not
}

// cpu is what the process has used.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
