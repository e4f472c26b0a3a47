package policy

import (
	"bytes"
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
