package meta

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"sallyport/crypto/record"
	"sallyport/vfs/pagecheck"
)

// wide is rich with so many files that buckets have pages of their own and branches.
func wide(t testing.TB) *testDB {
	d := rich(t)
	for i := range 30 {
		d.update(t, func(tx *Tx) error {
			dir, err := mkdir(tx, Root, fmt.Sprintf("dir %d", i))
			for k := 0; k < 6 && err == nil; k++ {
				var n *Node
				n, err = addFile(tx, dir, fmt.Sprintf("file %d", k), 0)
				if err == nil && k%2 == 0 {
					err = tx.AddVersion(n, &Version{Attr: Attr{State: Complete, Mode: 0o600}})
				}
				if err == nil && k%3 == 0 {
					err = tx.Unlink(dir, fmt.Sprintf("file %d", k))
				}
			}
			return err
		})
	}
	return d
}

// leftOver is what Verify may find after a repair: content that is lost stays an error.
var leftOver = regexp.MustCompile(`^blob [0-9a-f]+ is used by \d+ versions but has no key$`)

// repair digs, writes and opens what was written, and checks that it is consistent.
func (d *testDB) repair(t testing.TB, path string) (*Salvage, *DB) {
	t.Helper()
	s, err := Dig(context.Background(), path, d.keys, time.Now)
	if err != nil {
		t.Fatalf("dig: %v", err)
	}
	made := path + ".repaired"
	t.Cleanup(func() { os.Remove(made) })
	if err := s.Write(context.Background(), made); err != nil {
		t.Fatalf("write: %v", err)
	}
	db, err := Open(context.Background(), made, d.keys, d.o)
	if err != nil {
		t.Fatalf("what was written does not open: %v (damage %q)", err, s.Damage)
	}
	t.Cleanup(func() { db.Close() })
	err = db.Verify(context.Background(), func(f string) {
		if !leftOver.MatchString(f) {
			t.Errorf("after the repair: %s (damage %q, %d losses)", f, s.Damage, len(s.Losses))
		}
	})
	if err != nil {
		t.Error(err)
	}
	return s, db
}

// paths are all live names.
func paths(t testing.TB, db *DB) map[string]Node {
	t.Helper()
	all := map[string]Node{}
	err := db.View(func(tx *Tx) error {
		var walk func(dir Inode, at string) error
		walk = func(dir Inode, at string) error {
			var below []Entry
			for cursor := []byte(nil); ; {
				var err error
				cursor, err = tx.List(dir, cursor, func(en Entry, n *Node) bool {
					all[at+"/"+en.Name] = *n
					if n.Kind == Dir {
						below = append(below, en)
					}
					return true
				})
				if err != nil {
					return err
				}
				if cursor == nil {
					break
				}
			}
			for _, en := range below {
				if err := walk(en.Inode, at+"/"+en.Name); err != nil {
					return err
				}
			}
			return nil
		}
		return walk(Root, "")
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestRepairOfWhatIsWhole changes nothing that a caller can read.
func TestRepairOfWhatIsWhole(t *testing.T) {
	t.Parallel()
	d := wide(t)
	before := paths(t, d.DB)
	if err := d.DB.Close(); err != nil {
		t.Fatal(err)
	}
	s, db := d.repair(t, d.path)
	if len(s.Damage)+len(s.Suspicious)+len(s.Losses) > 0 {
		t.Errorf("damage %q, suspicious %q, losses %+v", s.Damage, s.Suspicious, s.Losses)
	}
	if after := paths(t, db); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("after: %v\nbefore: %v", after, before)
	}
}

// checkRepaired compares what is found after a repair with what was there: a name is as it was, or its loss is reported; and no
// other names are there but those in lost+found.
func checkRepaired(t *testing.T, what string, s *Salvage, db *DB, before map[string]Node) {
	t.Helper()
	after := paths(t, db)
	reported := map[Inode]bool{}
	for _, l := range s.Losses {
		reported[l.Inode] = true
	}
	for path, n := range before {
		got, ok := after[path]
		parent := before[path[:strings.LastIndex(path, "/")]]
		switch {
		case ok && got.ID == n.ID && got.Kind == n.Kind && got.Size == n.Size:
		case reported[n.ID], reported[parent.ID], reported[Root]:
		case len(s.Suspicious) > 0: // an older record was taken
		default:
			t.Errorf("%s: %s (inode %d) is lost without a word: %+v; damage %q, losses %+v", what, path, n.ID, got, s.Damage, s.Losses)
		}
	}
	for path := range after {
		if _, ok := before[path]; !ok && !strings.Contains(path, "/lost+found-") && len(s.Suspicious) == 0 {
			t.Errorf("%s: %s came from nowhere", what, path)
		}
	}
	if len(s.Damage) == 0 && fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("%s: no damage is reported", what)
	}
}

// TestRepairEveryRecord takes out, and spoils, each record once.
func TestRepairEveryRecord(t *testing.T) {
	t.Parallel()
	d := rich(t)
	before := paths(t, d.DB)
	if err := d.DB.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "tree-1.db")
	for _, r := range readRaw(t, d.path) {
		for _, how := range []string{"deleted", "spoilt"} {
			copyFile(t, d.path, path)
			editRaw(t, path, func(tx *bbolt.Tx) error {
				if how == "deleted" {
					return tx.Bucket(r.bucket).Delete(r.key)
				}
				v := append([]byte(nil), r.value...)
				v[len(v)/2] ^= 1
				return tx.Bucket(r.bucket).Put(r.key, v)
			})
			what := fmt.Sprintf("%s record %x %s", kindName(record.Domain(r.bucket[0])), r.key, how)
			s, db := d.repair(t, path)
			checkRepaired(t, what, s, db, before)
			db.Close()
			os.Remove(path + ".repaired")
		}
	}
}

