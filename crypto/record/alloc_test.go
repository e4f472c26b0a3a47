//go:build !race

// The race detector makes sync.Pool drop items at random.

package record

import "testing"

func TestAllocations(t *testing.T) {
	k, err := Derive(NewKey(), AccountID{1}, 1)
	if err != nil {
		t.Fatal(err)
	}
	dbkey, plain, buf := make([]byte, 33), make([]byte, 200), make([]byte, 0, 1024)
	sealed := k.Box().Seal(nil, DomainEntry, dbkey, plain)
	var sum Sum
	for _, c := range []struct {
		what string
		most float64
		fn   func()
	}{
		// The standard library allocates an AES and a GCM state per derived key.
		{"Seal", 2, func() { k.Box().Seal(buf, DomainEntry, dbkey, plain) }},
		{"Open", 2, func() { k.Box().Open(buf, DomainEntry, dbkey, sealed) }},
		{"NameToken", 0, func() { k.NameToken(1, "a file name.txt") }},
		{"Add", 0, func() { k.Set().Add(&sum, dbkey, sealed) }},
		{"Remove", 0, func() { k.Set().Remove(&sum, dbkey, sealed) }},
	} {
		if n := testing.AllocsPerRun(100, c.fn); n >= c.most+1 {
			t.Errorf("%s allocates %v times, want at most %v", c.what, n, c.most)
		}
	}
}
