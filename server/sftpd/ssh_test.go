package sftpd

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/crypto/approved"
	"sallyport/policy"
	"sallyport/server/session"
)

func (r *rig) dialErr(auth ...ssh.AuthMethod) (*ssh.Client, error) {
	c, err := ssh.Dial("tcp", r.addr, r.config(auth...))
	if err == nil {
		r.t.Cleanup(func() { c.Close() })
	}
	return c, err
}

func TestKeyLogin(t *testing.T) {
	t.Parallel()
	g := &fakeGate{}
	r := newRig(t, g, Limits{})
	if _, err := r.dialErr(); err != nil {
		t.Errorf("with the account's key: %v", err)
	}
	if _, err := r.dialErr(ssh.PublicKeys(newKey(t))); err == nil {
		t.Error("a foreign key was let in")
	}
	if _, err := r.dialErr(ssh.PublicKeys(newKey(t), newKey(t), r.key)); err != nil {
		t.Errorf("with the right key as the third: %v", err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.logins != 2 {
		t.Errorf("%d logins were counted, want 2: an offered key is none", g.logins)
	}
}

// TestShortRSAKey: a key of 1024 bits is refused even where the account has it.
func TestShortRSAKey(t *testing.T) {
	t.Setenv("GODEBUG", "rsa1024min=0")
	g := &fakeGate{}
	r := newRig(t, g, Limits{})
	for bits, want := range map[int]bool{1024: false, 2048: true} {
		if bits < minRSA && approved.Only() {
			continue // no such key can be made there, nor sign
		}
		key, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		signer, err := ssh.NewSignerFromSigner(key)
		if err != nil {
			t.Fatal(err)
		}
		g.keys = append(g.keys, signer.PublicKey())
		if _, err := r.dialErr(ssh.PublicKeys(signer)); (err == nil) != want {
			t.Errorf("RSA of %d bits: %v", bits, err)
		}
	}
}

func TestKeyOffersAreBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t, &fakeGate{}, Limits{AuthTries: 4})
	var keys []ssh.Signer
	for range 20 {
		keys = append(keys, newKey(t))
	}
	if _, err := r.dialErr(ssh.PublicKeys(append(keys, r.key)...)); err == nil {
		t.Error("the 21st key was still looked at")
	}
	if _, err := r.dialErr(ssh.PublicKeys(append(keys[:3:3], r.key)...)); err != nil {
		t.Errorf("the 4th key: %v", err)
	}
}

// TestPasswordOnlyByPolicy: where the site has no passwords they are neither
// offered nor taken; an account that has them beyond the site's default is
// offered them, and an unknown account looks like the default.
func TestPasswordOnlyByPolicy(t *testing.T) {
	t.Parallel()
	key, both := []string{"publickey"}, []string{"publickey", "password"}
	for name, methods := range map[string][]string{"keys only": key, "passwords": both} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, &fakeGate{password: "correct horse", methods: methods}, Limits{})
			in := slices.Contains(methods, "password")
			if _, err := r.dialErr(ssh.Password("correct horse")); (err == nil) != in {
				t.Errorf("with the password: %v, want in = %v", err, in)
			}
			if _, err := r.dialErr(ssh.Password("wrong")); err == nil {
				t.Error("a wrong password was let in")
			}
			if _, err := r.dialErr(); err != nil {
				t.Errorf("with the key: %v", err)
			}
			for _, account := range []string{"demo", "nobody"} {
				if got := r.offered(account); !slices.Equal(got, methods) {
					t.Errorf("%s is offered %q, want %q", account, got, methods)
				}
			}
		})
	}
}

// offered returns the methods told to a client that tries none.
func (r *rig) offered(account string) []string {
	c := r.config(ssh.PublicKeys())
	c.User = account
	var seen []string
	c.Auth = []ssh.AuthMethod{
		ssh.PublicKeysCallback(func() ([]ssh.Signer, error) { seen = append(seen, "publickey"); return nil, nil }),
		ssh.PasswordCallback(func() (string, error) { seen = append(seen, "password"); return "", errors.New("none") }),
	}
	if cl, err := ssh.Dial("tcp", r.addr, c); err == nil {
		cl.Close()
	}
	return seen
}

