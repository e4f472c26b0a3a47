package keyring

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sallyport/crypto/record"
)

// TestTamperKeyring flips each byte of the keyring, cuts it everywhere, and
// exchanges, drops and repeats what is in it.
func TestTamperKeyring(t *testing.T) {
	t.Parallel()
	k, state, seal := newState(t)
	for range 3 {
		if _, err := k.NewAccount(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(state, keyringName)
	good := readState(t, state)[keyringName]
	cases := 0
	refuse := func(what string, at int, data []byte) {
		t.Helper()
		cases++
		// A root of its own for each case costs too much; the file's root is known.
		if _, err := decodeRing(data, k.root); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s at %d: got %v, want %v", what, at, err, ErrDamaged)
		}
	}
	if _, err := decodeRing(good, k.root); err != nil {
		t.Fatal(err)
	}
	for i := range good {
		damaged := slices.Clone(good)
		damaged[i] ^= 1
		refuse("byte flipped", i, damaged)
		refuse("truncated", i, good[:i])
	}
	refuse("byte appended", len(good), append(slices.Clone(good), 0))

	entry := func(b []byte, i int) []byte { return b[ringFixed+i*entrySize:][:entrySize] }
	for i := range 3 {
		dropped := slices.Delete(slices.Clone(good), ringFixed+i*entrySize, ringFixed+(i+1)*entrySize)
		refuse("account dropped", i, dropped)
		dropped[len(ringMagic)+7]-- // and the count to match
		refuse("account dropped and count lowered", i, dropped)
		for j := range 3 {
			if i == j {
				continue
			}
			swapped := slices.Clone(good)
			copy(entry(swapped, i)[16:], entry(good, j)[16:])
			refuse("wrapped key of another account", i, swapped)
		}
	}
	swapped := slices.Clone(good)
	copy(swapped[len(ringMagic)+8:], good[len(ringMagic)+8+siteKeySize:][:siteKeySize])
	refuse("policy key replaced by audit key", 0, swapped)

	// An account as it was before, in today's file.
	gone := k.Accounts()[1]
	if err := k.RemoveAccount(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	now := readState(t, state)[keyringName]
	back := slices.Insert(slices.Clone(now), ringFixed+entrySize, entry(good, 1)...)
	back[len(ringMagic)+7]++
	refuse("removed account put back", 1, back)

	// Through the front door: it reads as damage, not as a wrong key.
	damaged := slices.Clone(now)
	damaged[len(damaged)-1] ^= 1
	if err := os.WriteFile(path, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), state, seal); !errors.Is(err, ErrDamaged) || errors.Is(err, ErrWrongKey) {
		t.Errorf("opening a damaged keyring: got %v, want %v", err, ErrDamaged)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), state, seal); !errors.Is(err, ErrDamaged) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("opening without a keyring: got %v, want %v", err, ErrDamaged)
	}
	t.Logf("%d cases", cases)
}

// TestTamperSeal does the same to seal.json: no change opens, and what is only
// damaged never reads as a wrong key.
func TestTamperSeal(t *testing.T) {
	t.Parallel()
	_, state, seal := newState(t)
	good := readState(t, state)[sealName]
	cases := 0
	for i := range good {
		for _, damaged := range [][]byte{good[:i], slices.Concat(good[:i], []byte{good[i] ^ 1}, good[i+1:]), slices.Delete(slices.Clone(good), i, i+1)} {
			f, err := decodeSeal(damaged)
			if err == nil {
				// White space, or a bit of Base64 that carries none: the same content.
				want, _ := decodeSeal(good)
				if !bytes.Equal(f.encode(), want.encode()) {
					t.Errorf("changed at byte %d: accepted as %s", i, f.encode())
				}
				continue
			}
			cases++
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("changed at byte %d: got %v, want %v", i, err, ErrDamaged)
			}
		}
	}
	for what, text := range map[string]string{
		"empty": "", "null": "null", "list": "[]", "no roots": `{"format":"sallyport seal 1","kind":"keyfile","roots":[],"check":""}`,
		"too long": strings.Repeat(" ", maxSealSize+1), "trailing": string(good) + "{}",
		"unknown field": strings.Replace(string(good), `"kind"`, `"x": 1, "kind"`, 1),
	} {
		cases++
		if _, err := decodeSeal([]byte(text)); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: got %v, want %v", what, err, ErrDamaged)
		}
	}
	newer := strings.Replace(string(good), "seal 1", "seal 5", 1)
	for _, text := range []string{newer, strings.Replace(newer, `"kind"`, `"x": 1, "kind"`, 1)} {
		if _, err := decodeSeal([]byte(text)); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("newer format: got %v, want %v", err, errors.ErrUnsupported)
		}
	}
	if err := os.WriteFile(filepath.Join(state, sealName), good[:len(good)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), state, seal); !errors.Is(err, ErrDamaged) {
		t.Errorf("opening with half a seal.json: got %v, want %v", err, ErrDamaged)
	}
	t.Logf("%d cases", cases)
}

