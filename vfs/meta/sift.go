package meta

import (
	"fmt"

	"sallyport/crypto/record"
)

// wreck is the records of a damaged database by what they are.
type wreck struct {
	keys     *record.AccountKeys
	head     head
	nodes    map[Inode]*Node
	live     map[string]*Entry // by key, as all that follow
	past     map[string]*Entry
	versions map[Inode]map[uint64]*storedVersion
	pages    map[string][]byte
	blobs    map[[16]byte]*BlobKey
	doomed   map[[16]byte]int64
	outbox   map[uint64][]byte
	when     map[string]bool

	malformed int
}

func newWreck(keys *record.AccountKeys) *wreck {
	return &wreck{
		keys: keys, nodes: map[Inode]*Node{}, live: map[string]*Entry{}, past: map[string]*Entry{}, versions: map[Inode]map[uint64]*storedVersion{},
		pages: map[string][]byte{}, blobs: map[[16]byte]*BlobKey{}, doomed: map[[16]byte]int64{}, outbox: map[uint64][]byte{}, when: map[string]bool{},
	}
}

// add decodes a record and takes it in.
func (w *wreck) add(r *relic) {
	if err := w.decode(r); err != nil {
		w.malformed++
	}
}

func (w *wreck) decode(r *relic) error {
	key := []byte(r.key)
	if r.kind != record.DomainHead && !fits(r.kind, len(key)) {
		return errMalformed
	}
	switch r.kind {
	case record.DomainHead:
		h, err := decodeHead(r.plain)
		if err == nil && h.generation > w.head.generation {
			w.head = h
		}
		return err
	case record.DomainEntry, record.DomainPast:
		return w.decodeEntry(r, key)
	case record.DomainInode:
		n, err := decodeNode(Inode(be64(key)), r.plain)
		if err == nil {
			w.nodes[n.ID] = n
		}
		return err
	case record.DomainVersion:
		v, err := decodeVersion(Inode(be64(key)), be64(key[8:]), r.plain)
		if err == nil {
			w.addVersion(v)
		}
		return err
	case record.DomainExtents:
		_, err := appendPage(nil, r.plain)
		if err == nil {
			w.pages[r.key] = r.plain
		}
		return err
	case record.DomainBlobKey:
		k, err := decodeBlobKey([16]byte(key), r.plain)
		if err == nil {
			w.blobs[k.ID] = k
		}
		return err
	case record.DomainWhen:
		_, err := decodeWhen(key, r.plain)
		w.when[r.key] = err == nil
		return err
	case record.DomainOutbox:
		event, err := decodeEvent(r.plain)
		if err == nil {
			w.outbox[be64(key)] = event
		}
		return err
	case record.DomainDoomed:
		at, err := decodeInstant(r.plain)
		if err == nil {
			w.doomed[[16]byte(key)] = at
		}
		return err
	}
	return nil // folds are made anew
}

func (w *wreck) decodeEntry(r *relic, key []byte) error {
	until := int64(0)
	if r.kind == record.DomainPast {
		if until = int64(be64(key[2*tokenSize:])); until == 0 {
			return errMalformed
		}
	}
	en, err := decodeEntry(r.plain, until)
	if err != nil {
		return err
	}
	if token(key[:tokenSize]) != w.keys.DirToken(uint64(en.Dir)) || token(key[tokenSize:2*tokenSize]) != w.keys.NameToken(uint64(en.Dir), en.Name) {
		return errMalformed
	}
	if r.kind == record.DomainPast {
		w.past[r.key] = en
	} else {
		w.live[r.key] = en
	}
	return nil
}

func (w *wreck) addVersion(v *storedVersion) {
	if w.versions[v.Inode] == nil {
		w.versions[v.Inode] = map[uint64]*storedVersion{}
	}
	w.versions[v.Inode][v.N] = v
}

// admit takes in, of what lay on pages outside the tree, what the tree itself says should be there. Such a page may be of an
// earlier commit, and what was removed since must not come back: so a witness is asked for each record.
func (w *wreck) admit(spare map[string]*relic) (taken map[string]int) {
	taken = map[string]int{}
	left := map[string]*relic{}
	for place, r := range spare {
		if r.kind == record.DomainHead {
			w.add(r)
		} else {
			left[place] = r
		}
	}
	for again := true; again; { // what was taken in may be a witness for more
		again = false
		wanted := w.wanted()
		for place, r := range left {
			if w.has(r) || !w.witnessed(r, wanted) {
				continue
			}
			delete(left, place)
			if w.decode(r) == nil {
				taken[kindName(r.kind)]++
				again = true
			}
		}
	}
	return taken
}

