package server

import (
	"fmt"
	"io"
	"net/http"
	"time"

	"sallyport/server/clock"
)

// metrics are in the Prometheus text format. Labels have bounded values only;
// never text that a client or an account supplied.
func (s *Server) metrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	m := exposition{w}
	p := s.life.whole() // nil while sealed: what needs keys is left out then
	s.processMetrics(m, p)
	s.sessionMetrics(m)
	s.frontEndMetrics(m)
	if p != nil {
		storeMetrics(m, p)
		copyMetrics(m, p.copies(), time.Now())
	}
}

// exposition writes families of metrics. That the reader went away is nobody's error.
type exposition struct{ w io.Writer }

// sample is one value of a family; label is empty or written as name="value".
type sample struct {
	label string
	value float64
}

func (m exposition) family(kind, name, help string, samples ...sample) {
	fmt.Fprintf(m.w, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
	for _, s := range samples {
		label := s.label
		if label != "" {
			label = "{" + label + "}"
		}
		fmt.Fprintf(m.w, "%s%s %g\n", name, label, s.value)
	}
}

// gauge goes up and down; counter only grows until the next start.
func (m exposition) gauge(name, help string, v float64) {
	m.family("gauge", name, help, sample{value: v})
}
func (m exposition) counter(name, help string, v float64) {
	m.family("counter", name, help, sample{value: v})
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func (s *Server) processMetrics(m exposition, p *parts) {
	m.gauge("sallyport_ready", "1 when logins are possible.", truth(s.life.now() == phaseReady && p != nil && p.audit.Err() == nil))
	m.gauge("sallyport_sealed", "1 while the server has no keys.", truth(p == nil))
	m.gauge("sallyport_legacy_insecure", "1 while the listeners offer insecure algorithms (algorithms.profile legacy-insecure).", truth(s.config.Algorithms.offersLegacy(time.Now())))
	m.gauge("sallyport_uptime_seconds", "Seconds since the start.", time.Since(s.started).Seconds())
	if p != nil {
		m.gauge("sallyport_accounts", "Accounts.", float64(len(p.keyring.Accounts())))
		m.gauge("sallyport_policy_revision", "Revision of the policy in force.", float64(p.policy.Current().N))
	}
	for _, c := range s.certs.List() {
		m.gauge("sallyport_certificate_expiry_seconds", "Seconds until the first certificate expires.", time.Until(c.NotAfter).Seconds())
		break
	}
}

func (s *Server) sessionMetrics(m exposition) {
	sessions := s.door.to.Load()
	if sessions == nil {
		return
	}
	n := sessions.Counts()
	m.gauge("sallyport_connections", "Open connections.", float64(n.Connections))
	m.gauge("sallyport_connections_unauthenticated", "Open connections before login.", float64(n.Unauthenticated))
	m.gauge("sallyport_sessions", "Live sessions.", float64(n.Sessions))
	m.gauge("sallyport_bans", "Banned addresses.", float64(n.Bans))
}

func (s *Server) frontEndMetrics(m exposition) {
	f, t := s.ftp.Stats(), s.sftp.Stats()
	both := func(ftps uint64, sftp int64) []sample {
		return []sample{{`front_end="ftps"`, float64(ftps)}, {`front_end="sftp"`, float64(sftp)}}
	}
	m.family("counter", "sallyport_accepted_total", "Connections accepted.", both(f.Connections, t.Accepted)...)
	m.family("counter", "sallyport_turned_away_total", "Connections refused by a limit, a ban or the policy before login.", both(f.Refused, t.TurnedAway)...)
	m.counter("sallyport_sftp_failed_total", "SSH handshakes and logins that came to nothing.", float64(t.Failed))
	m.counter("sallyport_sftp_aes_steered_total", "SSH connections for which AES-GCM was chosen.", float64(t.Steered))
	m.counter("sallyport_ftps_handshake_failures_total", "TLS handshakes of control connections that failed.", float64(f.HandshakeFailures))
	m.family("counter", "sallyport_ftps_anomalies_total", "What honest FTP clients on a healthy network do not do.",
		sample{`kind="plaintext-behind-auth-tls"`, float64(f.Injections)},
		sample{`kind="overlong-line"`, float64(f.OverlongLines)},
		sample{`kind="data-from-another-address"`, float64(f.ForeignData)},
		sample{`kind="data-not-resumed"`, float64(f.Unbound)},
		sample{`kind="upload-without-close-notify"`, float64(f.Truncated)},
		sample{`kind="transfer-stalled"`, float64(f.Stalled)})
	m.counter("sallyport_ftps_panics_total", "FTPS sessions ended by a defect of the server: report it.", float64(f.Panics))
}

func storeMetrics(m exposition, p *parts) {
	if p.scrub != nil {
		st := p.scrub.now()
		m.counter("sallyport_scrub_volumes_total", "Volumes verified in the background.", float64(st.Volumes))
		m.counter("sallyport_scrub_bytes_total", "Bytes of files read by the verification in the background.", float64(st.Bytes))
		m.counter("sallyport_scrub_findings_total", "Findings of the verification in the background: look into the log.", float64(st.Findings))
		m.gauge("sallyport_scrub_damaged_volumes", "Volumes with findings in the last round.", float64(st.Damaged))
	}
	v := p.volumes.Totals()
	m.gauge("sallyport_volumes_open", "Volumes that are open.", float64(v.Volumes))
	m.gauge("sallyport_volumes_refused", "Volumes that do not open because they are damaged: their accounts cannot log in.", float64(v.Refused))
	m.gauge("sallyport_file_handles", "Open files of all sessions.", float64(v.Handles))
	m.gauge("sallyport_uploads", "Uploads under way.", float64(v.Drafts))
	m.gauge("sallyport_window_bytes", "Bytes of uploads not yet on disk; at most three quarters of limits.window_memory.", float64(v.DirtyBytes))
	m.gauge("sallyport_cache_bytes", "Decrypted bytes held for reading; at most a quarter of limits.window_memory.", float64(v.CachedBytes))
	m.counter("sallyport_integrity_errors_total", "Reads that met damaged or exchanged data.", float64(v.Damaged))
	m.counter("sallyport_purged_total", "Superseded names and versions purged.", float64(v.Purged))
	r := p.retention.Stats()
	m.gauge("sallyport_retention_due_accounts", "Accounts in which something is past retention and grace and not destroyed yet.", float64(r.Due))
	m.gauge("sallyport_retention_overdue_seconds", "How long the oldest of it has been so; more than a minute or two means that retention lags.", r.Overdue.Seconds())
	m.gauge("sallyport_retention_unknown_accounts", "Accounts that were not looked into yet since the start.", float64(r.Unknown))
	m.counter("sallyport_retention_items_total", "Names and versions destroyed because policy let them go.", float64(r.Purged))
	m.counter("sallyport_retention_bytes_total", "Bytes of them.", float64(r.Bytes))
	m.counter("sallyport_retention_failures_total", "Accounts that could not be looked into or purged; they are tried again.", float64(r.Failures))
	m.family("counter", "sallyport_housekeeping_files_total", "Files folded and repacked.",
		sample{`kind="folded"`, float64(v.Folded)}, sample{`kind="repacked"`, float64(v.Repacked)})
	m.counter("sallyport_housekeeping_bytes_total", "Bytes copied by folding and repacking.", float64(v.Copied))
	m.counter("sallyport_housekeeping_swept_total", "Key records that nothing relied on: a defect leaves them.", float64(v.Swept))
	c := p.clock.State()
	m.gauge("sallyport_clock_trusted", "0 while the system's clock is not believed: `sallyport backup clock` says why, and what to do.", truth(c.Status == clock.Trusted))
	m.gauge("sallyport_clock_ahead_seconds", "How far the system's clock is ahead of the time that history is kept by.", c.Offset.Seconds())
	m.gauge("sallyport_clock_unproven_seconds", "How much time was believed because the system's clock said so, and not made up for by time that was counted; at most clock.max_off.", c.Unproven.Seconds())
	m.gauge("sallyport_clock_record_read", "0 while the record of the last known time is there and cannot be used; it is not overwritten.", truth(c.Unread == ""))
	a := p.audit.Stats()
	m.gauge("sallyport_audit_writable", "0 when the audit log cannot be written; everything is refused then, unless audit.on_failure says otherwise.", truth(p.audit.Failure() == nil))
	m.gauge("sallyport_audit_signed", "Number of the last audit record that a signed checkpoint covers.", float64(a.Signed))
	m.gauge("sallyport_audit_reserve_bytes", "Disk space that only the audit log can use.", float64(a.Reserved))
	m.counter("sallyport_audit_lost_total", "Audit records that could not be written; only with audit.on_failure: continue.", float64(a.Lost))
	m.gauge("sallyport_audit_records", "Durable records of the audit log.", float64(a.Records))
	m.gauge("sallyport_audit_queued", "Audit records that wait for the disk.", float64(a.Queued))
}
