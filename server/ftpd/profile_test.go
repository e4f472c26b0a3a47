package ftpd

import (
	"bufio"
	"crypto/tls"
	"slices"
	"strings"
	"testing"

	"sallyport/crypto/approved"
	"sallyport/policy"
)

// secureWith is secure for a client that offers one TLS 1.2 suite only.
func (h *host) secureWith(t *testing.T, suite uint16) (*client, error) {
	t.Helper()
	c := h.dial()
	c.t = t
	c.expect(220)
	c.cmd(234, "AUTH TLS")
	cfg := c.tls.Clone()
	cfg.MaxVersion, cfg.CipherSuites = tls.VersionTLS12, []uint16{suite}
	conn := tls.Client(c.raw, cfg)
	if err := conn.Handshake(); err != nil {
		return nil, err
	}
	c.tls, c.conn, c.r = cfg, conn, bufio.NewReader(conn)
	return c, nil
}

// The profile of the listener decides what a TLS 1.2 client is offered. CBC is the whole difference; what lacks forward
// secrecy is offered by neither.
func TestProfilesOfferTLS12(t *testing.T) {
	t.Parallel()
	suites := map[uint16][]string{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256:       {"modern", "compatible", legacyName},
		tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256: {"modern", "compatible", legacyName},
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA:          {"compatible", legacyName},
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA:          {"compatible", legacyName},
		tls.TLS_ECDHE_ECDSA_WITH_RC4_128_SHA:              nil,
	}
	if approved.Only() { // what is left: docs/FIPS.md
		for suite := range suites {
			if suite != tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 {
				suites[suite] = nil
			}
		}
	}
	for _, profile := range []string{"", "modern", "compatible", legacyName} {
		h := start(t, Explicit, func(o *Options) { o.Ciphers, o.Legacy = profile, func() bool { return true } })
		for suite, in := range suites {
			t.Run(profile+" "+tls.CipherSuiteName(suite), func(t *testing.T) {
				want := slices.Contains(in, profile) || profile == "" && slices.Contains(in, "modern")
				c, err := h.secureWith(t, suite)
				if (err == nil) != want {
					t.Fatalf("handshake: %v; offered should be %v", err, want)
				}
				if want {
					c.cmd(331, "USER alice")
				}
			})
		}
	}
	for _, suite := range compatibleSuites() {
		if name := tls.CipherSuiteName(suite); !strings.HasPrefix(name, "TLS_ECDHE_") {
			t.Errorf("%s has no forward secrecy", name)
		}
	}
	if _, err := New(Options{backend: newFake(), Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, nil }, Ciphers: legacyName}); err == nil {
		t.Error("the legacy profile was accepted without an end")
	}
}

// What the listener lets through the policy of the account may still refuse: at USER, before a password is sent, with the
// code that leads the operator to the rule.
func TestRealPolicyRefusesAfterTheHandshake(t *testing.T) {
	t.Parallel()
	h := startReal(t, Explicit, func(o *Options) { o.Ciphers = "compatible" })
	const cbc, gcm = tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
	alice := policy.AccountTarget("alice")
	user := func(suite uint16, code int, says string) *client {
		t.Helper()
		c, err := h.secureWith(t, suite)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.cmd(code, "USER alice"); !strings.Contains(got, says) {
			t.Errorf("%s: %q does not say %q", tls.CipherSuiteName(suite), got, says)
		}
		return c
	}
	user(gcm, 331, "").cmd(230, "PASS "+realSecret)
	if approved.Only() { // no weak suite is left for the policy to refuse
		if _, err := h.secureWith(t, cbc); err == nil {
			t.Error("AES-CBC was negotiated under fips140=only")
		}
	} else {
		h.weakSuites(t, user)
	}

	h.set(alice, "transport.tls_min", `"1.3"`)
	user(gcm, 530, "This TLS version is too old for this account. Use a client with a newer TLS version. [SP-T22]").cmd(503, "PASS "+realSecret)
	h.dial().login().cmd(221, "QUIT") // TLS 1.3
	h.set(policy.Site, "transport.tls_min", `"1.3"`)
	h.set(alice, "transport.tls_min", `"1.2"`)
	user(gcm, 331, "").cmd(230, "PASS "+realSecret)
}

// weakSuites is the part about suites that only the compatible profile has.
func (h *house) weakSuites(t *testing.T, user func(suite uint16, code int, says string) *client) {
	t.Helper()
	const cbc = tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA
	alice := policy.AccountTarget("alice")
	user(cbc, 530, "too weak for this account. Use a client with modern ciphers. [SP-T23]").cmd(503, "PASS "+realSecret)
	if got := h.host.log.String(); strings.Contains(got, realSecret) {
		t.Error("the password is in the log")
	}

	h.set(alice, "transport.ciphers", "compatible") // looser than the site, for this account alone
	user(cbc, 331, "").cmd(230, "PASS "+realSecret)
	h.account("bob")
	c, err := h.secureWith(t, cbc)
	if err != nil {
		t.Fatal(err)
	}
	c.cmd(530, "USER bob")
}
