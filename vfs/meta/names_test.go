package meta

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport/crypto/record"
)

// mkdir makes a directory with a name.
func mkdir(tx *Tx, dir Inode, name string) (Inode, error) {
	n := &Node{Kind: Dir, Attr: Attr{Mode: 0o755}}
	if err := tx.NewNode(n); err != nil {
		return 0, err
	}
	return n.ID, tx.Link(dir, name, n.ID)
}

func TestLinkRefuses(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	var outer, inner, gone Inode
	var file *Node
	d.update(t, func(tx *Tx) (err error) {
		outer, err = mkdir(tx, Root, "outer")
		if err == nil {
			inner, err = mkdir(tx, outer, "inner")
		}
		if err == nil {
			gone, err = mkdir(tx, Root, "gone")
		}
		if err == nil {
			file, err = addFile(tx, Root, "file", 1)
		}
		return errors.Join(err, tx.Unlink(Root, "gone"))
	})
	link := func(dir Inode, name string) func(tx *Tx) error {
		return func(tx *Tx) error { _, err := addFile(tx, dir, name, 1); return err }
	}
	for what, c := range map[string]struct {
		fn   func(tx *Tx) error
		want error
	}{
		"empty name":                      {link(Root, ""), fs.ErrInvalid},
		"name with a slash":               {link(Root, "a/b"), fs.ErrInvalid},
		"name with NUL":                   {link(Root, "a\x00"), fs.ErrInvalid},
		"name of 256 bytes":               {link(Root, strings.Repeat("a", 256)), fs.ErrInvalid},
		"into a file":                     {link(file.ID, "a"), syscall.ENOTDIR},
		"into a directory without a name": {link(gone, "a"), fs.ErrNotExist},
		"into nothing":                    {link(1000, "a"), fs.ErrNotExist},
		"a second name":                   {func(tx *Tx) error { return tx.Link(Root, "second", file.ID) }, fs.ErrInvalid},
		"of nothing":                      {func(tx *Tx) error { return tx.Link(Root, "a", 1000) }, fs.ErrNotExist},
		"a directory below itself": {func(tx *Tx) error {
			return errors.Join(tx.Unlink(Root, "outer"), tx.Link(inner, "outer", outer))
		}, fs.ErrInvalid},
		"a directory with entries unlinked": {func(tx *Tx) error { return tx.Unlink(Root, "outer") }, syscall.ENOTEMPTY},
		"a directory with entries replaced": {func(tx *Tx) error {
			return errors.Join(tx.Unlink(Root, "file"), tx.Link(Root, "outer", file.ID))
		}, syscall.ENOTEMPTY},
		"unlink of nothing":      {func(tx *Tx) error { return tx.Unlink(Root, "nothing") }, fs.ErrNotExist},
		"unlink by another form": {func(tx *Tx) error { return errors.Join(mkfile("\u00e9")(tx), tx.Unlink(Root, "e\u0301")) }, fs.ErrNotExist},
	} {
		if err := d.Update(context.Background(), c.fn); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", what, err, c.want)
		}
	}
	if names := d.names(t); len(names) != 2 {
		t.Errorf("names: %v", names)
	}
	d.update(t, link(Root, strings.Repeat("\xff", 255)))
	d.update(t, func(tx *Tx) error { // a directory with entries moves
		return errors.Join(tx.Unlink(Root, "outer"), tx.Link(Root, "moved", outer))
	})
	d.clean(t)
}

// TestUnlinkInSameTransaction: what came and went in one transaction was
// never there, but its inode can be found for purging.
func TestUnlinkInSameTransaction(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	var id Inode
	d.update(t, func(tx *Tx) error {
		n, err := addFile(tx, Root, "a", 1)
		id = n.ID
		return errors.Join(err, tx.Unlink(Root, "a"))
	})
	d.view(t, func(tx *Tx) error {
		at := tx.Stats().LastInstant
		if _, err := tx.LookupAt(Root, "a", at); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("LookupAt: %v", err)
		}
		var found []Inode
		err := tx.Superseded(0, at+1, func(s Superseded) bool { found = append(found, s.Inode); return true })
		if len(found) != 1 || found[0] != id {
			t.Errorf("superseded inodes: %v", found)
		}
		return err
	})
	d.clean(t)
}

func TestClockStepsBack(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	now := time.Unix(2_000_000_000, 0)
	d.o.Now = func() time.Time { return now }
	d.reopen(t)
	d.update(t, mkfile("a"))
	now = now.Add(-time.Hour)
	for range 2 {
		var at int64
		last := d.published.Load().head.last
		d.update(t, func(tx *Tx) error { at = tx.Instant(); return tx.Emit(nil) })
		if at != last+1 {
			t.Errorf("instant %d after %d, want one more", at, last)
		}
		d.reopen(t)
	}
}

func TestPutNodeKeepsWhatIsNotTheCallers(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.update(t, func(tx *Tx) error {
		n, err := addFile(tx, Root, "a", 7)
		if err != nil {
			return err
		}
		stale := &Node{ID: n.ID, Kind: Dir, Version: 99, Children: 5, Attr: Attr{Size: 1000, Mode: 0o600, Mtime: 5, Atime: 6}, Interrupted: true}
		if err := tx.PutNode(stale); err != nil {
			return err
		}
		got, err := tx.Node(n.ID)
		if err != nil || *got != *stale {
			t.Errorf("stored %+v, returned %+v, %v", got, stale, err)
		}
		want := Node{
			ID: n.ID, Kind: File, Changed: tx.Instant(), Version: 1, Versions: 1, Parent: Root,
			Attr: Attr{Size: 7, Mode: 0o600, Mtime: 5, Atime: 6, Created: tx.Instant(), State: Complete}, Interrupted: true, Home: Root, Name: "a",
		}
		if *got != want {
			t.Errorf("got %+v, want %+v", *got, want)
		}
		return nil
	})
	d.clean(t)
}

