package shamir

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func newSecret() *[SecretSize]byte {
	var s [SecretSize]byte
	rand.Read(s[:])
	return &s
}

// TestFieldIsAField compares mul with multiplication by the book, and inverse
// with its definition, for all values.
func TestFieldIsAField(t *testing.T) {
	t.Parallel()
	book := func(a, b byte) byte {
		wide := 0
		for i := range 8 {
			if b>>i&1 == 1 {
				wide ^= int(a) << i
			}
		}
		for i := 14; i >= 8; i-- {
			if wide>>i&1 == 1 {
				wide ^= 0x11b << (i - 8)
			}
		}
		return byte(wide)
	}
	for a := range 256 {
		for b := range 256 {
			if got, want := mul(byte(a), byte(b)), book(byte(a), byte(b)); got != want {
				t.Fatalf("%#x·%#x = %#x, want %#x", a, b, got, want)
			}
		}
		if a > 0 && mul(byte(a), inverse(byte(a))) != 1 {
			t.Errorf("1/%#x = %#x", a, inverse(byte(a)))
		}
	}
	if mul(0x57, 0x83) != 0xc1 { // FIPS 197, section 4.2
		t.Error("not the field of FIPS 197")
	}
}

// TestSmallField proves what the check character promises: multiplication by a
// weight loses nothing, and the weights differ.
func TestSmallField(t *testing.T) {
	t.Parallel()
	for w := byte(1); w < 32; w++ {
		seen := map[byte]bool{}
		for c := range byte(32) {
			seen[mul32(w, c)] = true
		}
		if len(seen) != 32 {
			t.Errorf("multiplication by %d is not invertible", w)
		}
	}
}

func TestAnyKOfNRestore(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(2, 12).Draw(t, "n")
		k := rapid.IntRange(2, n).Draw(t, "k")
		secret := newSecret()
		shares, err := Split(secret, k, n)
		if err != nil {
			t.Fatal(err)
		}
		picked := rapid.Permutation(shares).Draw(t, "order")[:rapid.IntRange(k, n).Draw(t, "given")]
		got, err := Combine(picked)
		if err != nil || *got != *secret {
			t.Fatalf("%d of %d: %v", k, n, err)
		}
		if _, err := Combine(picked[:k-1]); !errors.Is(err, ErrTooFew) {
			t.Fatalf("%d of %d: got %v, want ErrTooFew", k-1, k, err)
		}
	})
}

func TestLargestSet(t *testing.T) {
	t.Parallel()
	secret := newSecret()
	shares, err := Split(secret, MaxShares, MaxShares)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Combine(shares); err != nil || *got != *secret {
		t.Fatal(err)
	}
	for _, kn := range [][2]int{{1, 1}, {1, 3}, {3, 2}, {2, 256}, {0, 0}, {-1, 5}} {
		if _, err := Split(secret, kn[0], kn[1]); err == nil {
			t.Errorf("%d of %d was made", kn[0], kn[1])
		}
	}
}

// TestFewerSharesTellNothing splits two fixed secrets many times. Every value
// of a byte of k-1 shares is as frequent for the one as for the other: the
// chi-squared statistic over 256 values stays below what a fair source exceeds
// once in 10^9 times, while the whole set would give itself away at once.
func TestFewerSharesTellNothing(t *testing.T) {
	t.Parallel()
	const rounds = 1500 // of 32 bytes each
	var zero, ones [SecretSize]byte
	for i := range ones {
		ones[i] = 0xff
	}
	for _, k := range []int{2, 3} {
		var counts [2][256]int // of the sum of k-1 shares, which catches a dependence among them, too
		for which, secret := range []*[SecretSize]byte{&zero, &ones} {
			for range rounds {
				shares, err := Split(secret, k, k)
				if err != nil {
					t.Fatal(err)
				}
				for b := range SecretSize {
					v := byte(0)
					for i := range k - 1 {
						v ^= shares[i].Y[b]
					}
					counts[which][v]++
				}
			}
		}
		for which := range counts {
			expect, chi := float64(rounds*SecretSize)/256, 0.0
			for _, c := range counts[which] {
				d := float64(c) - expect
				chi += d * d / expect
			}
			if chi > 415 { // 255 degrees of freedom: mean 255, deviation 22.6
				t.Errorf("k = %d, secret %d: chi-squared %.0f", k, which, chi)
			}
		}
	}
}

// TestEverySecretFits shows it exactly for one byte: for k-1 given shares and
// each possible secret there is exactly one polynomial.
func TestEverySecretFits(t *testing.T) {
	t.Parallel()
	shares, err := Split(newSecret(), 2, 3)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[byte]bool{}
	for y := range 256 {
		other := shares[1]
		other.Y[0] = byte(y)
		got, err := Combine([]Share{shares[0], other})
		if err != nil {
			t.Fatal(err)
		}
		seen[got[0]] = true
	}
	if len(seen) != 256 {
		t.Errorf("one share leaves %d of 256 secrets possible", len(seen))
	}
}

