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
}

func newOverlay() *overlay { return &overlay{records: map[string]*pending{}} }

func (o *overlay) put(kind record.Domain, key []byte, p *pending) {
	o.records[string(byte(kind))+string(key)] = p
	o.bytes += len(p.plain) + len(key)
}

// merge takes over the changes of a member that succeeded.
func (o *overlay) merge(m *overlay) {
	for k, p := range m.records {
		o.records[k] = p
	}
	o.bytes += m.bytes
}

// keys are the sorted database keys that have the prefix and are not below from.
func (o *overlay) keys(prefix, from string) []string {
	var keys []string
	for k := range o.records {
		if k >= from && strings.HasPrefix(k, prefix) {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	return keys
}
