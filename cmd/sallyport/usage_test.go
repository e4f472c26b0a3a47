package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestTheCommandLineIsExplained: what is wrong with it is exit code 2, whatever library finds it.
func TestTheCommandLineIsExplained(t *testing.T) {
	t.Parallel()
	for line, says := range map[string]string{
		"backup restore":                          "sallyport backup restore needs --account and --at",
		"backup restore --account a":              "sallyport backup restore needs --at",
		"backup release --account a":              "sallyport backup release needs --hold",
		"backup release --account a --hold seven": `invalid argument "seven" for "--hold" flag: not a number`,
		"backup hold":                             "sallyport backup hold needs --account",
	} {
		var out, talk bytes.Buffer
		if code := run(t.Context(), strings.Fields(line), strings.NewReader(""), &out, &talk); code != 2 || !strings.Contains(talk.String(), "error: "+says+"\n") || !strings.Contains(talk.String(), "hint: see ") {
			t.Errorf("%s: exit %d, %s", line, code, talk.String())
		}
	}
}

// TestAMistypedCommandIsGuessed, also where the one above it does something by itself: `seal` alone would have sealed the server.
func TestAMistypedCommandIsGuessed(t *testing.T) {
	t.Parallel()
	for line, says := range map[string]string{
		"seal rotat":           "error: sallyport seal takes no arguments\nsallyport: hint: did you mean `sallyport seal rotate`?\n",
		"seal anything else":   "error: sallyport seal takes no arguments\nsallyport: hint: see `sallyport seal --help`\n",
		"backup state restor":  "hint: did you mean `sallyport backup state restore`?\n",
		"backup clock confrim": "hint: did you mean `sallyport backup clock confirm`?\n",
		"backup lst":           "hint: did you mean `sallyport backup list`?\n",
	} {
		var out, talk bytes.Buffer
		if code := run(t.Context(), strings.Fields(line), strings.NewReader(""), &out, &talk); code != 2 || !strings.Contains(talk.String(), says) {
			t.Errorf("%s: exit %d, %s", line, code, talk.String())
		}
	}
}

// TestTheShellIsToldWhatMayFollow, with what it means.
func TestTheShellIsToldWhatMayFollow(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ before, want string }{
		{"seal rotate --to", "shares\tany K of N people\n"},
		{"init --seal", "transit\ta Vault or OpenBao\n"},
		{"backup state restore --damaged", "last-good\ttheir last whole copy\n"},
		{"status -o", "json\n"},
		{"seal", "revoke\tTake a recovery kit"},
	} {
		var out, talk bytes.Buffer
		line := append([]string{cobra.ShellCompRequestCmd}, append(strings.Fields(c.before), "")...)
		if code := run(t.Context(), line, strings.NewReader(""), &out, &talk); code != 0 || !strings.Contains(out.String(), c.want) {
			t.Errorf("%s: exit %d, %q, want %q", c.before, code, out.String(), c.want)
		}
	}
}

// TestEveryCommandThatDestroysHasAnExample: whoever runs it for the first time should not have to guess.
func TestEveryCommandThatDestroysHasAnExample(t *testing.T) {
	t.Parallel()
	root := (&app{}).root()
	for _, path := range []string{
		"init", "seal", "seal rotate", "seal shares", "seal export", "seal revoke", "unseal", "account remove", "backup restore", "backup purge", "backup hold", "backup release",
		"backup state", "backup state restore", "backup drill", "backup clock confirm", "policy set", "policy plan",
	} {
		c, _, err := root.Find(strings.Fields(path))
		if err != nil || c.Name() != path[strings.LastIndexByte(path, ' ')+1:] || !strings.Contains("\n"+c.Example, "\n  sallyport "+path) {
			t.Errorf("%s: %v, %q", path, err, c.Example)
		}
	}
}
