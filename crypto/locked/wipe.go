package locked

import (
	"crypto/cipher"
	"crypto/ecdh"
	"hash"
	"reflect"
	"strings"
	"unsafe"
)

// module is where the standard library's ciphers and hashes come from; with GOFIPS140 a version stands behind it.
const module = "crypto/internal/fips140/"

// Block overwrites the expanded key of a cipher of crypto/aes, whose owner will
// not use it again. Of an implementation that it does not know it overwrites
// nothing, and returns false.
func Block(b cipher.Block) bool {
	v := reflect.ValueOf(b)
	return flat(v)
}

// GCM is Block for what cipher.NewGCMWithRandomNonce returns, which has a copy
// of the expanded key of the block that it was made of.
func GCM(a cipher.AEAD) bool {
	v := reflect.ValueOf(a)
	return v.Kind() == reflect.Struct && v.NumField() == 1 && flat(v.Field(0))
}

// flat overwrites an object of the module without looking at its fields: it is called for every record.
func flat(p reflect.Value) bool {
	if !known(p) {
		return false
	}
	t := p.Type().Elem()
	switch t.Name() { // of numbers and arrays of numbers; the tests check that it is so
	case "Block", "GCM":
		clear(unsafe.Slice((*byte)(p.UnsafePointer()), t.Size()))
		return true
	}
	return false
}

// Hash overwrites the states of an HMAC of the standard library, and of the
// hashes in it. Its owner will not use it again. It returns whether it knew it.
func Hash(h hash.Hash) bool {
	v := reflect.ValueOf(h)
	if !known(v) {
		return false
	}
	wipe(v.Elem())
	return true
}

// known tells whether v points at an object of the module.
func known(v reflect.Value) bool {
	return v.Kind() == reflect.Pointer && !v.IsNil() && strings.HasPrefix(v.Type().Elem().PkgPath(), module)
}

// wipe overwrites arrays and slices of numbers, as far as they can be reached
// through types of the module. Tables of curves and the like are of other types.
func wipe(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			wipe(v.Field(i))
		}
	case reflect.Interface:
		if e := v.Elem(); known(e) {
			wipe(e.Elem())
		}
	case reflect.Array:
		if number(v.Type().Elem()) && v.CanAddr() {
			clear(unsafe.Slice((*byte)(unsafe.Pointer(v.UnsafeAddr())), v.Type().Size()))
		}
	case reflect.Slice:
		if number(v.Type().Elem()) && v.Cap() > 0 {
			clear(unsafe.Slice((*byte)(v.UnsafePointer()), uintptr(v.Cap())*v.Type().Elem().Size()))
		}
	}
}

func number(t reflect.Type) bool { return t.Kind() >= reflect.Int && t.Kind() <= reflect.Uint64 }

// Private overwrites the scalar of a private key, whose owner will not use it
// again. It returns whether it knew where that is.
func Private(k *ecdh.PrivateKey) bool {
	if k == nil {
		return false
	}
	found := false
	for _, at := range []struct {
		v    reflect.Value
		name string
	}{{reflect.ValueOf(k), "privateKey"}, {reflect.ValueOf(k).Elem().FieldByName("fips"), "d"}} {
		if !at.v.IsValid() || at.v.Kind() != reflect.Pointer || at.v.IsNil() {
			continue
		}
		if f := at.v.Elem().FieldByName(at.name); f.IsValid() && f.Kind() == reflect.Slice && f.Type().Elem().Kind() == reflect.Uint8 {
			clear(f.Bytes())
			found = true
		}
	}
	return found
}
