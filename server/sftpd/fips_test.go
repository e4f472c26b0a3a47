package sftpd

import (
	"slices"
	"testing"

	"golang.org/x/crypto/ssh"

	"sallyport/crypto/approved/approvedtest"
)

func TestUnderFIPS(t *testing.T) {
	t.Parallel()
	approvedtest.Run(t, 1)
}

// Everything that is offered works: a client can insist on any one of it, in either profile.
func TestFIPSEverythingOfferedWorks(t *testing.T) {
	approvedtest.Need(t)
	r := newRig(t, &fakeGate{}, Limits{})
	for _, name := range []string{"modern", "compatible"} {
		p, err := profileNamed(name)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(p.keyExchanges, []string{"ecdh-sha2-nistp256", "ecdh-sha2-nistp384", "ecdh-sha2-nistp521"}) ||
			!slices.Equal(p.ciphers, []string{"aes128-ctr", "aes192-ctr", "aes256-ctr"}) {
			t.Errorf("%s: docs/FIPS.md names other algorithms than %v and %v", name, p.keyExchanges, p.ciphers)
		}
	}
	p := modern().allowed()
	try := func(kex, cipher, mac string, want bool) {
		t.Helper()
		c := r.config()
		c.KeyExchanges, c.Ciphers, c.MACs = []string{kex}, []string{cipher}, []string{mac}
		cl, err := ssh.Dial("tcp", r.addr, c)
		if (err == nil) != want {
			t.Errorf("%s, %s, %s: %v", kex, cipher, mac, err)
		}
		if err == nil {
			cl.Close()
		}
	}
	for _, kex := range p.keyExchanges {
		for _, cipher := range p.ciphers {
			for _, mac := range p.macs {
				try(kex, cipher, mac, true)
			}
		}
	}
	try(p.keyExchanges[0], ssh.CipherAES128GCM, p.macs[0], false)
	try(ssh.KeyExchangeMLKEM768X25519, p.ciphers[0], p.macs[0], false)
}
