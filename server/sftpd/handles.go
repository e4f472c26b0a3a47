package sftpd

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
)

// handle is an open file or directory of one channel.
type handle struct {
	name   string // the opaque string that the client sends
	file   file   // nil for a directory
	dir    *dirReader
	read   bool
	write  bool
	append bool
	// order belongs to the goroutine that reads packets.
	order order
}

// handles is the table of one channel. The budget is shared by the channels of
// a connection. Safe for concurrent use.
type handles struct {
	budget *atomic.Int64 // handles that the connection may still open

	mu   sync.Mutex
	next uint64
	open map[string]*handle
}

// dirPlaces is how many places an open directory takes. It holds a batch of
// entries until the client asks for them: as many directories as files would be
// some hundred MiB of them, and clients list one after the other.
const dirPlaces = 8

// places is what a handle takes of the budget.
func (h *handle) places() int64 {
	if h.dir != nil {
		return dirPlaces
	}
	return 1
}

// reserve takes places before something is opened, so that a client at its
// limit creates nothing.
func (t *handles) reserve(places int64) bool {
	if t.budget.Add(-places) < 0 {
		t.budget.Add(places)
		return false
	}
	return true
}

// release gives reserved places back.
func (t *handles) release(places int64) { t.budget.Add(places) }

// put names h, which holds reserved places.
func (t *handles) put(h *handle) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.next++
	h.name = string(binary.BigEndian.AppendUint64(nil, t.next))
	if t.open == nil {
		t.open = make(map[string]*handle)
	}
	t.open[h.name] = h
}

func (t *handles) get(name []byte) *handle {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.open[string(name)]
}

// remove takes h out; its places stay reserved until it is closed.
func (t *handles) remove(h *handle) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.open, h.name)
}

func (t *handles) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.open)
}

// taken is how many places the open handles have.
func (t *handles) taken() (places int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, h := range t.open {
		places += h.places()
	}
	return places
}

// drain empties the table and returns what was in it.
func (t *handles) drain() []*handle {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []*handle
	for _, h := range t.open {
		all = append(all, h)
	}
	t.open = nil
	return all
}
