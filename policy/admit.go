package policy

import (
	"slices"
	"strings"
	"time"
)

// Admit decides on a connection: at connect, at USER, at login, and again on every change. Stages whose facts are not
// yet known are left out; once f.Method is known the login is complete and what is unknown counts as not fulfilled.
func Admit(p *Effective, f Facts, now time.Time) *Denial {
	for s := StageListener; s <= StageSession; s++ {
		if s == StageAuth && f.Method == "" {
			return nil
		}
		if d := p.at(s, &f, now); d != nil {
			return d
		}
	}
	return nil
}

// at decides on one stage. Explain asks for every stage, Admit until one refuses: so they cannot differ.
func (p *Effective) at(s Stage, f *Facts, now time.Time) *Denial {
	switch s {
	case StageListener:
		return admitListener(p, f, now)
	case StageAddress:
		return admitAddress(p, f)
	case StageTransport:
		return admitTransport(p, f, now, f.plain())
	case StageAuth:
		return admitMethod(p, f)
	case StageSecondFactor:
		return admitSecondFactor(p, f)
	case StageSession:
		return admitSession(p, f, now)
	}
	return nil
}

// AdmitUser decides at USER, before a secret is sent: whether the transport is good enough to send one. An FTP
// connection that has not begun TLS counts as plain here.
func AdmitUser(p *Effective, f Facts, now time.Time) *Denial {
	return admitTransport(p, &f, now, f.plain() || (f.Protocol != SFTP && !f.TLS))
}

// plain says whether what the client sends can be read on the way. Before a login an FTPS client may still begin TLS.
func (f *Facts) plain() bool {
	return f.Protocol == FTP || (f.Method != "" && f.Protocol != SFTP && !f.TLS)
}

func admitListener(p *Effective, f *Facts, now time.Time) *Denial {
	if p.Account == "" || f.Protocol == "" || slices.Contains(p.Protocols, f.Protocol) {
		return nil
	}
	if f.plain() { // the transport stage decides, and an exception is the grant
		return nil
	}
	return p.deny(CodeProtocol, "protocols")
}

func admitAddress(p *Effective, f *Facts) *Denial {
	a := f.Remote.Addr()
	if !a.IsValid() && f.Method == "" {
		return nil
	}
	a = a.Unmap()
	for _, n := range p.DenyFrom {
		if n.contains(a) {
			return deny(CodeDenied, "deny_from", n.Origin.String())
		}
	}
	for _, n := range p.AllowFrom {
		if !n.contains(a) {
			return deny(CodeNotAllowed, "allow_from", n.Origin.String())
		}
	}
	return nil
}

func admitTransport(p *Effective, f *Facts, now time.Time, plain bool) *Denial {
	if f.Protocol == SFTP {
		if s := Lookup("transport.ciphers"); p.Account != "" && f.Profile != "" && s.rank(f.Profile) < s.rank(p.Transport.Ciphers) {
			return p.deny(CodeCipher, "transport.ciphers")
		}
		return nil
	}
	if plain {
		return admitPlain(p, f, now)
	}
	if !f.TLS {
		return nil
	}
	if p.Account == "" {
		return nil // an account may ask for less than the site does: who it is decides, at USER
	}
	if f.TLSVersion != 0 && f.TLSVersion < p.Transport.TLSMin {
		return p.deny(CodeTLSVersion, "transport.tls_min")
	}
	if f.Cipher != "" && !cipherFits(p.Transport.Ciphers, f.Cipher) {
		return p.deny(CodeCipher, "transport.ciphers")
	}
	return nil
}

// admitPlain: only a dated exception lets FTP without TLS in.
func admitPlain(p *Effective, f *Facts, now time.Time) *Denial {
	for i := range p.Exceptions {
		if e := &p.Exceptions[i]; e.matches(f.Remote.Addr().Unmap(), now) {
			return nil
		}
	}
	d := p.deny(CodeSSLRequired, "transport.require_ssl")
	for i := range p.Exceptions {
		e := &p.Exceptions[i]
		if !now.Before(e.end()) {
			d.Rule += "; the exception at line " + itoa(e.Pos.Line) + " ended on " + e.Until.Format(time.DateOnly)
		} else {
			d.Rule += "; the exception at line " + itoa(e.Pos.Line) + " is for other networks"
		}
	}
	return d
}

// cipherFits judges names of crypto/tls.CipherSuiteName.
func cipherFits(profile, name string) bool {
	forward := strings.HasPrefix(name, "TLS_ECDHE_")
	aead := strings.Contains(name, "_GCM_") || strings.Contains(name, "_CHACHA20_POLY1305")
	tls13 := strings.HasPrefix(name, "TLS_AES_") || strings.HasPrefix(name, "TLS_CHACHA20_")
	switch profile {
	case "legacy-insecure":
		return true
	case "compatible":
		return tls13 || forward && !strings.Contains(name, "RC4") && !strings.Contains(name, "3DES")
	}
	return tls13 || forward && aead
}

// admitMethod and what follows are for accounts that have proved themselves.
func admitMethod(p *Effective, f *Facts) *Denial {
	if slices.Contains(p.Auth.Methods(f.Protocol), f.Method) {
		return nil
	}
	if f.Protocol == SFTP {
		return p.deny(CodeMethod, "auth.sftp")
	}
	return p.deny(CodeMethod, "auth.ftps")
}

func admitSecondFactor(p *Effective, f *Facts) *Denial {
	if wanted, by := p.Auth.Wants2FA(f.Protocol); wanted && !f.SecondFactor {
		return p.deny(CodeSecondFactor, by)
	}
	return nil
}

func admitSession(p *Effective, f *Facts, now time.Time) *Denial {
	if d := p.admitHours(now); d != nil {
		return d
	}
	if f.Sessions >= p.Session.Max {
		return p.deny(CodeSessions, "session.max")
	}
	if p.Session.Idle > 0 && !f.LastActive.IsZero() && now.Sub(f.LastActive) >= p.Session.Idle {
		return p.deny(CodeIdle, "session.idle")
	}
	if p.Session.MaxAge > 0 && !f.Since.IsZero() && now.Sub(f.Since) >= p.Session.MaxAge {
		return p.deny(CodeMaxAge, "session.max_age")
	}
	return nil
}

// deny names the setting with its value and origin.
func (p *Effective) deny(code, path string) *Denial {
	text, origin := p.Value(path)
	return deny(code, path+" = "+text, origin.String())
}

// Deny makes a denial for a setting of this policy.
func (p *Effective) Deny(code, path string) *Denial { return p.deny(code, path) }
