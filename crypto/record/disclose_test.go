package record

import (
	"errors"
	"testing"
)

// A disclosed key opens its record, bound to its place as ever, and no other record of the same Box.
func TestADisclosedKeyOpensOneRecord(t *testing.T) {
	t.Parallel()
	box, err := NewBox(NewKey(), AccountID{}, 7)
	if err != nil {
		t.Fatal(err)
	}
	place := []byte("place")
	one, two := box.Seal(nil, DomainAudit, place, []byte("what happened")), box.Seal(nil, DomainAudit, place, []byte("what happened"))
	key, err := box.Disclose(one)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := key.Open([]byte("dst"), AccountID{}, DomainAudit, place, one); err != nil || string(got) != "dstwhat happened" {
		t.Errorf("%q, %v", got, err)
	}
	for what, err := range map[string]error{
		"another record":  open(&key, AccountID{}, DomainAudit, place, two),
		"another place":   open(&key, AccountID{}, DomainAudit, []byte("elsewhere"), one),
		"another domain":  open(&key, AccountID{}, DomainPolicy, place, one),
		"another account": open(&key, AccountID{1}, DomainAudit, place, one),
		"a short one":     open(&key, AccountID{}, DomainAudit, place, one[:40]),
	} {
		if !errors.Is(err, ErrAuth) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for i := range one[headerSize:] {
		bad := append([]byte(nil), one...)
		bad[headerSize+i] ^= 1
		// The first half of the nonce only chose the key, which is given here.
		if err := open(&key, AccountID{}, DomainAudit, place, bad); i >= subkeyNonce && !errors.Is(err, ErrAuth) {
			t.Errorf("byte %d changed: %v", i, err)
		}
	}
	if _, err := box.Disclose(one[:10]); !errors.Is(err, ErrAuth) {
		t.Errorf("a stump: %v", err)
	}
}

func open(k *MessageKey, id AccountID, d Domain, place, sealed []byte) error {
	_, err := k.Open(nil, id, d, place, sealed)
	return err
}
