package meta

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/text/unicode/norm"
	"pgregory.net/rapid"
)

// model is what the database should hold: every name and every version that ever was.
type model struct {
	d        *testDB
	dirs     []Inode
	files    []Inode
	entries  []Entry // live and past
	versions map[Inode][]Version
	last     int64
}

// somenames has names that differ by normalization only.
var somenames = []string{"a", "b", "c", "\u00e9", "e\u0301", "x\u0323\u0307", "x\u0307\u0323", "\u1e0d\u0307", "d\u0323\u0307", "d\u0307\u0323", "\xff"}

func (m *model) at(dir Inode, at int64) map[string]Inode {
	got := map[string]Inode{}
	for _, en := range m.entries {
		if en.Dir == dir && en.Since <= at && (en.Until == 0 || at < en.Until) {
			got[en.Name] = en.Inode
		}
	}
	return got
}

func (m *model) live(dir Inode) map[string]Inode { return m.at(dir, 1<<62) }

// lookup is the exact name, or the only one of the same NFC form.
func lookup(names map[string]Inode, name string) Inode {
	if id, ok := names[name]; ok {
		return id
	}
	found, n := Inode(0), 0
	for other, id := range names {
		if norm.NFC.String(other) == norm.NFC.String(name) {
			found = id
			n++
		}
	}
	if n == 1 {
		return found
	}
	return 0
}

func (m *model) unlink(dir Inode, name string, at int64) {
	for i := range m.entries {
		if en := &m.entries[i]; en.Dir == dir && en.Name == name && en.Until == 0 {
			en.Until = at
		}
	}
}

func (m *model) link(dir Inode, name string, id Inode, at int64) {
	m.unlink(dir, name, at)
	m.entries = append(m.entries, Entry{Dir: dir, Name: name, Inode: id, Since: at})
}

// change is one random change: fn for the database, note for the model.
type change struct {
	fn   func(tx *Tx) error
	note func(at int64)
}

func (m *model) isDir(id Inode) bool { return slices.Contains(m.dirs, id) }

func (m *model) draw(t *rapid.T) change {
	dir := rapid.SampledFrom(m.dirs).Draw(t, "dir")
	for !m.reachable(dir) {
		dir = Root
	}
	name := rapid.SampledFrom(somenames).Draw(t, "name")
	old := m.live(dir)[name]
	switch rapid.SampledFrom([]string{"create", "create", "mkdir", "unlink", "unlink", "rename", "version", "version"}).Draw(t, "op") {
	case "create":
		if !m.replaceable(old) {
			break
		}
		var n *Node
		return change{
			func(tx *Tx) (err error) { n, err = addFile(tx, dir, name, 3); return err },
			func(at int64) {
				m.files = append(m.files, n.ID)
				m.versions[n.ID] = []Version{{N: 1, At: at, Attr: Attr{Size: 3, State: Complete}}}
				m.link(dir, name, n.ID, at)
			},
		}
	case "mkdir":
		if old != 0 {
			break
		}
		n := &Node{Kind: Dir}
		return change{
			func(tx *Tx) error { return errors.Join(tx.NewNode(n), tx.Link(dir, name, n.ID)) },
			func(at int64) {
				m.dirs = append(m.dirs, n.ID)
				m.versions[n.ID] = []Version{{N: 1, At: at, Attr: Attr{State: Complete}}}
				m.link(dir, name, n.ID, at)
			},
		}
	case "unlink":
		if old == 0 || !m.replaceable(old) {
			break
		}
		return change{func(tx *Tx) error { return tx.Unlink(dir, name) }, func(at int64) { m.unlink(dir, name, at) }}
	case "rename":
		from := rapid.SampledFrom(m.dirs).Draw(t, "from")
		what := rapid.SampledFrom(somenames).Draw(t, "what")
		id := m.live(from)[what]
		if id == 0 || id == old || !m.reachable(from) || !m.replaceable(old) || m.below(dir, id) {
			break
		}
		return change{
			func(tx *Tx) error { return errors.Join(tx.Unlink(from, what), tx.Link(dir, name, id)) },
			func(at int64) { m.unlink(from, what, at); m.link(dir, name, id, at) },
		}
	case "version":
		if len(m.files) == 0 {
			break
		}
		id := rapid.SampledFrom(m.files).Draw(t, "file")
		v := Version{Attr: Attr{Size: rapid.Uint64Range(0, 9).Draw(t, "size"), State: rapid.SampledFrom([]State{Complete, Partial, Interrupted}).Draw(t, "state")}}
		return change{
			func(tx *Tx) error {
				n, err := tx.Node(id)
				if err != nil {
					return err
				}
				return tx.AddVersion(n, &v)
			},
			func(at int64) { m.versions[id] = append(m.versions[id], v) },
		}
	}
	return change{func(*Tx) error { return nil }, nil}
}

