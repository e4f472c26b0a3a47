// Package approvedtest runs tests under fips140=only, where the process that runs
// the others is not: the mode is fixed when a process starts.
package approvedtest

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"sallyport/crypto/approved"
)

// Run runs the tests of this package whose names begin with TestFIPS in a process
// of its own, and fails if there are not n of them, or one fails or is skipped.
// They call Need first.
func Run(t *testing.T, n int) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestFIPS", "-test.v")
	cmd.Env = append(os.Environ(), "GODEBUG=fips140=only")
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Count(string(out), "--- PASS: TestFIPS") != n {
		t.Errorf("%v\n%s", err, out)
	}
}

// Need skips a test where other algorithms may be used: Run runs it.
func Need(t *testing.T) {
	t.Helper()
	if !approved.Only() {
		t.Skip("TestUnderFIPS runs it")
	}
}
