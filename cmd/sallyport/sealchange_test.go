package main

import (
	"bytes"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/server/admin"
)

// TestSharesThatCannotBeWrittenArePrinted: the new seal is in force by then,
// and the answer of the server is the only place where its shares are.
func TestSharesThatCannotBeWrittenArePrinted(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	a := &app{stdout: &out, stderr: io.Discard, output: "table"}
	shares := []admin.Share{{Number: 1, Text: "first"}, {Number: 2, Text: "second"}}
	err := a.handOut(admin.SealChanged{Set: "00112233", Shares: shares}, filepath.Join(t.TempDir(), "absent"))
	if err == nil || !strings.Contains(out.String(), "first") || !strings.Contains(out.String(), "second") {
		t.Errorf("%v, and printed %q", err, out.String())
	}
}
