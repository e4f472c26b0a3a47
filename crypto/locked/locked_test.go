package locked

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"hash"
	"reflect"
	"runtime"
	"testing"
	"time"
	"unsafe"
)

func TestSecretIsOverwrittenWhenNobodyHasIt(t *testing.T) {
	t.Parallel()
	var a arena
	s := &Secret{a.take(), 32}
	slot := s.slot
	runtime.AddCleanup(s, a.give, slot)
	s.Use(func(b []byte) { copy(b, "a secret that must not stay here") })
	runtime.GC()
	if slot[0] != 'a' {
		t.Fatal("overwritten while it is in use")
	}
	runtime.KeepAlive(s)
	s = nil
	deadline := time.Now().Add(time.Minute)
	for {
		runtime.GC()
		a.mu.Lock()
		gone := *slot == [Size]byte{}
		a.mu.Unlock()
		if gone {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("still there: %q", slot[:])
		}
		runtime.Gosched()
	}
	if len(a.free) != chunkSize/Size {
		t.Errorf("%d free slots of %d", len(a.free), chunkSize/Size)
	}
}

func TestSecretsDoNotShareMemory(t *testing.T) {
	t.Parallel()
	var all []*Secret
	for i := range 3000 { // several chunks
		s := New(Size)
		s.Use(func(b []byte) {
			if !bytes.Equal(b, make([]byte, Size)) {
				t.Fatal("new memory is not empty")
			}
			copy(b, fmt.Sprintf("%064d", i))
		})
		all = append(all, s)
	}
	for i, s := range all {
		s.Use(func(b []byte) {
			if string(b) != fmt.Sprintf("%064d", i) {
				t.Fatalf("secret %d reads %q", i, b)
			}
		})
	}
}

func TestMoveAndWipe(t *testing.T) {
	t.Parallel()
	from := []byte("twenty bytes of text")
	s := Move(from)
	if !bytes.Equal(from, make([]byte, 20)) {
		t.Error("Move left its argument as it was")
	}
	s.Use(func(b []byte) {
		if string(b) != "twenty bytes of text" || cap(b) != 20 {
			t.Errorf("%q", b)
		}
	})
	if text := fmt.Sprintf("%v %+v %s", s, s, s); text != "[redacted] [redacted] [redacted]" {
		t.Error(text)
	}
	s.Wipe()
	s.Use(func(b []byte) {
		if !bytes.Equal(b, make([]byte, 20)) {
			t.Errorf("after Wipe: %q", b)
		}
	})
	a, b := Random(32), Random(32)
	a.Use(func(a []byte) {
		b.Use(func(b []byte) {
			if bytes.Equal(a, b) {
				t.Error("two random secrets are equal")
			}
		})
	})
}

func TestExpandIsHKDF(t *testing.T) {
	t.Parallel()
	key := bytes.Repeat([]byte{7}, 32)
	for _, c := range []struct {
		hash func() hash.Hash
		n    int
	}{{sha256.New, 32}, {sha256.New, 16}, {sha512.New384, 48}, {sha512.New384, 32}} {
		want, err := hkdf.Expand(c.hash, key, "what for", c.n)
		if err != nil {
			t.Fatal(err)
		}
		s := Expand(c.hash, key, []byte("what for"), c.n)
		s.Use(func(got []byte) {
			if !bytes.Equal(got, want) {
				t.Errorf("%d bytes: got %x, want %x", c.n, got, want)
			}
		})
		if want, err = hkdf.Key(c.hash, key, nil, "what for", c.n); err != nil {
			t.Fatal(err)
		}
		HKDF(c.hash, key, []byte("what for"), c.n).Use(func(got []byte) {
			if !bytes.Equal(got, want) {
				t.Errorf("%d bytes with extraction: got %x, want %x", c.n, got, want)
			}
		})
		if !bytes.Equal(s.slot[c.n:], make([]byte, Size-c.n)) {
			t.Error("more than was asked for stays in memory")
		}
	}
}

