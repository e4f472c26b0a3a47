package meta

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"sallyport/crypto/record"
	"sallyport/vfs/extent"
)

// nextKeys are keys of the next version, the same ones for the same version.
func nextKeys(k *record.AccountKeys) *record.AccountKeys {
	var key record.Key
	binary.BigEndian.PutUint32(key[:], k.Version()+1)
	keys, err := record.Derive(&key, k.ID(), k.Version()+1)
	if err != nil {
		panic(err)
	}
	return keys
}

// rekey moves the database to the next key; during runs between the copy and the freeze.
func (d *testDB) rekey(t testing.TB, during func()) {
	t.Helper()
	keys := nextKeys(d.keys)
	path := filepath.Join(filepath.Dir(d.path), fmt.Sprintf("tree-%d.db", keys.Version()))
	r, err := d.Rekey(context.Background(), path, keys)
	if err != nil {
		t.Fatal(err)
	}
	if during != nil {
		during()
	}
	if err := r.Freeze(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := r.Adopt(); err != nil {
		t.Fatal(err)
	}
	d.path, d.keys = path, keys
}

// richer is rich with a data key that can be wrapped anew.
func richer(t testing.TB) *testDB {
	d := rich(t)
	d.update(t, func(tx *Tx) error {
		b, err := tx.Blob([16]byte{1})
		if err != nil {
			return err
		}
		b.Wrapped = d.keys.WrapDataKey(b.ID, &record.Key{7})
		return tx.PutBlob(b)
	})
	return d
}

func TestRekeyedDatabaseIsTheSameUnderAnotherKey(t *testing.T) {
	t.Parallel()
	d := richer(t)
	content := func() string {
		text, err := dump(d.DB)
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(text, "\n") // the generation and what awaits shredding are in the first line
		var wrapped []byte
		d.view(t, func(tx *Tx) error {
			b, err := tx.Blob([16]byte{1})
			wrapped = b.Wrapped
			return err
		})
		key, err := d.keys.DataKey([16]byte{1}, wrapped)
		if err != nil || *key != (record.Key{7}) {
			t.Errorf("the data key does not open: %v", err)
		}
		lines := strings.Split(strings.ReplaceAll(rest, fmt.Sprint(wrapped), "wrapped"), "\n")
		slices.Sort(lines) // the order of a listing is that of the tokens
		return strings.Join(lines, "\n")
	}
	before, old, oldKeys := content(), d.path, d.keys
	oldRecords := map[string]bool{}
	kept := filepath.Join(t.TempDir(), "old")
	copyFile(t, old, kept)
	for range 2 {
		d.rekey(t, nil)
		if after := content(); after != before {
			t.Errorf("before:\n%s\nafter:\n%s", before, after)
		}
		d.clean(t)
		d.reopen(t)
		if after := content(); after != before {
			t.Errorf("before:\n%s\nreopened:\n%s", before, after)
		}
	}
	if left, err := os.ReadDir(filepath.Dir(d.path)); err != nil || len(left) != 1 || left[0].Name() != "tree-3.db" {
		t.Errorf("left are %v, want tree-3.db alone; %v", left, err)
	}

	// Nothing of the old file is in the new one, and neither opens with the other's key.
	for _, r := range readRaw(t, kept) {
		oldRecords[string(r.value)] = true
		if r.bucket[0] == byte(record.DomainEntry) {
			oldRecords[string(r.key)] = true
		}
	}
	d.Close()
	for _, r := range readRaw(t, d.path) {
		if oldRecords[string(r.value)] || oldRecords[string(r.key)] {
			t.Errorf("a record of kind %d is as it was", r.bucket[0])
		}
	}
	for what, c := range map[string]struct {
		path string
		keys *record.AccountKeys
	}{"new file, old key": {d.path, oldKeys}, "old file, new key": {kept, d.keys}} {
		if db, err := Open(t.Context(), c.path, c.keys, d.o); !errors.Is(err, ErrIntegrity) {
			t.Errorf("%s: got %v, want %v", what, err, ErrIntegrity)
			if err == nil {
				db.Close()
			}
		}
	}
	d.o.Create = true
	d.DB, _ = Open(context.Background(), filepath.Join(t.TempDir(), "x"), d.keys, d.o) // for the clean-up
}

// TestRekeyEndsWhatAwaitsShredding, but not what was purged while it copied:
// that was in the new file, too.
func TestRekeyEndsWhatAwaitsShredding(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	purge := func(name string, size uint64) {
		t.Helper()
		d.update(t, func(tx *Tx) error {
			n := &Node{Kind: File}
			v := &Version{Attr: Attr{Size: size, State: Complete}, Layout: *extent.Inlined(make([]byte, size))}
			return errors.Join(tx.NewNode(n), tx.AddVersion(n, v), tx.Link(Root, name, n.ID))
		})
		d.update(t, func(tx *Tx) error { return tx.Unlink(Root, name) })
		d.update(t, func(tx *Tx) error {
			var items []Superseded
			if err := tx.Superseded(0, 1<<62, func(s Superseded) bool { items = append(items, s); return true }); err != nil {
				return err
			}
			_, err := tx.Purge(items, ByClock, nil)
			return err
		})
	}
	awaiting := func() (n uint64) {
		d.view(t, func(tx *Tx) error { n = tx.Stats().AwaitingShred; return nil })
		return n
	}
	purge("a", 100)
	if got := awaiting(); got != 100 {
		t.Fatalf("%d bytes await shredding, want 100", got)
	}
	d.rekey(t, func() { purge("b", 7) })
	if got := awaiting(); got != 7 {
		t.Errorf("%d bytes await shredding, want the 7 that were purged meanwhile", got)
	}
	d.rekey(t, nil)
	if got := awaiting(); got != 0 {
		t.Errorf("%d bytes await shredding, want none", got)
	}
	d.clean(t)
}

// TestRekeyUnderLoad has writers and readers at work all the time.
func TestRekeyUnderLoad(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.grow(t, 3000)
	done := make(chan struct{})
	var wg sync.WaitGroup
	var names sync.Map
	for w := range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				name := fmt.Sprintf("writer-%d-%d-e\u0301", w, i)
				err := d.Update(t.Context(), func(tx *Tx) error {
					if _, err := addFile(tx, Root, name, 1); err != nil {
						return err
					}
					return tx.PutBlob(&BlobKey{ID: [16]byte{byte(w), byte(i >> 8), byte(i)}, Wrapped: tx.Keys().WrapDataKey([16]byte{byte(w), byte(i >> 8), byte(i)}, &record.Key{1}), State: BlobOpen})
				})
				if err == nil && i%2 == 0 {
					err = d.Update(t.Context(), func(tx *Tx) error {
						if err := tx.Doom([16]byte{byte(w), byte(i >> 8), byte(i)}); err != nil {
							return err
						}
						return tx.Unlink(Root, name)
					})
				} else {
					names.Store(name, true)
				}
				if err == nil {
					err = d.View(func(tx *Tx) error {
						_, err := tx.Lookup(Root, fmt.Sprintf("file-%08d.txt", i%3000))
						return err
					})
				}
				if err != nil {
					t.Errorf("writer %d: %v", w, err)
					return
				}
			}
		})
	}
	for range 5 {
		d.rekey(t, nil)
	}
	close(done)
	wg.Wait()
	d.clean(t)
	d.reopen(t)
	d.clean(t)
	count := 0
	names.Range(func(name, _ any) bool {
		count++
		d.view(t, func(tx *Tx) error {
			if _, err := tx.Lookup(Root, name.(string)); err != nil {
				t.Errorf("%q: %v", name, err)
			}
			return nil
		})
		return true
	})
	if count == 0 {
		t.Error("nothing was written meanwhile")
	}
	t.Logf("%d names were made meanwhile", count)
}

