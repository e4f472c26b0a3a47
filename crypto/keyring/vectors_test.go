package keyring

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/crypto/record"
)

// TestFrozenState opens state directories that an independent implementation
// (testdata/keyring_vectors.py) wrote with keyrings of format 1 and 2, which must open for ever.
func TestFrozenState(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"keyring", "keyring2", "keyring2-owed"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testFrozenState(t, name)
		})
	}
}

func testFrozenState(t *testing.T, ringFile string) {
	base := t.TempDir()
	state := filepath.Join(base, "state")
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"key": base, sealName: state, keyringName: state} {
		from := name
		if name == keyringName {
			from = ringFile
		}
		data, err := os.ReadFile(filepath.Join("testdata", from))
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
		Name          []byte
		NameToken     []byte `json:"name_token"`
		RootMade      int64  `json:"root_made"`
		Made          []int64
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

	seal := &KeyFile{Path: filepath.Join(base, "key")}
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
	if token := k.NameToken("name", "alice"); !bytes.Equal(token[:], want.NameToken) || token == k.PolicyToken("name", "alice") {
		t.Errorf("name token %x, want %x", token, want.NameToken)
	}
	if ringFile == "keyring" { // of a time without times
		want.RootMade, want.Made = 0, make([]int64, len(want.Accounts))
	}
	if got := k.Status().Created; !got.Equal(when(want.RootMade)) {
		t.Errorf("the root was made %v, want %v", got, when(want.RootMade))
	}
	for i, a := range want.Accounts {
		if age, err := k.Age(AccountID(a.ID)); err != nil || !age.Created.Equal(when(want.Made[i])) {
			t.Errorf("account %x was made %v, want %v; %v", a.ID, age.Created, when(want.Made[i]), err)
		}
	}
	if got, want := k.Status().Owed, map[string]uint32{"keyring2-owed": 2}[ringFile]; uint32(got) != want {
		t.Errorf("it owes %d, want %d", got, want)
	}
	policy, err := k.Policy()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := policy.Open(nil, record.DomainPolicy, []byte("place"), want.Policy); err != nil || string(got) != "a policy value" {
		t.Errorf("policy: got %q, %v", got, err)
	}
	names, err := k.Names()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := names.Open(nil, record.DomainNames, []byte("place"), want.Name); err != nil || string(got) != "a name" {
		t.Errorf("name: got %q, %v", got, err)
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
	if err := k.RotateRoot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := mustOpen(t, state, seal); got.Epoch() != want.Epoch+1 || len(got.Accounts()) != len(want.Accounts)+1 {
		t.Errorf("epoch %d with %d accounts after a rotation", got.Epoch(), len(got.Accounts()))
	}
}

// TestFrozenKeyringsThatAreRefused: each is right under the root but for what it is named after.
func TestFrozenKeyringsThatAreRefused(t *testing.T) {
	t.Parallel()
	var bad map[string][]byte
	if err := json.Unmarshal(read(t, "testdata/keyring-bad.json"), &bad); err != nil {
		t.Fatal(err)
	}
	if len(bad) < 20 {
		t.Errorf("only %d of them", len(bad))
	}
	base := t.TempDir()
	write(t, filepath.Join(base, "key"), read(t, "testdata/key"))
	try := func(ring []byte) error {
		dir := t.TempDir()
		write(t, filepath.Join(dir, sealName), read(t, "testdata/seal.json"))
		write(t, filepath.Join(dir, keyringName), ring)
		k, err := Open(t.Context(), dir, &KeyFile{Path: filepath.Join(base, "key")})
		if err == nil {
			k.Close()
		}
		return err
	}
	for what, ring := range bad {
		if err := try(ring); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: got %v, want %v", what, err, ErrDamaged)
		}
	}
	if err := try(read(t, "testdata/keyring2-owed")); err != nil {
		t.Errorf("the whole one: %v", err)
	}
}

// TestVectorsComeFromTheSecondImplementation runs the programs in Python that made what lies in testdata: they still write the same bytes.
func TestVectorsComeFromTheSecondImplementation(t *testing.T) {
	t.Parallel()
	python, err := exec.LookPath("python3")
	if err == nil {
		err = exec.CommandContext(t.Context(), python, "-c", "import cryptography").Run()
	}
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("CI=true leaves nothing out: apt-get install python3-cryptography: %v", err)
		}
		t.Skip("needs python3 with the package cryptography")
	}
	argon2 := exec.CommandContext(t.Context(), python, "-c", "import argon2").Run() == nil ||
		exec.CommandContext(t.Context(), python, "-c", "from cryptography.hazmat.primitives.kdf.argon2 import Argon2id").Run() == nil
	dir := t.TempDir()
	for _, maker := range []string{"record/testdata/record_vectors.py", "keyring/testdata/keyring_vectors.py", "keyring/testdata/seal_vectors.py"} {
		to := filepath.Join(dir, filepath.FromSlash(maker))
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, to, read(t, filepath.Join("..", filepath.FromSlash(maker))))
	}
	makers := []string{"keyring_vectors.py"}
	if argon2 {
		makers = append(makers, "seal_vectors.py")
	} else if os.Getenv("CI") == "true" {
		t.Error("CI=true leaves nothing out: apt-get install python3-argon2")
	}
	made := filepath.Join(dir, "keyring", "testdata")
	for _, maker := range makers {
		if out, err := exec.CommandContext(t.Context(), python, filepath.Join(made, maker)).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", maker, err, out)
		}
	}
	list, err := os.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	for _, d := range list {
		if d.IsDir() || filepath.Ext(d.Name()) == ".py" {
			continue
		}
		got, err := os.ReadFile(filepath.Join(made, d.Name()))
		if errors.Is(err, fs.ErrNotExist) && !argon2 && strings.HasPrefix(d.Name(), "seal") {
			continue
		}
		if err != nil || !bytes.Equal(got, read(t, filepath.Join("testdata", d.Name()))) {
			t.Errorf("%s is not what its maker writes now: %v", d.Name(), err)
		}
		compared++
	}
	if compared < 6 {
		t.Errorf("only %d files compared", compared)
	}
}
