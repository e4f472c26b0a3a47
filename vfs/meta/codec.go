package meta

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// errMalformed means that an authentic record does not have the form that
// this version writes. Every decoder is strict: it accepts exactly the bytes
// that the encoder would make from the value it returns.
var errMalformed = errors.New("malformed record")

// encoder appends big-endian fields.
type encoder struct{ b []byte }

func (e *encoder) u8(v uint8)   { e.b = append(e.b, v) }
func (e *encoder) u16(v uint16) { e.b = binary.BigEndian.AppendUint16(e.b, v) }
func (e *encoder) u32(v uint32) { e.b = binary.BigEndian.AppendUint32(e.b, v) }
func (e *encoder) u64(v uint64) { e.b = binary.BigEndian.AppendUint64(e.b, v) }
func (e *encoder) i64(v int64)  { e.u64(uint64(v)) }
func (e *encoder) raw(v []byte) { e.b = append(e.b, v...) }

func (e *encoder) bool(v bool) {
	if v {
		e.u8(1)
	} else {
		e.u8(0)
	}
}

// str writes a length of two bytes and the string, which the callers keep
// below 64 KiB.
func (e *encoder) str(s string) {
	if len(s) > math.MaxUint16 {
		panic(fmt.Sprintf("meta: internal error: string of %d bytes", len(s)))
	}
	e.u16(uint16(len(s)))
	e.b = append(e.b, s...)
}

// bytes writes a length of four bytes and the bytes.
func (e *encoder) bytes(v []byte) {
	e.u32(uint32(len(v)))
	e.b = append(e.b, v...)
}

// decoder takes fields off the front. After the first field that is missing
// or wrong every further one is zero, so that only end need be checked; a
// count must be checked against left before anything of its size is made.
type decoder struct {
	b     []byte
	bad   bool
	cause error // what is wrong, where it can be said; for the operator
}

func (d *decoder) fail() { d.bad, d.b = true, nil }

func (d *decoder) take(n int) []byte {
	if n < 0 || n > len(d.b) {
		d.fail()
		return nil
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) u8() uint8 {
	if v := d.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (d *decoder) u16() uint16 {
	if v := d.take(2); v != nil {
		return binary.BigEndian.Uint16(v)
	}
	return 0
}

func (d *decoder) u32() uint32 {
	if v := d.take(4); v != nil {
		return binary.BigEndian.Uint32(v)
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if v := d.take(8); v != nil {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

func (d *decoder) i64() int64 { return int64(d.u64()) }

// instant is a time in nanoseconds since 1970 that this package gave: never negative.
func (d *decoder) instant() int64 {
	v := d.i64()
	if v < 0 {
		d.fail()
		return 0
	}
	return v
}

func (d *decoder) bool() bool {
	v := d.u8()
	if v > 1 {
		d.fail()
	}
	return v == 1
}

// oneOf is a byte between lo and hi, both included.
func (d *decoder) oneOf(lo, hi uint8) uint8 {
	v := d.u8()
	if v < lo || v > hi {
		d.fail()
		return lo
	}
	return v
}

func (d *decoder) str(limit int) string {
	n := int(d.u16())
	if n > limit {
		d.fail()
		return ""
	}
	return string(d.take(n))
}

// bytes returns a copy, nil if empty.
func (d *decoder) bytes(limit int) []byte {
	n := d.u32()
	if uint64(n) > uint64(limit) {
		d.fail()
		return nil
	}
	return append([]byte(nil), d.take(int(n))...)
}

// count is the number of things of the given size that follow; it is never
// larger than what is left can hold.
func (d *decoder) count(size int) int {
	n := d.u32()
	if uint64(n)*uint64(size) > uint64(len(d.b)) {
		d.fail()
		return 0
	}
	return int(n)
}

func (d *decoder) end() error {
	if d.cause != nil {
		return fmt.Errorf("%w: %w", errMalformed, d.cause)
	}
	if d.bad || len(d.b) != 0 {
		return errMalformed
	}
	return nil
}
