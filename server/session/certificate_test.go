package session

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/policy"
	"sallyport/policy/policydb"
)

// ftpsFrom is an FTPS connection as a good client makes it.
func ftpsFrom(addr string) policy.Facts {
	f := sftpFrom(addr)
	f.Protocol, f.TLS, f.TLSVersion, f.Cipher = policy.FTPS, true, tls.VersionTLS13, "TLS_AES_128_GCM_SHA256"
	return f
}

// clientCertificate has an authority trusted and returns a certificate of it for an account.
func (h *house) clientCertificate(t *testing.T, account string) [][]byte {
	t.Helper()
	now := time.Now()
	make := func(serial int64, name string, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		c := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
			KeyUsage: x509.KeyUsageDigitalSignature}
		if parent == nil {
			c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
			parent, signer = c, key
		}
		der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return parsed, key
	}
	ca, key := make(1, "an authority", nil, nil)
	a, err := policydb.ParseAuthority(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Raw})))
	if err != nil {
		t.Fatal(err)
	}
	if err := h.db.AddAuthority(t.Context(), a, "test"); err != nil {
		t.Fatal(err)
	}
	leaf, _ := make(2, account, ca, key)
	return [][]byte{leaf.Raw}
}

// Who has a client certificate and a second factor may give, beside the certificate, the password, the code, or both in one.
func TestClientCertificateBesidePasswordAndCode(t *testing.T) {
	t.Parallel()
	h := build(t, nil)
	grants := map[string]string{"auth.ftps": "[password, certificate]", "login.per_account": "0"}
	for k, v := range everything {
		grants[k] = v
	}
	h.addAccount(t, "alice", grants)
	for _, s := range []string{"login.per_address", "login.ban_after", "login.delay"} {
		h.set(t, policy.Site, s, "0")
	}
	chain := h.clientCertificate(t, "alice")
	try := func(password Secret, chain [][]byte) (*Session, error) {
		l := h.connect(t, ftpsFrom("198.51.100.7"))
		defer l.Close()
		l.SetCertificate(chain)
		return l.Login(t.Context(), "alice", Credential{Password: password, CodeAppended: true})
	}
	want := func(what string, password Secret, chain [][]byte, method string) {
		t.Helper()
		s, err := try(password, chain)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			return
		}
		if f := s.facts(0); f.Method != method {
			t.Errorf("%s: in by %s, want %s", what, f.Method, method)
		}
	}
	want("certificate, no second factor", "anything", chain, methodCertificate)
	a, err := h.db.Account("alice")
	if err != nil || len(a.Certified) != 1 {
		t.Errorf("not noted that it came in by a certificate: %+v, %v", a.Certified, err)
	}
	code, recovery := h.enrol(t, "alice")
	right := func(after time.Duration) string { return string(code(h.codesAt().Add(after))) }
	wrong := "000000"
	for n := 0; slices.Contains([]string{right(-30 * time.Second), right(0), right(30 * time.Second)}, wrong); n++ {
		wrong = fmt.Sprintf("%06d", n)
	}
	for what, password := range map[string]Secret{"nothing that is right": "anything", "a wrong code alone": Secret(wrong), "wrong password, right code": Secret("wrong-horse-12" + right(0)),
		"right password, wrong code": Secret(secret + wrong)} {
		if _, err := try(password, chain); !errors.Is(err, ErrAuth) {
			t.Errorf("%s: %v", what, err)
		}
	}
	h.m.Unlock("alice")
	want("certificate and password", secret, chain, methodPassword)
	want("certificate, password and code", Secret(secret+right(0)), chain, methodPassword)
	_, err = try(Secret(secret+right(0)), chain)
	wantCode(t, "the same code again", err, policy.CodeCodeUsed)
	want("certificate and code", Secret(right(30*time.Second)), chain, methodCertificate)
	want("certificate and recovery code", Secret(recovery[0]), chain, methodCertificate)
	want("certificate, password and recovery code", Secret(secret+recovery[1]), chain, methodPassword)
	_, err = try(secret, nil)
	wantCode(t, "no certificate, no code", err, policy.CodeCodeNeeded)
	if err := h.db.SetPassword(t.Context(), "alice", "kestrel-tulip-123456", "test"); err != nil {
		t.Fatal(err)
	}
	want("certificate, and a password that ends like a code", "kestrel-tulip-123456", chain, methodPassword)
	if _, err := try("kestrel-tulip-", chain); !errors.Is(err, ErrAuth) {
		t.Errorf("half of a password that ends like a code: %v", err)
	}
}

