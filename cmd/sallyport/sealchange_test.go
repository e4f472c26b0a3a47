package main

import (
	"bytes"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/server/admin"
)

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space left") }

// TestSharesThatNobodyHasAreNotConfirmed: what cannot be shown or written ends the change before it begins.
func TestSharesThatNobodyHasAreNotConfirmed(t *testing.T) {
	t.Parallel()
	set := admin.SealPrepared{Set: "00112233", Shares: []admin.Share{{Number: 1, Text: "first"}, {Number: 2, Text: "second"}}}
	a := &app{stdout: fullDisk{}, stderr: io.Discard, output: "table"}
	if err := a.handOut(set, ""); err == nil {
		t.Error("printed on a full disk")
	}
	if err := a.handOut(set, filepath.Join(t.TempDir(), "absent")); err == nil {
		t.Error("written into a directory that is not there")
	}
	var out bytes.Buffer
	a.stdout = &out
	if err := a.handOut(set, ""); err != nil || !strings.Contains(out.String(), "first") || !strings.Contains(out.String(), "second") {
		t.Errorf("%v, and printed %q", err, out.String())
	}
}

func TestAGroupIsTypedBack(t *testing.T) {
	t.Parallel()
	share := admin.Share{Number: 2, Text: "AAAA1 BBBB2 CCCC3\nDDDD4 EEEE5 FFFF6\n"}
	for typed, want := range map[string]bool{
		"DDDD4\n": true, " dddd4 \n": true, "DDDD4": true, "EEEE5\nDDDD4\n": true,
		"EEEE5\n": false, "": false, "\n\n\nDDDD4\n": false, "AAAA1 BBBB2 CCCC3 DDDD4\n": false,
	} {
		var out strings.Builder
		if err := askGroup(strings.NewReader(typed), &out, share, 3); (err == nil) != want {
			t.Errorf("%q: %v", typed, err)
		}
		if !strings.Contains(out.String(), "type group 4 of share 2") {
			t.Errorf("asked %q", out.String())
		}
	}
}

// TestAShareIsTypedInTheLinesThatItWasPrintedIn: what is not read would be the shell's.
func TestAShareIsTypedInTheLinesThatItWasPrintedIn(t *testing.T) {
	t.Parallel()
	line := "AAAA1-BBBB2-CCCC3-DDDD4-EEEE5-FFFF6"
	whole := strings.Repeat(line+"\n", 3)
	for typed, want := range map[string]string{
		whole + "ls\n":            whole, // read no further
		line + line + line + "\n": line + line + line + "\n",
		line + "\n\nls\n":         line + "\n", // somebody lost the rest
		line + "\n":               line + "\n", // end of file
		"\nls\n":                  "",
	} {
		lines := strings.SplitAfter(typed, "\n")
		asked := 0
		got, err := shareLines(func(more bool) (string, error) {
			if more != (asked > 0) {
				t.Errorf("%q: asked for more: %v, after %d lines", typed, more, asked)
			}
			next := lines[asked]
			asked++
			if next == "" {
				return "", io.EOF
			}
			return strings.TrimSuffix(next, "\n"), nil
		})
		if err != nil || got != want {
			t.Errorf("%q: read %q, %v", typed, got, err)
		}
	}
	if _, err := shareLines(func(bool) (string, error) { return "", io.EOF }); err != io.EOF {
		t.Errorf("nothing at all: %v", err)
	}
}
