//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestStories runs testdata/*.txtar: what people do with the clients that they have, read from top to bottom. A client that is missing is a
// failure, as everywhere in this package.
func TestStories(t *testing.T) {
	t.Parallel()
	for _, client := range []string{"lftp", "sftp", "curl", "rclone"} {
		if _, err := exec.LookPath(client); err != nil {
			t.Fatalf("%v: run `make e2e-tools`", err)
		}
	}
	bin := binary(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata", RequireExplicitExec: true, RequireUniqueNames: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("NO_COLOR", "1")
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("LC_ALL", "C.UTF-8")
			dir := filepath.Join(e.WorkDir, ".bin")
			if err := os.Mkdir(dir, 0o755); err != nil {
				return err
			}
			e.Setenv("PATH", dir+string(os.PathListSeparator)+e.Getenv("PATH"))
			return os.Symlink(bin, filepath.Join(dir, "sallyport"))
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"connection": fields},
	})
}

// fields waits for a demo's connection.json and makes its fields variables: $account, $sftp_port …
func fields(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: connection FILE")
	}
	var all map[string]any
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for left := 3000; ; left-- { // ticks of a minute; see poll
		data, err := os.ReadFile(ts.MkAbs(args[0]))
		if err == nil {
			err = json.Unmarshal(data, &all)
		}
		if err == nil {
			break
		}
		if left <= 0 {
			ts.Fatalf("the server is not ready within a minute: %v", err)
		}
		<-tick.C
	}
	for k, v := range all {
		ts.Setenv(k, fmt.Sprint(whole(v)))
	}
}

// whole is a number without a fraction, which JSON does not know.
func whole(v any) any {
	if f, ok := v.(float64); ok {
		return int64(f)
	}
	return v
}