// Who comes with a certificate can change the password by what a login asks for, even one that must be changed: the certificate does
// not stand in the place of the old password, and beside it no code is needed.
func TestPasswordIsChangedBesideAClientCertificate(t *testing.T) {
	t.Parallel()
	h := build(t, nil)
	grants := map[string]string{"auth.ftps": "[password, certificate]", "login.per_account": "0"}
	for k, v := range everything {
		grants[k] = v
	}
	h.addAccount(t, "alice", grants)
	for _, s := range []string{"login.per_address", "login.ban_after", "login.delay"} {
		h.set(t, policy.Site, s, "0")
	}
	chain := h.clientCertificate(t, "alice")
	old, n := Secret(secret), 0
	change := func(what string, chain [][]byte) error {
		t.Helper()
		l := h.connect(t, ftpsFrom("198.51.100.7"))
		defer l.Close()
		l.SetCertificate(chain)
		if err := l.ChangePassword(t.Context(), "alice", "wrong-horse-12", "kestrel-tulip-new"); !errors.Is(err, ErrAuth) {
			t.Errorf("%s, a wrong old password: %v", what, err)
		}
		n++
		next := Secret("kestrel-tulip-" + string(rune('a'+n)))
		err := l.ChangePassword(t.Context(), "alice", old, next)
		if err == nil {
			old = next
		}
		return err
	}
	if err := change("no second factor", chain); err != nil {
		t.Errorf("no second factor: %v", err)
	}
	h.set(t, policy.AccountTarget("alice"), "auth.require_2fa", "true")
	if err := change("one is required", chain); err != nil {
		t.Errorf("two factors are required, and given: %v", err)
	}
	wantCode(t, "one of two", change("one of two", nil), policy.CodeSecondFactor)
	h.enrol(t, "alice")
	if err := change("with a second factor", chain); err != nil {
		t.Errorf("with a second factor: %v", err)
	}
	wantCode(t, "no certificate, no code", change("no code", nil), policy.CodeCodeNeeded)
}

// A second factor may be required over one protocol and not over the other.
func TestSecondFactorIsRequiredByProtocol(t *testing.T) {
	t.Parallel()
	h := build(t, nil)
	h.addAccount(t, "alice", everything)
	login := map[string]func() (*line, error){
		"sftp": func() (*line, error) {
			l := h.connect(t, sftpFrom("198.51.100.7"))
			_, err := l.Login(t.Context(), "alice", Credential{PublicKey: h.key})
			return l, err
		},
		"ftps": func() (*line, error) {
			l := h.connect(t, ftpsFrom("198.51.100.7"))
			_, err := l.Login(t.Context(), "alice", Credential{Password: secret, CodeAppended: true})
			return l, err
		},
	}
	live := map[string]*line{}
	for name, in := range login {
		l, err := in()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		live[name] = l
	}
	for _, asked := range []string{"ftps", "sftp"} {
		h.set(t, policy.AccountTarget("alice"), "auth.require_2fa_"+asked, "true")
		if d := <-live[asked].hung; d.Code != policy.CodeSecondFactor || d.Rule != "auth.require_2fa_"+asked+" = true" {
			t.Errorf("the live session over %s: %+v", asked, d)
		}
		_, err := login[asked]()
		wantCode(t, "a login over "+asked, err, policy.CodeSecondFactor)
		if asked == "ftps" {
			if l, err := login["sftp"](); err != nil || live["sftp"].ended.Load() != nil {
				t.Errorf("over sftp, where nothing asks for one: %v", err)
			} else {
				l.Close()
			}
		}
	}
}

// Before a right credential was given, nothing that a stranger sees depends on whether there is such an account, and what it may use:
// neither the methods offered nor the answers, nor the one hash that each wrong password costs.
func TestStrangersCannotTellAccountsApart(t *testing.T) {
	t.Parallel()
	h := build(t, nil)
	for _, s := range []string{"login.per_address", "login.per_network", "login.ban_after", "login.delay"} {
		h.set(t, policy.Site, s, "0")
	}
	h.addAccount(t, "alice", everything)
	h.addAccount(t, "keysonly", map[string]string{"protocols": "[sftp]", "auth.sftp": "[publickey]"})
	h.addAccount(t, "off", everything)
	h.addAccount(t, "ftpsonly", map[string]string{"protocols": "[ftps]"})
	if err := h.db.SetEnabled(t.Context(), "off", false, "test"); err != nil {
		t.Fatal(err)
	}
	var hashes atomic.Int32
	check := h.m.check
	h.m.check = func(a *policydb.Account, s string) bool { hashes.Add(1); return check(a, s) }
	stranger := h.connect(t, sftpFrom("203.0.113.5"))
	want := stranger.Methods()
	if !slices.Equal(want, []string{methodKey, methodPassword}) {
		t.Fatalf("offered %q", want)
	}
	for _, name := range []string{"nobody", "alice", "keysonly", "off", "ftpsonly", "../x", ""} {
		l := h.connect(t, sftpFrom("203.0.113.5"))
		if got := l.Methods(); !slices.Equal(got, want) {
			t.Errorf("%q: offered %q, want %q", name, got, want)
		}
		if err := l.KeyAllowed(t.Context(), name, []byte("no such key")); !errors.Is(err, ErrAuth) {
			t.Errorf("%q: a key that is not listed: %v", name, err)
		}
		before := hashes.Load()
		if _, err := l.Login(t.Context(), name, Credential{Password: "wrong-horse-12"}); !errors.Is(err, ErrAuth) {
			t.Errorf("%q: a wrong password: %v", name, err)
		}
		if n := hashes.Load() - before; n != 1 {
			t.Errorf("%q: a wrong password cost %d hashes", name, n)
		}
		l.Close()
	}
	l := h.connect(t, sftpFrom("203.0.113.5"))
	_, err := l.Login(t.Context(), "keysonly", Credential{Password: secret})
	wantCode(t, "the owner, with a password that the policy does not take", err, policy.CodeMethod)
}
