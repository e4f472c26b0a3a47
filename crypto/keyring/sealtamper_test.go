package keyring

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// rechecked is text with the check value that belongs to it, if it can be read
// at all: anybody who can write seal.json can do that.
func rechecked(text []byte) []byte {
	var f sealFile
	if json.Unmarshal(text, &f) != nil {
		return text
	}
	sum := f.check()
	return bytes.Replace(text, []byte(base64.StdEncoding.EncodeToString(f.Check)), []byte(base64.StdEncoding.EncodeToString(sum)), 1)
}

// TestTamperEverySeal changes every byte of a seal.json of the kinds that people
// open, three ways, with the check value left and made anew. It must be refused,
// or say the same as before; never may a changed one open.
func TestTamperEverySeal(t *testing.T) {
	t.Parallel()
	secret := readVectors(t).Secret
	rootKey := frozenRoot(t, secret)
	for _, name := range []string{"seal-shares.json", "seal-passphrase.json"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			good := read(t, filepath.Join("testdata", name))
			was, err := decodeSeal(good)
			if err != nil {
				t.Fatal(err)
			}
			cases, decoded := 0, 0
			for i := range good {
				for _, mask := range []byte{1, 0x20, 0x55} {
					bad := bytes.Clone(good)
					bad[i] ^= mask
					for _, text := range [][]byte{bad, rechecked(bad)} {
						cases++
						f, err := decodeSeal(text)
						if err != nil {
							if !errors.Is(err, ErrDamaged) && !errors.Is(err, errors.ErrUnsupported) {
								t.Fatalf("byte %d ^ %#x: %v", i, mask, err)
							}
							continue
						}
						if bytes.Equal(f.encode(), was.encode()) {
							continue // white space, or another way to write the same
						}
						decoded++
						if opensAnyhow(t, f, secret, rootKey) {
							t.Errorf("byte %d ^ %#x opens", i, mask)
						}
					}
				}
			}
			for n := range good {
				if _, err := decodeSeal(good[:n]); err == nil && strings.TrimSpace(string(good[:n])) != strings.TrimSpace(string(good)) {
					t.Errorf("%d bytes of it are accepted", n)
				}
			}
			t.Logf("%d cases, %d of them for the root to find", cases, decoded)
		})
	}
}

// opensAnyhow tries a changed seal.json: with the right shares, or, where a
// passphrase would take a second each time, with the root that it leads to.
func opensAnyhow(t *testing.T, f *sealFile, secret, rootKey []byte) bool {
	t.Helper()
	var s Seal = knowing{f.Kind, rootKey}
	if p := new(sharesParams); f.Kind == KindShares {
		if decodeParams(f.Kind, f.Params, p) != nil {
			return false
		}
		var err error
		if s, err = p.seal(secret); err != nil {
			t.Fatal(err)
		}
		defer forget(s)
	}
	root, err := f.unseal(t.Context(), s, 3)
	if err != nil {
		return false
	}
	root.destroy()
	return true
}

// frozenRoot is the root of the frozen seals.
func frozenRoot(t *testing.T, secret []byte) []byte {
	t.Helper()
	f, err := decodeSeal(read(t, "testdata/seal-shares.json"))
	if err != nil {
		t.Fatal(err)
	}
	p := new(sharesParams)
	if err := decodeParams(f.Kind, f.Params, p); err != nil {
		t.Fatal(err)
	}
	s, err := p.seal(secret)
	if err != nil {
		t.Fatal(err)
	}
	defer forget(s)
	raw, err := s.Unwrap(t.Context(), f.Roots[0].Wrapped)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// knowing is a seal that knows the root.
type knowing struct {
	kind string
	root []byte
}

func (s knowing) Kind() string                                   { return s.kind }
func (s knowing) Wrap(context.Context, []byte) ([]byte, error)   { return nil, errors.ErrUnsupported }
func (s knowing) Unwrap(context.Context, []byte) ([]byte, error) { return bytes.Clone(s.root), nil }

func TestParametersOutsideTheirBoundsAreRefused(t *testing.T) {
	t.Parallel()
	for name, changes := range map[string][][2]string{
		"seal-passphrase.json": {{`"m": 65536`, `"m": 65535`}, {`"m": 65536`, `"m": 4194305`}, {`"t": 3`, `"t": 2`}, {`"t": 3`, `"t": 17`}, {`"p": 4`, `"p": 0`}, {`"p": 4`, `"p": 17`},
			{`"p": 4`, `"p": 4.0`}, {`"p": 4`, `"p": 4, "x": 1`}, {`"m": 65536`, `"m": 65536, "m": 65536`}, {`"m": 65536`, `"M": 65536`}, {`"m": 65536`, `"m": 1e9`}, {`"m": 65536`, `"m": null`}, {`"salt": "`, `"salt": "AAAA`},
			{`"kind": "passphrase"`, `"kind": "shares"`}, {`"kind": "passphrase"`, `"kind": "keyfile"`}, {`"kind": "passphrase"`, `"kind": "transit"`}, {`seal 2`, `seal 1`}},
		"seal-shares.json": {{`"k": 3`, `"k": 1`}, {`"k": 3`, `"k": 6`}, {`"n": 5`, `"n": 256`}, {`"k": 3`, `"k": -3`}, {`"set": "`, `"set": "00`}, {`"created": "2026`, `"created": "x`}, {`"id": "`, `"id": "0`}, {`"recovery"`, `"Recovery"`}},
	} {
		good := string(read(t, filepath.Join("testdata", name)))
		for _, c := range changes {
			bad := strings.Replace(good, c[0], c[1], 1)
			if bad == good {
				t.Fatalf("%s has no %s", name, c[0])
			}
			if _, err := decodeSeal(rechecked([]byte(bad))); !errors.Is(err, ErrDamaged) {
				// Members in another case are members to Go; what they say is the same.
				if f, err2 := decodeSeal([]byte(good)); err == nil && err2 == nil && c[1] == `"Recovery"` && bytes.Equal(f.encode(), []byte(good)) {
					continue
				}
				t.Errorf("%s with %s: got %v, want %v", name, c[1], err, ErrDamaged)
			}
		}
	}
	unknown := strings.Replace(string(read(t, "testdata/seal-shares.json")), `"kind": "shares"`, `"kind": "stone"`, 1)
	if _, err := decodeSeal(rechecked([]byte(unknown))); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("an unknown kind: %v, want %v", err, errors.ErrUnsupported)
	}
}

