package pagecheck

import (
	"bytes"
	"testing"
)

func TestKeyBounds(t *testing.T) {
	t.Parallel()
	k := func(s string) [][]byte { return bytes.Split([]byte(s), []byte(" ")) }
	for _, c := range []struct {
		keys, lo, hi string
		want         bool
	}{
		{"b c", "b", "d", true}, {"b c", "", "", true}, {"c b", "a", "d", false}, {"b b", "a", "d", false},
		{"a c", "b", "d", false}, {"b d", "b", "d", false},
	} {
		var hi []byte
		if c.hi != "" {
			hi = []byte(c.hi)
		}
		if got := ascending(k(c.keys), []byte(c.lo), hi); got != c.want {
			t.Errorf("ascending(%q, %q, %q) = %v", c.keys, c.lo, c.hi, got)
		}
	}
}