// advance takes in what the commit after the tree has written: its root is damaged, but its other pages may be whole, and every
// instant on them is later than the last one of the tree. What that commit removed without a trace stays.
func (w *wreck) advance(spare map[string]*relic) {
	last, seq := w.head.last, w.head.lastSeq
	for _, r := range spare {
		if !fresh(r, last, seq) {
			continue
		}
		w.add(r)
	}
	for _, r := range spare { // a name that came and went is past
		if en := w.past[r.key]; r.kind == record.DomainPast && en != nil {
			if live := w.live[r.key[:2*tokenSize]]; live != nil && live.Since == en.Since {
				delete(w.live, r.key[:2*tokenSize])
			}
		}
	}
}

// fresh says whether a record is of later than the instant and the event of those numbers.
func fresh(r *relic, last int64, seq uint64) bool {
	switch r.kind {
	case record.DomainInode:
		n, err := decodeNode(0, r.plain)
		return err == nil && n.Changed > last
	case record.DomainEntry:
		en, err := decodeEntry(r.plain, 0)
		return err == nil && en.Since > last
	case record.DomainPast:
		return int64(be64([]byte(r.key[2*tokenSize:]))) > last
	case record.DomainVersion:
		v, err := decodeVersion(1, be64([]byte(r.key[8:])), r.plain)
		return err == nil && v.At > last
	case record.DomainOutbox:
		return be64([]byte(r.key)) > seq
	}
	return false
}

// wanted are the places that records refer to: inodes, pages of extents, blob keys.
func (w *wreck) wanted() map[string]bool {
	want := map[string]bool{}
	inode := func(id Inode) { want[string([]byte{byte(record.DomainInode)})+string(inodeKey(id))] = true }
	inode(Root)
	for _, all := range []map[string]*Entry{w.live, w.past} {
		for _, en := range all {
			inode(en.Inode)
			inode(en.Dir)
		}
	}
	for id, n := range w.nodes {
		if n.Parent != 0 {
			inode(n.Parent)
		}
		if n.Version != 0 {
			want[string([]byte{byte(record.DomainVersion)})+string(versionKey(id, n.Version))] = true
		}
	}
	for id, history := range w.versions {
		inode(id)
		for _, v := range history {
			for _, p := range v.pages {
				want[string([]byte{byte(record.DomainExtents)})+string(pageKey(id, p.n, p.page))] = true
			}
			for _, ref := range v.Layout.Blobs {
				if _, gone := w.doomed[ref.ID]; !gone {
					want[string([]byte{byte(record.DomainBlobKey)})+string(ref.ID[:])] = true
				}
			}
		}
	}
	for key := range w.when {
		if len(key) == 10+16 {
			want[string([]byte{byte(record.DomainVersion)})+key[10:]] = true
		}
	}
	return want
}

func (w *wreck) has(r *relic) bool {
	key := []byte(r.key)
	switch r.kind {
	case record.DomainEntry:
		return w.live[r.key] != nil
	case record.DomainPast:
		return w.past[r.key] != nil
	case record.DomainInode:
		return w.nodes[Inode(be64(key))] != nil
	case record.DomainVersion:
		return w.versions[Inode(be64(key))][be64(key[8:])] != nil
	case record.DomainExtents:
		return w.pages[r.key] != nil
	case record.DomainBlobKey:
		return w.blobs[[16]byte(key)] != nil
	}
	return true // the index is made anew; of events and doomed blobs nothing tells whether they are done with
}

func (w *wreck) witnessed(r *relic, wanted map[string]bool) bool {
	switch r.kind {
	case record.DomainEntry:
		en, err := decodeEntry(r.plain, 0)
		return err == nil && w.liveName(en)
	case record.DomainPast:
		until := int64(be64([]byte(r.key[2*tokenSize:])))
		return w.when[string(whenNameKey(until, token([]byte(r.key[:tokenSize])), token([]byte(r.key[tokenSize:2*tokenSize]))))]
	}
	return wanted[r.place()]
}

// liveName says whether a name from outside the tree can be live: its inode says that it lies in that directory, has no
// other name, and this one is not known to have been superseded.
func (w *wreck) liveName(en *Entry) bool {
	n := w.nodes[en.Inode]
	if n == nil || n.Parent != en.Dir || !n.unplaced && n.Name != en.Name {
		return false
	}
	for _, other := range w.live {
		if other.Inode == en.Inode {
			return false
		}
	}
	for _, old := range w.past {
		if old.Inode == en.Inode && old.Dir == en.Dir && old.Name == en.Name && old.Since == en.Since {
			return false
		}
	}
	return true
}

// say is how many of something, for the report.
func say(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