// replaceable: not a directory with entries.
func (m *model) replaceable(id Inode) bool { return !m.isDir(id) || len(m.live(id)) == 0 }

func (m *model) parent(id Inode) Inode {
	for _, en := range m.entries {
		if en.Inode == id && en.Until == 0 {
			return en.Dir
		}
	}
	return 0
}

func (m *model) reachable(id Inode) bool { return m.below(id, Root) }

func (m *model) below(id, top Inode) bool {
	for ; id != 0; id = m.parent(id) {
		if id == top {
			return true
		}
	}
	return false
}

// apply makes a change, or lets it fail at the end.
func (m *model) apply(t *rapid.T) {
	if rapid.IntRange(0, 15).Draw(t, "rekey") == 0 {
		m.rekey(t)
	}
	m.change(t)
}

// rekey gives the account a new key, with changes before and after the copy; or nearly.
func (m *model) rekey(t *rapid.T) {
	keys := nextKeys(m.d.keys)
	path := fmt.Sprintf("%s-%d", strings.TrimRight(m.d.path, "-0123456789"), keys.Version())
	r, err := m.d.Rekey(context.Background(), path, keys)
	if err != nil {
		t.Fatalf("Rekey: %v", err)
	}
	for range rapid.IntRange(0, 3).Draw(t, "changes") {
		m.change(t)
	}
	if err := r.Freeze(context.Background()); err != nil {
		t.Fatalf("Freeze: %v", err)
	}
	if rapid.IntRange(0, 3).Draw(t, "abort") == 0 {
		if err := r.Abort(); err != nil {
			t.Fatalf("Abort: %v", err)
		}
		return
	}
	if err := r.Adopt(); err != nil {
		t.Fatalf("Adopt: %v", err)
	}
	m.d.path, m.d.keys = path, keys
}

func (m *model) change(t *rapid.T) {
	c := m.draw(t)
	fail := errors.New("after all not")
	if rapid.IntRange(0, 5).Draw(t, "fail") == 0 {
		if err := m.d.Update(context.Background(), func(tx *Tx) error { return errors.Join(c.fn(tx), fail) }); !errors.Is(err, fail) {
			t.Fatalf("Update: %v", err)
		}
		return
	}
	var at int64
	if err := m.d.Update(context.Background(), func(tx *Tx) error { at = tx.Instant(); return c.fn(tx) }); err != nil {
		t.Fatalf("Update: %v", err)
	}
	if c.note != nil {
		if at <= m.last {
			t.Fatalf("instant %d after %d", at, m.last)
		}
		m.last = at
		c.note(at)
	}
}

// someInstant is one at or around which something happened, or any.
func (m *model) someInstant(t *rapid.T) int64 {
	if len(m.entries) == 0 {
		return 0
	}
	en := rapid.SampledFrom(m.entries).Draw(t, "when")
	return rapid.SampledFrom([]int64{en.Since, en.Until}).Draw(t, "end") + rapid.Int64Range(-1, 1).Draw(t, "offset")
}

func (m *model) checkNames(t *rapid.T) {
	at := m.someInstant(t)
	m.view(t, func(tx *Tx) error {
		for _, dir := range m.dirs {
			for _, name := range somenames {
				now, err := tx.Lookup(dir, name)
				if want := lookup(m.live(dir), name); now.Inode != want || (want == 0) != errors.Is(err, fs.ErrNotExist) {
					t.Fatalf("Lookup(%d, %q) = %+v, %v; want %d", dir, name, now, err, want)
				}
				then, err := tx.LookupAt(dir, name, at)
				if want := lookup(m.at(dir, at), name); then.Inode != want || (want == 0) != errors.Is(err, fs.ErrNotExist) {
					t.Fatalf("LookupAt(%d, %q, %d) = %+v, %v; want %d", dir, name, at, then, err, want)
				}
			}
		}
		return nil
	})
}

