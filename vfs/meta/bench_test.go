package meta

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"sallyport/vfs/extent"
	"sallyport/vfs/pagecheck"
)

// grow adds n files to the root directory, many per transaction.
func (d *testDB) grow(t testing.TB, n int) {
	t.Helper()
	for from := 0; from < n; from += 5000 {
		d.update(t, func(tx *Tx) error {
			for i := from; i < min(from+5000, n); i++ {
				if _, err := addFile(tx, Root, fmt.Sprintf("file-%08d.txt", i), 1000); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

// smallFile is what the upload of a new small file writes: entry, two inodes, version with content, event.
func smallFile(i int) func(tx *Tx) error {
	return func(tx *Tx) error {
		n := &Node{Kind: File}
		if err := tx.NewNode(n); err != nil {
			return err
		}
		v := &Version{Attr: Attr{Size: 4096, Mode: 0o644, State: Complete}, Layout: *extent.Inlined(make([]byte, 4096))}
		if err := tx.AddVersion(n, v); err != nil {
			return err
		}
		if err := tx.Link(Root, fmt.Sprintf("upload-%08d", i), n.ID); err != nil {
			return err
		}
		return tx.Emit(make([]byte, 200))
	}
}

func BenchmarkUpdateAlone(b *testing.B) {
	d := newDB(b)
	d.grow(b, 1000)
	i := 0
	for b.Loop() {
		i++
		d.update(b, smallFile(i))
		d.AckLater(uint64(i))
	}
}

// BenchmarkBareBbolt commits as many keys of the same sizes with bbolt alone:
// the comparison for BenchmarkUpdateAlone.
func BenchmarkBareBbolt(b *testing.B) {
	db, err := bbolt.Open(filepath.Join(b.TempDir(), "bare.db"), 0o600, &bbolt.Options{NoFreelistSync: true, FreelistType: bbolt.FreelistMapType, NoStatistics: true, PageSize: pagecheck.Size})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	names := []string{"entry", "inode", "version", "outbox", "head"}
	put := func(i int) error {
		return db.Update(func(tx *bbolt.Tx) error {
			bs := map[string]*bbolt.Bucket{}
			for _, n := range names {
				var err error
				if bs[n], err = tx.CreateBucketIfNotExists([]byte(n)); err != nil {
					return err
				}
			}
			var key [32]byte
			for j := range key {
				key[j] = byte(rand.Uint32())
			}
			seq := seqKey(uint64(i))
			bs["entry"].Put(key[:], make([]byte, 109))
			bs["inode"].Put(seq, make([]byte, 173))
			bs["inode"].Put([]byte{0, 0, 0, 0, 0, 0, 0, 0}, make([]byte, 173))
			bs["version"].Put(append(seq, seq...), make([]byte, 4096+173))
			bs["outbox"].Put(seq, make([]byte, 300))
			bs["outbox"].Delete(seqKey(uint64(i - 1)))
			return bs["head"].Put([]byte("head"), make([]byte, 237))
		})
	}
	for i := range 1000 {
		if err := put(i); err != nil {
			b.Fatal(err)
		}
	}
	i := 1000
	for b.Loop() {
		i++
		if err := put(i); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUpdateBy8(b *testing.B) {
	d := newDB(b)
	d.grow(b, 1000)
	var wg sync.WaitGroup
	next := make(chan int, 64)
	for range 8 {
		wg.Go(func() {
			for i := range next {
				if err := d.Update(context.Background(), smallFile(i)); err != nil {
					b.Error(err)
				}
				d.AckLater(uint64(i) / 2)
			}
		})
	}
	groups := -int(d.published.Load().head.generation)
	i := 0
	for b.Loop() {
		i++
		next <- i
	}
	close(next)
	wg.Wait()
	groups += int(d.published.Load().head.generation)
	b.ReportMetric(float64(i)/float64(groups), "members/group")
}

func benchList(b *testing.B, names int, warm bool) {
	d := newDB(b)
	d.grow(b, names)
	list := func() {
		n := 0
		d.view(b, func(tx *Tx) error {
			_, err := tx.List(Root, nil, func(Entry, *Node) bool { n++; return true })
			return err
		})
		if n != names {
			b.Fatalf("%d entries", n)
		}
	}
	list()
	b.ReportAllocs()
	var used time.Duration // processor time: on a busy machine the clock says little
	for b.Loop() {
		if !warm {
			b.StopTimer()
			d.newCaches(uint64(d.published.Load().seen))
			runtime.GC()
			b.StartTimer()
		}
		before := cpuTime(b)
		list()
		used += cpuTime(b) - before
	}
	b.ReportMetric(float64(used.Nanoseconds())/float64(b.N*names), "cpu-ns/name")
}

func BenchmarkList10000Cold(b *testing.B)  { benchList(b, 10000, false) }
func BenchmarkList10000Warm(b *testing.B)  { benchList(b, 10000, true) }
func BenchmarkList40000Cold(b *testing.B)  { benchList(b, 40000, false) } // more than the caches hold
func BenchmarkList40000Again(b *testing.B) { benchList(b, 40000, true) }

func BenchmarkLookupWarm(b *testing.B) {
	d := newDB(b)
	d.grow(b, 10000)
	b.ReportAllocs()
	d.view(b, func(tx *Tx) error {
		for b.Loop() {
			en, err := tx.Lookup(Root, "file-00000042.txt")
			if err != nil {
				return err
			}
			if _, err := tx.node(en.Inode); err != nil {
				return err
			}
		}
		return nil
	})
}

func BenchmarkView(b *testing.B) {
	d := newDB(b)
	b.ReportAllocs()
	for b.Loop() {
		d.view(b, func(tx *Tx) error { return nil })
	}
}

func BenchmarkOpen100000Records(b *testing.B) {
	d := newDB(b)
	d.grow(b, 33333)
	if err := d.Close(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		db, err := Open(context.Background(), d.path, d.keys, Options{})
		if err != nil {
			b.Fatal(err)
		}
		if err := db.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// benchScattered stores a file of 262,144 extents, as random writes leave them.
func benchScattered(b *testing.B, d *testDB) (n *Node, l extent.Layout) {
	l = extent.Layout{Size: 1 << 40, Blobs: []extent.BlobRef{extent.Sealed([16]byte{1}, 1<<40), extent.Sealed([16]byte{2}, 1<<40)}}
	l.Extents = overwritten(1 << 17)[:1<<18]
	d.update(b, func(tx *Tx) (err error) {
		if n, err = addFile(tx, Root, "big", 0); err != nil {
			return err
		}
		return tx.AddVersion(n, &Version{Attr: Attr{Size: l.Size, State: Complete}, Layout: l})
	})
	return n, l
}

// BenchmarkFsyncScattered is the fsync of a file of 262,144 extents after one more of them changed.
func BenchmarkFsyncScattered(b *testing.B) {
	d := newDB(b)
	n, l := benchScattered(b, d)
	i := uint64(0)
	for b.Loop() {
		i++
		l.Extents[rand.IntN(len(l.Extents))].BlobOff = 1<<30 + i*4096
		d.update(b, func(tx *Tx) error {
			return tx.AddVersion(n, &Version{Attr: Attr{Size: l.Size, State: Complete}, Layout: l})
		})
	}
}

// BenchmarkFsyncOverwritten is the same after every extent of the second blob changed: all pages are written.
func BenchmarkFsyncOverwritten(b *testing.B) {
	d := newDB(b)
	n, l := benchScattered(b, d)
	for b.Loop() {
		for i := range l.Extents {
			l.Extents[i].BlobOff += uint64(l.Extents[i].Blob) * 4096
		}
		d.update(b, func(tx *Tx) error {
			return tx.AddVersion(n, &Version{Attr: Attr{Size: l.Size, State: Complete}, Layout: l})
		})
	}
}

// BenchmarkReadScattered reads where the bytes of such a file lie, as opening it does.
func BenchmarkReadScattered(b *testing.B) {
	d := newDB(b)
	n, _ := benchScattered(b, d)
	b.ReportAllocs()
	for b.Loop() {
		d.view(b, func(tx *Tx) error { _, err := tx.Version(n.ID, n.Version); return err })
	}
}
