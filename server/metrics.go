package server

import (
	"fmt"
	"net/http"
	"time"
)

// metrics are in the Prometheus text format. Labels have bounded values only;
// never text that a client or an account supplied.
func (s *Server) metrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	gauge := func(name, help string, value float64) {
		fmt.Fprintf(w, "# HELP %s %s\n# TYPE %s gauge\n%s %g\n", name, help, name, name, value)
	}
	ready := 0.0
	if *s.state.Load() == "ready" && s.parts.audit.Err() == nil {
		ready = 1
	}
	gauge("sallyport_ready", "1 when logins are possible.", ready)
	gauge("sallyport_uptime_seconds", "Seconds since the start.", time.Since(s.started).Seconds())
	n := s.parts.sessions.Counts()
	gauge("sallyport_connections", "Open connections.", float64(n.Connections))
	gauge("sallyport_connections_unauthenticated", "Open connections before login.", float64(n.Unauthenticated))
	gauge("sallyport_sessions", "Live sessions.", float64(n.Sessions))
	gauge("sallyport_bans", "Banned addresses.", float64(n.Bans))
	gauge("sallyport_accounts", "Accounts.", float64(len(s.parts.keyring.Accounts())))
	gauge("sallyport_policy_revision", "Revision of the policy in force.", float64(s.parts.policy.Current().N))
	audit := 1.0
	if s.parts.audit.Err() != nil {
		audit = 0
	}
	gauge("sallyport_audit_writable", "0 when the audit log cannot be written and everything is refused.", audit)
	for _, c := range s.certs.List() {
		gauge("sallyport_certificate_expiry_seconds", "Seconds until the first certificate expires.", time.Until(c.NotAfter).Seconds())
		break
	}
}
