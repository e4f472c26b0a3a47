package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"sallyport/crypto/locked"
)

func testBox(t testing.TB) *Box {
	t.Helper()
	b, err := NewBox((*Key)([]byte("an unsafe test key of 32 bytes!!")), AccountID{1}, 3)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	b := testBox(t)
	for size := range 300 {
		plain := bytes.Repeat([]byte{0xAB}, size)
		sealed := b.Seal([]byte("x"), DomainInode, []byte("key"), plain)
		if len(sealed) != 1+SealedSize(size) || (SealedSize(size)-45)%64 != 0 || sealed[0] != 'x' {
			t.Fatalf("%d bytes: sealed to %d bytes", size, len(sealed))
		}
		got, err := b.Open([]byte("y"), DomainInode, []byte("key"), sealed[1:])
		if err != nil || string(got) != "y"+string(plain) {
			t.Fatalf("%d bytes: got %q, %v", size, got, err)
		}
	}
}

// TestTamper flips each bit and cuts and lengthens a record everywhere.
func TestTamper(t *testing.T) {
	t.Parallel()
	b := testBox(t)
	sealed := b.Seal(nil, DomainInode, []byte("key"), []byte("plaintext"))
	cases := 0
	refuse := func(what string, at int, damaged []byte) {
		t.Helper()
		cases++
		if got, err := b.Open(nil, DomainInode, []byte("key"), damaged); !errors.Is(err, ErrAuth) || got != nil {
			t.Errorf("%s at %d: got %q and %v, want %v", what, at, got, err, ErrAuth)
		}
	}
	for i := range sealed {
		for bit := range 8 {
			damaged := slices.Clone(sealed)
			damaged[i] ^= 1 << bit
			refuse("bit flipped", i*8+bit, damaged)
		}
		refuse("truncated", i, sealed[:i])
		refuse("byte removed", i, slices.Delete(slices.Clone(sealed), i, i+1))
	}
	for n := 1; n <= 128; n++ {
		refuse("zeroes appended", n, append(slices.Clone(sealed), make([]byte, n)...))
	}
	t.Logf("%d cases", cases)
}

// TestBoundToPlace opens a record as every other kind, elsewhere, for another
// account and at another epoch.
func TestBoundToPlace(t *testing.T) {
	t.Parallel()
	b := testBox(t)
	sealed := b.Seal(nil, DomainInode, []byte("key"), []byte("plaintext"))
	for d := range Domain(255) {
		if _, err := b.Open(nil, d, []byte("key"), sealed); (err == nil) != (d == DomainInode) {
			t.Errorf("domain %d: %v", d, err)
		}
	}
	for _, dbkey := range []string{"", "ke", "keyy", "Key"} {
		if _, err := b.Open(nil, DomainInode, []byte(dbkey), sealed); !errors.Is(err, ErrAuth) {
			t.Errorf("database key %q: %v", dbkey, err)
		}
	}
	key := (*Key)([]byte("an unsafe test key of 32 bytes!!"))
	for _, other := range []struct {
		account AccountID
		epoch   uint32
	}{{AccountID{2}, 3}, {AccountID{1}, 2}, {AccountID{1}, 4}, {AccountID{}, 3}} {
		o, err := NewBox(key, other.account, other.epoch)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := o.Open(nil, DomainInode, []byte("key"), sealed); !errors.Is(err, ErrAuth) {
			t.Errorf("account %v, epoch %d: %v", other.account, other.epoch, err)
		}
	}
}

func TestSealingTwiceDiffers(t *testing.T) {
	t.Parallel()
	b := testBox(t)
	x, y := b.Seal(nil, DomainInode, nil, nil), b.Seal(nil, DomainInode, nil, nil)
	for from := headerSize; from < len(x); from += 12 { // each half of the nonce, and what follows
		if to := min(from+12, len(x)); bytes.Equal(x[from:to], y[from:to]) {
			t.Errorf("bytes %d to %d are equal in two records", from, to)
		}
	}
}

