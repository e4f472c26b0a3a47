package vfs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/vfs/blob"
)

// TestRepairSavesSmallFilesOfWhichOnlyTheSpareKeyIsLeft: the record of the key as it was before the commit that gave it a file is found, and the
// version is not. What was written becomes a fragment; keys that have no file, and blobs that are not whole, become none.
func TestRepairSavesSmallFilesOfWhichOnlyTheSpareKeyIsLeft(t *testing.T) {
	t.Parallel()
	for _, torn := range []bool{false, true} {
		var c *bench
		s := &stops{at: func(string) {}}
		b := newBenchWith(t, Options{testOnlyBlobs: func(below blob.Store) blob.Store { s.Store = below; return s }})
		w := b.view()
		for i := range 4 {
			put(t, w, fmt.Sprint(i), noise(uint64(i), 5000))
		}
		before := map[string]bool{}
		for _, name := range b.blobFiles() {
			before[filepath.Base(name)] = true
		}
		s.at = func(which string) {
			if which == "commit" && c == nil { // the file is whole, and its record is the spare one
				c = b.crash()
			}
		}
		put(t, w, "lost", noise(9, 150_000))
		if c == nil || c.openBlobs() == 0 {
			t.Fatal("no spare record with a file")
		}
		c.close()
		if torn {
			for _, name := range c.blobFiles() {
				if !before[filepath.Base(name)] {
					ok(t, os.Truncate(name, 100_000))
				}
			}
		}
		loseVersion(t, filepath.Join(c.dir(), treeName(1)), 2) // of the first file
		plan := c.plan(RepairOptions{})
		done := c.plan(RepairOptions{Plan: plan.ID})
		if !done.Done {
			t.Fatalf("executed: %+v", done)
		}
		c.open()
		w = c.view()
		for i := 1; i < 4; i++ {
			wantContent(t, w, fmt.Sprint(i), noise(uint64(i), 5000))
		}
		found := 0
		for _, dir := range names(t, w, "/") {
			if !strings.HasPrefix(dir, "lost+found") {
				continue
			}
			for _, name := range names(t, w, dir) {
				if stat(t, w, dir+"/"+name).Size() == 150_000 {
					found++
					wantContent(t, w, dir+"/"+name, noise(9, 150_000))
				}
			}
		}
		told := 0
		for _, l := range done.Lost {
			if strings.Contains(l.What, "150000 bytes, is found as fragment-") {
				told++
			}
		}
		if want := map[bool]int{false: 1, true: 0}[torn]; found != want || told != want {
			t.Errorf("torn %v: %d fragments, %d told, want %d; lost: %+v", torn, found, told, want, done.Lost)
		}
		put(t, w, "0", noise(0, 5000))
		ok(t, w.Close())
		c.reopen()
		wantContent(t, c.view(), "3", noise(3, 5000))
		c.discard() // the first version of the first file cannot be read for ever
	}
}
