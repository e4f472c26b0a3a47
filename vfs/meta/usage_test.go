package meta

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"sallyport/crypto/record"
	"sallyport/vfs/extent"
)

// What purges remember of the versions that stay must never free more, or less, than reading them all again would.
func TestPurgesThatRememberFreeWhatOthersFree(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		r := rand.New(rand.NewPCG(seed, 1))
		d, known := newDB(t), NewUsages()
		if seed%2 == 1 {
			known.most = 40 // not all is remembered
		}
		var files []*Node
		used, blobs := map[Inode]map[uint64][]byte{}, byte(0)
		write := func(n *Node) {
			var ids []byte
			for _, v := range used[n.ID] { // a version relies on what others rely on, and on a new blob
				if r.IntN(3) == 0 {
					ids = append(ids, v[r.IntN(len(v))])
				}
			}
			blobs++
			slices.Sort(ids)
			ids = append(slices.Compact(ids), blobs)
			d.update(t, func(tx *Tx) error { return errors.Join(addBlob(tx, blobs, n.ID), tx.AddVersion(n, over(ids...))) })
			used[n.ID][n.Version] = ids
		}
		for _, name := range []string{"a", "b", "c"} {
			n := &Node{Kind: File}
			d.update(t, func(tx *Tx) error { return errors.Join(tx.NewNode(n), tx.Link(Root, name, n.ID)) })
			files, used[n.ID] = append(files, n), map[uint64][]byte{}
		}
		for blobs < 200 {
			for range 1 + r.IntN(20) {
				if blobs < 250 {
					write(files[r.IntN(len(files))])
				}
			}
			items := d.all(t)
			some := items[:r.IntN(len(items)+1)]
			if r.IntN(2) == 0 { // not in order
				r.Shuffle(len(items), func(i, j int) { items[i], items[j] = items[j], items[i] })
			}
			p := d.purge(t, some, known)
			p.Remember(known)
			var want []byte
			for _, s := range some {
				gone := used[s.Inode][s.Version]
				delete(used[s.Inode], s.Version)
				for _, b := range gone {
					if !slices.ContainsFunc(values(used[s.Inode]), func(ids []byte) bool { return slices.Contains(ids, b) }) {
						want = append(want, b)
					}
				}
			}
			var got []byte
			for _, id := range p.Blobs {
				got = append(got, id[0])
			}
			slices.Sort(want)
			slices.Sort(got)
			if want = slices.Compact(want); !slices.Equal(got, want) {
				t.Fatalf("seed %d: freed %v, want %v", seed, got, want)
			}
			d.sound(t)
			if known.size > known.most {
				t.Fatalf("%d references are remembered, at most %d may be", known.size, known.most)
			}
		}
		if seed%2 == 0 && known.size == 0 {
			t.Error("nothing was remembered")
		}
	}
}

func values(m map[uint64][]byte) (all [][]byte) {
	for _, v := range m {
		all = append(all, v)
	}
	return all
}

func TestPurgesForgetWhatWasRelaid(t *testing.T) {
	t.Parallel()
	d, known, n := newDB(t), NewUsages(), &Node{Kind: File}
	d.update(t, func(tx *Tx) error {
		return errors.Join(tx.NewNode(n), addBlob(tx, 1, n.ID), addBlob(tx, 2, n.ID), addBlob(tx, 3, n.ID), tx.Link(Root, "f", n.ID))
	})
	for _, id := range []byte{1, 2, 2, 3} {
		d.update(t, func(tx *Tx) error { return tx.AddVersion(n, over(id)) })
	}
	items := d.all(t)
	first := d.purge(t, items[:1], known) // knows now that version 3 relies on blob 2
	first.Remember(known)
	d.update(t, func(tx *Tx) error {
		done, err := tx.Relayout(n.ID, 3, &over(2).Layout, &over(3).Layout)
		if !done {
			t.Error("the version does not lie where it was put")
		}
		return err
	})
	if p := d.purge(t, items[1:2], known); len(p.Blobs) != 1 || p.Blobs[0][0] != 2 {
		t.Errorf("freed %v, want blob 2, which nothing relies on since a version lies elsewhere", p.Blobs)
	}
	d.sound(t)
}

