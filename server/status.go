package server

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"sallyport/crypto/approved"
	"sallyport/crypto/keyring"
	"sallyport/policy"
	"sallyport/server/admin"
)

// listeners are the open doors with their real addresses.
func (s *Server) listeners() []admin.Listener {
	var out []admin.Listener
	for _, b := range s.open {
		out = append(out, admin.Listener{Protocol: b.protocol, Address: b.Addr().String()})
	}
	return out
}

// sealKind is what seals the root now, which may be another seal than the configuration names for new states.
func (s *Server) sealKind() string {
	info, err := keyring.ReadSeal(s.config.State.Dir)
	switch {
	case err != nil:
		return "unknown: " + err.Error()
	case info.Kind == keyring.KindKeyFile:
		file := s.config.KeyFile()
		if p := s.life.whole(); p != nil {
			file = cmp.Or(p.keyring.KeyFileInForce(), file) // opened by a recovery kit, it has none
		}
		return info.Kind + " " + filepath.Base(file)
	}
	return info.Kind
}

func (s *Server) status() admin.Status {
	st := admin.Status{
		Version: s.o.Version, PID: os.Getpid(), State: string(s.life.now()), Sealed: s.life.sealedState(), Started: s.started, StateDir: s.config.State.Dir,
		FIPS140: approved.Mode(), Seal: s.sealKind(), Listeners: s.listeners(),
	}
	if p := s.life.whole(); p != nil {
		st.Revision, st.Sessions = p.policy.Current().N, p.sessions.Counts().Sessions
		st.Accounts = len(p.keyring.Accounts())
		held, all, missing := policy.Score(p.policy.Current().Document)
		st.Maximum = &admin.Score{Held: held, Of: all, Missing: missing}
		st.Copies = p.copies()
		late, _ := s.config.Copies.advice(st.Copies, false, time.Now())
		st.Warnings = append(st.Warnings, late...)
		st.Audit = p.auditWarnings()
		st.Warnings = append(st.Warnings, st.Audit...)
		if st.Clock = p.clockWarning(); st.Clock != "" {
			st.Warnings = append(st.Warnings, st.Clock)
		}
	}
	if os.Geteuid() == 0 {
		st.Warnings = append(st.Warnings, "the server runs as root; "+adviceRoot)
	}
	if text, _ := s.config.Algorithms.advice(time.Now()); text != "" {
		st.Warnings = append(st.Warnings, text)
	}
	for _, c := range s.certs.List() {
		if left := time.Until(c.NotAfter); left < certWarnBefore {
			st.Warnings = append(st.Warnings, fmt.Sprintf("certificate %s expires %s", c.File, c.NotAfter.Format(time.DateOnly)))
		}
	}
	return st
}
