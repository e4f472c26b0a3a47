package proof

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"testing"

	"go.etcd.io/bbolt"
)

// bucketNames are the kinds of record by bucket (docs/FORMAT.md "Domains").
var bucketNames = []string{"?", "entry", "past", "inode", "version", "extents", "blobkey", "when", "outbox", "doomed", "head", "fold"}

const headBucket = 10

// refused is what must come of any other set of records than the true one: the
// account is refused as a whole. Two records under one key cannot be, so a copy or a swap is a set of another content.
var refused = wish{refuse: true}

func bucket(tx *bbolt.Tx, n byte) *bbolt.Bucket { return tx.Bucket(bucketName(n)) }

// Numbers of the buckets of policy.db, which have names.
const (
	policyBucket = 'P'
	namesBucket  = 'N'
)

func bucketName(n byte) []byte {
	switch n {
	case policyBucket:
		return []byte("policy1")
	case namesBucket:
		return []byte("names1")
	}
	return []byte{n}
}

func bucketNumber(name []byte) byte {
	for _, n := range []byte{policyBucket, namesBucket} {
		if string(name) == string(bucketName(n)) {
			return n
		}
	}
	return name[0]
}

// kindOf is the kind of a record: the bucket of a volume's, the letter of policy.db's.
func kindOf(n byte, key []byte) string {
	if n != policyBucket && n != namesBucket {
		return bucketNames[n]
	}
	return policyOf + map[byte]string{'h': "head", 'r': "revision", 'c': "pending", 'a': "account", 't': "trust", 'n': "name", 'i': "id"}[key[0]]
}

// put and del are changes of one record through bbolt.
func put(n byte, key string, value []byte) func(*bbolt.Tx) error {
	return func(tx *bbolt.Tx) error { return bucket(tx, n).Put([]byte(key), value) }
}

func del(n byte, key string) func(*bbolt.Tx) error {
	return func(tx *bbolt.Tx) error { return bucket(tx, n).Delete([]byte(key)) }
}

func both(a, b func(*bbolt.Tx) error) func(*bbolt.Tx) error {
	return func(tx *bbolt.Tx) error { return errors.Join(a(tx), b(tx)) }
}

// place names a record within its database.
type place struct {
	bucket byte
	key    string
}

func byPlace(rs []rec) map[place]rec {
	m := map[place]rec{}
	for _, r := range rs {
		m[place{r.bucket, r.key}] = r
	}
	return m
}

// recordAttacks are all attacks on records of one store while it is closed,
// and those on values while it is open.
func recordAttacks(t testing.TB, s, peer *store) []*attack {
	var out []*attack
	now := records(t, s.files[s.database()])
	groups := map[string][]rec{}
	full := map[byte]bool{}
	for _, r := range now {
		groups[r.kind] = append(groups[r.kind], r)
		full[r.bucket] = true
	}
	foreign := records(t, peer.files[s.database()])
	for kind, group := range groups {
		for _, a := range bucketAttacks(now, group[0].bucket, group, foreign) {
			a.store, a.target = s, kind
			out = append(out, a)
		}
		if s.unclean || s.ask != nil {
			continue
		}
		a := onlineFlips(group)
		a.store, a.target = s, kind
		out = append(out, a)
	}
	buckets := []byte{policyBucket, namesBucket}
	if s.ask == nil {
		buckets = nil
		for n := range len(bucketNames) - 1 {
			buckets = append(buckets, byte(n+1))
		}
	}
	for _, n := range buckets {
		target := policyOf + "set of records"
		if s.ask == nil {
			target = bucketNames[n]
		}
		out = append(out, &attack{kind: "a bucket deleted, emptied or renamed", target: target, store: s, n: 3, apply: func(b *bench, i int) (wish, error) {
			want := refused
			if i == 1 && !full[n] {
				want = wish{} // it was empty
			}
			return want, b.edit(func(tx *bbolt.Tx) error { return hurtBucket(tx, n, i) })
		}})
	}
	for _, a := range replays(t, s, now) {
		a.store = s
		out = append(out, a)
	}
	return out
}

