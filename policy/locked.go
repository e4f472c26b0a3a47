package policy

import (
	"crypto/tls"
	"net/netip"
	"slices"
	"time"
)

// Means are what an account can prove itself with.
type Means struct {
	Doors        []Door
	SecondFactor bool
}

// Door is one credential.
type Door struct {
	Method    string
	Over      Family         // 0 = both
	From      []netip.Prefix // where it may be used; none = anywhere
	TwoFactor bool           // it counts as two: a password beside a client certificate
	// Possible: nobody has seen it work. An authority may sign a certificate for the account, or never do.
	Possible bool
}

// Family of protocols that share their credentials.
type Family uint8

const (
	OverSSH Family = 1 + iota
	OverTLS
)

func (d *Door) opensOver(p Protocol) bool {
	return d.Over == 0 || (d.Over == OverSSH) == (p == SFTP)
}

func (d *Door) opensFrom(a netip.Addr) bool {
	return len(d.From) == 0 || slices.ContainsFunc(d.From, func(n netip.Prefix) bool { return n.Contains(a) })
}

// Seen are the means that are known to work.
func (m Means) Seen() Means {
	m.Doors = slices.DeleteFunc(slices.Clone(m.Doors), func(d Door) bool { return d.Possible })
	return m
}

// Locked says why an account cannot log in from anywhere, whatever its client does: nil if it can; of several reasons the one that
// is met last, because it is nearest to a way in. It tries addresses at the
// bounds of every network of the policy and of the credential, every protocol, and every credential that the account has.
func Locked(p *Effective, has Means, now time.Time) *Denial {
	var last *Denial
	try := func(f Facts, second bool) bool {
		f.SecondFactor, f.Since, f.LastActive = second, now, now
		d := Admit(p, f, now)
		if d != nil && (last == nil || d.Stage > last.Stage) {
			last = d
		}
		return d == nil
	}
	for _, protocol := range p.Protocols {
		for i := range has.Doors {
			door := &has.Doors[i]
			if !door.opensOver(protocol) {
				continue
			}
			for _, a := range p.addresses(door.From...) {
				if !door.opensFrom(a) {
					continue
				}
				f := Facts{Protocol: protocol, Remote: netip.AddrPortFrom(a, 0), Method: door.Method}
				if protocol != SFTP {
					f.TLS, f.TLSVersion, f.Cipher = true, tls.VersionTLS13, "TLS_AES_128_GCM_SHA256"
				}
				if try(f, has.SecondFactor || door.TwoFactor) {
					return nil
				}
			}
		}
	}
	password := slices.ContainsFunc(has.Doors, func(d Door) bool { return d.Method == "password" && d.opensOver(FTP) })
	for _, e := range p.Exceptions {
		for _, n := range e.From {
			if password && try(Facts{Protocol: FTP, Remote: netip.AddrPortFrom(n.Addr(), 0), Method: "password"}, has.SecondFactor) {
				return nil
			}
		}
	}
	if last == nil {
		if len(p.Protocols) > 0 {
			return deny(CodeMethod, "the account has no credential for its protocols", "account")
		}
		return p.deny(CodeProtocol, "protocols")
	}
	return last
}

// someAddress is one that the policy allows, if there is one.
func (p *Effective) someAddress() netip.Addr {
	addrs := p.addresses()
	for _, a := range addrs {
		if admitAddress(p, &Facts{Remote: netip.AddrPortFrom(a, 0)}) == nil {
			return a
		}
	}
	return addrs[0]
}

// addresses at which allow and deny lists, and further networks, can differ: both ends of every network, and their neighbours.
func (p *Effective) addresses(more ...netip.Prefix) []netip.Addr {
	list := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}
	for _, n := range append(slices.Concat(p.AllowFrom, p.DenyFrom), Networks{Prefixes: more}) {
		for _, x := range n.Prefixes {
			end := lastOf(x)
			for _, a := range []netip.Addr{x.Addr(), end, x.Addr().Prev(), end.Next()} {
				if a.IsValid() {
					list = append(list, a)
				}
			}
		}
	}
	return list
}

func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