func (m *model) view(t *rapid.T, fn func(tx *Tx) error) {
	if err := m.d.View(fn); err != nil {
		t.Fatalf("View: %v", err)
	}
}

// listAt lists in batches and makes changes in between.
func (m *model) listAt(t *rapid.T) {
	dir, at := rapid.SampledFrom(m.dirs).Draw(t, "dir"), min(m.someInstant(t), m.last)
	want, got := m.at(dir, at), map[string]Inode{}
	for cursor, first := []byte(nil), true; first || cursor != nil; first = false {
		m.view(t, func(tx *Tx) (err error) {
			left := rapid.IntRange(1, 3).Draw(t, "batch")
			cursor, err = tx.ListAt(dir, at, cursor, func(en Entry, id Inode) bool {
				if _, twice := got[en.Name]; twice {
					t.Fatalf("ListAt delivers %q twice", en.Name)
				}
				got[en.Name] = id
				left--
				return left > 0
			})
			return err
		})
		for range rapid.IntRange(0, 3).Draw(t, "changes") {
			m.apply(t)
		}
	}
	if !maps.Equal(got, want) {
		t.Fatalf("ListAt(%d, %d) = %v, want %v", dir, at, got, want)
	}
}

// list lists in batches and makes changes in between: what is there all the time comes once.
func (m *model) list(t *rapid.T) {
	dir := rapid.SampledFrom(m.dirs).Draw(t, "dir")
	always, ever, got := maps.Clone(m.live(dir)), maps.Clone(m.live(dir)), map[string]bool{}
	for cursor, first := []byte(nil), true; first || cursor != nil; first = false {
		m.view(t, func(tx *Tx) (err error) {
			left := rapid.IntRange(1, 3).Draw(t, "batch")
			cursor, err = tx.List(dir, cursor, func(en Entry, n *Node) bool {
				if got[en.Name] || n.ID != en.Inode || n.Parent != dir {
					t.Fatalf("List delivers %+v, %+v, twice %v", en, n, got[en.Name])
				}
				got[en.Name] = true
				left--
				return left > 0
			})
			return err
		})
		for range rapid.IntRange(0, 3).Draw(t, "changes") {
			m.apply(t)
			now := m.live(dir)
			maps.DeleteFunc(always, func(name string, _ Inode) bool { _, ok := now[name]; return !ok })
			maps.Copy(ever, now)
		}
	}
	for name := range always {
		if !got[name] {
			t.Fatalf("List(%d) left out %q", dir, name)
		}
	}
	for name := range got {
		if _, ok := ever[name]; !ok {
			t.Fatalf("List(%d) invented %q", dir, name)
		}
	}
}

func (m *model) checkVersions(t *rapid.T) {
	at := m.someInstant(t)
	m.view(t, func(tx *Tx) error {
		for id, all := range m.versions {
			want, now := uint64(0), uint64(0)
			for _, v := range all {
				if v.State != Interrupted {
					now = v.N
					if v.At <= at {
						want = v.N
					}
				}
			}
			v, err := tx.VersionAt(id, at)
			if want == 0 && !errors.Is(err, fs.ErrNotExist) || want != 0 && (err != nil || v.N != want) {
				t.Fatalf("VersionAt(%d, %d) = %+v, %v; want %d", id, at, v, err, want)
			}
			n, err := tx.Node(id)
			if err != nil || n.Version != now || n.Versions != uint64(len(all)) {
				t.Fatalf("Node(%d) = %+v, %v; want version %d of %d", id, n, err, now, len(all))
			}
			i := 0
			if err := tx.Versions(id, func(v *Version) bool {
				if w := all[i]; v.N != w.N || v.At != w.At || v.Size != w.Size && n.Kind == File || v.State != w.State {
					t.Fatalf("version %d of %d: %+v, want %+v", i, id, v, w)
				}
				i++
				return true
			}); err != nil || i != len(all) {
				t.Fatalf("%d versions of %d, %v, want %d", i, id, err, len(all))
			}
		}
		return nil
	})
}

