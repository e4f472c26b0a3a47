package breached

import (
	"crypto/rand"
	"strings"
	"testing"
)

func TestWhatEverybodyTriesFirstIsListed(t *testing.T) {
	t.Parallel()
	for _, p := range []string{"123456", "password", "PASSWORD", "Password1!", "P@ssw0rd", "p@ssw0rd2026!", "passwordpassword", "drowssap12", "!!dragon!!", "letmein123456789", "Trustno1", "Elizabeth1999", "iloveyou<3", "123456789012", "aaaaaaaaaaaaaa", "987654321"} {
		if !Contains(p) {
			t.Errorf("%q is not listed", p)
		}
	}
}

func TestOtherPasswordsAreNot(t *testing.T) {
	t.Parallel()
	for _, p := range []string{"correct-horse-12", "Correct-horse-42", "dragon-49182736450918", "kestrel.tulip.93", "Wk7-vdR2+pqz", "", "a1", "Zürich-Gleis-43-Süd", "4f9a1c77e02b"} {
		if Contains(p) {
			t.Errorf("%q is listed", p)
		}
	}
	false_ := 0
	for range 20_000 {
		if listed(shipped, strings.ToLower(rand.Text())) {
			false_++
		}
	}
	if false_ > 10 {
		t.Errorf("%d of 20,000 random words are taken for listed ones", false_)
	}
}

func TestTheFilterIsSmall(t *testing.T) {
	t.Parallel()
	if len(shipped) < 100_000 || len(shipped) > 1<<20 || string(shipped[:len(magic)]) != magic {
		t.Errorf("%d bytes", len(shipped))
	}
}

func TestBuild(t *testing.T) {
	t.Parallel()
	f, err := Build([]string{"Alpha", "bravo"}, 24)
	if err != nil {
		t.Fatal(err)
	}
	if !listed(f, "alpha") || !listed(f, "bravo") || listed(f, "charlie") || listed(f, "delta") {
		t.Error("a filter of two words does not know them, or knows others")
	}
	if _, err := Build(nil, 24); err == nil {
		t.Error("a filter of nothing was made")
	}
}

func BenchmarkContains(b *testing.B) {
	for b.Loop() {
		Contains("Correct-horse-42")
	}
}