func hurtBucket(tx *bbolt.Tx, n byte, how int) error {
	name := bucketName(n)
	if err := tx.DeleteBucket(name); err != nil || how == 0 {
		return err
	}
	if how == 2 {
		name = append(name[:len(name)-1:len(name)-1], name[len(name)-1]+100)
	}
	_, err := tx.CreateBucket(name)
	return err
}

// bucketAttacks change single records of one bucket.
func bucketAttacks(now []rec, n byte, group, foreign []rec) []*attack {
	size, keys := 0, 0
	for _, r := range group {
		size += len(r.value)
		keys += len(r.key)
	}
	var out []*attack
	add := func(kind string, n, unit, weight int, apply func(b *bench, i int) (wish, error)) {
		out = append(out, &attack{kind: kind, n: n, unit: unit, weight: weight, apply: apply})
	}
	edit := func(kind string, n, weight int, make func(b *bench, i int) func(*bbolt.Tx) error) {
		add(kind, n, 0, weight, func(b *bench, i int) (wish, error) { return refused, b.edit(make(b, i)) })
	}
	at := func(i int) (rec, int) {
		for _, r := range group {
			if i < len(r.value) {
				return r, i
			}
			i -= len(r.value)
		}
		panic("proof: internal error: no such byte")
	}
	add("flip a bit", size*8, size, 8, func(b *bench, i int) (wish, error) {
		r, off := at(i % size)
		return refused, b.flip(b.store.database(), r.at+off, 1<<((i+i/size)%8))
	})
	edit("truncate", size, 2, func(_ *bench, i int) func(*bbolt.Tx) error {
		r, off := at(i)
		return put(n, r.key, r.value[:off])
	})
	edit("extend a record", len(group)*64, 1, func(b *bench, i int) func(*bbolt.Tx) error {
		r := group[i%len(group)]
		return put(n, r.key, append(bytes.Clone(r.value), random(b, 1+i/len(group))...))
	})
	edit("flip a bit of a key", keys*8, 1, func(_ *bench, i int) func(*bbolt.Tx) error {
		bit := i % 8
		i /= 8
		for _, r := range group {
			if i < len(r.key) {
				k := []byte(r.key)
				k[i] ^= 1 << bit
				return both(del(n, r.key), put(n, string(k), r.value))
			}
			i -= len(r.key)
		}
		panic("proof: internal error: no such byte")
	})
	edit("delete a record", len(group), 1, func(_ *bench, i int) func(*bbolt.Tx) error { return del(n, group[i].key) })
	edit("swap two records", len(group)*(len(now)-1), 1, func(_ *bench, i int) func(*bbolt.Tx) error {
		r := group[i%len(group)]
		o := others(now, r)[i/len(group)]
		return both(put(n, r.key, o.value), put(o.bucket, o.key, r.value))
	})
	edit("put one record in place of another", len(group)*(len(now)-1), 1, func(_ *bench, i int) func(*bbolt.Tx) error {
		r := group[i%len(group)]
		return put(n, r.key, others(now, r)[i/len(group)].value)
	})
	edit("copy a record to another key", len(group)*100, 1, func(b *bench, i int) func(*bbolt.Tx) error {
		r := group[i%len(group)]
		return put(n, string(freshKey(b, n, r.key)), r.value)
	})
	edit("move a record to another key", len(group)*100, 1, func(b *bench, i int) func(*bbolt.Tx) error {
		r := group[i%len(group)]
		return both(del(n, r.key), put(n, string(freshKey(b, n, r.key)), r.value))
	})
	edit("inject a random record", 500, 1, func(b *bench, i int) func(*bbolt.Tx) error {
		r := group[i%len(group)]
		return put(n, string(freshKey(b, n, r.key)), random(b, len(r.value)))
	})
	if len(foreign) > 0 {
		edit("inject a record of another account", len(foreign), 1, func(b *bench, i int) func(*bbolt.Tx) error {
			f := foreign[i]
			if n == headBucket {
				return put(n, string(freshKey(b, n, "head")), f.value)
			}
			if n == policyBucket || n == namesBucket { // where it came from, or it would be another kind
				return put(f.bucket, f.key, f.value)
			}
			return put(n, f.key, f.value)
		})
	}
	return out
}

