package proof

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"

	"sallyport/crypto/keyring"
)

// fileAttacks change the database as a file, replace it, or exchange the directories of accounts.
func fileAttacks(s, peer *store) []*attack {
	treeFile := s.database()
	image := s.files[treeFile]
	pages := len(image) / pageSize
	used := pagesInTree(image)
	var out []*attack
	add := func(kind, target string, n, unit, weight int, apply func(b *bench, i int) (wish, error)) {
		out = append(out, &attack{kind: kind, target: s.of + target, store: s, n: n, unit: unit, weight: weight, apply: apply})
	}
	// touched is what damage of a page must lead to: a refusal, or the truth if the page was free. Damage of the page that
	// bbolt wrote last takes the database back by one transaction, as a crash in the middle of that write does.
	touched := func(pages ...int) wish {
		w := wish{mayRefuse: true, trees: []tree{s.truth}, silent: !s.unclean}
		for _, p := range pages {
			if p < 2 && len(s.past) > 1 {
				w.trees = append(w.trees, s.past[len(s.past)-2].truth)
			}
		}
		return w
	}
	// replayed is touched with pages that were right once. bbolt writes a page where an older one was, so one page may lead back to
	// a whole earlier tree. That is the rollback that only an anchor outside the disk could find; a mixture of two times is not.
	replayed := func(pages ...int) wish {
		w := touched(pages...)
		w.silent = false // blobs that came later have no key record at that time
		for _, p := range slices.Backward(s.past) {
			w.trees = append(w.trees, p.truth)
		}
		if s.unclean { // between two operations, uploads had begun that recovery keeps as far as they came
			w.trees = append(w.trees, s.truth.vague())
		}
		return w
	}
	bytesUsed := len(used) * pageSize
	add("flip a bit", "database page", bytesUsed*8, bytesUsed, 8, func(b *bench, i int) (wish, error) {
		page, off := used[i%bytesUsed/pageSize], i%pageSize
		return touched(page), b.flip(treeFile, page*pageSize+off, 1<<((i+i/bytesUsed)%8))
	})
	add("truncate", "database page", len(image), pages, 1, func(b *bench, i int) (wish, error) {
		w := touched()
		w.missing = i == 0
		return w, b.cut(treeFile, i)
	})
	add("zero a page", "database page", pages, 0, 1, func(b *bench, i int) (wish, error) {
		return touched(i), b.patch(treeFile, i*pageSize, make([]byte, pageSize))
	})
	add("scramble a page", "database page", pages*20, 0, 1, func(b *bench, i int) (wish, error) {
		at := b.rng.IntN(pageSize - 16)
		return touched(i % pages), b.patch(treeFile, i%pages*pageSize+at, random(b, 1+b.rng.IntN(pageSize-at)))
	})
	page := func(i int) []byte { return image[i*pageSize : (i+1)*pageSize] }
	add("copy a page over another", "database page", pages*(pages-1), 0, 1, func(b *bench, i int) (wish, error) {
		from, to := pair(i, pages)
		return touched(to), b.patch(treeFile, to*pageSize, page(from))
	})
	add("copy a page over another and number it", "database page", pages*(pages-1), 0, 1, func(b *bench, i int) (wish, error) {
		from, to := pair(i, pages)
		p := bytes.Clone(page(from))
		copy(p, page(to)[:8])
		// A free page may be what this one was before the last change, so this, too, may put an older page back.
		return replayed(to), b.patch(treeFile, to*pageSize, p)
	})
	add("put an older page back", "database page", pages*len(s.past), 0, 2, func(b *bench, i int) (wish, error) {
		old, at := s.past[i/pages].image, i%pages*pageSize
		if at >= len(old) {
			return replayed(), nil
		}
		return replayed(i % pages), b.patch(treeFile, at, old[at:at+pageSize])
	})
	add("put several older pages back", "database page", 50*len(s.past), 0, 2, func(b *bench, i int) (wish, error) {
		old := s.past[i%len(s.past)].image
		for at := 2 * pageSize; at < min(len(old), len(image)); at += pageSize {
			if b.rng.IntN(2) == 0 {
				if err := b.patch(treeFile, at, old[at:at+pageSize]); err != nil {
					return wish{}, err
				}
			}
		}
		return replayed(), nil
	})
	add("put all of it back (rollback)", "database file", len(s.past), 0, 1, func(b *bench, i int) (wish, error) {
		return wish{trees: []tree{s.past[i].truth}, tol: tolerance{content: func(string) bool { return s.unclean }}}, b.put(treeFile, s.past[i].image)
	})
	foreign := peer.past
	add("a database of another account", "database file", len(foreign), 0, 1, func(b *bench, i int) (wish, error) {
		return refused, b.put(treeFile, foreign[i].image)
	})
	add("something else in place of the database", "database file", 60, 0, 1, func(b *bench, i int) (wish, error) {
		w := wish{refuse: true, missing: i%5 > 2}
		if s.ask != nil && i%5 == 3 { // without the file a new one is made; that accounts exist without it, and a start must refuse, is for package server to see
			return wish{}, nil
		}
		switch i % 5 {
		case 0:
			return w, b.put(treeFile, random(b, 1+i*4000))
		case 1:
			return w, b.put(treeFile, bytes.Repeat([]byte("text in clear\n"), 1+i*1000))
		case 2:
			return w, b.put(treeFile, make([]byte, 1+i*4096))
		case 3:
			return w, b.remove(treeFile)
		}
		if err := b.remove(treeFile); err != nil {
			return w, err
		}
		return w, os.Mkdir(b.path(treeFile), 0o700)
	})
	if s.ask != nil {
		return out
	}
	add("exchange parts with another account", "account directory", 20, 0, 1, func(b *bench, i int) (wish, error) {
		if err := b.put(treeFile, peer.files[treeFile]); err != nil || i%2 == 0 {
			return refused, err
		}
		for name, data := range peer.files {
			if err := os.MkdirAll(filepath.Dir(b.path(name)), 0o700); err != nil {
				return refused, err
			}
			if err := b.put(name, data); err != nil {
				return refused, err
			}
		}
		return refused, nil
	})
	return out
}

