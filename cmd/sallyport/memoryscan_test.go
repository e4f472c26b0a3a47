package main

import (
	"bytes"
	"crypto/aes"
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"unsafe"
)

// scan counts needles in everything that a process has mapped for writing.
func scan(t *testing.T, pid int, keys, more map[string][]byte) map[string]int {
	t.Helper()
	found := map[string]int{}
	readMemory(t, pid, func(memory []byte, _ bool) {
		for _, set := range []map[string][]byte{keys, more} {
			for what, needle := range set {
				found[what] += bytes.Count(memory, needle)
			}
		}
	})
	return found
}

// occurrences of one key in the memory of a process.
type occurrences struct {
	locked int // its bytes, in memory that is locked and not dumped
	cipher int // expanded by crypto/aes, whose first 32 bytes are the key itself
	hash   int // as the state of an HMAC
	raw    int // its bytes, or those of an HMAC's padded key, anywhere else
}

// inspect finds every key in every form that it can have.
func inspect(t *testing.T, pid int, keys map[string][]byte) map[string]occurrences {
	t.Helper()
	found := map[string]occurrences{}
	forms := map[string]keyForms{}
	for what, key := range keys {
		forms[what], found[what] = formsOf(t, key), occurrences{}
	}
	readMemory(t, pid, func(memory []byte, locked bool) {
		for what, f := range forms {
			n := found[what]
			ciphers := bytes.Count(memory, f.schedule)
			n.cipher += ciphers
			if plain := bytes.Count(memory, f.key); locked {
				n.locked += plain
			} else {
				n.raw += plain - ciphers
			}
			for _, pad := range f.padded {
				n.raw += bytes.Count(memory, pad)
			}
			for _, state := range f.states {
				n.hash += bytes.Count(memory, state)
			}
			found[what] = n
		}
	})
	return found
}

type keyForms struct {
	key, schedule  []byte
	padded, states [][]byte
}

// formsOf asks the standard library what it makes of a key.
func formsOf(t *testing.T, key []byte) keyForms {
	t.Helper()
	f := keyForms{key: key}
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	v := reflect.ValueOf(block)
	object := bytes.Clone(unsafe.Slice((*byte)(v.UnsafePointer()), v.Type().Elem().Size()))
	at := bytes.Index(object, key)
	if at < 0 || len(object) < at+240 {
		t.Skip("crypto/aes does not keep a key as it is on this machine")
	}
	f.schedule = object[at : at+240]         // 15 round keys
	for _, pad := range []byte{0x36, 0x5c} { // RFC 2104
		padded := bytes.Repeat([]byte{pad}, sha256.BlockSize)
		for i, b := range key {
			padded[i] ^= b
		}
		f.padded = append(f.padded, padded[:len(key)])
		h := sha256.New()
		h.Write(padded)
		marshalled, err := h.(encoding.BinaryMarshaler).MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		state := marshalled[4 : 4+sha256.Size] // behind the magic, big-endian; in a hash it is in the machine's order
		native := make([]byte, 0, len(state))
		for i := 0; i < len(state); i += 4 {
			native = binary.NativeEndian.AppendUint32(native, binary.BigEndian.Uint32(state[i:]))
		}
		f.states = append(f.states, state, native)
	}
	return f
}

// readMemory hands over everything that a process has mapped for writing, and whether it is locked and not dumped.
func readMemory(t *testing.T, pid int, look func(memory []byte, locked bool)) {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/", pid)
	maps, err := os.ReadFile(dir + "smaps")
	if err != nil {
		t.Fatal(err)
	}
	mem, err := os.Open(dir + "mem")
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	total := 0
	var start, end uint64
	for line := range strings.Lines(string(maps)) {
		fields := strings.Fields(line)
		if !strings.HasSuffix(fields[0], ":") { // 7f00-7f01 rw-p …
			from, to, _ := strings.Cut(fields[0], "-")
			var err1, err2 error
			start, err1 = strconv.ParseUint(from, 16, 64)
			end, err2 = strconv.ParseUint(to, 16, 64)
			if err1 != nil || err2 != nil {
				t.Fatalf("not a mapping: %q", line)
			}
			if !strings.HasPrefix(fields[1], "rw") {
				end = start
			}
			continue
		}
		if fields[0] != "VmFlags:" || start == end { // the last line of a mapping
			continue
		}
		region := make([]byte, end-start)
		n, err := mem.ReadAt(region, int64(start))
		if err != nil && err != io.EOF && n == 0 {
			continue // given back meanwhile
		}
		total += n
		flags := " " + strings.Join(fields[1:], " ") + " "
		look(used(region[:n]), strings.Contains(flags, " lo ") && strings.Contains(flags, " dd "))
	}
	if total < 1<<20 {
		t.Fatalf("only %d bytes of memory were read", total)
	}
}

// used leaves out what was never written: most of what the Go heap has mapped.
func used(memory []byte) []byte {
	const page = 4096
	var empty [page]byte
	out := memory[:0]
	for ; len(memory) > 0; memory = memory[min(page, len(memory)):] {
		if p := memory[:min(page, len(memory))]; !bytes.Equal(p, empty[:len(p)]) {
			out = append(out, p...)
		}
	}
	return out
}
