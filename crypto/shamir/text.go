package shamir

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// The text form is made to be read out, copied by hand and typed: 18 groups of
// five characters in three lines. Four characters of a group carry 20 bits, and
// the fifth is a check over them and over the number of the group, so that a
// mistake is reported with the group it is in. Digits and letters are
// Crockford's: no I, L, O and U; when reading, I and L are 1, O is 0, and case
// does not matter.
const (
	alphabet  = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	groups    = ShareSize * 8 / groupBits
	groupBits = 4 * 5
	groupSize = 5 // characters, the check included
	perLine   = 6 // groups

	separators = " \t\r\n-"
)

// maxText bounds what is read as a share, bytes: far above any way to space one.
const maxText = 1024

// TextError says which groups of a share's text are wrong, counted from 1. It
// is ErrShare. It quotes nothing of the share.
type TextError struct {
	Groups []int
}

func (e *TextError) Error() string {
	list := make([]string, len(e.Groups))
	for i, g := range e.Groups {
		list[i] = fmt.Sprint(g)
	}
	word := "group"
	if len(list) > 1 {
		word = "groups"
	}
	return fmt.Sprintf("mistake in %s %s of %d", word, strings.Join(list, ", "), groups)
}

func (e *TextError) Unwrap() error { return ErrShare }

// Text is the share to be read and typed by people. The caller overwrites it.
func (s *Share) Text() []byte {
	b := s.Bytes()
	defer clear(b)
	text := make([]byte, 0, groups*(groupSize+1))
	for g := range groups {
		symbols := groupSymbols(b, g)
		for _, c := range symbols {
			text = append(text, letter(c))
		}
		text = append(text, letter(groupCheck(symbols, g)))
		if g%perLine == perLine-1 {
			text = append(text, '\n')
		} else {
			text = append(text, '-')
		}
	}
	return text[:len(text)-1]
}

// ParseText reads what Text made, whatever its case, spaces, hyphens and line
// breaks. A *TextError names the wrong groups; other errors are ErrShare, too.
func ParseText(text []byte) (*Share, error) {
	if len(text) > maxText {
		return nil, fmt.Errorf("%w: too long", ErrShare)
	}
	symbols := make([]byte, 0, groups*groupSize)
	defer func() { clear(symbols[:cap(symbols)]) }()
	bad := map[int]bool{}
	for _, c := range text {
		if bytes.IndexByte([]byte(separators), c) >= 0 {
			continue
		}
		if len(symbols) == cap(symbols) {
			return nil, fmt.Errorf("%w: more than %d groups of %d characters", ErrShare, groups, groupSize)
		}
		v, ok := value(c)
		if !ok {
			bad[len(symbols)/groupSize] = true
		}
		symbols = append(symbols, v)
	}
	if missing := groups*groupSize - len(symbols); missing > 0 {
		return nil, fmt.Errorf("%w: %d characters are missing; a share has %d groups of %d", ErrShare, missing, groups, groupSize)
	}
	b := make([]byte, ShareSize)
	defer clear(b)
	var wrong TextError
	for g := range groups {
		group := symbols[g*groupSize : (g+1)*groupSize]
		if bad[g] || groupCheck([4]byte(group[:4]), g) != group[4] {
			wrong.Groups = append(wrong.Groups, g+1)
			continue
		}
		setGroup(b, g, [4]byte(group[:4]))
	}
	if len(wrong.Groups) > 0 {
		return nil, &wrong
	}
	s, err := Parse(b)
	if err != nil && errors.Is(err, ErrShare) {
		return nil, fmt.Errorf("%w (no single group is wrong; compare the whole share)", err)
	}
	return s, err
}

// WholeText tells whether text has as many characters as a share, right ones or not: who reads one line by line then knows the end.
func WholeText(text []byte) bool {
	n := 0
	for _, c := range text {
		if bytes.IndexByte([]byte(separators), c) < 0 {
			n++
		}
	}
	return n >= groups*groupSize
}

// groupSymbols are the 20 bits of group g, five at a time.
func groupSymbols(b []byte, g int) (out [4]byte) {
	for i := range out {
		for bit := range 5 {
			at := g*groupBits + i*5 + bit
			out[i] = out[i]<<1 | b[at/8]>>(7-at%8)&1
		}
	}
	return out
}

func setGroup(b []byte, g int, symbols [4]byte) {
	for i, c := range symbols {
		for bit := range 5 {
			at := g*groupBits + i*5 + bit
			b[at/8] |= c >> (4 - bit) & 1 << (7 - at%8)
		}
	}
}

// groupCheck is Σ w^(i+1)·c_i + (g + 1) over GF(2^5), w = x: the weights differ, so
// every single wrong character and every exchange of two is found, and so are
// groups that changed places.
func groupCheck(symbols [4]byte, g int) byte {
	sum := byte(g + 1)
	weight := byte(1)
	for _, c := range symbols {
		weight = mul32(weight, 2)
		sum ^= mul32(weight, c)
	}
	return sum
}

// mul32 is a·b in GF(2^5) modulo x^5 + x^2 + 1, in constant time.
func mul32(a, b byte) byte {
	var product byte
	for range 5 {
		product ^= a & -(b & 1)
		carry := -(a >> 4 & 1)
		a = (a<<1)&31 ^ 5&carry
		b >>= 1
	}
	return product
}

// letter is alphabet[v] without a look-up: the place of a look-up in memory
// would depend on the secret.
func letter(v byte) byte {
	out := byte(0)
	for i := range byte(len(alphabet)) {
		out |= alphabet[i] & equal(i, v)
	}
	return out
}

// value is the inverse of letter; ok is false for what is no letter of it.
func value(c byte) (v byte, ok bool) {
	c &^= 0x20 & between(c, 'a', 'z')
	c = c&^equal(c, 'O') | '0'&equal(c, 'O')
	one := equal(c, 'I') | equal(c, 'L')
	c = c&^one | '1'&one
	found := byte(0)
	for i := range byte(len(alphabet)) {
		hit := equal(alphabet[i], c)
		v |= i & hit
		found |= hit
	}
	return v, found != 0
}

// equal is 0xff if a = b and 0 otherwise, without a branch.
func equal(a, b byte) byte { return byte((uint16(a^b) - 1) >> 8) }

// between is 0xff if low ≤ c ≤ high.
func between(c, low, high byte) byte {
	below := byte((uint16(c) - uint16(low)) >> 8)
	above := byte((uint16(high) - uint16(c)) >> 8)
	return ^(below | above)
}
