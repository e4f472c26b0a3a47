package policy

import (
	"bytes"
	"regexp"
	"testing"

	"pgregory.net/rapid"
)

func TestFormat(t *testing.T) {
	t.Parallel()
	got, err := Format(DefaultName, []byte("# top\n\n\nversion: 1   \nsite:\n      # why\n      session:\n            max: 3 # few\n      paths:\n      - path: /a\n        allow: [read]\n\n\naccounts:\n   a: {protocols: [sftp],\n       session: {max: 1}}\n\n"))
	want := "# top\n\nversion: 1\nsite:\n  # why\n  session:\n    max: 3 # few\n  paths:\n    - path: /a\n      allow: [read]\n\naccounts:\n  a: {protocols: [sftp],\n      session: {max: 1}}\n"
	if err != nil || string(got) != want {
		t.Errorf("%v\n%s\nwant\n%s", err, got, want)
	}
}

// Formatting changes neither what a document says nor its comments, and does nothing the second time.
func TestFormatKeepsWhatIsSaid(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := []byte(genLayout(t))
		once, err := Format(DefaultName, text)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if a, b := commentWords(text), commentWords(once); len(a) != len(b) {
			t.Fatalf("comments lost\n%s\n%s", text, once)
		}
		twice, err := Format(DefaultName, once)
		if err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%v\n%s\nbecame\n%s", err, once, twice)
		}
	})
}

// isPlain is this regular expression, by hand.
func TestPlainWords(t *testing.T) {
	t.Parallel()
	want := regexp.MustCompile(`^[A-Za-z/][A-Za-z0-9/_-]*(\.[A-Za-z0-9/_-]+)*$|^[0-9]+(\.[0-9]+){3}(/[0-9]+)?$`)
	check := func(t interface{ Errorf(string, ...any) }, s string) {
		if got := isPlain(s); got != want.MatchString(s) {
			t.Errorf("isPlain(%q) = %v", s, got)
		}
	}
	for _, s := range []string{"", ".", "a", "/", "a.", "a..b", "a.b", ".a", "/a.b-c_d/e", "1", "1.2.3.4", "1.2.3.4/5", "1.2.3.4/", "1.2.3/4.5", "1..2.3", "1.2.3.4.5", "1.2.3.4/5/6", "/1.2.3", "a b", "\u00e4", "a\n", "-a", "_a", "1a.2.3.4"} {
		check(t, s)
	}
	rapid.Check(t, func(t *rapid.T) {
		check(t, rapid.StringOfN(rapid.RuneFrom([]rune("aZ09./_-: \u00e4")), 0, 12, -1).Draw(t, "word"))
	})
}
