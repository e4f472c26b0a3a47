package proof

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	agekeys "filippo.io/age"

	"sallyport/crypto/keyring"
	"sallyport/crypto/sealhelper"
	"sallyport/crypto/shamir"
	"sallyport/crypto/transit"
	"sallyport/crypto/transit/transittest"
	"sallyport/vfs"
)

// TestShredProof is the table of docs/THREATMODEL.md "Somebody who comes later", kind by kind.
func TestShredProof(t *testing.T) {
	t.Parallel()
	if raceEnabled {
		t.Skip("the thief tries a million keys; there is nothing concurrent in it")
	}
	for what, test := range map[string]func(*testing.T){
		"without the shred epoch everything is found": shredLeftOut,
		"without re-packing a part is found":          shredWithoutRepack,
		"key file":                                    shredKeyFile,
		"passphrase":                                  shredPassphrase,
		"shares":                                      shredShares,
		"recovery kit":                                shredKit,
		"transit":                                     shredTransit,
		"helper":                                      shredHelper,
		"a seal that destroys":                        shredVault,
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			test(t)
		})
	}
}

func shredLeftOut(t *testing.T) {
	tap := &tapped{Seal: keyFile(t)}
	v := newVictim(t, tap)
	v.attack("purged only", true, tap.current)
	v.shred(false)
	v.attack("new account key, old root", true, tap.current)
	store := &vault{}
	v = newVictim(t, store)
	v.shred(false)
	v.attack("new account key, old root, vault", true, just(store))
}

// shredWithoutRepack: one data key is of what was purged of a blob and of what is in use, and that key lives on.
func shredWithoutRepack(t *testing.T) {
	store := &vault{}
	v := newVictim(t, store)
	got, err := v.fs.Shred(t.Context(), vfs.ShredOptions{})
	v.must(err)
	if !got.NewRoot || !got.Destroyed {
		t.Errorf("receipt %+v", got)
	}
	v.step()
	v.attack("not re-packed", false, just(store))
}

func shredKeyFile(t *testing.T) {
	key := keyFile(t)
	tap := &tapped{Seal: key}
	v := newVictim(t, tap)
	v.shred(true)
	v.attack("the keys in force", false, tap.current)
	v.attack("the key file, which was kept", true, just(key)) // what this kind cannot promise
	fresh := keyFile(t)
	v.must(v.ring.RotateRootTo(t.Context(), fresh))
	v.step()
	v.attack("the key file that replaced the old one", false, just(fresh))
}

const goodPhrase = "correct horse battery staple and a goat"

