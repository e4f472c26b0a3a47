package policy

import (
	"crypto/tls"
	"net/netip"
	"slices"
	"time"
)

// Means are what an account can prove itself with.
type Means struct {
	Methods      []string
	SecondFactor bool
}

// Locked says why an account cannot log in from anywhere, whatever its client does: nil if it can. It tries addresses at the
// bounds of every network of the policy, every protocol and every method that the account has the means for.
func Locked(p *Effective, has Means, now time.Time) *Denial {
	var first *Denial
	try := func(f Facts) bool {
		f.SecondFactor, f.Since, f.LastActive = has.SecondFactor, now, now
		d := Admit(p, f, now)
		if first == nil {
			first = d
		}
		return d == nil
	}
	addrs := p.addresses()
	for _, protocol := range p.Protocols {
		for _, m := range has.Methods {
			for _, a := range addrs {
				f := Facts{Protocol: protocol, Remote: netip.AddrPortFrom(a, 0), Method: m}
				if protocol != SFTP {
					f.TLS, f.TLSVersion, f.Cipher = true, tls.VersionTLS13, "TLS_AES_128_GCM_SHA256"
				}
				if try(f) {
					return nil
				}
			}
		}
	}
	for _, e := range p.Exceptions {
		for _, n := range e.From {
			if slices.Contains(has.Methods, "password") && try(Facts{Protocol: FTP, Remote: netip.AddrPortFrom(n.Addr(), 0), Method: "password"}) {
				return nil
			}
		}
	}
	if first == nil {
		if len(p.Protocols) > 0 {
			return deny(CodeMethod, "the account has no credential", "account")
		}
		return p.deny(CodeProtocol, "protocols")
	}
	return first
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

// addresses at which allow and deny lists can differ: both ends of every network, and their neighbours.
func (p *Effective) addresses() []netip.Addr {
	list := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}
	for _, n := range slices.Concat(p.AllowFrom, p.DenyFrom) {
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