// A purge of very many versions reads those that remain once, and not in each transaction.
func TestAPurgeReadsWhatRemainsOnce(t *testing.T) {
	t.Parallel()
	d, known, n := newDB(t), NewUsages(), &Node{Kind: File}
	d.update(t, func(tx *Tx) error { return errors.Join(tx.NewNode(n), tx.Link(Root, "f", n.ID)) })
	for i := range byte(100) {
		d.update(t, func(tx *Tx) error { return errors.Join(addBlob(tx, i, n.ID), tx.AddVersion(n, over(i))) })
	}
	items := d.all(t)
	p := d.purge(t, items[:10], known)
	p.Remember(known)
	// Whoever read a version that remains would find that it is damaged.
	d.update(t, func(tx *Tx) error {
		tx.put(record.DomainVersion, versionKey(n.ID, 50), []byte("damaged"), nil)
		return nil
	})
	if p := d.purge(t, items[10:20], known); len(p.Blobs) != 10 {
		t.Errorf("freed %d blobs, want 10", len(p.Blobs))
	}
	err := d.Update(t.Context(), func(tx *Tx) error { _, err := tx.Purge(items[20:30], ByClock, nil); return err })
	if !errors.Is(err, ErrIntegrity) {
		t.Errorf("a purge that knows nothing did not read what remains: %v", err)
	}
}

func TestPagesThatRemainAreRemembered(t *testing.T) {
	t.Parallel()
	u := &usage{upTo: 3, blobs: []uint64{1, 1, 2}, pages: []pageName{{1, 0}, {1, 0}, {1, 1}, {2, 0}}}
	free := newRelied()
	free.blobs[[16]byte{7: 1}], free.blobs[[16]byte{7: 2}] = 1, 1
	free.pages[pageName{1, 0}], free.pages[pageName{1, 1}] = 2, 1
	left := u.without(free)
	left.keep(free)
	if len(free.blobs) != 1 || free.blobs[[16]byte{7: 2}] != 1 || len(free.pages) != 2 {
		t.Errorf("free: %+v", free)
	}
	if !slices.Equal(left.blobs, []uint64{1}) || !slices.Equal(left.pages, []pageName{{2, 0}}) {
		t.Errorf("left: %+v", left)
	}
	left.add(&storedVersion{Version: Version{N: 9, Layout: extent.Layout{Blobs: []extent.BlobRef{extent.Sealed([16]byte{7: 5}, 1)}}}, pages: []pageRef{{n: 9, page: 4}}})
	if left.upTo != 9 || left.size() != 6 {
		t.Errorf("left: %+v", left)
	}
}

func TestChangesAreFoundInOrder(t *testing.T) {
	t.Parallel()
	r, o := rand.New(rand.NewPCG(3, 4)), newOverlay()
	for range 3000 {
		key := make([]byte, 1+r.IntN(3))
		for i := range key {
			key[i] = byte('a' + r.IntN(4))
		}
		kind := record.DomainVersion + record.Domain(r.IntN(2))
		switch r.IntN(3) {
		case 0:
			o.put(kind, key, &pending{})
		case 1:
			m := newOverlay()
			m.put(kind, key, &pending{})
			o.merge(m)
		case 2:
			from := key[:r.IntN(len(key)+1)]
			prefix := from[:r.IntN(len(from)+1)]
			var want []string
			for k := range o.records {
				if k[0] == byte(kind) && k[1:] >= string(from) && strings.HasPrefix(k[1:], string(prefix)) {
					want = append(want, k)
				}
			}
			slices.Sort(want)
			if got := o.appendKeys(nil, kind, prefix, from); !slices.Equal(got, want) {
				t.Fatalf("prefix %q from %q: %q, want %q", prefix, from, got, want)
			}
		}
	}
}
