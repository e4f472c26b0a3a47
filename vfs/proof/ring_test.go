package proof

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// TestTamperRing changes seal.json and keyring: every byte, every length, older files, and each with another site's.
func TestTamperRing(t *testing.T) {
	t.Parallel()
	c, other := withAccounts(t), withAccounts(t)
	for _, name := range []string{"seal.json", "keyring"} {
		good, err := os.ReadFile(filepath.Join(c.state, name))
		if err != nil {
			t.Fatal(err)
		}
		foreign, err := os.ReadFile(filepath.Join(other.state, name))
		if err != nil {
			t.Fatal(err)
		}
		cases, exact := map[string]int{}, 0
		try := func(kind string, data []byte, must bool) {
			t.Helper()
			cases[kind]++
			refused, err := c.attackRing(c.state, name, data)
			if err != nil || must && !refused {
				t.Errorf("%s of %s: refused: %v, %v", kind, name, refused, err)
			}
			if !refused {
				exact++
			}
		}
		for i := range good {
			p := bytes.Clone(good)
			p[i] ^= 1 << (i % 8)
			try("flip a bit", p, name == "keyring")
			try("truncate", good[:i], name == "keyring" || i < len(good)-2)
			p = bytes.Clone(good)
			copy(p[i:], foreign[min(i, len(foreign)):])
			try("end of another site's", p, false)
			p = append(bytes.Clone(foreign[:min(i, len(foreign))]), good[i:]...)
			try("beginning of another site's", p, false)
		}
		try("another site's", foreign, true)
		try("nothing", nil, true)
		if err := os.WriteFile(filepath.Join(c.state, name), good, 0o600); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %s; %d of them changed nothing that matters", name, list(cases), exact)
	}
	if refused, err := c.attackRing(c.state, "other", nil); refused || err != nil {
		t.Errorf("afterwards: refused: %v, %v", refused, err)
	}
}

func withAccounts(t *testing.T) *corpus {
	t.Helper()
	c := emptyCorpus(t)
	for range 3 {
		if _, err := c.ring.NewAccount(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return c
}
