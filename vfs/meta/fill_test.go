package meta

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"go.etcd.io/bbolt"

	"sallyport/crypto/record"
)

// filled is which part of its leaf pages the records of a kind take.
func (d *testDB) filled(t testing.TB, kind record.Domain) float64 {
	t.Helper()
	var s bbolt.BucketStats
	if err := d.bolt.View(func(tx *bbolt.Tx) error { s = tx.Bucket([]byte{byte(kind)}).Stats(); return nil }); err != nil {
		t.Fatal(err)
	}
	if s.LeafPageN < 20 {
		t.Fatalf("%d pages of %s records tell nothing", s.LeafPageN, kindName(kind))
	}
	return float64(s.LeafInuse) / float64(s.LeafAlloc)
}

func (d *testDB) wantFilled(t *testing.T, least float64, kinds ...record.Domain) {
	t.Helper()
	for _, kind := range kinds {
		if got := d.filled(t, kind); got < least {
			t.Errorf("pages of %s records are filled to %.2f, want %.2f", kindName(kind), got, least)
		}
	}
}

func TestRecordsThatComeInOrderFillTheirPages(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	for i := range 500 {
		d.update(t, func(tx *Tx) error { _, err := addFile(tx, Root, fmt.Sprintf("file %d", i), 1); return err })
	}
	// Names come in the order of their tokens, which is none: pages that split where ordered records would want it must not be the price.
	d.wantFilled(t, 0.8, record.DomainInode, record.DomainVersion)
	d.wantFilled(t, 0.55, record.DomainEntry)
}

// Its second version comes behind all others in the order of keys, though the file is not new.
func TestFilesThatAreOverwrittenAtOnceFillTheirPages(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	for i := range 300 {
		var n *Node
		d.update(t, func(tx *Tx) (err error) { n, err = addFile(tx, Root, fmt.Sprintf("file %d", i), 1); return err })
		d.update(t, func(tx *Tx) error { return tx.AddVersion(n, &Version{Attr: Attr{State: Complete, Size: 1}}) })
	}
	d.wantFilled(t, 0.8, record.DomainVersion)
}

func TestHistoryFillsItsPages(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	var files []*Node
	d.update(t, func(tx *Tx) error {
		for i := range 50 {
			n, err := addFile(tx, Root, fmt.Sprintf("file %d", i), 1)
			if err != nil {
				return err
			}
			files = append(files, n)
		}
		return nil
	})
	again := func(n *Node) {
		d.update(t, func(tx *Tx) error { return tx.AddVersion(n, &Version{Attr: Attr{State: Complete, Size: 1}}) })
	}
	for range 40 {
		for _, n := range files {
			again(n)
		}
	}
	d.wantFilled(t, 0.8, record.DomainWhen) // by time alone
	d.wantFilled(t, 0.58, record.DomainVersion)
	r := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		again(files[r.IntN(len(files))])
	}
	d.wantFilled(t, 0.8, record.DomainWhen)
	d.wantFilled(t, 0.58, record.DomainVersion)
}