func shredPassphrase(t *testing.T) {
	seal := func(phrase string) keyring.Seal {
		s, err := keyring.NewPassphrase([]byte(phrase), keyring.Argon2{Memory: 64 << 10, Time: 3, Threads: 1})
		if errors.Is(err, keyring.ErrNotFIPS) {
			t.Skip(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	v := newVictim(t, seal(goodPhrase))
	v.shred(true)
	old := v.sealNow()
	v.attack("the passphrase, which was kept", true, func() keyring.Seal { return ofPassphrase(t, old, goodPhrase) }) // as with a key file
	const next = "another horse, another battery and no goat"
	v.must(v.ring.Reseal(t.Context(), seal(next)))
	v.step()
	now := v.sealNow()
	v.attack("the passphrase that replaced the old one", false, func() keyring.Seal { return ofPassphrase(t, now, next) })
}

// sealNow is what seal.json says now.
func (v *victim) sealNow() *keyring.SealInfo {
	v.t.Helper()
	info, err := keyring.ReadSeal(v.dir)
	v.must(err)
	return info
}

func ofPassphrase(t testing.TB, info *keyring.SealInfo, phrase string) keyring.Seal {
	t.Helper()
	s, err := info.Passphrase([]byte(phrase))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func shredShares(t *testing.T) {
	s, shares, err := keyring.NewShares(2, 3)
	if err != nil {
		t.Fatal(err)
	}
	v := newVictim(t, s)
	v.shred(true)
	old := v.sealNow()
	v.attack("as many shares as it takes, which were kept", true, func() keyring.Seal { return ofShares(t, old, shares[1:]) })
	if _, err := collected(t, old, shares[:1]); !errors.Is(err, shamir.ErrTooFew) {
		t.Errorf("one share: got %v, want %v", err, shamir.ErrTooFew)
	}
	next, fresh, err := keyring.NewShares(2, 3)
	v.must(err)
	v.must(v.ring.Reseal(t.Context(), next))
	v.step()
	now := v.sealNow()
	v.attack("new shares, and one of the old ones", false, func() keyring.Seal { return ofShares(t, now, fresh[:2]) })
	if _, err := collected(t, now, shares[:2]); err == nil {
		t.Error("the old shares make a seal of the new set")
	}
}

// collected gives shares to what seal.json says.
func collected(t testing.TB, info *keyring.SealInfo, shares []shamir.Share) (keyring.Seal, error) {
	t.Helper()
	c, err := info.NewCollector(time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range shares {
		if _, err := c.Add(s.Text()); err != nil {
			return nil, err
		}
	}
	return info.Shares(c)
}

func ofShares(t testing.TB, info *keyring.SealInfo, shares []shamir.Share) keyring.Seal {
	t.Helper()
	s, err := collected(t, info, shares)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func shredKit(t *testing.T) {
	s, _, err := keyring.NewShares(2, 3)
	if err != nil {
		t.Fatal(err)
	}
	person, err := agekeys.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	v := newVictim(t, s)
	id, kit, err := v.ring.ExportRecovery(t.Context(), person.Recipient().String(), time.Now())
	if errors.Is(err, keyring.ErrNotFIPS) {
		t.Skip(err)
	}
	v.must(err)
	v.step()
	of := func(info *keyring.SealInfo) func() keyring.Seal {
		return func() keyring.Seal {
			s, err := info.Recovery(kit, []byte(person.String()))
			v.must(err)
			return s
		}
	}
	v.shred(true)
	v.attack("the recovery kit, which was kept", true, of(v.sealNow()))
	old := v.sealNow()
	v.must(v.ring.RevokeRecovery(t.Context(), id))
	v.must(v.ring.RotateRoot(t.Context()))
	v.step()
	v.attack("the recovery kit that was revoked, and an old seal.json", true, of(old))
	if _, err := v.sealNow().Recovery(kit, []byte(person.String())); err == nil {
		t.Error("a revoked kit is taken by the seal.json of today")
	}
}

func shredTransit(t *testing.T) {
	service := transittest.Start(t)
	site := func(key string, keepOld bool) keyring.Seal {
		service.AddKey(key, "aes256-gcm96", false)
		dir := t.TempDir()
		c := transit.Config{Address: service.URL(), Key: key, TokenFile: filepath.Join(dir, "token"), CAFile: filepath.Join(dir, "ca.pem"), KeepOld: keepOld}
		for path, data := range map[string][]byte{c.CAFile: service.CA(), c.TokenFile: []byte(service.Token(key) + "\n")} {
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s, err := transit.New(c)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := site("root", false)
	v := newVictim(t, s)
	v.attack("before the epoch, a token", true, just(s))
	v.shred(true)
	if got := service.Versions("root"); slices.Contains(got, 1) {
		t.Errorf("the service has versions %v of its key: the first is not trimmed", got)
	}
	v.attack("a token, and all that the service still has", false, just(s))

	s = site("kept", true) // keep_old: nothing is trimmed
	v = newVictim(t, s)
	v.shred(true)
	if got := service.Versions("kept"); !slices.Contains(got, 1) {
		t.Errorf("the service has versions %v of its key", got)
	}
	v.attack("a token, where old versions are kept", true, just(s))
}

// helperScript keeps what it wraps in files of the directory $2, and destroys if $1 says so.
const helperScript = `#!/bin/sh
read -r request
op=$(printf %s "$request" | sed -n 's/.*"op":"\([a-z]*\)".*/\1/p')
data=$(printf %s "$request" | sed -n 's/.*"data":"\([^"]*\)".*/\1/p')
file=$2/$(printf %s "$data" | base64 -d 2>/dev/null | tr -dc A-Za-z0-9)
case $op in
info) echo "{\"protocol\":1,\"label\":\"files\",\"destroys\":$1}" ;;
wrap) file=$(mktemp "$2/XXXXXXXXXX"); echo "$data" >"$file"; echo "{\"protocol\":1,\"data\":\"$(basename "$file" | tr -d '\n' | base64)\"}" ;;
unwrap) [ -f "$file" ] && echo "{\"protocol\":1,\"data\":\"$(cat "$file")\"}" || echo '{"protocol":1,"error":{"code":"wrong-key","message":"gone"}}' ;;
destroy) rm -f "$file"; echo '{"protocol":1}' ;;
esac
`

func shredHelper(t *testing.T) {
	for _, destroys := range []bool{true, false} {
		dir := t.TempDir()
		script := filepath.Join(dir, "helper")
		keys := filepath.Join(dir, "keys")
		if err := errors.Join(os.WriteFile(script, []byte(helperScript), 0o700), os.Mkdir(keys, 0o700)); err != nil {
			t.Fatal(err)
		}
		s, err := sealhelper.New(t.Context(), sealhelper.Config{Command: []string{script, fmt.Sprint(destroys), keys}, Timeout: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		v := newVictim(t, s)
		v.shred(true)
		v.attack(fmt.Sprintf("the helper and what it still has (destroys: %v)", destroys), !destroys, just(s))
	}
}

func shredVault(t *testing.T) {
	store := &vault{}
	v := newVictim(t, store)
	v.shred(true)
	v.attack("the vault itself", false, just(store))
}

func just(s keyring.Seal) func() keyring.Seal { return func() keyring.Seal { return s } }
