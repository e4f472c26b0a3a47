package ftpd

import (
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"
)

// freeRange finds n consecutive ports that nobody uses at the moment, of an address at which no other test looks for some.
func freeRange(t *testing.T, local string, n uint16) [2]uint16 {
	t.Helper()
	for range 100 {
		// Below the kernel's ephemeral ports, which the other tests use.
		first := uint16(12000 + rand.N(18000))
		free := true
		for p := first; p < first+n; p++ {
			probe, err := listenTCP(t.Context(), netip.AddrPortFrom(netip.MustParseAddr(local), p))
			if free = err == nil; !free {
				break
			}
			_ = probe.Close()
		}
		if free {
			return [2]uint16{first, first + n - 1}
		}
	}
	t.Fatal("no free ports")
	return [2]uint16{}
}

func TestPassivePorts(t *testing.T) {
	t.Parallel()
	const address = "127.83.77.1"
	r := freeRange(t, address, 3)
	p, err := newPorts(r)
	if err != nil {
		t.Fatal(err)
	}
	local := netip.MustParseAddr(address)
	seen := map[uint16]func(){}
	for range 3 {
		ln, release, err := p.listen(t.Context(), local)
		if err != nil {
			t.Fatal(err)
		}
		at := addrPort(ln.Addr())
		if at.Addr() != local || at.Port() < r[0] || at.Port() > r[1] || seen[at.Port()] != nil {
			t.Errorf("listener on %v", at)
		}
		seen[at.Port()] = func() { _ = ln.Close(); release() }
	}
	if _, _, err := p.listen(t.Context(), local); !errors.Is(err, errNoPort) {
		t.Errorf("a fourth listener: %v", err)
	}
	seen[r[1]]()
	seen[r[1]]() // twice is once
	ln, release, err := p.listen(t.Context(), local)
	if err != nil || addrPort(ln.Addr()).Port() != r[1] {
		t.Fatalf("the freed port did not come back: %v", err)
	}
	_ = ln.Close()
	release()
	// A port that another process took is passed over.
	other, err := net.Listen("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, _, err := p.listen(t.Context(), local); !errors.Is(err, errNoPort) {
		t.Errorf("with all ports taken: %v", err)
	}
	for _, bad := range [][2]uint16{{0, 5}, {5, 4}, {5, 0}} {
		if _, err := newPorts(bad); err == nil {
			t.Errorf("%v is a range", bad)
		}
	}
}

// The range is enough for as many sessions at a time, and every transfer gives its port back.
func TestPassiveRangeOverSessions(t *testing.T) {
	t.Parallel()
	const address = "127.83.77.2"
	r := freeRange(t, address, 2)
	h := startAt(t, Implicit, address+":0", func(o *Options) {
		o.PassivePorts = r
		o.PublicAddress = func(local, remote netip.Addr) netip.Addr { return netip.MustParseAddr("192.0.2.7") }
	})
	h.vol.put("/f", 0o644, []byte("x"))
	a, b := h.dial().login(), h.dial().login()
	for range 5 {
		a.epsv()
		b.epsv()
		if got := a.retr("RETR f") + b.retr("RETR f"); got != "xx" {
			t.Fatalf("got %q", got)
		}
	}
	at := a.pasv()
	if at.Addr() != netip.MustParseAddr("192.0.2.7") || at.Port() < r[0] || at.Port() > r[1] {
		t.Errorf("PASV tells %v", at)
	}
	b.epsv()
	c := h.dial().login()
	c.cmd(425, "EPSV")
	a.cmd(226, "ABOR")
	c.epsv()
}

// listening tells whether the passive port of a channel is still open. The socket is asked: a dial could meet another test
// that has got the same port meanwhile.
func (ch *channel) listening() bool { return !errors.Is(ch.ln.SetDeadline(time.Time{}), net.ErrClosed) }

func (s *Server) onlyConn(t *testing.T) *conn {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		return c
	}
	t.Fatal("no connection")
	return nil
}
