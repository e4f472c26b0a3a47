package ftpd

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// The commands that prepare a data connection. To the library each of them is EPSV: it gets a channel (channel.go) whatever
// the mode, and channelReply tells the client what was prepared.

// cmdPasv: RFC 959. IPv4 only, by the form of its reply.
func (c *control) cmdPasv(o *op, _ string) string {
	if c.epsvAll {
		c.reply(503, "EPSV ALL was sent; only EPSV is accepted.") // RFC 2428, section 4
		return ""
	}
	if !c.public().Is4() {
		c.reply(425, "PASV is for IPv4; use EPSV.")
		return ""
	}
	return c.prepare(o, netip.AddrPort{})
}

// cmdEpsv: RFC 2428, section 3.
func (c *control) cmdEpsv(o *op, arg string) string {
	own := "1"
	if !c.local.Addr().Is4() {
		own = "2"
	}
	switch arg = strings.ToUpper(strings.TrimSpace(arg)); arg {
	case "ALL":
		c.epsvAll = true
		c.reply(200, "Only EPSV from now on.")
		return ""
	case "", own:
		return c.prepare(o, netip.AddrPort{})
	default:
		c.reply(522, "Network protocol not supported, use ("+own+")")
		return ""
	}
}

func (c *control) cmdPort(o *op, arg string) string {
	at, ok := parsePort(arg)
	return c.prepareActive(o, at, ok)
}

func (c *control) cmdEprt(o *op, arg string) string {
	at, ok := parseEprt(arg)
	return c.prepareActive(o, at, ok)
}

// prepareActive prepares an active data connection, to the client's own address and an unprivileged port only: otherwise the server
// could be made to attack others (RFC 2577, section 3).
func (c *control) prepareActive(o *op, at netip.AddrPort, parsed bool) string {
	switch {
	case !c.srv.o.ActiveMode:
		c.dropChannel()
		c.reply(502, "Active mode is switched off; use EPSV or PASV.")
	case c.epsvAll:
		c.reply(503, "EPSV ALL was sent; only EPSV is accepted.")
	case !parsed:
		c.reply(501, "Not an address and port.")
	case at.Addr() != c.remote.Addr() || at.Port() < 1024:
		c.dropChannel()
		c.reply(501, "Only the address of the control connection and ports from 1024.")
	default:
		return c.prepare(o, at)
	}
	return ""
}

func (c *control) prepare(o *op, dial netip.AddrPort) string {
	if _, err := c.newChannel(dial); err != nil {
		return c.failed(o, dataError{errNoData, err})
	}
	return "EPSV"
}

// public is the address that PASV tells this client.
func (c *control) public() netip.Addr {
	local := c.local.Addr()
	if f := c.srv.o.PublicAddress; f != nil {
		if a := f(local, c.remote.Addr()).Unmap(); a.IsValid() {
			return a
		}
	}
	return local
}

func (c *control) channelReply(o *op) reply {
	port := addrPort(c.prepared().Addr()).Port()
	switch o.verb {
	case "PASV":
		a := c.public().As4()
		return reply{227, fmt.Sprintf("Entering Passive Mode (%d,%d,%d,%d,%d,%d).", a[0], a[1], a[2], a[3], port>>8, port&0xff)}
	case "EPSV":
		return reply{229, fmt.Sprintf("Entering Extended Passive Mode (|||%d|)", port)}
	default:
		return reply{200, o.verb + " accepted."}
	}
}

// parsePort reads h1,h2,h3,h4,p1,p2. RFC 959, section 5.3.2.
func parsePort(arg string) (netip.AddrPort, bool) {
	f := strings.Split(strings.TrimSpace(arg), ",")
	if len(f) != 6 {
		return netip.AddrPort{}, false
	}
	var b [6]byte
	for i, s := range f {
		n, err := strconv.ParseUint(s, 10, 8)
		if err != nil {
			return netip.AddrPort{}, false
		}
		b[i] = byte(n)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[:4])), uint16(b[4])<<8|uint16(b[5])), true
}

// parseEprt reads <d>family<d>address<d>port<d>. RFC 2428, section 2.
func parseEprt(arg string) (netip.AddrPort, bool) {
	arg = strings.TrimSpace(arg)
	if len(arg) < 2 {
		return netip.AddrPort{}, false
	}
	f := strings.Split(arg, arg[:1])
	if len(f) != 5 || f[0] != "" || f[4] != "" {
		return netip.AddrPort{}, false
	}
	addr, err := netip.ParseAddr(f[2])
	if err != nil || addr.Zone() != "" || (f[1] != "1" || !addr.Is4()) && (f[1] != "2" || !addr.Is6()) {
		return netip.AddrPort{}, false
	}
	port, err := strconv.ParseUint(f[3], 10, 16)
	return netip.AddrPortFrom(addr.Unmap(), uint16(port)), err == nil
}
