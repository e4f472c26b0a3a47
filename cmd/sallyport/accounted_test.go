package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// notCopied are the files of a state directory that are in no copy, and why.
var notCopied = map[string]string{
	`lock`:                    "says which process works on the directory",
	`[a-z]+\.sock`:            "a socket of the running server",
	`last-copy`:               "says when this state was copied, which a restored one was not yet",
	`audit/lost`:              "lies there between two runs only: the next start records it",
	`clock\.unread-[0-9TZ.]+`: "what could not be read of the clock and was put aside; no server reads it, and it belongs to the disk that it is on",
	`clock\.meanwhile`:        "what is noted of the time while the file clock cannot be read: in a copy, that is the file clock",
	`accounts/[0-9a-f]{32}/tree-[0-9]+\.db\.damaged-[0-9TZ.]+`: "what a repair put aside; no server reads it, and its records may have been purged since",
}

// placesInCopy are where a file can lie in a copy.
func placesInCopy(name string) []string {
	switch parts := strings.Split(name, "/"); {
	case strings.HasPrefix(name, "audit/") && strings.HasSuffix(name, ".log"):
		return []string{name}
	case parts[0] == "hostkeys" || parts[0] == "tls":
		return []string{"meta-*/identity/" + parts[1]}
	case parts[0] == "accounts" && len(parts) == 5 && parts[2] == "blobs":
		return []string{"blobs/" + parts[1] + "/" + parts[3] + "/" + parts[4], "meta-*/accounts/" + parts[1] + "/open/" + parts[3] + parts[4]}
	}
	return []string{"meta-*/" + name}
}

// accounted STATE COPY demands for every file of a state directory that it is in the copy, or known to be left out for a reason.
func accounted(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: accounted STATE COPY")
	}
	state, copied := ts.MkAbs(args[0]), ts.MkAbs(args[1])
	kinds := map[string]int{}
	err := filepath.WalkDir(state, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name := strings.TrimPrefix(path, state+string(os.PathSeparator))
		for pattern := range notCopied {
			if regexp.MustCompile("^" + pattern + "$").MatchString(name) {
				kinds[pattern]++
				return nil
			}
		}
		for _, place := range placesInCopy(name) {
			found, err := filepath.Glob(filepath.Join(copied, place))
			if err == nil && len(found) == 1 {
				kinds[strings.SplitN(place, "/", 2)[0]]++
				return nil
			}
		}
		ts.Fatalf("%s is neither in the copy nor left out for a reason", name)
		return nil
	})
	ts.Check(err)
	ts.Logf("%v", kinds)
}
