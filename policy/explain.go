package policy

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Question is a connection, real or imagined, and what its client wants to do (nil = nothing yet).
type Question struct {
	Facts Facts
	Do    *Do
}

// Step is what one stage says.
type Step struct {
	Stage  Stage
	Text   string  // what was looked at
	Denial *Denial // nil = ok
}

// Explanation goes through every stage, also those that a refused connection does not reach.
type Explanation struct {
	Account  string
	Protocol Protocol
	Revision uint64
	Steps    []Step  // one per stage, in order
	Denial   *Denial // of the first stage that refuses; nil = allowed
}

// Explain asks the functions that decide, Admit's stages and Permit, so it says what would happen and not what somebody
// thinks would.
func Explain(p *Effective, q Question, now time.Time) *Explanation {
	x := &Explanation{Account: p.Account, Protocol: q.Facts.Protocol, Revision: p.Revision}
	for s := StageListener; s <= StageSession; s++ {
		x.Steps = append(x.Steps, Step{s, p.describe(s, &q.Facts), p.at(s, &q.Facts, now)})
	}
	last := Step{Stage: StagePath, Text: "no operation asked for"}
	if q.Do != nil {
		last.Text, last.Denial = q.Do.String()+": "+p.describePaths(q.Do.Paths), Permit(p, q.Do.Op, q.Do.Paths...)
	}
	x.Steps = append(x.Steps, last)
	for _, s := range x.Steps {
		if s.Denial != nil {
			x.Denial = s.Denial
			break
		}
	}
	return x
}

// describe says what a stage looks at.
func (p *Effective) describe(s Stage, f *Facts) string {
	setting := func(path string) string {
		text, o := p.Value(path)
		return path + " = " + text + " of " + o.String()
	}
	switch s {
	case StageListener:
		at := string(f.Protocol)
		if port := f.Local.Port(); port != 0 {
			at += " :" + strconv.Itoa(int(port))
		}
		return at + "; " + setting("protocols")
	case StageAddress:
		return f.Remote.Addr().Unmap().String() + "; " + p.describeNetworks()
	case StageTransport:
		switch {
		case f.Protocol == SFTP:
			return "SSH"
		case f.plain():
			return "no TLS; " + setting("transport.require_ssl")
		}
		return cmp.Or(tls.VersionName(f.TLSVersion), "TLS") + " " + f.Cipher + "; " + setting("transport.tls_min") + "; " + setting("transport.ciphers")
	case StageAuth:
		if f.Protocol == SFTP {
			return cmp.Or(f.Method, "nothing yet") + "; " + setting("auth.sftp")
		}
		return cmp.Or(f.Method, "nothing yet") + "; " + setting("auth.ftps")
	case StageSecondFactor:
		given := "not given; "
		if f.SecondFactor {
			given = "given; "
		}
		_, by := p.Auth.Wants2FA(f.Protocol)
		return given + setting(by)
	}
	return fmt.Sprintf("%d other sessions; %s", f.Sessions, setting("session.max"))
}

func (p *Effective) describeNetworks() string {
	var parts []string
	for _, n := range p.AllowFrom {
		parts = append(parts, "allowed by "+n.Origin.Level+" "+flowList(n.Prefixes, netip.Prefix.String))
	}
	if len(parts) == 0 {
		parts = []string{"any address is allowed"}
	}
	for _, n := range p.DenyFrom {
		parts = append(parts, "denied by "+n.Origin.Level+" "+flowList(n.Prefixes, netip.Prefix.String))
	}
	return strings.Join(parts, "; ")
}

func (p *Effective) describePaths(paths []string) string {
	var parts []string
	for _, name := range paths {
		for i := range p.rights {
			r := &p.rights[i]
			if set, at := r.at(fold(name)); at != "" {
				parts = append(parts, at+" of "+r.origin.String()+" allows "+set.String())
			} else {
				parts = append(parts, "no entry in paths of "+r.origin.String())
			}
		}
	}
	return strings.Join(parts, "; ")
}