func TestMixedDuplicateAndConflictingSharesAreToldApart(t *testing.T) {
	t.Parallel()
	a, err := Split(newSecret(), 2, 3)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Split(newSecret(), 2, 3)
	if err != nil {
		t.Fatal(err)
	}
	forged := a[0]
	forged.Y[3] ^= 1
	zero := a[0]
	zero.X = 0
	for what, c := range map[string]struct {
		shares []Share
		want   error
	}{
		"none": {nil, ErrTooFew}, "one": {a[:1], ErrTooFew}, "twice": {[]Share{a[0], a[0]}, ErrDuplicate},
		"same number": {[]Share{a[0], forged}, ErrConflict}, "mixed": {[]Share{a[0], b[1]}, ErrMixed}, "point zero": {[]Share{zero, a[1]}, ErrShare},
	} {
		if _, err := Combine(c.shares); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", what, err, c.want)
		}
	}
}

func TestTextSurvivesPeople(t *testing.T) {
	t.Parallel()
	shares, err := Split(newSecret(), 2, 2)
	if err != nil {
		t.Fatal(err)
	}
	text := string(shares[0].Text())
	t.Logf("\n%s", text)
	for what, typed := range map[string]string{
		"as it is": text, "lower case": strings.ToLower(text), "blanks": strings.NewReplacer("-", " ", "\n", "\r\n  ").Replace(text),
		"no groups": strings.NewReplacer("-", "", "\n", "").Replace(text), "letters for digits": strings.NewReplacer("0", "o", "1", "l").Replace(text), "i": strings.ReplaceAll(text, "1", "I"),
	} {
		got, err := ParseText([]byte(typed))
		if err != nil || *got != shares[0] {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestEveryMistakeNamesItsGroup tries every wrong character at every place, and
// every exchange of two neighbours and of two groups.
func TestEveryMistakeNamesItsGroup(t *testing.T) {
	t.Parallel()
	shares, err := Split(newSecret(), 2, 2)
	if err != nil {
		t.Fatal(err)
	}
	good := strings.NewReplacer("-", "", "\n", "").Replace(string(shares[1].Text()))
	cases := 0
	expect := func(text string, group ...int) {
		t.Helper()
		cases++
		var te *TextError
		if _, err := ParseText([]byte(text)); !errors.As(err, &te) || !errors.Is(err, ErrShare) || fmt.Sprint(te.Groups) != fmt.Sprint(group) {
			t.Errorf("%s\n%s: got %v, want groups %v", good, text, err, group)
		}
	}
	for i := range good {
		for _, c := range alphabet + "U*" {
			if byte(c) != good[i] {
				expect(good[:i]+string(c)+good[i+1:], i/groupSize+1)
			}
		}
		if i%groupSize > 0 && good[i] != good[i-1] {
			expect(good[:i-1]+string(good[i])+string(good[i-1])+good[i+1:], i/groupSize+1)
		}
	}
	for g := range groups - 1 {
		i, j, k := g*groupSize, (g+1)*groupSize, (g+2)*groupSize
		if good[i:j] != good[j:k] {
			expect(good[:i]+good[j:k]+good[i:j]+good[k:], g+1, g+2)
		}
	}
	for n := range good {
		if _, err := ParseText([]byte(good[:n])); !errors.Is(err, ErrShare) {
			t.Errorf("%d characters: %v", n, err)
		}
	}
	if _, err := ParseText([]byte(good + "0")); !errors.Is(err, ErrShare) {
		t.Errorf("too long: %v", err)
	}
	t.Logf("%d mistakes", cases)
}

func TestEveryFlippedBitIsNoShare(t *testing.T) {
	t.Parallel()
	shares, err := Split(newSecret(), 3, 5)
	if err != nil {
		t.Fatal(err)
	}
	good := shares[4].Bytes()
	for i := range good {
		for bit := range 8 {
			bad := bytes.Clone(good)
			bad[i] ^= 1 << bit
			if _, err := Parse(bad); !errors.Is(err, ErrShare) {
				t.Errorf("byte %d bit %d: %v", i, bit, err)
			}
		}
		if _, err := Parse(good[:i]); !errors.Is(err, ErrShare) {
			t.Errorf("%d bytes: %v", i, err)
		}
	}
}

func TestShareDoesNotPrint(t *testing.T) {
	t.Parallel()
	shares, err := Split(newSecret(), 2, 2)
	if err != nil {
		t.Fatal(err)
	}
	secret := fmt.Sprintf("%x", shares[0].Y[:8])
	for _, verb := range []string{"%v", "%+v", "%#v", "%x", "%s"} {
		for _, v := range []any{shares[0], &shares[0], shares} {
			if s := fmt.Sprintf(verb, v); strings.Contains(s, secret) || !strings.Contains(s, "redacted") {
				t.Errorf("%s prints %s", verb, s)
			}
		}
	}
}

func FuzzParseText(f *testing.F) {
	shares, err := Split(newSecret(), 2, 2)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(shares[0].Text())
	f.Add([]byte("00000-00000"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := ParseText(text)
		if err != nil {
			if !errors.Is(err, ErrShare) {
				t.Fatalf("not ErrShare: %v", err)
			}
			return
		}
		again, err := ParseText(s.Text())
		if err != nil || *again != *s {
			t.Fatalf("accepted, but not again: %v", err)
		}
	})
}

func FuzzParse(f *testing.F) {
	shares, err := Split(newSecret(), 2, 2)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(shares[0].Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := Parse(b); err == nil && !bytes.Equal(s.Bytes(), b) {
			t.Fatal("read as something else than it is")
		} else if err != nil && !errors.Is(err, ErrShare) {
			t.Fatalf("not ErrShare: %v", err)
		}
	})
}