func TestCollectorForgets(t *testing.T) {
	t.Parallel()
	v := readVectors(t)
	info := mustInfo(t, frozen(t, "seal-shares.json"))
	synctest.Test(t, func(t *testing.T) {
		c, err := info.NewCollector(time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		add := func(i, want int) {
			t.Helper()
			if p, err := c.Add([]byte(v.Shares[i].Text)); err != nil || p.Have != want {
				t.Fatalf("%v, %v; want %d", p, err, want)
			}
		}
		add(0, 1)
		time.Sleep(50 * time.Second) // of the bubble
		add(1, 2)
		time.Sleep(50 * time.Second)
		synctest.Wait()
		if p := c.Progress(); p.Have != 2 {
			t.Errorf("%d shares after 50 s without a new one", p.Have)
		}
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if p := c.Progress(); p.Have != 0 || c.pages != nil {
			t.Errorf("%d shares after a minute without a new one", p.Have)
		}
		add(2, 1)
		c.Reset()
		if p := c.Progress(); p.Have != 0 || c.pages != nil {
			t.Errorf("%d shares after a reset", p.Have)
		}
		add(2, 1)
		c.Reset()
	})
}

func TestCollectorAndSealsDoNotPrint(t *testing.T) {
	t.Parallel()
	v := readVectors(t)
	info := mustInfo(t, frozen(t, "seal-shares.json"))
	c, err := info.NewCollector(time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Reset()
	if _, err := c.Add([]byte(v.Shares[0].Text)); err != nil {
		t.Fatal(err)
	}
	s, shares, err := NewShares(2, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer forget(s)
	for _, secret := range []any{c, s, shares} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%x"} {
			if text := fmt.Sprintf(verb, secret); !strings.Contains(text, "redacted") {
				t.Errorf("%s of %T prints %.200s", verb, secret, text)
			}
		}
	}
}

// FuzzParams reads the parameters of every kind.
// FuzzKit reads what a recovery kit holds once it is decrypted.
func FuzzKit(f *testing.F) {
	key := base64.StdEncoding.EncodeToString(append(make([]byte, 31), 7))
	f.Add([]byte(`{"format":"` + kitFormat + `","id":"0011223344556677","private":"` + key + `"}`))
	f.Add([]byte(`{"format":"` + kitFormat + `","private":""}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		private, err := parseKit(b)
		if err != nil && !errors.Is(err, ErrWrongKey) {
			t.Error(err)
		}
		if err == nil && len(private.Bytes()) != 32 {
			t.Errorf("%q holds a key of %d bytes", b, len(private.Bytes()))
		}
	})
}

func FuzzParams(f *testing.F) {
	for _, name := range []string{"seal-passphrase.json", "seal-shares.json"} {
		text, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		s, err := decodeSeal(text)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(s.Kind, []byte(s.Params))
	}
	f.Add(KindTransit, []byte(`{"label":"transit/key"}`))
	f.Add(KindKeyFile, []byte(`{}`))
	f.Fuzz(func(t *testing.T, kind string, raw []byte) {
		if err := checkParams(kind, raw); err != nil {
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, errors.ErrUnsupported) {
				t.Fatal(err)
			}
			return
		}
		p, err := newParams(kind)
		if err != nil || p == nil {
			return
		}
		if err := decodeParams(kind, raw, p); err != nil || !bytes.Equal(encodeParams(p), compact(raw)) {
			t.Fatalf("read as something else than it is: %v", err)
		}
	})
}

// BenchmarkArgon2 is one try of a passphrase at the default cost.
func BenchmarkArgon2(b *testing.B) {
	p := &passphraseParams{Salt: make([]byte, saltSize), Argon2: DefaultArgon2}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.derive([]byte(goodPhrase)); err != nil {
			b.Fatal(err)
		}
	}
}
