package policy

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"net/netip"
	"time"
)

// Case is a connection as somebody thinks it up: what is left out is as a good client of the account would have it.
type Case struct {
	Protocol     string `json:"protocol,omitempty"`    // sftp, ftps, ftps-explicit, ftps-implicit, ftp; "" = by the port
	Addr         string `json:"addr,omitempty"`        // "" = one that the policy allows, if there is one
	Port         int    `json:"port,omitempty"`        // 0 = not known
	TLS          string `json:"tls,omitempty"`         // "true", "false", "" = true
	TLSVersion   string `json:"tls_version,omitempty"` // 1.2, 1.3; "" = 1.3
	Cipher       string `json:"cipher,omitempty"`
	Method       string `json:"method,omitempty"`        // "" = the first that the policy allows
	SecondFactor string `json:"second_factor,omitempty"` // "true", "false", "" = true
	Sessions     int    `json:"sessions,omitempty"`      // other sessions of the account
	Do           string `json:"do,omitempty"`
}

// CaseOf a test.
func CaseOf(t Test) Case {
	return Case{Protocol: t.Protocol, Addr: t.Addr, Port: t.Port, TLS: t.TLS, Method: t.Method, SecondFactor: t.SecondFactor, Do: t.Do}
}

// Question fills the case in for an account.
func (c Case) Question(p *Effective, now time.Time) (Question, error) {
	f := Facts{Protocol: c.protocol(p), SecondFactor: c.SecondFactor != "false", Sessions: c.Sessions, Method: c.Method, Since: now, LastActive: now}
	addr := netip.Addr{}
	if c.Addr != "" {
		var err error
		if addr, err = netip.ParseAddr(c.Addr); err != nil {
			return Question{}, fmt.Errorf("%q is not an address", c.Addr)
		}
	} else {
		addr = p.someAddress()
	}
	f.Remote = netip.AddrPortFrom(addr.Unmap(), 0)
	if c.Port < 0 || c.Port > 65535 {
		return Question{}, fmt.Errorf("%d is not a port", c.Port)
	}
	f.Local = netip.AddrPortFrom(netip.Addr{}, uint16(c.Port))
	if f.Protocol != SFTP && f.Protocol != FTP {
		f.TLS, f.TLSVersion, f.Cipher = c.TLS != "false", tls.VersionTLS13, cmp.Or(c.Cipher, "TLS_AES_128_GCM_SHA256")
		switch {
		case !f.TLS:
			f.Protocol, f.TLSVersion, f.Cipher = FTP, 0, ""
		case c.TLSVersion == "1.2":
			f.TLSVersion, f.Cipher = tls.VersionTLS12, cmp.Or(c.Cipher, "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256")
		case c.TLSVersion != "" && c.TLSVersion != "1.3":
			return Question{}, fmt.Errorf("TLS version %q is not 1.2 or 1.3", c.TLSVersion)
		}
	}
	if f.Method == "" {
		f.Method = "password"
		if m := p.Auth.Methods(f.Protocol); len(m) > 0 {
			f.Method = m[0]
		} else if f.Protocol == SFTP {
			f.Method = "publickey"
		}
	}
	q := Question{Facts: f}
	if c.Do != "" {
		do, err := ParseDo(c.Do)
		if err != nil {
			return Question{}, err
		}
		q.Do = &do
	}
	return q, nil
}

func (c Case) protocol(p *Effective) Protocol {
	switch c.Protocol {
	case "sftp", "ftps-implicit", "ftp":
		return Protocol(c.Protocol)
	case "ftps", "ftps-explicit":
		return FTPS
	}
	switch c.Port {
	case 21:
		return FTPS
	case 990:
		return FTPSImplicit
	}
	if c.Port == 0 && len(p.Protocols) > 0 && (c.TLS == "" || p.Protocols[0] != SFTP) {
		return p.Protocols[0]
	}
	if c.TLS != "" && c.Port == 0 {
		return FTPS
	}
	return SFTP
}

// Result of a test of the document.
type Result struct {
	Test   Test
	OK     bool
	Denial *Denial // what was decided; nil = allowed
	Fault  string  // why the test cannot be run
}

// Got says in words what was decided.
func (r Result) Got() string {
	switch {
	case r.Fault != "":
		return r.Fault
	case r.Denial == nil:
		return "allowed"
	}
	return "refused, " + r.Denial.Code + " by " + r.Denial.Rule + " of " + r.Denial.Origin
}

// RunTests runs the tests: block of a document.
func RunTests(d *Document, revision uint64, now time.Time) []Result {
	var list []Result
	for _, t := range d.tests {
		p := resolve(d, t.Account, revision)
		r := Result{Test: t}
		q, err := CaseOf(t).Question(p, now)
		if err != nil {
			r.Fault = err.Error()
			list = append(list, r)
			continue
		}
		r.Denial = Explain(p, q, now).Denial
		r.OK = (r.Denial == nil) == (t.Expect == "allowed") && (t.Code == "" || r.Denial != nil && r.Denial.Code == t.Code)
		list = append(list, r)
	}
	return list
}

// Text of a test, as it stands in a document.
func (t Test) Text() string { return t.render() }