func TestCreateAndLock(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	create := d.o
	create.Create = true
	if _, err := Open(context.Background(), d.path, d.keys, create); !errors.Is(err, fs.ErrExist) {
		t.Errorf("creating what is there: %v", err)
	}
	if _, err := Open(context.Background(), d.path, d.keys, d.o); !errors.Is(err, ErrLocked) {
		t.Errorf("opening twice: %v", err)
	}
	if _, err := Open(context.Background(), d.path+".none", d.keys, d.o); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("opening nothing: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	var other record.Key
	foreign, err := record.Derive(&other, record.AccountID{1, 2, 3}, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(context.Background(), d.path, foreign, d.o); !errors.Is(err, ErrIntegrity) {
		t.Errorf("opening with another key: %v", err)
	}
	// A crash in the middle of creating leaves a file of another name.
	if err := os.Rename(d.path, d.path+".new"); err != nil {
		t.Fatal(err)
	}
	again, err := Open(context.Background(), d.path, d.keys, create)
	if err != nil {
		t.Fatalf("creating after a crash: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(d.path + ".new"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("left behind: %v", err)
	}
}

// docs/FORMAT.md, "Fold".
func TestFoldRecordsPerName(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	want := func(step string, live, past int) {
		t.Helper()
		d.view(t, func(tx *Tx) error {
			var got [2]int
			for f := range tx.scan(record.DomainFold, nil, nil) {
				got[f.key[2*tokenSize]]++
			}
			if got != [2]int{live, past} || tx.head.folds != uint64(live+past) {
				t.Errorf("%s: records %v, the head says %d; want %d live, %d past", step, got, tx.head.folds, live, past)
			}
			return nil
		})
		d.clean(t)
	}
	const name = "e\u0301"
	unlink := func(tx *Tx) error { return tx.Unlink(Root, name) }
	d.update(t, mkfile("\u00e9"))
	d.update(t, mkfile("plain"))
	want("names in NFC", 0, 0)
	d.update(t, mkfile(name))
	want("live", 1, 0)
	d.update(t, unlink)
	want("past", 0, 1)
	for range 2 {
		d.update(t, mkfile(name))
		want("live again", 1, 1)
		d.update(t, mkfile(name))
		want("superseded", 1, 1)
		d.update(t, unlink)
		want("past again", 0, 1)
	}
}

func TestPanicInViewIsTheCallers(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	defer func() {
		if p := recover(); p != "mine" {
			t.Errorf("recovered %v", p)
		}
		d.update(t, mkfile("a")) // nothing is held
	}()
	_ = d.View(func(tx *Tx) error { panic("mine") })
}

// TestVerifyFinds breaks one reference at a time, with the right keys.
func TestVerifyFinds(t *testing.T) {
	t.Parallel()
	for what, change := range map[string]func(tx *Tx) error{
		"children": func(tx *Tx) error {
			n, err := tx.Node(Root)
			n.Children++
			tx.putNode(n)
			return err
		},
		"inode gone":   func(tx *Tx) error { tx.remove(record.DomainInode, inodeKey(2)); return nil },
		"version gone": func(tx *Tx) error { tx.remove(record.DomainVersion, versionKey(2, 2)); return nil },
		"page gone":    func(tx *Tx) error { tx.remove(record.DomainExtents, pageKey(2, 2, 0)); return nil },
		"blob gone":    func(tx *Tx) error { return tx.DeleteBlob([16]byte{1}) },
		"blob doomed":  func(tx *Tx) error { return tx.Doom([16]byte{1}) },
		"blob unused":  func(tx *Tx) error { return tx.PutBlob(&BlobKey{ID: [16]byte{9}, State: BlobSealed}) },
		"blob short": func(tx *Tx) error {
			return tx.PutBlob(&BlobKey{ID: [16]byte{1}, State: BlobSealed, Size: 5})
		},
		"index gone": func(tx *Tx) error {
			for f := range tx.scan(record.DomainWhen, []byte{whenDir}, nil) {
				tx.remove(record.DomainWhen, f.key)
			}
			return nil
		},
		"index of nothing": func(tx *Tx) error { tx.indexVersion(5, 2, 2); return nil },
		"fold gone": func(tx *Tx) error {
			for f := range tx.scan(record.DomainFold, nil, nil) {
				tx.remove(record.DomainFold, f.key)
			}
			return nil
		},
		"orphan": func(tx *Tx) error { return tx.NewNode(&Node{Kind: File}) },
		"circle": func(tx *Tx) error {
			a, err := mkdir(tx, Root, "x")
			if err != nil {
				return err
			}
			b, err := mkdir(tx, a, "y")
			if err != nil {
				return err
			}
			n, err := tx.Node(a)
			n.Parent = b
			tx.putNode(n)
			return err
		},
		"malformed": func(tx *Tx) error { tx.put(record.DomainDoomed, make([]byte, 16), []byte("x"), nil); return nil },
		"stats":     func(tx *Tx) error { tx.head.live++; return tx.Emit(nil) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			d := rich(t)
			d.clean(t)
			d.update(t, change)
			findings := 0
			if err := d.Verify(context.Background(), func(f string) { findings++; t.Log(f) }); err != nil || findings == 0 {
				t.Errorf("%d findings, %v", findings, err)
			}
		})
	}
}