// TestRepairEveryPage zeroes, scrambles and cuts at each page once.
func TestRepairEveryPage(t *testing.T) {
	t.Parallel()
	d := wide(t)
	before := paths(t, d.DB)
	if err := d.DB.Close(); err != nil {
		t.Fatal(err)
	}
	image, err := os.ReadFile(d.path)
	if err != nil {
		t.Fatal(err)
	}
	reached, err := pagecheck.Check(image)
	if err != nil {
		t.Fatal(err)
	}
	path, rng := filepath.Join(t.TempDir(), "tree-1.db"), rand.New(rand.NewPCG(1, 2))
	image = image[:len(reached)*pagecheck.Size]
	for id := range reached {
		for _, how := range []string{"zeroed", "scrambled", "cut"} {
			bad := append([]byte(nil), image...)
			page := bad[id*pagecheck.Size:][:pagecheck.Size]
			switch {
			case how == "zeroed":
				clear(page)
			case how == "scrambled":
				for i := range 64 {
					page[rng.IntN(len(page)-i)] ^= byte(1 + rng.IntN(255))
				}
			case id > 3 && reached[id]:
				bad = bad[:id*pagecheck.Size]
			default:
				continue
			}
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			s, db := d.repair(t, path)
			if reached[id] {
				checkRepaired(t, fmt.Sprintf("page %d %s", id, how), s, db, before)
			}
			db.Close()
			os.Remove(path + ".repaired")
		}
	}
}

// TestRepairSaysWhatItCannotKnow: an older value of one record authenticates, and only the set hash tells.
func TestRepairSaysWhatItCannotKnow(t *testing.T) {
	t.Parallel()
	d := rich(t)
	old := map[string][]byte{}
	if err := d.DB.Close(); err != nil {
		t.Fatal(err)
	}
	for _, r := range readRaw(t, d.path) {
		old[string(r.bucket)+string(r.key)] = r.value
	}
	var err error
	if d.DB, err = Open(context.Background(), d.path, d.keys, d.o); err != nil {
		t.Fatal(err)
	}
	d.update(t, func(tx *Tx) error {
		en, err := tx.Lookup(Root, "many")
		if err != nil {
			return err
		}
		n, err := tx.Node(en.Inode)
		if err != nil {
			return err
		}
		n.Mode = 0o600
		return tx.PutNode(n)
	})
	if err := d.DB.Close(); err != nil {
		t.Fatal(err)
	}
	replayed := 0
	for _, r := range readRaw(t, d.path) {
		if v, ok := old[string(r.bucket)+string(r.key)]; ok && r.bucket[0] == byte(record.DomainInode) && string(v) != string(r.value) {
			editRaw(t, d.path, func(tx *bbolt.Tx) error { return tx.Bucket(r.bucket).Put(r.key, v) })
			replayed++
		}
	}
	s, _ := d.repair(t, d.path)
	if replayed != 1 || len(s.Suspicious) != 1 || !strings.Contains(s.Suspicious[0], "an older value was put back") {
		t.Errorf("%d replayed; suspicious %q, damage %q", replayed, s.Suspicious, s.Damage)
	}
}

// TestRepairOfARecordThatNobodyWrote: the file is whole, and what is in it contradicts itself. What is lost may have been in a view of the past.
func TestRepairOfARecordThatNobodyWrote(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.update(t, func(tx *Tx) error {
		n, err := addFile(tx, Root, "f", 2)
		if err != nil {
			return err
		}
		tx.remove(record.DomainVersion, versionKey(n.ID, n.Version))
		tx.head.versions--
		return nil
	})
	if err := d.DB.Close(); err != nil {
		t.Fatal(err)
	}
	s, db := d.repair(t, d.path)
	if len(s.Damage) > 0 || len(s.Losses) == 0 {
		t.Fatalf("damage %q, losses %+v", s.Damage, s.Losses)
	}
	if err := db.View(func(tx *Tx) error {
		if x := tx.Stats(); x.LackingTo != x.LastInstant {
			t.Errorf("lacking up to %d, want %d", x.LackingTo, x.LastInstant)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}
