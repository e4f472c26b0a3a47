package record

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"testing"
)

// vectors is testdata/record.json, made by testdata/record_vectors.py.
type vectors struct {
	Records []struct {
		Name         string
		Key, Account []byte
		Epoch        uint32
		Domain       Domain
		DBKey        []byte
		Plain        []byte
		Sealed       []byte
		OK           bool
	}
	Accounts []struct {
		Key, Account []byte
		Version      uint32
		Derived      map[string][]byte
		Inode        uint64
		Name         string
		DirToken     []byte `json:"dir_token"`
		NameToken    []byte `json:"name_token"`
		FoldToken    []byte `json:"fold_token"`
		Blob         []byte
		DataKey      []byte `json:"data_key"`
		Wrapped      []byte
		WrongKey     []byte `json:"wrong_key"`
		Damaged      []byte
		Elements     []struct{ DBKey, Value []byte }
		Sum          []byte
	}
}

func loadVectors(t *testing.T) (v vectors) {
	t.Helper()
	data, err := os.ReadFile("testdata/record.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.Records) < 30 || len(v.Accounts) < 2 {
		t.Fatalf("only %d records and %d accounts", len(v.Records), len(v.Accounts))
	}
	return v
}

func TestFrozenRecords(t *testing.T) {
	t.Parallel()
	for _, v := range loadVectors(t).Records {
		box, err := NewBox((*Key)(v.Key), AccountID(v.Account), v.Epoch)
		if err != nil {
			t.Fatal(err)
		}
		got, err := box.Open([]byte("dst"), v.Domain, v.DBKey, v.Sealed)
		if !v.OK {
			if !errors.Is(err, ErrAuth) || got != nil {
				t.Errorf("%s: got %q and %v, want %v", v.Name, got, err, ErrAuth)
			}
			continue
		}
		if err != nil || !bytes.Equal(got, append([]byte("dst"), v.Plain...)) {
			t.Errorf("%s: got %q and %v, want %q", v.Name, got, err, v.Plain)
		}
		if len(v.Sealed) != SealedSize(len(v.Plain)) {
			t.Errorf("%s: SealedSize is %d, want %d", v.Name, SealedSize(len(v.Plain)), len(v.Sealed))
		}
	}
}

func TestFrozenAccounts(t *testing.T) {
	t.Parallel()
	for _, v := range loadVectors(t).Accounts {
		k, err := Derive((*Key)(v.Key), AccountID(v.Account), v.Version)
		if err != nil {
			t.Fatal(err)
		}
		for purpose, want := range v.Derived {
			expand((*Key)(v.Key), purpose, AccountID(v.Account), v.Version).Use(func(got []byte) {
				if !bytes.Equal(got, want) {
					t.Errorf("derived key %s differs", purpose)
				}
			})
		}
		dir, name, fold := k.DirToken(v.Inode), k.NameToken(v.Inode, v.Name), k.FoldToken(v.Inode, v.Name)
		if !bytes.Equal(dir[:], v.DirToken) || !bytes.Equal(name[:], v.NameToken) || !bytes.Equal(fold[:], v.FoldToken) {
			t.Errorf("tokens: got %x %x %x, want %x %x %x", dir, name, fold, v.DirToken, v.NameToken, v.FoldToken)
		}
		key, err := k.DataKey([16]byte(v.Blob), v.Wrapped)
		if err != nil || !bytes.Equal(key[:], v.DataKey) {
			t.Errorf("data key: differs (err %v)", err)
		}
		if _, err := k.DataKey([16]byte(v.Blob), v.WrongKey); !errors.Is(err, ErrWrongKey) {
			t.Errorf("commitment changed: got %v, want %v", err, ErrWrongKey)
		}
		if _, err := k.DataKey([16]byte(v.Blob), v.Damaged); !errors.Is(err, ErrAuth) || errors.Is(err, ErrWrongKey) {
			t.Errorf("record changed: got %v, want %v", err, ErrAuth)
		}
		var sum Sum
		for _, e := range v.Elements {
			k.Set().Add(&sum, e.DBKey, e.Value)
		}
		if !bytes.Equal(sum[:], v.Sum) {
			t.Errorf("set hash: got %x, want %x", sum, v.Sum)
		}
	}
}

// TestXAES has the vectors of c2sp.org/XAES-256-GCM: one for each value of the
// bit that falls out of the subkey's shift.
func TestXAES(t *testing.T) {
	t.Parallel()
	for _, v := range []struct {
		key       byte
		aad, want string
	}{
		{1, "", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"},
		{3, "c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"},
	} {
		x, err := newXAES((*Key)(bytes.Repeat([]byte{v.key}, 32)))
		if err != nil {
			t.Fatal(err)
		}
		sealed, err := hex.DecodeString(hex.EncodeToString([]byte("ABCDEFGHIJKLMNOPQRSTUVWX")) + v.want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := x.open(nil, sealed, []byte(v.aad), new(subkeyBuf))
		if err != nil || string(got) != "XAES-256-GCM" {
			t.Errorf("key %d: got %q, %v", v.key, got, err)
		}
	}
}

// TestCommitmentIsHKDF holds the shortcut in KEK.commitment against the library.
func TestCommitmentIsHKDF(t *testing.T) {
	t.Parallel()
	key := NewKey()
	k, err := NewKEK(key, 1)
	if err != nil {
		t.Fatal(err)
	}
	info := string(appendAAD([]byte(commitLabel), AccountID{9}, DomainDataKey, []byte("blob")))
	want, err := hkdf.Expand(sha256.New, key[:], info, commitSize)
	if err != nil {
		t.Fatal(err)
	}
	wrapped := k.Wrap(AccountID{9}, DomainDataKey, []byte("blob"), NewKey())
	if !bytes.Equal(wrapped[:commitSize], want) || len(wrapped) != WrappedSize {
		t.Fatalf("got %x (%d bytes), want %x", wrapped[:commitSize], len(wrapped), want)
	}
}
