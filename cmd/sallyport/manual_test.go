package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"sallyport/server"
	"sallyport/server/admin"
)

// TestManualKnowsTheProgram keeps docs/OPERATIONS.md true: every setting with
// its default, every command, every exit code.
func TestManualKnowsTheProgram(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../../docs/OPERATIONS.md")
	if err != nil {
		t.Fatal(err)
	}
	manual := string(data)
	l, err := server.LoadConfig(server.Source{NoFile: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range l.Settings() {
		i := strings.Index(manual, "\n| `"+s.Key+"` | ")
		if i < 0 {
			t.Errorf("setting %s is not in the manual", s.Key)
			continue
		}
		row, _, _ := strings.Cut(manual[i+1:], "\n")
		value := fmt.Sprint(s.Value)
		if value != "" && value != "[]" && s.Key != "listeners" && !strings.Contains(row, "| "+value+" |") && !strings.Contains(row, "| `"+value+"` |") {
			t.Errorf("the manual's default of %s is not %s: %s", s.Key, value, row)
		}
	}
	for i, c := range []admin.Code{admin.CodeFindings, admin.CodeUsage, admin.CodeRefused, admin.CodeNotFound, admin.CodeConflict, admin.CodeSealed, admin.CodeUnreachable, admin.CodeInvalid, admin.CodeTimeout, admin.CodeInternal} {
		if c.Exit() != i+1 || !strings.Contains(manual, fmt.Sprintf("\n| %d | `%s` |", c.Exit(), c)) {
			t.Errorf("exit code %d, %s, is not in the manual", c.Exit(), c)
		}
	}
	root := (&app{stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard}).root()
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			if !strings.Contains(manual, sub.Name()) {
				t.Errorf("command %s is not in the manual", sub.CommandPath())
			}
			walk(sub)
		}
	}
	walk(root)
}