// TestCipherObjectsAreOverwritten fails when the standard library changes so that Block, GCM or Hash do not know its objects any more.
func TestCipherObjectsAreOverwritten(t *testing.T) {
	t.Parallel()
	key := []byte("0123456789abcdefghijklmnopqrstuv")
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		t.Fatal(err)
	}
	gcm := reflect.ValueOf(aead).Field(0)
	for what, v := range map[string]reflect.Value{"block": reflect.ValueOf(block), "GCM": gcm} {
		object := unsafe.Slice((*byte)(v.UnsafePointer()), v.Type().Elem().Size())
		if !bytes.Contains(object, key) {
			t.Fatalf("%s: the key is not in its expanded form, so this test could not fail", what)
		}
		if pointers(v.Type().Elem()) {
			t.Fatalf("%s holds pointers now, which must not be overwritten as bytes", what)
		}
		if what == "block" && !Block(block) || what == "GCM" && !GCM(aead) {
			t.Fatalf("%s is of a type that is not known: %v", what, v.Type())
		}
		if !bytes.Equal(object, make([]byte, len(object))) {
			t.Errorf("%s is not overwritten", what)
		}
	}
	for _, again := range []bool{false, true} {
		mac := hmac.New(sha256.New, key)
		if again {
			mac = HMAC(sha256.New, key)
		}
		mac.Write([]byte("text"))
		mac.Sum(nil)
		kept := pads(mac)
		if len(kept) != 2 || bytes.Equal(kept[0], make([]byte, len(kept[0]))) {
			t.Fatalf("the states of an HMAC are not where they were: %d", len(kept))
		}
		if !Hash(mac) {
			t.Fatalf("not known: %T", mac)
		}
		for _, b := range kept {
			if !bytes.Equal(b, make([]byte, len(b))) {
				t.Error("an HMAC is not overwritten")
			}
		}
	}
	if Block(nil) || GCM(nil) || Hash(nil) {
		t.Error("nothing was overwritten, and it was said to be")
	}
}

func TestPrivateKeysAreOverwritten(t *testing.T) {
	t.Parallel()
	k, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	before := k.Bytes()
	if !Private(k) || bytes.Equal(k.Bytes(), before) || !bytes.Equal(k.Bytes(), make([]byte, len(before))) {
		t.Errorf("the scalar reads %x", k.Bytes())
	}
	if d := reflect.ValueOf(k).Elem().FieldByName("fips").Elem().FieldByName("d").Bytes(); !bytes.Equal(d, make([]byte, len(d))) || len(d) != 32 {
		t.Errorf("the module's copy reads %x", d)
	}
}

func TestHMACLeavesNoPaddedKey(t *testing.T) {
	t.Parallel()
	key := []byte("0123456789abcdefghijklmnopqrstuv")
	mac := HMAC(sha256.New, key)
	for range 2 {
		mac.Reset()
		mac.Write([]byte("text"))
		want := hmac.New(sha256.New, key)
		want.Write([]byte("text"))
		if !hmac.Equal(mac.Sum(nil), want.Sum(nil)) {
			t.Fatal("another MAC")
		}
	}
	for _, b := range pads(mac) {
		for _, pad := range []byte{0x36, 0x5c} {
			if bytes.Contains(b, xor(key, pad)) {
				t.Error("the key is kept in its padded form")
			}
		}
	}
}

func xor(key []byte, pad byte) []byte {
	out := bytes.Clone(key)
	for i := range out {
		out[i] ^= pad
	}
	return out
}

// pointers tells whether there is anything in values of t that the garbage collector must see.
func pointers(t reflect.Type) bool {
	switch {
	case t.Kind() == reflect.Struct:
		for i := range t.NumField() {
			if pointers(t.Field(i).Type) {
				return true
			}
		}
		return false
	case t.Kind() == reflect.Array:
		return pointers(t.Elem())
	}
	return !number(t) && t.Kind() != reflect.Bool
}