// pagesInTree are the pages that bbolt can reach, and the first two.
func pagesInTree(image []byte) []int {
	native := binary.NativeEndian
	root, newest := uint64(0), uint64(0)
	for _, at := range []int{16, pageSize + 16} {
		if tx := native.Uint64(image[at+48:]); tx >= newest {
			newest, root = tx, native.Uint64(image[at+16:])
		}
	}
	all := []int{0, 1}
	var walk func(id uint64)
	walk = func(id uint64) {
		p := image[id*pageSize:]
		for i := range uint64(native.Uint32(p[12:])) + 1 {
			all = append(all, int(id+i))
		}
		for i := range int(native.Uint16(p[10:])) {
			e := p[16+16*i:]
			switch native.Uint16(p[8:]) {
			case 1: // branch
				walk(native.Uint64(e[8:]))
			case 2: // leaf of buckets, whose values begin with their root
				if native.Uint32(e) == 1 {
					at := native.Uint32(e[4:]) + native.Uint32(e[8:])
					if sub := native.Uint64(e[at:]); sub != 0 {
						walk(sub)
					}
				}
			}
		}
	}
	walk(root)
	return all
}

// attackRing replaces seal.json or keyring. The keyring is refused, or gives every account the key that it had.
func (c *corpus) attackRing(dir, name string, data []byte) (refused bool, err error) {
	if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
		return false, err
	}
	ring, err := keyring.Open(context.Background(), dir, c.key)
	if err != nil {
		return true, nil
	}
	defer ring.Close()
	got, want := ring.Accounts(), c.ring.Accounts()
	if len(got) != len(want) {
		return false, wrong("%d accounts, want %d", len(got), len(want))
	}
	for _, id := range want {
		a, err := ring.Account(id)
		if err != nil {
			return false, wrong("account %x: %v", id, err)
		}
		b, err := c.ring.Account(id)
		if err != nil {
			return false, err
		}
		if a.Version() != b.Version() || a.NameToken(1, "x") != b.NameToken(1, "x") { // derived from the key
			return false, wrong("account %x has another key", id)
		}
	}
	return false, nil
}