// TestRefusalsAreExplained: a client that proved itself is told why it may not
// enter; one that did not is told nothing; at connect there is a line.
func TestRefusalsAreExplained(t *testing.T) {
	t.Parallel()
	banner := func(g *fakeGate, key ssh.Signer) string {
		r := newRig(t, g, Limits{})
		var got strings.Builder
		if key == nil {
			key = r.key
		}
		c := r.config(ssh.PublicKeys(key))
		c.BannerCallback = func(m string) error { got.WriteString(m); return nil }
		if cl, err := ssh.Dial("tcp", r.addr, c); err == nil {
			cl.Close()
			t.Error("let in")
		}
		return got.String()
	}
	denial := &policy.Denial{Code: "SP-A20", Message: "Your address is not allowed.", Rule: "secret rule"}
	if got := banner(&fakeGate{deny: denial}, nil); got != "Your address is not allowed. [SP-A20]\r\n" {
		t.Errorf("denial: %q", got)
	}
	if got := banner(&fakeGate{deny: session.ErrSealed}, nil); !strings.Contains(got, "sealed") {
		t.Errorf("sealed: %q", got)
	}
	if got := banner(&fakeGate{deny: session.ErrAuth}, nil); got != "" {
		t.Errorf("failed authentication: %q, want nothing", got)
	}
	if got := banner(&fakeGate{deny: errors.New("canary")}, nil); !strings.HasPrefix(got, "internal error, reference ") || strings.Contains(got, "canary") {
		t.Errorf("internal error: %q", got)
	}
	if got := banner(&fakeGate{deny: denial}, newKey(t)); got != "" {
		t.Errorf("foreign key: %q, want nothing", got)
	}

	r := newRig(t, &fakeGate{refuse: denial}, Limits{})
	nc, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if got, _ := io.ReadAll(nc); string(got) != "Your address is not allowed. [SP-A20]\r\n" {
		t.Errorf("at connect: %q", got)
	}
}

// TestSlowLoris: a client that says nothing, or one byte now and then, is gone
// when its time is over, and its place is free again.
func TestSlowLoris(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const preAuth = 300 * time.Millisecond
		r, w := newBubbleRig(t, &fakeGate{}, Limits{PreAuth: preAuth, Handshakes: 3, HandshakesPerNet: 3})
		began := time.Now()
		var silent []net.Conn
		for range 3 {
			nc := w.wire()
			defer nc.Close()
			if _, err := bufio.NewReader(nc).ReadString('\n'); err != nil {
				t.Fatalf("no identification: %v", err)
			}
			silent = append(silent, nc)
		}
		over := w.wire()
		defer over.Close()
		if got, _ := io.ReadAll(over); !strings.Contains(string(got), "too many connections") {
			t.Errorf("the fourth got %q", got)
		}
		var slow sync.WaitGroup
		slow.Go(func() { // a byte at a time, until the server has had enough
			for _, b := range []byte("SSH-2.0-" + strings.Repeat("slow", 50)) {
				time.Sleep(preAuth / 100)
				if _, err := silent[0].Write([]byte{b}); err != nil {
					return
				}
			}
		})
		for i, nc := range silent {
			if _, err := io.ReadAll(nc); err != nil {
				t.Errorf("silent connection %d: %v", i, err)
			}
			if took := time.Since(began); took > preAuth {
				t.Errorf("silent connection %d was there for %v", i, took)
			}
		}
		synctest.Wait()
		c, err := w.dialWire(r.config())
		if err != nil {
			t.Fatalf("there is no room: %v", err)
		}
		c.Close()
		if n := r.server.Stats().TurnedAway; n != 1 {
			t.Errorf("%d were counted as turned away, want 1", n)
		}
		silent[0].Close()
		slow.Wait()
	})
}

// TestAlgorithms: what the server offers holds nothing from before its time.
func TestAlgorithms(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"modern", "compatible"} {
		p, err := profileNamed(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range slices.Concat(p.keyExchanges, p.ciphers, p.macs, userKeyAlgorithms()) {
			for _, bad := range []string{"sha1", "cbc", "md5", "rc4", "arcfour", "dss", "3des"} {
				if strings.Contains(a, bad) || a == ssh.KeyAlgoRSA {
					t.Errorf("%s has %s", name, a)
				}
			}
		}
	}
	if _, err := newServer(Options{HostKeys: func() []ssh.Signer { return nil }, Profile: legacyName}, &fakeGate{}); err == nil {
		t.Error("the legacy profile was accepted without an end")
	}
	if _, err := profileNamed("ancient"); err == nil {
		t.Error("an unknown profile was accepted")
	}
}

// TestCipherSteering: who offers AES-GCM gets it although something else is
// preferred; who does not is served as before.
func TestCipherSteering(t *testing.T) {
	t.Parallel()
	gcm, gcm256, chacha, ctr := ssh.CipherAES128GCM, ssh.CipherAES256GCM, ssh.CipherChaCha20Poly1305, ssh.CipherAES256CTR
	tests := []struct {
		offer []string
		want  string
	}{
		{[]string{chacha, ctr, gcm, gcm256}, gcm}, // OpenSSH's order
		{[]string{chacha, gcm256, gcm}, gcm256},
		{[]string{chacha, gcm256}, gcm256},
		{[]string{chacha}, chacha},
		{[]string{ctr, chacha}, ctr},
	}
	if approved.Only() { // AES-CTR is all there is, and nothing is steered
		tests = tests[len(tests)-1:]
	}
	g := &fakeGate{}
	synctest.Test(t, func(t *testing.T) { // the server waits for the client's offer for a while only
		r, w := newBubbleRig(t, g, Limits{})
		for _, tt := range tests {
			c := r.config()
			c.Ciphers = tt.offer
			c.ClientVersion = "SSH-2.0-steered"
			cl, err := w.dialWire(c)
			if err != nil {
				t.Errorf("%q: %v", tt.offer, err)
				continue
			}
			a := cl.Conn.(ssh.AlgorithmsConnMetadata).Algorithms()
			if a.Read.Cipher != tt.want || a.Write.Cipher != tt.want {
				t.Errorf("%q became %s and %s, want %s", tt.offer, a.Read.Cipher, a.Write.Cipher, tt.want)
			}
			cl.Close()
		}
	})
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.facts[0].Client != "SSH-2.0-steered" {
		t.Errorf("the client's identification was recorded as %q", g.facts[0].Client)
	}
}

