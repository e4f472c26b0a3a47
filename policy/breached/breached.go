// Package breached knows passwords that everybody tries first: those seen again and again in leaked databases, and dictionary
// words and names dressed up with a few digits.
//
// The list is shipped as a Bloom filter: the words themselves are not in the program, and one lookup costs microseconds. About
// one other word in 100,000 is taken for a listed one; its owner chooses another password. Nothing is asked over the network.
//
// filter.bin is made by testdata/gen from two Debian 12 packages: python3-zxcvbn 4.4.28-3 (frequency lists of 30,000 leaked
// passwords, and of English words and names; MIT licence, copyright Dropbox, Inc. and Daniel Wolf) and john-data 1.9.0-2
// (password.lst, 3,546 common passwords; public domain). docs/OPERATIONS.md "Passwords" has the command.
package breached

import (
	"crypto/sha256"
	_ "embed"
	"encoding/binary"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

//go:embed filter.bin
var shipped []byte

// A filter is "SPBLOOM1" ‖ u32 hashes ‖ u64 bits ‖ the bits, little-endian within bytes.
const (
	magic  = "SPBLOOM1"
	header = len(magic) + 4 + 8
)

// Contains says whether a password is a listed one, whatever its case, or one dressed up: with leet letters, turned round,
// written twice, or with up to six other characters or a mere run of digits at its ends.
func Contains(password string) bool {
	if len(password) > 1 && run(password) {
		return true
	}
	for _, form := range forms(password) {
		if listed(shipped, form) {
			return true
		}
	}
	return false
}

// shortest is the length below which a word says nothing: "a" is in every password.
const shortest = 4

// fewExtra is how many characters beside a listed word do not make a password of it.
const fewExtra = 6

func forms(password string) []string {
	p := strings.ToLower(password)
	list := []string{p, unleet(p), reverse(p)}
	core := strings.TrimFunc(p, func(r rune) bool { return !unicode.IsLetter(r) })
	if bare(p, core) {
		list = append(list, core, reverse(core))
	}
	// An @ or 0 at the end may be a letter in disguise.
	if u := unleet(p); u != p {
		if core := strings.TrimFunc(u, func(r rune) bool { return !unicode.IsLetter(r) }); bare(u, core) {
			list = append(list, core)
		}
		if inner := unleet(core); bare(p, core) {
			list = append(list, inner)
		}
	}
	for _, f := range list {
		if n := len(f) / 2; n >= shortest && f[:n] == f[n:] {
			list = append(list, f[:n])
		}
	}
	return list
}

// bare says whether core is all that a guesser would have to know of p.
func bare(p, core string) bool {
	if utf8.RuneCountInString(core) < shortest {
		return false
	}
	before, after, _ := strings.Cut(p, core)
	return plain(before) && plain(after) && (len(before)+len(after) <= fewExtra || before == "" || after == "")
}

// plain says whether what stands beside a word is little or a run: 123456789, 00000000.
func plain(s string) bool {
	return len(s) <= fewExtra || run(s)
}

func run(s string) bool {
	var up, same, down = true, true, true
	for i := 1; i < len(s); i++ {
		up = up && (s[i] == s[i-1]+1 || s[i] == '0' && s[i-1] == '9')
		same = same && s[i] == s[i-1]
		down = down && s[i] == s[i-1]-1
	}
	return up || same || down
}

var leet = strings.NewReplacer("0", "o", "1", "i", "3", "e", "4", "a", "5", "s", "7", "t", "@", "a", "$", "s", "!", "i", "8", "b")

func unleet(s string) string { return leet.Replace(s) }

func reverse(s string) string {
	r := []rune(s)
	for i, j := 0, len(r)-1; i < j; i, j = i+1, j-1 {
		r[i], r[j] = r[j], r[i]
	}
	return string(r)
}

// hashes yields the places of a word by double hashing (Kirsch and Mitzenmacher, 2006).
func hashes(word string) (a, b uint64) {
	sum := sha256.Sum256([]byte("sallyport.breached.v1\x00" + word))
	return binary.LittleEndian.Uint64(sum[:]), binary.LittleEndian.Uint64(sum[8:]) | 1
}

func listed(filter []byte, word string) bool {
	if len(word) < shortest {
		return false
	}
	k, bits := binary.LittleEndian.Uint32(filter[len(magic):]), binary.LittleEndian.Uint64(filter[len(magic)+4:])
	a, b := hashes(word)
	for range k {
		at := a % bits
		if filter[header+int(at/8)]&(1<<(at%8)) == 0 {
			return false
		}
		a += b
	}
	return true
}

// Build makes a filter of words, for the generator. perWord is the number of bits for each.
func Build(words []string, perWord int) ([]byte, error) {
	if len(words) == 0 || perWord < 8 {
		return nil, fmt.Errorf("breached: no words, or too few bits for them")
	}
	bits := uint64(len(words) * perWord)
	k := uint32(perWord * 693 / 1000) // bits per word · ln 2
	filter := make([]byte, header+int((bits+7)/8))
	copy(filter, magic)
	binary.LittleEndian.PutUint32(filter[len(magic):], k)
	binary.LittleEndian.PutUint64(filter[len(magic)+4:], bits)
	for _, w := range words {
		a, b := hashes(strings.ToLower(w))
		for range k {
			at := a % bits
			filter[header+int(at/8)] |= 1 << (at % 8)
			a += b
		}
	}
	return filter, nil
}
