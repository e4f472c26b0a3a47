package ftpd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"syscall"
)

// errNoPort: every port of the range is in use.
var errNoPort = errors.New("ftpd: no free passive port")

// ports hands out listeners for data connections: the next port of the range, in order, so that one attempt is enough where
// random draws collide ever more often as the range fills. All sessions share it. Safe for concurrent use.
type ports struct {
	first, last uint16 // 0, 0 = the kernel chooses

	mu   sync.Mutex
	next uint16
	busy map[uint16]struct{}
}

func newPorts(r [2]uint16) (*ports, error) {
	p := &ports{first: r[0], last: r[1], busy: make(map[uint16]struct{})}
	if p.first == 0 && p.last == 0 {
		return p, nil
	}
	if p.first == 0 || p.last < p.first {
		return nil, fmt.Errorf("ftpd: passive ports %d-%d are no range", p.first, p.last)
	}
	// Starting elsewhere after each restart avoids ports whose old connections still linger.
	p.next = p.first + uint16(rand.N(int(p.last-p.first)+1))
	return p, nil
}

// listen opens a listener on local, the address that the control connection came in on: a host with an inside and an outside
// must not open data ports on both. The port returns to the range with release.
func (p *ports) listen(ctx context.Context, local netip.Addr) (ln *net.TCPListener, release func(), err error) {
	if p.first == 0 {
		ln, err := listenTCP(ctx, netip.AddrPortFrom(local, 0))
		return ln, func() {}, err
	}
	for range int(p.last-p.first) + 1 {
		port, ok := p.take()
		if !ok {
			break
		}
		ln, err := listenTCP(ctx, netip.AddrPortFrom(local, port))
		if err == nil {
			return ln, sync.OnceFunc(func() { p.release(port) }), nil
		}
		p.release(port)
		if !errors.Is(err, syscall.EADDRINUSE) {
			return nil, nil, err
		}
	}
	return nil, nil, errNoPort
}

func (p *ports) take() (uint16, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for range int(p.last-p.first) + 1 {
		port := p.next
		if p.next++; port == p.last {
			p.next = p.first
		}
		if _, taken := p.busy[port]; !taken {
			p.busy[port] = struct{}{}
			return port, true
		}
	}
	return 0, false
}

func (p *ports) release(port uint16) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.busy, port)
}

func listenTCP(ctx context.Context, at netip.AddrPort) (*net.TCPListener, error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	ln, err := lc.Listen(ctx, "tcp", at.String())
	if err != nil {
		return nil, err
	}
	return ln.(*net.TCPListener), nil
}
