package keyring

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/crypto/escrow"
	"sallyport/crypto/shamir"
)

// sealVectors is testdata/seals.json.
type sealVectors struct {
	Passphrase string
	Secret     []byte
	Shares     []struct {
		Bytes []byte
		Text  string
	}
	Kit string
}

func readVectors(t *testing.T) (v sealVectors) {
	t.Helper()
	if err := json.Unmarshal(read(t, "testdata/seals.json"), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// frozen is a state directory of testdata with that seal.json.
func frozen(t *testing.T, seal string) string {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, sealName), read(t, filepath.Join("testdata", seal)))
	write(t, filepath.Join(dir, keyringName), read(t, "testdata/keyring2"))
	return dir
}

// refusedByFIPS is for tests of what fips140=only forbids: there, err must say
// so, and the test ends.
func refusedByFIPS(t *testing.T, err error) bool {
	t.Helper()
	if escrow.RefuseNotFIPS("") == nil {
		return false
	}
	if !errors.Is(err, ErrNotFIPS) {
		t.Errorf("under fips140=only: got %v, want %v", err, ErrNotFIPS)
	}
	return true
}

// opens fails unless the frozen state opens, whole, and its file is written
// back byte for byte.
func opens(t *testing.T, dir string, s Seal) {
	t.Helper()
	k := mustOpen(t, dir, s)
	if k.Epoch() != 3 || len(k.Accounts()) != 3 {
		t.Errorf("epoch %d, %d accounts", k.Epoch(), len(k.Accounts()))
	}
	if got, want := k.sealed.encode(), read(t, filepath.Join(dir, sealName)); !bytes.Equal(got, want) {
		t.Errorf("written back as\n%s\nwant\n%s", got, want)
	}
	if err := k.RotateRoot(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestFrozenSeals opens what an independent implementation
// (testdata/seal_vectors.py) wrote, which must open for ever.
func TestFrozenSeals(t *testing.T) {
	t.Parallel()
	v := readVectors(t)
	t.Run("passphrase", func(t *testing.T) {
		t.Parallel()
		dir := frozen(t, "seal-passphrase.json")
		s, err := mustInfo(t, dir).Passphrase([]byte(v.Passphrase))
		if refusedByFIPS(t, err) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		opens(t, dir, s)
	})
	for _, picked := range [][3]int{{0, 1, 2}, {4, 2, 0}, {1, 3, 4}} {
		t.Run("shares", func(t *testing.T) {
			t.Parallel()
			dir := frozen(t, "seal-shares.json")
			info := mustInfo(t, dir)
			c, err := info.NewCollector(time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			for _, i := range picked {
				if _, err := c.Add([]byte(v.Shares[i].Text)); err != nil {
					t.Fatal(err)
				}
			}
			s, err := info.Shares(c)
			if err != nil {
				t.Fatal(err)
			}
			opens(t, dir, s)
		})
	}
	t.Run("recovery kit", func(t *testing.T) {
		t.Parallel()
		dir := frozen(t, "seal-shares.json")
		s, err := mustInfo(t, dir).Recovery([]byte(v.Kit), nil)
		if err != nil {
			t.Fatal(err)
		}
		opens(t, dir, s)
	})
}

// TestFrozenShares compares bytes and text of shares, and what they give.
func TestFrozenShares(t *testing.T) {
	t.Parallel()
	v := readVectors(t)
	var shares []shamir.Share
	for i, want := range v.Shares {
		s, err := shamir.Parse(want.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(s.Text()); got != want.Text || !bytes.Equal(s.Bytes(), want.Bytes) {
			t.Errorf("share %d is\n%s\nwant\n%s", i, got, want.Text)
		}
		shares = append(shares, *s)
	}
	for _, picked := range [][]shamir.Share{shares[:3], shares[2:]} {
		if secret, err := shamir.Combine(picked); err != nil || !bytes.Equal(secret[:], v.Secret) {
			t.Errorf("they give another secret: %v", err)
		}
	}
}

// TestIndependentReaderOpensSeals holds testdata/reader.py, which was written
// from docs/FORMAT.md, against seals that this package wrote.
func TestIndependentReaderOpensSeals(t *testing.T) {
	t.Parallel()
	python, err := exec.LookPath("python3")
	if err != nil || exec.CommandContext(t.Context(), python, "-c", "import cryptography").Run() != nil {
		t.Skip("needs python3 with the package cryptography")
	}
	const argon2 = "try:\n from cryptography.hazmat.primitives.kdf.argon2 import Argon2id\nexcept ImportError:\n import argon2"
	script := filepath.Join("..", "..", "testdata", "reader.py")
	read(t, script) // so that a change of it runs the test again
	for what, make := range map[string]func() (Seal, []byte, error){
		"passphrase": func() (Seal, []byte, error) {
			s, err := NewPassphrase([]byte(goodPhrase), cheap)
			return s, []byte(goodPhrase + "\n"), err
		},
		"shares": func() (Seal, []byte, error) {
			s, shares, err := NewShares(3, 4)
			if err != nil {
				return nil, nil, err
			}
			var text bytes.Buffer
			for _, share := range shares[1:] {
				text.WriteString(strings.ToLower(string(share.Text())) + "\n\n")
			}
			return s, text.Bytes(), nil
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			if what == "passphrase" && exec.CommandContext(t.Context(), python, "-c", argon2).Run() != nil {
				t.Skip("needs the Python package argon2-cffi, or cryptography 44")
			}
			s, opener, err := make()
			if what == "passphrase" && refusedByFIPS(t, err) {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			dir, k := mustCreate(t, s)
			if _, err := k.NewAccount(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := k.RotateRoot(t.Context()); err != nil {
				t.Fatal(err)
			}
			with := filepath.Join(t.TempDir(), "opener")
			write(t, with, opener)
			out, err := exec.CommandContext(t.Context(), python, script, "--keys", dir, with).CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			var got struct {
				Epoch    uint32
				Accounts []AccountID
			}
			if err := json.Unmarshal(out, &got); err != nil || got.Epoch != 2 || len(got.Accounts) != 1 || got.Accounts[0] != k.Accounts()[0] {
				t.Errorf("it reads %s (%v)", out, err)
			}
			opener[3] ^= 1
			write(t, with, opener)
			if out, err := exec.CommandContext(t.Context(), python, script, "--keys", dir, with).CombinedOutput(); err == nil {
				t.Errorf("it opens with something else: %s", out)
			}
		})
	}
}
