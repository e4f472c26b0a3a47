package sftpd

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// Limits bound what a client may cost. A zero field means its default.
type Limits struct {
	// Handshakes is how many connections may be before the end of their
	// login, in total. Default 1024: the session manager, which has a fairer
	// rule (it sends away the oldest of the busiest address), counts to less.
	// This is the wall behind it.
	Handshakes int
	// HandshakesPerNet is the same for one address (IPv6: one /64). Default 128.
	HandshakesPerNet int
	// PreAuth is the time from accept to login, all of it. Default 20 s.
	PreAuth time.Duration
	// AuthTries is how many keys and passwords may fail on one connection.
	// Agents offer every key they have, so it is above OpenSSH's 6. Default 10.
	AuthTries int
	// Channels is how many sessions one connection may have open. Default 10,
	// as OpenSSH's MaxSessions.
	Channels int
	// Handles is how many files one connection may have open; a directory counts
	// as eight. Default 1024.
	Handles int
	// Keepalive is how long a connection may be silent before it is asked
	// whether it is still there, and how long it then has to answer. Default
	// 60 s. The session's own idle limit is policy and counts requests.
	Keepalive time.Duration
}

func (l Limits) withDefaults() Limits {
	def := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&l.Handshakes, 1024)
	def(&l.HandshakesPerNet, 128)
	def(&l.AuthTries, 10)
	def(&l.Channels, 10)
	def(&l.Handles, 1024)
	if l.PreAuth <= 0 {
		l.PreAuth = 20 * time.Second
	}
	if l.Keepalive <= 0 {
		l.Keepalive = 60 * time.Second
	}
	return l
}

// lobby counts the connections that have not logged in yet. Safe for
// concurrent use.
type lobby struct {
	total, perNet int // limits

	mu   sync.Mutex
	in   int
	nets map[netip.Prefix]int
}

// enter counts a connection in, or says that there is no room. leave counts it
// out again and may be called more than once.
func (l *lobby) enter(from netip.Addr) (leave func(), ok bool) {
	network := networkOf(from)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.in >= l.total || l.nets[network] >= l.perNet {
		return nil, false
	}
	if l.nets == nil {
		l.nets = make(map[netip.Prefix]int)
	}
	l.in++
	l.nets[network]++
	return sync.OnceFunc(func() { l.leave(network) }), true
}

func (l *lobby) leave(network netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.in--
	if l.nets[network]--; l.nets[network] == 0 {
		delete(l.nets, network)
	}
}

// networkOf is what one subscriber has: an IPv4 address, an IPv6 /64.
func networkOf(a netip.Addr) netip.Prefix {
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	p, err := a.WithZone("").Prefix(bits)
	if err != nil {
		return netip.Prefix{} // no IP address: all such connections count as one
	}
	return p
}

// addrPort is the zero value for an address that is not IP.
func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
