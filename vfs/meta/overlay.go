package meta

import (
	"slices"
	"strings"

	"sallyport/crypto/record"
)

// pending is a record that is not in bbolt yet.
type pending struct {
	plain []byte // nil = deleted
	obj   any    // the *Node or *Entry that plain encodes, for the cache; not to be changed
}

// overlay is what one member of a group, or the group, wants to change. Keys
// are whole database keys (kind ‖ key). Values are sealed only when the
// group commits, so a record that several members change is sealed once.
type overlay struct {
	records map[string]*pending
	bytes   int // of plaintext
	// sorted are the keys of a kind in order, from the first time on that they are asked for: a purge asks again for each of
	// hundreds of files, after thousands of changes. nil = not asked for yet.
	sorted [kinds][]string
}

func newOverlay() *overlay { return &overlay{records: map[string]*pending{}} }

func (o *overlay) put(kind record.Domain, key []byte, p *pending) {
	o.set(string(byte(kind))+string(key), p)
	o.bytes += len(p.plain) + len(key)
}

func (o *overlay) set(key string, p *pending) {
	if sorted := o.sorted[key[0]]; sorted != nil {
		if i, found := slices.BinarySearch(sorted, key); !found {
			o.sorted[key[0]] = slices.Insert(sorted, i, key)
		}
	}
	o.records[key] = p
}

// merge takes over the changes of a member that succeeded.
func (o *overlay) merge(m *overlay) {
	for k, p := range m.records {
		o.set(k, p)
	}
	o.bytes += m.bytes
}

// all are the sorted database keys.
func (o *overlay) all() []string {
	keys := make([]string, 0, len(o.records))
	for k := range o.records {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// appendKeys appends the sorted database keys of a kind that have the prefix and are not below from, both without the kind.
func (o *overlay) appendKeys(to []string, kind record.Domain, prefix, from []byte) []string {
	if len(o.records) == 0 {
		return to
	}
	sorted := o.sorted[kind]
	if sorted == nil {
		sorted = []string{}
		for k := range o.records {
			if k[0] == byte(kind) {
				sorted = append(sorted, k)
			}
		}
		slices.Sort(sorted)
		o.sorted[kind] = sorted
	}
	i, _ := slices.BinarySearchFunc(sorted, max(string(prefix), string(from)), func(k, from string) int { return strings.Compare(k[1:], from) })
	for ; i < len(sorted) && strings.HasPrefix(sorted[i][1:], string(prefix)); i++ {
		to = append(to, sorted[i])
	}
	return to
}
