package sftpd

import (
	"slices"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/crypto/approved"
	"sallyport/policy"
)

func TestJudged(t *testing.T) {
	t.Parallel()
	gcm := ssh.DirectionAlgorithms{Cipher: ssh.CipherAES128GCM}
	etm := ssh.DirectionAlgorithms{Cipher: ssh.CipherAES256CTR, MAC: ssh.HMACSHA256ETM}
	plain := ssh.DirectionAlgorithms{Cipher: ssh.CipherAES256CTR, MAC: ssh.HMACSHA256}
	type agreed struct {
		kex         string
		read, write ssh.DirectionAlgorithms
		want        string
	}
	table := []agreed{
		{ssh.KeyExchangeMLKEM768X25519, gcm, gcm, "modern"},
		{ssh.KeyExchangeCurve25519, etm, gcm, "modern"},
		{ssh.KeyExchangeECDHP256, gcm, gcm, "compatible"},
		{ssh.KeyExchangeCurve25519, plain, etm, "compatible"},
		{ssh.KeyExchangeCurve25519, etm, plain, "compatible"},
	}
	if approved.Only() { // the NIST curves are the modern ones there
		table = []agreed{
			{ssh.KeyExchangeECDHP256, etm, etm, "modern"}, {ssh.KeyExchangeECDHP521, etm, etm, "modern"},
			{ssh.KeyExchangeECDHP256, plain, etm, "compatible"}, {ssh.KeyExchangeCurve25519, etm, etm, "legacy-insecure"}, // offered in no profile
		}
	}
	for _, c := range table {
		if got := judged(ssh.NegotiatedAlgorithms{KeyExchange: c.kex, Read: c.read, Write: c.write}); got != c.want {
			t.Errorf("%s, %v, %v: %s, want %s", c.kex, c.read, c.write, got, c.want)
		}
	}
}

// The session manager knows what protects the connection before it is asked to let anybody in.
func TestProfileIsToldBeforeTheLogin(t *testing.T) {
	t.Parallel()
	g := &fakeGate{deny: policy.Deny(policy.CodeCipher, "test", "test")}
	r := newRig(t, g, Limits{})
	if _, err := r.dialErr(); err == nil {
		t.Fatal("let in")
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if !slices.ContainsFunc(g.facts, func(f policy.Facts) bool { return f.Profile == "modern" && f.Cipher != "" && f.Method == "" }) {
		t.Errorf("facts %+v", g.facts)
	}
}