// others are all records but one.
func others(all []rec, r rec) []rec {
	i := slices.IndexFunc(all, func(o rec) bool { return o.bucket == r.bucket && o.key == r.key })
	return append(slices.Clone(all[:i]), all[i+1:]...)
}

// freshKey is a key of the same length that no record has; in policy.db of the same kind.
func freshKey(b *bench, n byte, key string) []byte {
	k := random(b, len(key))
	if n == policyBucket || n == namesBucket {
		if k[0] = key[0]; len(k) == 1 {
			k = append(k, byte(b.rng.IntN(256)))
		}
		return k
	}
	k[0] |= 0x80 // inode numbers and instants are smaller; tokens are random
	return k
}

// onlineFlips change a record while its volume is open: what is read says so, and Verify finds it.
func onlineFlips(group []rec) *attack {
	size := 0
	for _, r := range group {
		size += len(r.value)
	}
	return &attack{kind: "flip a bit while the volume is open", online: true, n: size * 8, unit: size, weight: 2, apply: func(b *bench, i int) (wish, error) {
		at := i % size
		for _, r := range group {
			if at < len(r.value) {
				return wish{findings: true, tol: tolerance{meta: true}}, b.flip(treeFile, r.at+at, 1<<((i+i/size)%8))
			}
			at -= len(r.value)
		}
		panic("proof: internal error: no such byte")
	}}
}

// older is an earlier value of a record.
type older struct {
	place
	kind  string
	value []byte // nil: the record was not there
	now   bool   // it is there now
}

// replays put back what was true once.
func replays(t testing.TB, s *store, now []rec) []*attack {
	present := byPlace(now)
	earlier := make([]map[place]rec, 0, len(s.past))
	single := map[string]older{}
	for _, p := range s.past {
		then := byPlace(records(t, p.image))
		earlier = append(earlier, then)
		for at, r := range then {
			cur, ok := present[at]
			if !ok || !bytes.Equal(cur.value, r.value) {
				single[string([]byte{at.bucket})+at.key+string(r.value)] = older{at, r.kind, r.value, ok}
			}
		}
	}
	by := map[string][]older{}
	for _, k := range slices.Sorted(maps.Keys(single)) {
		by[single[k].kind] = append(by[single[k].kind], single[k])
	}
	var out []*attack
	for kind, group := range by {
		out = append(out, &attack{kind: "replace a record by an older value", target: kind, n: len(group), weight: 2, apply: func(b *bench, i int) (wish, error) {
			return refused, b.edit(put(group[i].bucket, group[i].key, group[i].value))
		}})
	}
	// Many records at once are taken back to one earlier time, but not all: the head or at least one other stays.
	const tries = 4000
	out = append(out, &attack{kind: "take some records back to one time", target: s.of + "set of records", n: len(earlier) * tries, weight: 4, apply: func(b *bench, i int) (wish, error) {
		then := earlier[i%len(earlier)]
		var diff []older
		for at, r := range then {
			if cur, ok := present[at]; !ok || !bytes.Equal(cur.value, r.value) {
				diff = append(diff, older{at, r.kind, r.value, ok})
			}
		}
		for at := range present {
			if _, ok := then[at]; !ok {
				diff = append(diff, older{place: at, now: true})
			}
		}
		if len(diff) < 2 {
			return wish{}, nil // that time is now
		}
		slices.SortFunc(diff, func(a, b older) int { return bytes.Compare([]byte{a.bucket}, []byte{b.bucket}) })
		b.rng.Shuffle(len(diff), func(i, j int) { diff[i], diff[j] = diff[j], diff[i] })
		take := diff[:1+b.rng.IntN(len(diff)-1)]
		if i%3 == 0 { // all but one
			take = diff[:len(diff)-1]
		}
		return refused, b.edit(func(tx *bbolt.Tx) error {
			for _, o := range take {
				fn := put(o.bucket, o.key, o.value)
				if o.value == nil {
					fn = del(o.bucket, o.key)
				}
				if err := fn(tx); err != nil {
					return err
				}
			}
			return nil
		})
	}})
	return out
}
