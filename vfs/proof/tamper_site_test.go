package proof

import (
	"context"
	"errors"
	"testing"

	"sallyport/crypto/keyring"
	"sallyport/policy/policydb"
)

// Names of what is attacked begin with these where it is no volume.
const (
	policyOf = "policy "
	auditOf  = "audit "

	policyFile = "policy.db"
	says       = "what it says" // the one file of the tree of a store that is no volume
)

// judgeText is the verdict on what a store that is no volume says.
func judgeText(b *bench, want wish, text string, err, damaged error) (verdict, error) {
	switch {
	case err != nil && !want.refuse && !want.mayRefuse:
		return verdict{}, wrong("refused: %v", err)
	case err != nil && !errors.Is(err, damaged) && !want.missing:
		return verdict{}, wrong("refused for another reason: %v", err)
	case err != nil:
		return verdict{refused: true}, nil
	case want.refuse:
		return verdict{}, wrong("it is taken, and says\n%s", text)
	}
	trees := want.trees
	if trees == nil {
		trees = []tree{b.store.truth}
	}
	for _, t := range trees {
		if string(t[says].content) == text {
			return verdict{}, nil
		}
	}
	return verdict{}, wrong("it says what it never said\n%s", text)
}

// askPolicy opens policy.db, at a time at which nothing goes back by itself.
func askPolicy(b *bench, want wish, ring *keyring.Keyring) (verdict, error) {
	p, err := openPolicy(context.Background(), b.path("."), ring, dawn)
	if err != nil {
		return judgeText(b, want, "", err, policydb.ErrDamaged)
	}
	defer p.db.Close()
	text, err := policyState(p.db)
	return judgeText(b, want, text, err, policydb.ErrDamaged)
}

// policyStore is a policy.db after the script, with every kind of record in it: the last change waits for its confirmation.
func (c *corpus) policyStore(t testing.TB, seed byte) *store {
	t.Helper()
	ctx := context.Background()
	id := keyring.AccountID{0xff, seed}
	s := &store{name: "policy", id: id, of: policyOf, files: map[string][]byte{}, dirs: []string{"."}}
	dir := c.state
	p, err := openPolicy(ctx, dir, c.ring, dawn)
	if err != nil {
		t.Fatal(err)
	}
	script := policyScript()
	script = append(script, script[7]) // until confirmed
	for i := -1; i < len(script); i++ {
		if i >= 0 {
			if err := script[i].run(ctx, p); err != nil {
				t.Fatalf("%s: %v", script[i].what, err)
			}
		}
		text, err := policyState(p.db)
		if err != nil {
			t.Fatal(err)
		}
		image, err := readDatabase(p.o.Path)
		if err != nil {
			t.Fatal(err)
		}
		s.past = append(s.past, past{image, tree{says: node{content: []byte(text)}}})
	}
	if err := p.db.Close(); err != nil {
		t.Fatal(err)
	}
	last := s.past[len(s.past)-1]
	s.truth, s.files[policyFile] = last.truth, last.image
	s.ask = func(b *bench, want wish) (verdict, error) { return askPolicy(b, want, c.ring) }
	return s
}
