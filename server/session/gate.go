package session

import (
	"context"
	"net/netip"
	"slices"
	"sync"

	"sallyport/policy"
)

// gate bounds how many passwords are hashed at once, so that guessing takes no more than its share of the processors: at
// most half of the workers (one at least) serve one address, and those that wait are served in order.
type gate struct {
	workers, perAddress, most int

	mu      sync.Mutex
	running int
	byAddr  map[netip.Addr]*gateCount
	queue   []*waiter
}

type gateCount struct{ running, waiting int }

type waiter struct {
	addr  netip.Addr
	ready chan struct{}
}

func newGate(workers, queue int) *gate {
	return &gate{workers: workers, perAddress: max(1, workers/2), most: queue, byAddr: map[netip.Addr]*gateCount{}}
}

// enter waits for a worker. A full queue, or one that this address fills by half, is CodeBusy. The caller leaves after.
func (g *gate) enter(ctx context.Context, a netip.Addr) error {
	g.mu.Lock()
	n := g.byAddr[a]
	if n == nil {
		n = &gateCount{}
		g.byAddr[a] = n
	}
	if g.running < g.workers && n.running < g.perAddress {
		g.running++
		n.running++
		g.mu.Unlock()
		return nil
	}
	if len(g.queue) >= g.most || n.waiting >= max(1, g.most/2) {
		g.mu.Unlock()
		return policy.Deny(policy.CodeBusy, "limits.passwords", "sallyport.yaml")
	}
	w := &waiter{a, make(chan struct{})}
	n.waiting++
	g.queue = append(g.queue, w)
	g.mu.Unlock()
	select {
	case <-w.ready:
		return nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	i := slices.Index(g.queue, w)
	if i >= 0 {
		g.queue = slices.Delete(g.queue, i, i+1)
		n.waiting--
		g.tidy(a)
	}
	g.mu.Unlock()
	if i < 0 { // the turn came at the same moment
		g.leave(a)
	}
	return ctx.Err()
}

// leave gives the worker to the first who waits and may have it.
func (g *gate) leave(a netip.Addr) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.running--
	g.byAddr[a].running--
	for i := 0; i < len(g.queue) && g.running < g.workers; {
		w := g.queue[i]
		n := g.byAddr[w.addr]
		if n.running >= g.perAddress {
			i++
			continue
		}
		g.queue = slices.Delete(g.queue, i, i+1)
		n.waiting--
		n.running++
		g.running++
		close(w.ready)
	}
	g.tidy(a)
}

func (g *gate) tidy(a netip.Addr) {
	if n := g.byAddr[a]; n != nil && *n == (gateCount{}) {
		delete(g.byAddr, a)
	}
}
