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
	if *s.state.Load() == "ready" {
		ready = 1
	}
	gauge("sallyport_ready", "1 when logins are possible.", ready)
	gauge("sallyport_uptime_seconds", "Seconds since the start.", time.Since(s.started).Seconds())
	for _, c := range s.certs.List() {
		gauge("sallyport_certificate_expiry_seconds", "Seconds until the first certificate expires.", time.Until(c.NotAfter).Seconds())
		break
	}
}
