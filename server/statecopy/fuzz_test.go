package statecopy

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/vfs/blob"
)

func someManifest(f *testing.F, names ...string) []byte {
	f.Helper()
	var b bytes.Buffer
	h := &Head{ID: strings.Repeat("0a", 16), Made: time.Unix(1_800_000_000, 5).UTC(), Program: "1.0", Seal: "keyfile", Epoch: 3, Records: 9, Accounts: 1, Blobs: 2, Bytes: 70_000, Damaged: 1}
	m, err := NewManifest(&b, h)
	if err == nil {
		err = errors.Join(m.Damage(Damage{Account: AccountID{1}, What: "blob 1 is gone"}), m.Damage(Damage{Account: AccountID{1}, Last: h.Made, What: "and 7 more"}),
			m.Account(Account{ID: AccountID{2}, Commit: [32]byte{3}, Blobs: 2, Bytes: 70_000}))
	}
	for _, n := range names {
		if err == nil {
			err = m.Add(Entry{Name: n, Size: 12, Sum: [32]byte{1}})
		}
	}
	if err == nil {
		err = m.Sign(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)))
	}
	if err != nil {
		f.Fatal(err)
	}
	return b.Bytes()
}

// FuzzManifest: a manifest is read whole or refused; what was read is what a writer would write, and nothing cut off or added is taken.
func FuzzManifest(f *testing.F) {
	whole := someManifest(f, "keyring", "policy.db", "seal.json")
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)).Public().(ed25519.PublicKey)
	f.Add(whole)
	f.Add(someManifest(f))
	f.Add(whole[:len(whole)/2])
	f.Add([]byte("sallyport state copy 2\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var entries []Entry
		var accounts []Account
		m, err := ReadAccounts(bytes.NewReader(data), func(a Account) error { accounts = append(accounts, a); return nil }, func(e Entry) error { entries = append(entries, e); return nil })
		if err != nil {
			return
		}
		if m.SignedBy(key) && !bytes.Contains(data, []byte("\nseal keyfile\n")) {
			t.Error("what nobody signed is signed")
		}
		for _, other := range [][]byte{data[:len(data)-1], append(bytes.Clone(data), '\n')} {
			if _, err := ReadManifest(bytes.NewReader(other), func(Entry) error { return nil }); err == nil {
				t.Error("a byte more or less is taken")
			}
		}
		var b bytes.Buffer
		w, err := NewManifest(&b, &m.Head)
		for _, d := range m.Damage {
			if err == nil {
				err = w.Damage(d)
			}
		}
		for _, a := range accounts {
			if err == nil {
				err = w.Account(a)
			}
		}
		for _, e := range entries {
			if err == nil {
				err = w.Add(e)
			}
		}
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		if _, _, err := ReadHoldings(bytes.NewReader(data), nil); err != nil && !errors.Is(err, ErrDamaged) {
			t.Errorf("what it holds: %v", err)
		}
	})
}

// FuzzList: a list of blobs has one form.
func FuzzList(f *testing.F) {
	var b bytes.Buffer
	l, err := NewList(&b)
	for i := byte(1); err == nil && i < 4; i++ {
		err = l.Add(Blob{ID: blob.ID{i}, Size: int64(i) * 70_000, Open: i == 2})
	}
	if err == nil {
		err = l.Flush()
	}
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add(b.Bytes()[:20])
	f.Fuzz(func(t *testing.T, data []byte) {
		var out bytes.Buffer
		w, err := NewList(&out)
		if err != nil {
			t.Fatal(err)
		}
		if err := ReadList(bytes.NewReader(data), w.Add); err != nil {
			return
		}
		if err := w.Flush(); err != nil || !bytes.Equal(out.Bytes(), data) {
			t.Errorf("%x is read as %x (%v)", data, out.Bytes(), err)
		}
	})
}

// FuzzArchiveName: no name of an archive leads out of the directory, and no two names to one place.
func FuzzArchiveName(f *testing.F) {
	id := strings.Repeat("ab", 16)
	for _, s := range []string{"keyring", "manifest", "blobs/" + id + "/ab/" + id[2:], "accounts/" + id + "/open/" + id, "../keyring", "blobs/" + id + "/../" + id, "/keyring", "audit/1.log", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		d := &Dir{meta: "of this one"}
		at, ok := d.placeOf(name)
		if !ok {
			return
		}
		if !filepath.IsLocal(at) || at == "." || at == manifestName {
			t.Errorf("%q leads to %q", name, at)
		}
		if _, twice := d.placeOf("./" + name); twice {
			t.Errorf("%q has another name", name)
		}
	})
}

// FuzzUnpack: whatever an archive holds, unpacking ends with an error or a copy, and never with a panic.
func FuzzUnpack(f *testing.F) {
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0}, 1024))
	f.Add([]byte("keyring" + strings.Repeat("\x00", 93) + "0000644\x000000000\x000000000\x0000000000003\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := OpenDir(t.TempDir(), true)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		if err := Unpack(t.Context(), io.LimitReader(bytes.NewReader(data), 1<<20), d); err == nil {
			t.Error("a copy without a signature was taken")
		}
	})
}