// waitingConn withholds the client's KEXINIT until the server has sent its own,
// as some clients do.
type waitingConn struct {
	net.Conn
	writes int
	heard  chan struct{}
}

func (c *waitingConn) Write(p []byte) (int, error) {
	if c.writes++; c.writes == 2 {
		<-c.heard
	}
	return c.Conn.Write(p)
}

func (c *waitingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if bytes.Contains(p[:n], []byte("kex-strict-s-v00@openssh.com")) {
		close(c.heard)
	}
	return n, err
}

func TestClientThatWaitsForKexInit(t *testing.T) {
	t.Parallel()
	r := newRig(t, &fakeGate{}, Limits{})
	nc, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	sc, chans, reqs, err := ssh.NewClientConn(&waitingConn{Conn: nc, heard: make(chan struct{})}, r.addr, r.config())
	if err != nil {
		t.Fatal(err)
	}
	ssh.NewClient(sc, chans, reqs).Close()
}

// TestOnlyFiles: commands, shells, terminals and forwarding are refused with a
// sentence, and sftp works on the same connection afterwards.
func TestOnlyFiles(t *testing.T) {
	t.Parallel()
	r := newRig(t, &fakeGate{}, Limits{Channels: 3})
	cl := r.dial()
	for _, run := range []func(*ssh.Session) error{
		func(s *ssh.Session) error { return s.Run("md5sum /etc/passwd") },
		func(s *ssh.Session) error {
			if err := s.Shell(); err != nil {
				return err
			}
			return s.Wait()
		},
	} {
		s, err := cl.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		var stderr bytes.Buffer
		s.Stderr = &stderr
		var exit *ssh.ExitError
		if err := run(s); !errors.As(err, &exit) || exit.ExitStatus() != 1 {
			t.Errorf("ended with %v, want exit status 1", err)
		}
		if !strings.Contains(stderr.String(), "transfers files only") {
			t.Errorf("stderr: %q", stderr.String())
		}
		s.Close()
	}
	s, err := cl.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.RequestPty("xterm", 24, 80, nil); err == nil {
		t.Error("a terminal was given")
	}
	if err := s.RequestSubsystem("netconf"); err == nil {
		t.Error("another subsystem was given")
	}
	var refused *ssh.OpenChannelError
	if _, err := cl.Dial("tcp", "127.0.0.1:22"); !errors.As(err, &refused) || refused.Reason != ssh.Prohibited || !strings.Contains(refused.Message, "port forwarding") {
		t.Errorf("forwarding: %v", err)
	}
	if _, err := cl.Listen("tcp", "127.0.0.1:0"); err == nil {
		t.Error("remote forwarding was given")
	}
	other := r.dial() // on the first connection the server may not have counted yet what ended
	for i := range 4 {
		if _, err := other.NewSession(); (err == nil) != (i < 3) {
			t.Errorf("session %d of 3: %v", i+1, err)
		}
	}
}

// freezer is a client that nobody hears any more when told so.
type freezer struct {
	net.Conn
	freeze atomic.Bool
}

func (c *freezer) Write(p []byte) (int, error) {
	if c.freeze.Load() {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

func TestKeepaliveCutsTheDead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const every = time.Minute
		r, w := newBubbleRig(t, &fakeGate{}, Limits{Keepalive: every})
		frozen := &freezer{Conn: w.wire()}
		sc, chans, reqs, err := ssh.NewClientConn(frozen, "", r.config())
		if err != nil {
			t.Fatal(err)
		}
		cl := ssh.NewClient(sc, chans, reqs)
		defer cl.Close()
		frozen.freeze.Store(true)
		alive, err := w.dialWire(r.config())
		if err != nil {
			t.Fatal(err)
		}
		defer alive.Close()
		time.Sleep(2*every - time.Second)
		if n := r.server.Stats().Connections; n != 2 {
			t.Errorf("%d connections before the answer was due", n)
		}
		time.Sleep(8 * every)
		if n := strings.Count(r.logs.String(), "cut"); n != 1 || r.server.Stats().Connections != 1 {
			t.Errorf("%d were cut, %d connections are left", n, r.server.Stats().Connections)
		}
		if _, err := alive.NewSession(); err != nil {
			t.Errorf("a client that answers was cut: %v", err)
		}
	})
}
