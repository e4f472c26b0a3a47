package keyring

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
)

// sealedByShares is a keyring of 2-of-2 shares with one recovery kit, and a way to unseal it.
func sealedByShares(t *testing.T) (dir string, k *Keyring, open func() (*Keyring, error)) {
	t.Helper()
	s, shares, err := NewShares(2, 2)
	if err != nil {
		t.Fatal(err)
	}
	dir, k = mustCreate(t, s)
	return dir, k, func() (*Keyring, error) {
		info, err := ReadSeal(dir)
		if err != nil {
			return nil, err
		}
		c, err := info.NewCollector(time.Hour)
		if err != nil {
			return nil, err
		}
		for i := range shares {
			if _, err := c.Add(shares[i].Text()); err != nil {
				return nil, err
			}
		}
		seal, err := info.Shares(c)
		if err != nil {
			return nil, err
		}
		return Open(t.Context(), dir, seal)
	}
}

// A new root needs neither the people nor the holder of the kit, and both open it.
func TestRotationNeedsNobodyAndSharesAndKitsOpenTheNewRoot(t *testing.T) {
	t.Parallel()
	dir, k, open := sealedByShares(t)
	person, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	_, armoured, err := k.ExportRecovery(t.Context(), person.Recipient().String(), time.Now())
	if refusedByFIPS(t, err) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := k.RotateRoot(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	byShares, err := open()
	if err != nil {
		t.Fatal(err)
	}
	defer byShares.Close()
	kit, err := mustInfo(t, dir).Recovery(armoured, []byte(person.String()))
	if err != nil {
		t.Fatal(err)
	}
	byKit := mustOpen(t, dir, kit)
	for _, again := range []*Keyring{byShares, byKit} {
		sameKeyring(t, k, again)
		if again.Epoch() != 3 {
			t.Errorf("epoch %d, want 3", again.Epoch())
		}
		if again == byKit { // the last: nobody else may have the directory then
			if err := again.RotateRoot(t.Context()); err != nil {
				t.Errorf("rotating after unsealing: %v", err)
			}
		}
	}
}

// Whoever can write to the disk and exchanges the public key of a kit would be
// given every later root. The check value is no defence: anybody can make it.
func TestExchangedPublicKeysAreRefused(t *testing.T) {
	t.Parallel()
	dir, k, open := sealedByShares(t)
	person, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := k.ExportRecovery(t.Context(), person.Recipient().String(), time.Now()); refusedByFIPS(t, err) {
		return
	} else if err != nil {
		t.Fatal(err)
	}
	thief, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := mustInfo(t, dir).file
	for what, change := range map[string]func(f *sealFile){
		"public key of the kit": func(f *sealFile) { f.Recovery[0].Public = thief.PublicKey().Bytes() },
		"who holds the kit":     func(f *sealFile) { f.Recovery[0].For = "0123456789abcdef" },
		"a kit more": func(f *sealFile) {
			f.Recovery = append(f.Recovery, kit{"0011223344556677", "0123456789abcdef", f.Recovery[0].Created, thief.PublicKey().Bytes()})
			f.Roots[0].Kits = append(f.Roots[0].Kits, f.Roots[0].Kits[0])
		},
		"no kit": func(f *sealFile) { f.Recovery, f.Roots[0].Kits = nil, nil },
		"public key of the seal": func(f *sealFile) {
			p := new(sharesParams)
			if err := decodeParams(f.Kind, f.Params, p); err != nil {
				t.Fatal(err)
			}
			p.Public = thief.PublicKey().Bytes()
			f.Params = encodeParams(p)
		},
		"threshold": func(f *sealFile) {
			f.Params = []byte(strings.Replace(string(compact(f.Params)), `"n":2`, `"n":3`, 1))
		},
	} {
		t.Run(what, func(t *testing.T) {
			f := *good
			f.Recovery = append([]kit(nil), good.Recovery...)
			f.Roots = append([]sealedRoot(nil), good.Roots...)
			change(&f)
			f.Check = f.check()
			if _, err := decodeSeal(f.encode()); err != nil {
				t.Fatalf("the attack is not one that only the root can find: %v", err)
			}
			write(t, filepath.Join(dir, sealName), f.encode())
			if opened, err := open(); err == nil {
				opened.Close()
				t.Fatal("opened")
			} else if !errors.Is(err, ErrDamaged) && what != "threshold" {
				t.Errorf("got %v, want ErrDamaged", err)
			}
		})
	}
	write(t, filepath.Join(dir, sealName), good.encode())
	again, err := open()
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestAForgedOldRootDestroysNothing: seal.json may have a second root, which
// nothing authenticates. Somebody who can write there puts in what wraps the
// root in force as an older one, to have it destroyed.
func TestAForgedOldRootDestroysNothing(t *testing.T) {
	t.Parallel()
	seal := &vaultSeal{}
	k, dir, tokens := filled(t, seal, 1)
	k.Close()
	f, err := readSeal(dir)
	if err != nil {
		t.Fatal(err)
	}
	forged := f.Roots[0]
	forged.Epoch--
	if err := f.withRoots(forged, f.Roots[0]).write(dir); err != nil {
		t.Fatal(err)
	}
	opened := mustOpen(t, dir, seal)
	if len(seal.destroyed) != 0 || len(opened.sealed.Roots) != 1 {
		t.Errorf("%d roots destroyed, %d in seal.json", len(seal.destroyed), len(opened.sealed.Roots))
	}
	sameTokens(t, "again", mustOpen(t, dir, seal), tokens)
}

// lossy is a key service that answers, and wraps something else.
type lossy struct{ *vaultSeal }

func (s lossy) Wrap(ctx context.Context, root []byte) ([]byte, error) {
	return s.vaultSeal.Wrap(ctx, bytes.Repeat([]byte{1}, len(root)))
}

// TestARootIsTriedBeforeAnythingDependsOnIt: what a helper or a key service
// gave back must unwrap before data lie under it and the older root is destroyed.
func TestARootIsTriedBeforeAnythingDependsOnIt(t *testing.T) {
	t.Parallel()
	if _, err := Create(t.Context(), t.TempDir(), lossy{&vaultSeal{}}); !errors.Is(err, ErrWrongKey) {
		t.Errorf("created: %v", err)
	}
	seal := &vaultSeal{}
	k, dir, tokens := filled(t, seal, 1)
	if err := k.RotateRootTo(t.Context(), lossy{seal}); !errors.Is(err, ErrWrongKey) {
		t.Errorf("rotated: %v", err)
	}
	sameTokens(t, "afterwards", mustOpen(t, dir, seal), tokens)
}