func TestRekeyRefusesARecordPutBack(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.grow(t, 10)
	d.Close()
	var old rawRecord
	for _, r := range readRaw(t, d.path) {
		if r.bucket[0] == byte(record.DomainInode) {
			old = r
		}
	}
	d.o.SkipSetHash = true
	var err error
	if d.DB, err = Open(t.Context(), d.path, d.keys, d.o); err != nil {
		t.Fatal(err)
	}
	d.update(t, func(tx *Tx) error {
		n, err := tx.Node(Inode(be64(old.key)))
		if err != nil {
			return err
		}
		n.Mode = 0o600
		return tx.PutNode(n)
	})
	d.Close()
	editRaw(t, d.path, func(tx *bbolt.Tx) error { return tx.Bucket(old.bucket).Put(old.key, old.value) })
	if d.DB, err = Open(t.Context(), d.path, d.keys, d.o); err != nil {
		t.Fatal(err)
	}
	keys := nextKeys(d.keys)
	if _, err := d.Rekey(t.Context(), d.path+"2", keys); !errors.Is(err, ErrIntegrity) {
		t.Errorf("got %v, want %v", err, ErrIntegrity)
	}
	if left, err := os.ReadDir(filepath.Dir(d.path)); err != nil || len(left) != 1 {
		t.Errorf("left are %v, want the database alone; %v", left, err)
	}
	d.update(t, mkfile("it goes on"))
}

