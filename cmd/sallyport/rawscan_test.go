package main

import (
	"encoding/hex"
	"os"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"sallyport/vfs/rawtest"
)

func rawState(ts *testscript.TestScript, dir string) rawtest.Files {
	files, err := rawtest.Read(ts.MkAbs(dir))
	ts.Check(err)
	return files
}

// inRaw STATE TEXT… demands that each text is in the bytes of the state or in a name there; negated, that none is.
func inRaw(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: inraw STATE TEXT...")
	}
	files := rawState(ts, args[0])
	for _, text := range args[1:] {
		if in := files.In([]byte(text)); (len(in) > 0) == neg {
			ts.Fatalf("%q is in %q", text, in)
		}
	}
}

// wrappedKeys STATE FILE COUNT writes down the wrapped key of every blob that lies in the state, as it is in the raw bytes of the databases.
// There must be so many blobs.
func wrappedKeys(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: wrappedkeys STATE FILE COUNT")
	}
	want, err := strconv.Atoi(args[2])
	ts.Check(err)
	keys, err := rawState(ts, args[0]).WrappedKeys()
	ts.Check(err)
	if len(keys) != want {
		ts.Fatalf("%d blobs are there, want %d", len(keys), want)
	}
	var out strings.Builder
	for id, forms := range keys {
		for _, key := range forms {
			out.WriteString(hex.EncodeToString([]byte(id)) + " " + hex.EncodeToString(key) + "\n")
		}
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(out.String()), 0o600))
}

// inRawKeys STATE FILE demands that the state still has every wrapped key that was written down; negated, that it has none, and the id of
// no blob that is gone.
func inRawKeys(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: inrawkeys STATE FILE")
	}
	files := rawState(ts, args[0])
	blobs := files.Blobs()
	for line := range strings.Lines(ts.ReadFile(args[1])) {
		id, key, _ := strings.Cut(strings.TrimSpace(line), " ")
		wrapped, err := hex.DecodeString(key)
		ts.Check(err)
		if in := files.In(wrapped); (len(in) > 0) == neg {
			ts.Fatalf("the wrapped key of blob %s is in %q", id, in)
		}
		raw, err := hex.DecodeString(id)
		ts.Check(err)
		if in := files.In(raw); neg && !blobs[string(raw)] && len(in) > 0 {
			ts.Fatalf("blob %s is gone, and named in %q", id, in)
		}
	}
}
