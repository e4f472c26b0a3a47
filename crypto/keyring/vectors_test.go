package keyring

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"sallyport/crypto/record"
)

// TestFrozenState opens a state directory that an independent implementation
// (testdata/keyring_vectors.py) wrote in format 1, which must open for ever.
func TestFrozenState(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	state := filepath.Join(base, "state")
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"key": base, sealName: state, keyringName: state} {
		data, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var want struct {
		Epoch         uint32
		Policy, Audit []byte
		Token         []byte
		Accounts      []struct {
			ID      []byte
			Version uint32
			Token   []byte
		}
	}
	text, err := os.ReadFile("testdata/expected.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}

	seal := &KeyFile{filepath.Join(base, "key")}
	k := mustOpen(t, state, seal)
	if k.Epoch() != want.Epoch || len(k.Accounts()) != len(want.Accounts) || len(want.Accounts) == 0 {
		t.Errorf("epoch %d with %d accounts, want %d with %d", k.Epoch(), len(k.Accounts()), want.Epoch, len(want.Accounts))
	}
	for _, a := range want.Accounts {
		keys, err := k.Account(AccountID(a.ID))
		if err != nil {
			t.Fatal(err)
		}
		token := keys.NameToken(1, "a")
		if keys.Version() != a.Version || !bytes.Equal(token[:], a.Token) {
			t.Errorf("account %x: version %d, token %x, want %d, %x", a.ID, keys.Version(), token, a.Version, a.Token)
		}
	}
	if token := k.PolicyToken("account", "alice"); !bytes.Equal(token[:], want.Token) {
		t.Errorf("policy token %x, want %x", token, want.Token)
	}
	policy, err := k.Policy()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := policy.Open(nil, record.DomainPolicy, []byte("place"), want.Policy); err != nil || string(got) != "a policy value" {
		t.Errorf("policy: got %q, %v", got, err)
	}
	audit, err := k.Audit()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := audit.Open(nil, record.DomainAudit, []byte("place"), want.Audit); err != nil || string(got) != "an audit value" {
		t.Errorf("audit: got %q, %v", got, err)
	}

	// It goes on living.
	if _, err := k.NewAccount(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := len(mustOpen(t, state, seal).Accounts()); got != len(want.Accounts)+1 {
		t.Errorf("%d accounts after adding one", got)
	}
}