func TestRekeyEndsInOtherWays(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.grow(t, 100)
	keys, path := nextKeys(d.keys), d.path+"2"
	r, err := d.Rekey(t.Context(), path, keys)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Rekey(t.Context(), path+"3", keys); !errors.Is(err, ErrRekeying) {
		t.Errorf("two at once: got %v, want %v", err, ErrRekeying)
	}
	if err := r.Freeze(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Frozen, reads go on and writes wait.
	wrote := make(chan error, 1)
	go func() { wrote <- d.Update(context.Background(), mkfile("waited")) }()
	d.waitQueue(1)
	if !d.names(t)["file-00000007.txt"] {
		t.Error("a frozen database does not read")
	}
	if err := r.Abort(); err != nil {
		t.Fatal(err)
	}
	if err := <-wrote; err != nil || !d.names(t)["waited"] {
		t.Errorf("the write that waited: %v", err)
	}
	for _, name := range []string{path, path + ".new"} {
		if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s after Abort: %v", filepath.Base(name), err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Rekey(ctx, path, keys); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}

	// Suspended, both files stay and nothing is written.
	if r, err = d.Rekey(t.Context(), path, keys); err != nil {
		t.Fatal(err)
	}
	if err := r.Freeze(t.Context()); err != nil {
		t.Fatal(err)
	}
	cause := errors.New("nobody knows")
	if err := r.Suspend(cause); err != nil {
		t.Fatal(err)
	}
	if err := d.Update(t.Context(), mkfile("never")); !errors.Is(err, ErrReadOnly) || !errors.Is(err, cause) {
		t.Errorf("suspended: got %v", err)
	}
	d.reopen(t)
	d.clean(t)
	other, err := Open(t.Context(), path, keys, d.o)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := other.Verify(t.Context(), func(f string) { t.Errorf("the copy: %s", f) }); err != nil {
		t.Error(err)
	}
}

// TestSpillSorts sorts more than it holds.
func TestSpillSorts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	sp, err := newSpill(dir, "x.tmp-*")
	if err != nil {
		t.Fatal(err)
	}
	defer sp.close()
	sorters := []*sorter{{spill: sp, limit: 500}, {spill: sp, limit: 1 << 20}, {spill: sp, limit: 1}}
	want := map[string]string{}
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range 1000 {
		key, value := fmt.Sprintf("%x", rnd.Uint64()), strings.Repeat("v", i%40)
		want[key] = value
		if err := sorters[i%3].add([]byte(key), []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range sorters {
		if err := s.flush(); err != nil {
			t.Fatal(err)
		}
	}
	last := ""
	err = sp.merge(func(key, value []byte) error {
		if string(key) <= last || want[string(key)] != string(value) {
			t.Errorf("%q after %q, with %q", key, last, value)
		}
		last = string(key)
		delete(want, last)
		return nil
	})
	if err != nil || len(want) != 0 {
		t.Errorf("%d records are missing; %v", len(want), err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left are %v", left)
	}
	for range 2 {
		if err := sorters[0].add([]byte("twice"), nil); err != nil {
			t.Fatal(err)
		}
	}
	sorters[0].flush()
	if err := sp.merge(func(_, _ []byte) error { return nil }); !errors.Is(err, ErrIntegrity) {
		t.Errorf("one key twice: got %v", err)
	}
}

// BenchmarkRekey is docs/PERFORMANCE.md "Keys": SALLYPORT_RECORDS records, 100,000 if not set.
func BenchmarkRekey(b *testing.B) {
	records := 100_000
	if s := os.Getenv("SALLYPORT_RECORDS"); s != "" {
		if _, err := fmt.Sscan(s, &records); err != nil {
			b.Fatal(err)
		}
	}
	d := newDB(b)
	for from := 0; from < records; from += 10_000 { // a file is three records, and a fourth with its blob
		d.update(b, func(tx *Tx) error {
			for i := from / 4; i < (from+10_000)/4; i++ {
				n, err := addFile(tx, Root, fmt.Sprintf("file-%08d.txt", i), 100_000)
				if err != nil {
					return err
				}
				id := [16]byte{byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)}
				l := extent.Layout{Size: 100_000, Blobs: []extent.BlobRef{extent.Sealed(id, 100_000)}, Extents: []extent.Extent{{Len: 100_000}}}
				if err := tx.AddVersion(n, &Version{Attr: Attr{Size: 100_000, State: Complete}, Layout: l}); err != nil {
					return err
				}
				if err := tx.PutBlob(&BlobKey{ID: id, Wrapped: tx.Keys().WrapDataKey(id, &record.Key{1}), State: BlobSealed, Size: 100_000}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	d.reopen(b)
	var st Stats
	d.view(b, func(tx *Tx) error { st = tx.Stats(); return nil })
	b.Logf("%d records", st.Records)
	peak, cpu := watchHeap(b), cpuTime(b)
	for b.Loop() {
		d.rekey(b, nil)
	}
	b.ReportMetric((cpuTime(b)-cpu).Seconds()/float64(b.N), "cpu-s/op")
	b.ReportMetric(float64(st.Records)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(float64(peak())/(1<<20), "anon-MiB")
}

// cpuTime is what the process has used so far, on all processors.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// watchHeap returns the anonymous memory that the process used since, at most.
func watchHeap(b *testing.B) func() uint64 {
	runtime.GC()
	stop, most := make(chan struct{}), make(chan uint64)
	go func() { // ends with the call of what is returned
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		peak := uint64(0)
		for {
			select {
			case <-stop:
				most <- peak
				return
			case <-tick.C:
			}
			text, err := os.ReadFile("/proc/self/status")
			if err != nil {
				continue
			}
			_, rest, _ := strings.Cut(string(text), "RssAnon:")
			var kib uint64
			if _, err := fmt.Sscan(rest, &kib); err == nil {
				peak = max(peak, kib<<10)
			}
		}
	}()
	return func() uint64 { close(stop); return <-most }
}

// TestACopyThatIsOutrunIsGivenUp: what is written meanwhile waits in memory up to a limit; the database goes on as it is, and the
// next copy is whole.
func TestACopyThatIsOutrunIsGivenUp(t *testing.T) {
	t.Parallel()
	d := richer(t)
	keys := nextKeys(d.keys)
	path := filepath.Join(filepath.Dir(d.path), "tree-2.db")
	r, err := d.Rekey(t.Context(), path, keys)
	if err != nil {
		t.Fatal(err)
	}
	r.changes.limit = 10_000
	grow := func(i int) { d.update(t, func(tx *Tx) error { return tx.Emit(fmt.Appendf(nil, "event %d", i)) }) }
	for i := range 200 { // several times the limit, but followed
		grow(i)
		if i%20 == 0 {
			if err := r.Follow(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range 200 {
		grow(i)
	}
	if len(r.changes.list) != 0 {
		t.Errorf("%d changes wait beyond the limit", len(r.changes.list))
	}
	if err := r.Freeze(t.Context()); !errors.Is(err, ErrOutrun) {
		t.Errorf("frozen: %v, want %v", err, ErrOutrun)
	}
	if err := r.Abort(); err != nil {
		t.Error(err)
	}
	grow(1)
	d.rekey(t, nil)
	if err := d.Verify(t.Context(), func(f string) { t.Error(f) }); err != nil {
		t.Error(err)
	}
}