// checkSuperseded: the index by time has exactly the history of an interval, in order.
func (m *model) checkSuperseded(t *rapid.T) {
	from, until := m.someInstant(t), m.someInstant(t)
	var want, got []string
	for _, en := range m.entries {
		if en.Until != 0 && from <= en.Until && en.Until < until {
			want = append(want, fmt.Sprint(en.Until, "name", en.Dir, en.Name, en.Inode))
		}
	}
	for id, all := range m.versions {
		var current *Version
		for i := range all {
			gone := &all[i]
			if all[i].State != Interrupted {
				gone, current = current, &all[i]
			}
			if at := all[i].At; gone != nil && from <= at && at < until {
				want = append(want, fmt.Sprint(at, "version", id, gone.N))
			}
		}
	}
	m.view(t, func(tx *Tx) error {
		last := int64(0)
		return tx.Superseded(from, until, func(s Superseded) bool {
			if s.At < last {
				t.Fatalf("Superseded goes back from %d to %d", last, s.At)
			}
			last = s.At
			if s.Entry != nil {
				got = append(got, fmt.Sprint(s.At, "name", s.Entry.Dir, s.Entry.Name, s.Inode))
			} else {
				got = append(got, fmt.Sprint(s.At, "version", s.Inode, s.Version))
			}
			return true
		})
	})
	slices.SortFunc(got, cmp.Compare[string])
	slices.SortFunc(want, cmp.Compare[string])
	if !slices.Equal(got, want) {
		t.Fatalf("Superseded(%d, %d) = %q, want %q", from, until, got, want)
	}
}

func (m *model) reopen(t *rapid.T) {
	var err error
	if err = m.d.Close(); err == nil {
		m.d.DB, err = Open(context.Background(), m.d.path, m.d.keys, m.d.o)
	}
	if err != nil {
		t.Fatalf("reopening: %v", err)
	}
}

func (m *model) verify(t *rapid.T) {
	if err := m.d.Verify(context.Background(), func(f string) { t.Errorf("verify: %s", f) }); err != nil {
		t.Fatalf("Verify: %v", err)
	}
	want := Stats{Dirs: 1}
	for _, en := range m.entries {
		switch {
		case en.Until != 0:
		case m.isDir(en.Inode):
			want.Dirs++
		default:
			want.Files++
		}
	}
	m.view(t, func(tx *Tx) error {
		if s := tx.Stats(); s.Files != want.Files || s.Dirs != want.Dirs || s.LastInstant < m.last {
			t.Fatalf("Stats %+v, want %+v", s, want)
		}
		return nil
	})
}

// TestHistoryModel compares the database with a model in memory, over random
// changes, failures and reopenings, now and at random instants.
func TestHistoryModel(t *testing.T) {
	t.Parallel()
	dir, runs := t.TempDir(), 0
	rapid.Check(t, func(t *rapid.T) {
		runs++
		d := &testDB{path: filepath.Join(dir, fmt.Sprintf("run%d.db-1", runs)), keys: fixedKeys(), o: Options{Now: testClock(), testOnlyNoSync: true}}
		create := d.o
		create.Create = true
		var err error
		if d.DB, err = Open(context.Background(), d.path, d.keys, create); err != nil {
			t.Fatalf("Open: %v", err)
		}
		m := &model{d: d, dirs: []Inode{Root}, versions: map[Inode][]Version{}}
		defer func() {
			d.Close()
			os.Remove(d.path)
		}()
		t.Repeat(map[string]func(*rapid.T){
			"change":     m.apply,
			"change2":    m.apply,
			"change3":    m.apply,
			"names":      m.checkNames,
			"listAt":     m.listAt,
			"list":       m.list,
			"versions":   m.checkVersions,
			"superseded": m.checkSuperseded,
			"reopen":     m.reopen,
			"verify":     m.verify,
		})
	})
}