func TestWrap(t *testing.T) {
	t.Parallel()
	k, err := NewKEK(NewKey(), 1)
	if err != nil {
		t.Fatal(err)
	}
	key, at := NewKey(), []byte("place")
	wrapped := k.Wrap(AccountID{1}, DomainAccountKey, at, key)
	if got, err := k.Unwrap(AccountID{1}, DomainAccountKey, at, wrapped); err != nil || *got != *key {
		t.Fatalf("got %v", err)
	}
	for i := range wrapped {
		damaged := slices.Clone(wrapped)
		damaged[i] ^= 1
		_, err := k.Unwrap(AccountID{1}, DomainAccountKey, at, damaged)
		if !errors.Is(err, ErrAuth) || errors.Is(err, ErrWrongKey) != (i < commitSize) {
			t.Errorf("byte %d flipped: got %v", i, err)
		}
		if _, err := k.Unwrap(AccountID{1}, DomainAccountKey, at, wrapped[:i]); !errors.Is(err, ErrAuth) {
			t.Errorf("cut to %d bytes: got %v", i, err)
		}
	}
	other, err := NewKEK(NewKey(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Unwrap(AccountID{1}, DomainAccountKey, at, wrapped); !errors.Is(err, ErrWrongKey) {
		t.Errorf("other KEK: got %v, want %v", err, ErrWrongKey)
	}
	if _, err := k.Unwrap(AccountID{2}, DomainAccountKey, at, wrapped); !errors.Is(err, ErrAuth) {
		t.Errorf("other account: got %v, want %v", err, ErrAuth)
	}
	if _, err := k.Unwrap(AccountID{1}, DomainDataKey, at, wrapped); !errors.Is(err, ErrAuth) {
		t.Errorf("other domain: got %v, want %v", err, ErrAuth)
	}
}

// TestDataKeysAreBoundToTheBlob swaps the wrapped keys of two blobs and of two accounts.
func TestDataKeysAreBoundToTheBlob(t *testing.T) {
	t.Parallel()
	master := NewKey()
	a, err := Derive(master, AccountID{1}, 1)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Derive(master, AccountID{2}, 1)
	if err != nil {
		t.Fatal(err)
	}
	key, wrapped, err := a.NewDataKey([16]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := a.DataKey([16]byte{1}, wrapped); err != nil || *got != *key {
		t.Fatalf("got %v", err)
	}
	if _, err := a.DataKey([16]byte{2}, wrapped); !errors.Is(err, ErrAuth) {
		t.Errorf("other blob: got %v, want %v", err, ErrAuth)
	}
	if _, err := b.DataKey([16]byte{1}, wrapped); !errors.Is(err, ErrAuth) {
		t.Errorf("other account: got %v, want %v", err, ErrAuth)
	}
}

func TestTokensDiffer(t *testing.T) {
	t.Parallel()
	k, err := Derive(NewKey(), AccountID{1}, 1)
	if err != nil {
		t.Fatal(err)
	}
	next, err := Derive(NewKey(), AccountID{1}, 2)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[[16]byte]string{}
	for what, token := range map[string][16]byte{
		"dir 1": k.DirToken(1), "dir 2": k.DirToken(2), "name 1 a": k.NameToken(1, "a"), "name 1 b": k.NameToken(1, "b"),
		"name 2 a": k.NameToken(2, "a"), "name 1": k.NameToken(1, ""), "fold 1 a": k.FoldToken(1, "a"), "next": next.NameToken(1, "a"),
	} {
		if other, ok := seen[token]; ok {
			t.Errorf("%s and %s have one token", what, other)
		}
		seen[token] = what
	}
}

// TestSet checks that the sum depends on what is in the set and on nothing else.
func TestSet(t *testing.T) {
	t.Parallel()
	k, err := Derive(NewKey(), AccountID{1}, 1)
	if err != nil {
		t.Fatal(err)
	}
	s := k.Set()
	add := func(sum Sum, kv ...string) Sum {
		for i := 0; i < len(kv); i += 2 {
			s.Add(&sum, []byte(kv[i]), []byte(kv[i+1]))
		}
		return sum
	}
	abc := add(Sum{}, "a", "1", "b", "2", "c", "3")
	if got := add(Sum{}, "c", "3", "a", "1", "b", "2"); got != abc {
		t.Error("order matters")
	}
	for what, other := range map[string]Sum{
		"a record less":      add(Sum{}, "a", "1", "b", "2"),
		"a record twice":     add(abc, "a", "1"),
		"values exchanged":   add(Sum{}, "a", "2", "b", "1", "c", "3"),
		"older value":        add(Sum{}, "a", "0", "b", "2", "c", "3"),
		"byte moved to key":  add(Sum{}, "a1", "", "b", "2", "c", "3"),
		"record twice, even": add(abc, "a", "1", "a", "1"), // what an XOR would not see
		"empty":              {},
	} {
		if other == abc {
			t.Errorf("%s: same sum", what)
		}
	}
	sum := add(abc, "d", "4")
	s.Remove(&sum, []byte("d"), []byte("4"))
	if sum != abc {
		t.Error("Remove does not undo Add")
	}
	for _, kv := range []string{"a1", "b2", "c3"} {
		s.Remove(&sum, []byte(kv[:1]), []byte(kv[1:]))
	}
	if sum != (Sum{}) {
		t.Errorf("the emptied set has sum %x", sum)
	}
}

func TestSumCarries(t *testing.T) {
	t.Parallel()
	sum := Sum(bytes.Repeat([]byte{0xFF}, 32))
	sum.add(words{1})
	if sum != (Sum{}) {
		t.Errorf("2^256-1 + 1: got %x, want 0", sum)
	}
	sum = Sum(append(make([]byte, 24), bytes.Repeat([]byte{0xFF}, 8)...))
	sum.add(words{1})
	if want := (Sum{23: 1}); sum != want {
		t.Errorf("2^64-1 + 1: got %x, want %x", sum, want)
	}
}

func TestAccountIDText(t *testing.T) {
	t.Parallel()
	id := AccountID{0xAB, 15: 1}
	text, err := json.Marshal(id)
	if want := `"ab000000000000000000000000000001"`; err != nil || string(text) != want {
		t.Errorf("got %s, %v, want %s", text, err, want)
	}
	var back AccountID
	if err := json.Unmarshal(text, &back); err != nil || back != id {
		t.Errorf("got %v, %v, want %v", back, err, id)
	}
	for _, bad := range []string{"", "ab", id.String() + "00", strings.ToUpper(id.String()), strings.Repeat("x", 32)} {
		if err := back.UnmarshalText([]byte(bad)); err == nil || back != id {
			t.Errorf("%q: got %v, %v", bad, back, err)
		}
	}
}

func TestKeysNeverPrint(t *testing.T) {
	t.Parallel()
	key := (*Key)([]byte("canarycanarycanarycanarycanaryca"))
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "key", key, "value", *key)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "key", key, "value", *key)
	j, err := json.Marshal(struct {
		P *Key
		V Key
	}{key, *key})
	if err != nil {
		t.Fatal(err)
	}
	out := log.String() + string(j)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		out += fmt.Sprintf(verb+verb+verb, key, *key, struct{ K Key }{*key})
	}
	keys, err := Derive(key, AccountID{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []*locked.Secret{keys.name.key, keys.dir.key, keys.set.macs.key, keys.wrap.commit.key} {
		secret.Use(func(b []byte) { copy(b, key[:]) }) // so that the same search finds it
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		out += fmt.Sprintf(verb+verb+verb+verb, keys, keys.Box(), keys.Set(), keys.wrap)
	}
	for _, form := range []string{"canary", "0x63, 0x61", "63616e617279", "63616E617279", "99 97 110", "Y2FuYXJ5"} {
		if strings.Contains(out, form) {
			t.Errorf("a key was printed as %q", form)
		}
	}
	if !strings.Contains(out, redacted) {
		t.Errorf("nothing was printed: %s", out)
	}
}

// TestConcurrentUse is for -race: everything pooled is used from many goroutines.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	k, err := Derive(NewKey(), AccountID{1}, 1)
	if err != nil {
		t.Fatal(err)
	}
	want := k.NameToken(1, "name")
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			plain := bytes.Repeat([]byte{byte(g)}, 10+50*g)
			for range 50 {
				got, err := k.Box().Open(nil, DomainEntry, plain, k.Box().Seal(nil, DomainEntry, plain, plain))
				if err != nil || !bytes.Equal(got, plain) {
					t.Errorf("goroutine %d: got %q, %v", g, got, err)
				}
				if k.NameToken(1, "name") != want {
					t.Errorf("goroutine %d: another token", g)
				}
				key, wrapped, err := k.NewDataKey([16]byte{byte(g)})
				if err != nil {
					t.Error(err)
				} else if back, err := k.DataKey([16]byte{byte(g)}, wrapped); err != nil || *back != *key {
					t.Errorf("goroutine %d: data key: %v", g, err)
				}
			}
		})
	}
	wg.Wait()
}

func FuzzOpen(f *testing.F) {
	b := testBox(f)
	for _, n := range []int{0, 1, 60, 61, 300} {
		f.Add(b.Seal(nil, DomainInode, []byte("key"), make([]byte, n)), []byte("key"))
	}
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, sealed, dbkey []byte) {
		if got, err := b.Open(nil, DomainInode, dbkey, sealed); err == nil && (string(dbkey) != "key" || len(bytes.Trim(got, "\x00")) != 0) {
			t.Fatalf("opened %q at %q", got, dbkey)
		}
		k, err := NewKEK(NewKey(), 1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := k.Unwrap(AccountID{}, DomainDataKey, dbkey[:min(len(dbkey), 100)], sealed); err == nil {
			t.Fatal("unwrapped a key that was never wrapped")
		}
	})
}
