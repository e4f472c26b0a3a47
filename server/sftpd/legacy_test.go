package sftpd

import (
	"crypto/rand"
	"crypto/rsa"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"

	"sallyport/crypto/approved"
	"sallyport/policy"
)

// sha1Only signs with an RSA key over SHA-1 and nothing else, as clients do that nobody updates.
func sha1Only(t *testing.T) ssh.Signer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, minRSA)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	old, err := ssh.NewSignerWithAlgorithms(s.(ssh.AlgorithmSigner), []string{ssh.KeyAlgoRSA})
	if err != nil {
		t.Fatal(err)
	}
	return old
}

// An old client comes in while legacy-insecure is offered, is told apart from others before it logs in, and no longer comes in
// once the day has passed. A modern client is served as ever.
func TestLegacyIsOfferedUntilItsEnd(t *testing.T) {
	t.Parallel()
	if approved.Only() {
		t.Skip("FIPS 140-3 leaves nothing of this profile: docs/FIPS.md")
	}
	g := &fakeGate{}
	var open atomic.Bool
	r := newRigWith(t, g, Options{Profile: legacyName, Legacy: open.Load})
	old := sha1Only(t)
	g.mu.Lock()
	g.keys = append(g.keys, old.PublicKey())
	g.mu.Unlock()

	dial := func(change func(*ssh.ClientConfig)) (profile string, err error) {
		c := r.config()
		change(c)
		g.mu.Lock()
		g.facts = nil
		g.mu.Unlock()
		cl, err := ssh.Dial("tcp", r.addr, c)
		if err != nil {
			return "", err
		}
		defer cl.Close()
		// The client is told of success before the server judges it for the last time; what comes first of a session waits for that.
		if _, err := sftp.NewClient(cl); err != nil {
			return "", err
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		i := slices.IndexFunc(g.facts, func(f policy.Facts) bool { return f.Profile != "" && f.Method == "" })
		last := g.facts[len(g.facts)-1]
		if i < 0 || last.Method == "" {
			t.Fatalf("facts %+v", g.facts)
		}
		return last.Profile, nil
	}
	offers := map[string]func(*ssh.ClientConfig){
		"group14-sha1": func(c *ssh.ClientConfig) { c.KeyExchanges = []string{ssh.InsecureKeyExchangeDH14SHA1} },
		"aes128-cbc": func(c *ssh.ClientConfig) {
			c.Ciphers, c.MACs = []string{ssh.InsecureCipherAES128CBC}, []string{ssh.HMACSHA256}
		},
		"3des-cbc":      func(c *ssh.ClientConfig) { c.Ciphers = []string{ssh.InsecureCipherTripleDESCBC} },
		"hmac-sha1":     func(c *ssh.ClientConfig) { c.Ciphers, c.MACs = []string{ssh.CipherAES128CTR}, []string{ssh.HMACSHA1} },
		"ssh-rsa (key)": func(c *ssh.ClientConfig) { c.Auth = []ssh.AuthMethod{ssh.PublicKeys(old)} },
	}
	for _, on := range []bool{true, false} {
		open.Store(on)
		for name, change := range offers {
			profile, err := dial(change)
			if (err == nil) != on {
				t.Errorf("%s while offered=%v: %v", name, on, err)
			}
			if on && profile != legacyName {
				t.Errorf("%s was judged as %q", name, profile)
			}
		}
		if profile, err := dial(func(*ssh.ClientConfig) {}); err != nil || profile != "modern" {
			t.Errorf("a modern client while offered=%v: %q %v", on, profile, err)
		}
		if _, err := dial(func(c *ssh.ClientConfig) { c.KeyExchanges = []string{ssh.InsecureKeyExchangeDH1SHA1} }); err == nil {
			t.Error("the 1,024-bit group was offered")
		}
		if _, err := dial(func(c *ssh.ClientConfig) { c.Ciphers = []string{ssh.InsecureCipherRC4128} }); err == nil {
			t.Error("RC4 was offered")
		}
	}
}
