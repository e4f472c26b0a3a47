package locked

import (
	"crypto/hmac"
	"fmt"
	"hash"
	"reflect"
	"unsafe"
)

// Expand is HKDF-Expand (RFC 5869, section 2.3) of n bytes, at most one output
// of the hash, into locked memory. crypto/hkdf would leave the result, and the
// key in its padded form, on the heap.
func Expand(newHash func() hash.Hash, key, info []byte, n int) *Secret {
	mac := hmac.New(newHash, key)
	defer Hash(mac)
	size := mac.Size()
	if n > size || size > Size {
		panic(fmt.Sprintf("locked: internal error: %d bytes of %d at most", n, size))
	}
	s := New(n)
	mac.Write(info)
	mac.Write([]byte{1}) // the block's number
	mac.Sum(s.slot[:0])
	clear(s.slot[n:])
	return s
}

// HKDF is HKDF-Extract without a salt, and Expand.
func HKDF(newHash func() hash.Hash, secret, info []byte, n int) (out *Secret) {
	mac := hmac.New(newHash, make([]byte, newHash().Size())) // RFC 5869, section 2.2
	defer Hash(mac)
	mac.Write(secret)
	prk := New(mac.Size())
	defer prk.Wipe()
	prk.Use(func(b []byte) {
		mac.Sum(b[:0])
		out = Expand(newHash, b, info, n)
	})
	return out
}

// HMAC is hmac.New for a state that is kept and used after Reset. Then the
// standard library keeps two hash states in the place of the padded key, which
// is the key to whoever finds it, and would leave that behind on the heap.
func HMAC(newHash func() hash.Hash, key []byte) hash.Hash {
	mac := hmac.New(newHash, key)
	padded := pads(mac)
	mac.Reset()
	for _, now := range pads(mac) {
		for i, was := range padded {
			if unsafe.SliceData(now) == unsafe.SliceData(was) {
				padded[i] = nil // it is in use still
			}
		}
	}
	for _, was := range padded {
		clear(was)
	}
	return mac
}

// pads are the byte slices of an HMAC.
func pads(mac hash.Hash) (found [][]byte) {
	v := reflect.ValueOf(mac)
	if !known(v) {
		return nil
	}
	for i := range v.Elem().NumField() {
		if f := v.Elem().Field(i); f.Kind() == reflect.Slice && f.Type().Elem().Kind() == reflect.Uint8 {
			found = append(found, f.Bytes())
		}
	}
	return found
}
