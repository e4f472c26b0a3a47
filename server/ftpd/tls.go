package ftpd

import (
	"crypto/tls"
	"errors"
	"sync"
)

// errNotResumed: the data connection's TLS session is not the control connection's, so it may be anybody's.
var errNotResumed = errors.New("ftpd: data connection does not resume the TLS session of the control connection")

// modernSuites are what TLS 1.2 clients get: forward secrecy and an AEAD. RFC 9325, section 4.2.
func modernSuites() []uint16 {
	return []uint16{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
	}
}

// compatibleSuites add AES-CBC for clients of ten years ago. Named, not left to the library: its own choice depends on GODEBUG.
func compatibleSuites() []uint16 {
	return append(modernSuites(),
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA,
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA, tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA)
}

// legacyName is the profile that is offered until a date only.
const legacyName = "legacy-insecure"

// legacySuites add what has no forward secrecy, and 3DES: for devices that nobody updates. RC4 stays out (RFC 7465), as do TLS
// 1.0 and 1.1 (RFC 8996). RSA key exchange needs a certificate with an RSA key.
func legacySuites() []uint16 {
	return append(compatibleSuites(),
		tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_AES_256_CBC_SHA,
		tls.TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA, tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA)
}

// suites are what a handshake that begins now is offered.
func (o *Options) suites() []uint16 {
	switch {
	case o.Ciphers == "compatible":
		return compatibleSuites()
	case o.Ciphers == legacyName && o.Legacy():
		return legacySuites()
	}
	return modernSuites()
}

// baseConfig is common to the control connection and its data connections.
func (c *conn) baseConfig() *tls.Config {
	return &tls.Config{
		GetCertificate:   c.srv.o.Certificate,
		MinVersion:       tls.VersionTLS12,
		CipherSuites:     c.srv.o.suites(),
		CurvePreferences: []tls.CurveID{tls.X25519MLKEM768, tls.X25519, tls.CurveP256, tls.CurveP384},
	}
}

// controlConfig issues tickets for data connections. No ticket opens a control connection: who logs in does a full handshake.
func (c *conn) controlConfig() *tls.Config {
	cfg := c.baseConfig()
	if c.visitor.WantsCertificate() {
		cfg.ClientAuth = tls.RequestClientCert // whether it is good, and for whom, is known at PASS
	}
	c.seal(cfg, func(origin) bool { return false })
	return cfg
}

// dataConfig makes the TLS configurations of a connection's data connections, and remembers whether its client can resume.
// Policy transport.ftps_session_binding: off; prefer (once a data connection resumed, every later one must: a client that can
// does, so one that does not is somebody else; a ticket of any session of the account from the same address will do);
// require (always, and the ticket must be of this very session).
type dataConfig struct {
	c *conn

	mu           sync.Mutex // guards what follows
	resumed      bool       // a data connection has resumed
	exact        bool       // policy is "require"
	free, strict *tls.Config
}

// config returns the configuration for the next data connection under a binding mode, and whether it must resume.
func (d *dataConfig) config(binding string) (cfg *tls.Config, strict bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.exact = binding == "require"
	if d.exact || binding == "prefer" && d.resumed {
		if d.strict == nil {
			d.strict = d.make()
			// Only resumed handshakes come through, and theirs mixes in the secret of the control session (psk_dhe_ke), which
			// is post-quantum if the client can: the cheap exchange alone is enough for forward secrecy against today's
			// machines.
			d.strict.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP256}
		}
		return d.strict, true
	}
	if d.free == nil {
		d.free = d.make()
	}
	return d.free, false
}

func (d *dataConfig) make() *tls.Config {
	cfg := d.c.baseConfig()
	if d.c.chain != nil {
		cfg.ClientAuth = tls.RequestClientCert // crypto/tls resumes no session with a certificate without it
	}
	d.c.seal(cfg, d.accepts)
	cfg.DynamicRecordSizingDisabled = true // bulk data: full records from the first byte
	return cfg
}

func (d *dataConfig) accepts(o origin) bool {
	d.mu.Lock()
	exact := d.exact
	d.mu.Unlock()
	if exact {
		return d.c.owns(o)
	}
	return d.c.related(o)
}

// judge says whether a data connection whose handshake is done may carry data. Refusing here, and not within the handshake,
// lets clients see the reply that names the reason instead of a TLS alert that names none (OpenSSL calls it a bad certificate).
func (d *dataConfig) judge(s tls.ConnectionState, strict bool) error {
	if !s.DidResume {
		if strict {
			return errNotResumed
		}
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.resumed = true
	return nil
}
