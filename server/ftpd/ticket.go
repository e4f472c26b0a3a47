package ftpd

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"net/netip"
	"time"
)

// ticketTag marks our part of a TLS session ticket.
const ticketTag = "sallyport.ftps.ticket.v1\x00"

// siblingPatience is how long a data connection waits for the login of the control connection whose ticket it shows.
const siblingPatience = 2 * time.Second

// origin is the control connection that a ticket comes from. It travels inside the ticket, which only this process can seal.
type origin struct {
	control [16]byte
	addr    netip.Addr
	account string // empty: issued before the login
}

func (o origin) encode() []byte {
	addr := o.addr.As16()
	return bytes.Join([][]byte{[]byte(ticketTag), o.control[:], addr[:], []byte(o.account)}, nil)
}

func decodeOrigin(extra [][]byte) (o origin, ok bool) {
	for _, e := range extra {
		rest, found := bytes.CutPrefix(e, []byte(ticketTag))
		if !found || len(rest) < 32 {
			continue
		}
		copy(o.control[:], rest)
		o.addr = netip.AddrFrom16([16]byte(rest[16:32])).Unmap()
		o.account = string(rest[32:])
		return o, true
	}
	return origin{}, false
}

// seal has cfg issue tickets that name this connection, and resume from those that accepts takes.
func (c *conn) seal(cfg *tls.Config, accepts func(origin) bool) {
	cfg.WrapSession = func(cs tls.ConnectionState, ss *tls.SessionState) ([]byte, error) {
		ss.Extra = append(ss.Extra, origin{c.ticketID, c.remote.Addr(), c.who()}.encode())
		return c.sealer(cs).EncryptTicket(cs, ss)
	}
	cfg.UnwrapSession = func(identity []byte, cs tls.ConnectionState) (*tls.SessionState, error) {
		ss, err := c.sealer(cs).DecryptTicket(identity, cs)
		if ss == nil || err != nil {
			return nil, err
		}
		if o, ok := decodeOrigin(ss.Extra); !ok || !accepts(o) {
			return nil, nil // a full handshake follows
		}
		// The next ticket gets an origin of its own.
		ss.Extra = nil
		return ss, nil
	}
}

// sealer holds the keys of tickets. A TLS 1.2 ticket travels in clear and holds the secret of the session that it comes from:
// its key is of this connection and gone with it, so that nothing recorded can be opened later. A TLS 1.3 ticket is sent
// encrypted and opens nothing that was (RFC 8446, section 2.2): its key may be everybody's.
func (c *conn) sealer(cs tls.ConnectionState) *tls.Config {
	if cs.Version >= tls.VersionTLS13 {
		return c.srv.tickets
	}
	return c.tickets
}

// ownTickets makes a ticket key that only one connection has.
func ownTickets() *tls.Config {
	var key [32]byte
	_, _ = rand.Read(key[:]) // never fails (crypto/rand)
	cfg := &tls.Config{}
	cfg.SetSessionTicketKeys([][32]byte{key})
	return cfg
}

// owns says whether a ticket is of this very control connection.
func (c *conn) owns(o origin) bool { return o.control == c.ticketID }

// related says whether a ticket is of this control connection or of another one of the same account from the same address.
// Programs with several sessions at once keep one cache of tickets for all of them (rclone does), so a session's data
// connection shows whatever ticket came last. (On TLS 1.2 the other's ticket cannot be opened and does not count.) Somebody else, even behind the same address, has no such ticket.
func (c *conn) related(o origin) bool {
	switch {
	case c.owns(o):
		return true
	case o.addr != c.remote.Addr():
		return false
	case o.account == "":
		o.account = c.srv.loginOf(o.control)
	}
	return o.account != "" && o.account == c.who()
}

// loginOf is the account of a live control connection; it waits a moment for a login under way. "" = none.
func (s *Server) loginOf(control [16]byte) string {
	var sibling *conn
	s.mu.Lock()
	for c := range s.conns {
		if c.ticketID == control {
			sibling = c
		}
	}
	s.mu.Unlock()
	if sibling == nil {
		return ""
	}
	select {
	case <-sibling.decided():
	case <-time.After(siblingPatience):
	}
	return sibling.who()
}

// who is the account that is logged in; "" before the login.
func (c *conn) who() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.account
}

// decided is closed when the account is known, or never will be.
func (c *conn) decided() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.settled
}

// settle notes the account of the connection: at the login, and as "" when it ends.
func (c *conn) settle(account string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.account = account
	select {
	case <-c.settled:
	default:
		close(c.settled)
	}
}

// unsettle is REIN: another login may follow (RFC 959, section 4.1.1).
func (c *conn) unsettle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.account, c.settled = "", make(chan struct{})
}