// TestWrongKeyReadsDifferently opens a whole state directory with other keys.
func TestWrongKeyReadsDifferently(t *testing.T) {
	t.Parallel()
	_, state, _ := newState(t)
	other, err := NewKeyFile(filepath.Join(t.TempDir(), "other"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), state, other)
	if !errors.Is(err, ErrWrongKey) || errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), other.Path) {
		t.Errorf("another key file: got %v, want %v that names the file", err, ErrWrongKey)
	}
	if _, err := Open(t.Context(), state, fakeSeal{}); !errors.Is(err, ErrWrongKey) || !strings.Contains(err.Error(), KindKeyFile) {
		t.Errorf("another kind of seal: got %v, want %v that names the kind", err, ErrWrongKey)
	}
}

// TestRootCommitment has a seal that returns another root than it wrapped.
func TestRootCommitment(t *testing.T) {
	t.Parallel()
	state := t.TempDir()
	k, err := Create(t.Context(), state, fakeSeal{})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	for what, raw := range map[string][]byte{"another root": record.NewKey()[:], "nothing": nil, "a short root": make([]byte, 31)} {
		s := fakeSeal{unwrap: func([]byte) ([]byte, error) { return raw, nil }}
		if _, err := Open(t.Context(), state, s); !errors.Is(err, ErrWrongKey) {
			t.Errorf("%s: got %v, want %v", what, err, ErrWrongKey)
		}
	}
	mustOpen(t, state, fakeSeal{})
}

// TestTwoRoots opens a seal.json that names a second root, as between the two
// writes of a rotation, and refuses a keyring of an epoch it does not name.
func TestTwoRoots(t *testing.T) {
	t.Parallel()
	k, state, seal := newState(t)
	next, err := randomRoot(2)
	if err != nil {
		t.Fatal(err)
	}
	defer next.destroy()
	f, err := decodeSeal(readState(t, state)[sealName])
	if err != nil {
		t.Fatal(err)
	}
	g, err := sealRoot(t.Context(), seal, next)
	if err != nil {
		t.Fatal(err)
	}
	write := func(roots []sealedRoot) {
		t.Helper()
		f.Roots = roots
		f.Check = f.check()
		if err := os.WriteFile(filepath.Join(state, sealName), f.encode(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	old := f.Roots[0]
	write([]sealedRoot{g.Roots[0], old})
	if got := mustOpen(t, state, seal).Epoch(); got != k.Epoch() {
		t.Errorf("epoch %d, want %d", got, k.Epoch())
	}
	write(g.Roots)
	if _, err := Open(t.Context(), state, seal); !errors.Is(err, ErrDamaged) {
		t.Errorf("keyring of another epoch: got %v, want %v", err, ErrDamaged)
	}
}

func FuzzDecodeSeal(f *testing.F) {
	_, state, _ := newState(f)
	f.Add(readState(f, state)[sealName])
	f.Add([]byte(`{"format":"sallyport seal 5"}`))
	f.Add([]byte(`{"roots":[{"epoch":-1}]}`))
	sealed, err := decodeSeal(readState(f, state)[sealName])
	if err != nil {
		f.Fatal(err)
	}
	for _, service := range []string{"", "7039ac63-a15b-9533-f828-ea0d7760a200"} {
		left := *sealed
		left.Former = &formerSeal{KindTransit, "transit/k", [][]byte{[]byte("vault:v1:AAAA")}, service}
		f.Add(left.withRoots(left.Roots...).encode())
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := decodeSeal(text)
		if err != nil {
			return
		}
		if again, err := decodeSeal(s.encode()); err != nil || !bytes.Equal(again.encode(), s.encode()) {
			t.Fatalf("accepted, but not again: %v", err)
		}
	})
}

func FuzzDecodeRing(f *testing.F) {
	k, state, _ := newState(f)
	if _, err := k.NewAccount(f.Context()); err != nil {
		f.Fatal(err)
	}
	good := readState(f, state)[keyringName]
	f.Add(good)
	f.Add([]byte(ringMagic))
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := decodeRing(data, k.root); (err == nil) != bytes.Equal(data, good) {
			t.Fatalf("%d bytes: %v", len(data), err)
		}
	})
}
