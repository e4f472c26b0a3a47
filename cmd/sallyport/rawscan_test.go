package main

import (
	"bytes"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// rawState is every byte of a state directory, by path, as one who takes the disk has it.
func rawState(ts *testscript.TestScript, dir string) map[string][]byte {
	files := map[string][]byte{}
	dir = ts.MkAbs(dir)
	ts.Check(filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		files[strings.TrimPrefix(path, dir)] = data
		return err
	}))
	if len(files) == 0 {
		ts.Fatalf("%s is empty: the scan proves nothing", dir)
	}
	return files
}

// rawIn tells in which of the files, or in which of their names, some bytes are.
func rawIn(files map[string][]byte, what []byte) (in []string) {
	for path, data := range files {
		if bytes.Contains(data, what) || strings.Contains(path, string(what)) {
			in = append(in, path)
		}
	}
	return in
}

// inRaw STATE TEXT… demands that each text is in the bytes of the state or in a name there; negated, that none is.
func inRaw(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: inraw STATE TEXT...")
	}
	files := rawState(ts, args[0])
	for _, text := range args[1:] {
		if in := rawIn(files, []byte(text)); (len(in) > 0) == neg {
			ts.Fatalf("%q is in %q", text, in)
		}
	}
}

// wrappedKeys STATE FILE COUNT writes down the wrapped key of every blob that lies in the state, as it is in the raw bytes of the databases
// (docs/FORMAT.md: the blob's id, and behind it a record: its version, 1, the account key's, and 104 bytes at least of nonce, text and tag).
// There must be so many blobs, and a wrapped key of each must be found: otherwise the scan that follows would prove nothing.
func wrappedKeys(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: wrappedkeys STATE FILE COUNT")
	}
	files := rawState(ts, args[0])
	want, err := strconv.Atoi(args[2])
	ts.Check(err)
	var out strings.Builder
	blobs := 0
	for path := range files {
		dir, name := filepath.Split(path)
		id, err := hex.DecodeString(filepath.Base(dir) + name)
		if err != nil || len(id) != 16 || !strings.Contains(dir, "/blobs/") {
			continue
		}
		blobs++
		found := 0
		begins := append(bytes.Clone(id), 1, 0, 0, 0)
		for tree, data := range files {
			if !strings.HasPrefix(filepath.Base(tree), "tree-") {
				continue
			}
			for at := bytes.Index(data, begins); at >= 0 && at+16+109 <= len(data); { // earlier forms of it lie in free pages
				out.WriteString(hex.EncodeToString(id) + " " + hex.EncodeToString(data[at+16:at+16+109]) + "\n")
				found++
				next := bytes.Index(data[at+1:], begins)
				if next < 0 {
					break
				}
				at += 1 + next
			}
		}
		if found == 0 {
			ts.Fatalf("the wrapped key of blob %x is not found: the scan proves nothing", id)
		}
	}
	if blobs != want {
		ts.Fatalf("%d blobs are there, want %d", blobs, want)
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
	for line := range strings.Lines(ts.ReadFile(args[1])) {
		id, key, _ := strings.Cut(strings.TrimSpace(line), " ")
		wrapped, err := hex.DecodeString(key)
		ts.Check(err)
		if in := rawIn(files, wrapped); (len(in) > 0) == neg {
			ts.Fatalf("the wrapped key of blob %s is in %q", id, in)
		}
		raw, err := hex.DecodeString(id)
		ts.Check(err)
		_, used := files[blobPath(files, id)]
		if in := rawIn(files, raw); neg && !used && len(in) > 0 {
			ts.Fatalf("blob %s is gone, and named in %q", id, in)
		}
	}
}

// blobPath is where a blob lies, or nothing.
func blobPath(files map[string][]byte, id string) string {
	for path := range files {
		if strings.HasSuffix(path, "/blobs/"+id[:2]+"/"+id[2:]) {
			return path
		}
	}
	return ""
}
