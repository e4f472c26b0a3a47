package session

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"net/netip"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/crypto/ssh"

	"sallyport/crypto/keyring"
	"sallyport/policy"
	"sallyport/policy/policydb"
	"sallyport/server/audit"
	"sallyport/vfs"
)

// house is a manager on real floors below.
type house struct {
	m    *Manager
	db   *policydb.DB
	log  *audit.Log
	fs   *vfs.FS
	ring *keyring.Keyring
	key  []byte // public key of every account

	codeTime atomic.Pointer[time.Time]
}

// codesAt is the time of the database: that of the first enrolment, once there was one, so that a machine that is slow does not outlive the
// half minute of a code.
func (h *house) codesAt() time.Time {
	if at := h.codeTime.Load(); at != nil {
		return *at
	}
	return time.Now()
}

const secret = "correct-horse-12"

// build makes a house. Everything is closed at the end of the test.
func build(t testing.TB, change func(*Options)) *house {
	t.Helper()
	ctx := context.Background()
	dir := t.TempDir()
	kf, err := keyring.NewKeyFile(filepath.Join(t.TempDir(), "key"))
	if err != nil {
		t.Fatal(err)
	}
	ring, err := keyring.Create(ctx, dir, kf)
	if err != nil {
		t.Fatal(err)
	}
	pbox, err := ring.Policy()
	if err != nil {
		t.Fatal(err)
	}
	names, err := ring.Names()
	if err != nil {
		t.Fatal(err)
	}
	abox, err := ring.Audit()
	if err != nil {
		t.Fatal(err)
	}
	h := &house{ring: ring, key: newKey(t)}
	if h.db, err = policydb.Open(ctx, policydb.Options{Path: filepath.Join(dir, "policy.db"), Box: pbox, Token: ring.PolicyToken, Names: names, NameToken: ring.NameToken, PasswordCost: bcrypt.MinCost, Now: h.codesAt}); err != nil {
		t.Fatal(err)
	}
	if h.log, err = audit.Open(audit.Options{Dir: filepath.Join(dir, "audit"), Box: abox}); err != nil {
		t.Fatal(err)
	}
	o := Options{Policy: h.db, Audit: h.log}
	if change != nil {
		change(&o)
	}
	if h.fs, err = vfs.Open(ctx, vfs.Options{Dir: filepath.Join(dir, "accounts"), Keyring: ring, Recovered: Recovered, Now: o.Now}); err != nil {
		t.Fatal(err)
	}
	o.FS = h.fs
	if h.m, err = New(o); err != nil {
		t.Fatal(err)
	}
	h.m.wait = func(context.Context, *Conn, time.Duration) {}
	t.Cleanup(h.close)
	return h
}

func (h *house) close() {
	h.m.Close()
	h.fs.Close()
	h.log.Close()
	h.db.Close()
	h.ring.Close()
}

func newKey(t testing.TB) []byte {
	t.Helper()
	pub, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p, err := ssh.NewPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return p.Marshal()
}

// everything is what most tests grant.
var everything = map[string]string{"protocols": "[sftp, ftps]", "auth.sftp": "[publickey, password]", "paths": "[{path: /, allow: [all]}]"}

func (h *house) addAccount(t testing.TB, name string, grants map[string]string) {
	t.Helper()
	ctx := context.Background()
	id, err := h.ring.NewAccount(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.fs.Create(ctx, id); err != nil {
		t.Fatal(err)
	}
	if _, err := h.db.CreateAccount(ctx, policydb.NewAccount{Name: name, ID: id, Who: "test", Grants: grants}); err != nil {
		t.Fatal(err)
	}
	if err := h.db.SetPassword(ctx, name, secret, "test"); err != nil {
		t.Fatal(err)
	}
	if _, err := h.db.AddKey(ctx, name, policydb.PublicKey{Blob: h.key}, "test"); err != nil {
		t.Fatal(err)
	}
}

// set changes one setting of the policy.
func (h *house) set(t testing.TB, target policy.Target, path, value string) {
	t.Helper()
	r := h.db.Current()
	doc, err := r.Document.Set(target, path, value)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.db.Apply(context.Background(), policydb.Change{Base: r.N, Text: doc.Text(), Who: "test"}); err != nil {
		t.Fatal(err)
	}
}

func sftpFrom(addr string) policy.Facts {
	return policy.Facts{Protocol: policy.SFTP, Remote: netip.AddrPortFrom(netip.MustParseAddr(addr), 40000)}
}

// line is a connection of a test.
type line struct {
	*Conn
	hung chan *policy.Denial
}

func (h *house) connect(t testing.TB, f policy.Facts) *line {
	t.Helper()
	l := &line{hung: make(chan *policy.Denial, 2)}
	c, d := h.m.Connect(context.Background(), f, func(d *policy.Denial) { l.hung <- d })
	if d != nil {
		t.Fatalf("connect from %s: %v (%s)", f.Remote, d, d.Rule)
	}
	l.Conn = c
	t.Cleanup(c.Close)
	return l
}

func (h *house) login(t testing.TB, name string) (*line, *Session) {
	t.Helper()
	l := h.connect(t, sftpFrom("198.51.100.7"))
	s, err := l.Login(context.Background(), name, Credential{PublicKey: h.key})
	if err != nil {
		t.Fatalf("login: %v", err)
	}
	return l, s
}

// denialOf an error; nil if it is none.
func denialOf(err error) *policy.Denial {
	var d *policy.Denial
	errors.As(err, &d)
	return d
}

func wantCode(t testing.TB, what string, err error, code string) {
	t.Helper()
	if d := denialOf(err); d == nil || d.Code != code {
		t.Errorf("%s: got %v, want %s", what, err, code)
	}
}

// records of the log, once everything queued is written.
func (h *house) records(t testing.TB) []audit.Record {
	t.Helper()
	if err := h.log.Append(context.Background(), audit.Event{Action: audit.ServerStart}); err != nil {
		t.Fatal(err)
	}
	var list []audit.Record
	if err := h.log.Tail(context.Background(), -1, false, func(r audit.Record) error { list = append(list, r); return nil }); err != nil {
		t.Fatal(err)
	}
	return list[:len(list)-1]
}

func count(list []audit.Record, match func(audit.Record) bool) int {
	n := 0
	for _, r := range list {
		if match(r) {
			n++
		}
	}
	return n
}

func TestLoginAndLogout(t *testing.T) {
	t.Parallel()
	h := build(t, nil)
	h.addAccount(t, "alice", everything)
	l, s := h.login(t, "alice")
	if s.Account() != "alice" || s.ID() != l.ID() || len(h.m.List()) != 1 {
		t.Errorf("session %q %q, list %v", s.Account(), s.ID(), h.m.List())
	}
	f, err := s.Files().OpenFile(t.Context(), "/hello", 0x41, 0) // O_WRONLY|O_CREATE
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	l.Close()
	if len(h.m.List()) != 0 || h.m.Counts().Connections != 0 {
		t.Errorf("left behind: %+v", h.m.Counts())
	}
	if err := h.m.Close(); err != nil {
		t.Fatal(err)
	}
	var seen []string
	for _, r := range h.records(t) {
		seen = append(seen, string(r.Action))
		if strings.Contains(string(r.Encode()), "alice") {
			t.Errorf("record names the account: %s", r.Encode())
		}
	}
	// The upload comes through the outbox, so its place among the others is open.
	if count(h.records(t), func(r audit.Record) bool {
		return r.Action == audit.Upload && r.Path == "/hello" && r.Bytes == 5 && r.Result == "complete" && r.Session == s.ID()
	}) != 1 || seen[0] != "login" || len(seen) != 3 {
		t.Errorf("records %v", seen)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	h := build(t, nil)
	h.addAccount(t, "alice", everything)
	h.addAccount(t, "bob", nil)
	h.addAccount(t, "carol", map[string]string{"protocols": "[sftp]", "allow_from": "[203.0.113.0/24]"})
	h.addAccount(t, "dave", everything)
	if err := h.db.SetEnabled(t.Context(), "dave", false, "test"); err != nil {
		t.Fatal(err)
	}
	h.set(t, policy.Site, "deny_from", "[203.0.113.66]")
	try := func(name string, f policy.Facts, cred Credential) error {
		l := h.connect(t, f)
		defer l.Close()
		_, err := l.Login(t.Context(), name, cred)
		return err
	}
	key, pw := Credential{PublicKey: h.key}, Credential{Password: secret}
	wantCode(t, "no protocol granted", try("bob", sftpFrom("198.51.100.1"), key), policy.CodeProtocol)
	wantCode(t, "wrong network", try("carol", sftpFrom("198.51.100.1"), key), policy.CodeNotAllowed)
	wantCode(t, "password where keys are asked", try("carol", sftpFrom("203.0.113.1"), pw), policy.CodeMethod)
	for what, err := range map[string]error{
		"unknown account":  try("nobody", sftpFrom("198.51.100.1"), pw),
		"bad name":         try("a/b\x00", sftpFrom("198.51.100.1"), pw),
		"wrong password":   try("alice", sftpFrom("198.51.100.1"), Credential{Password: "wrong-horse-12"}),
		"no password":      try("alice", sftpFrom("198.51.100.1"), Credential{}),
		"disabled":         try("dave", sftpFrom("198.51.100.1"), pw),
		"disabled, by key": try("dave", sftpFrom("198.51.100.1"), key),
		"unlisted key":     try("alice", sftpFrom("198.51.100.1"), Credential{PublicKey: newKey(t)}),
	} {
		if !errors.Is(err, ErrAuth) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := try("alice", sftpFrom("198.51.100.1"), pw); err != nil {
		t.Errorf("good password: %v", err)
	}
	if _, d := h.m.Connect(t.Context(), sftpFrom("203.0.113.66"), nil); d == nil || d.Code != policy.CodeDenied {
		t.Errorf("denied network: %v", d)
	}
	if _, d := h.m.Connect(t.Context(), sftpFrom("::ffff:203.0.113.66"), nil); d == nil {
		t.Error("a mapped address evades deny_from")
	}
}

func TestSealed(t *testing.T) {
	t.Parallel()
	m, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	c, d := m.Connect(t.Context(), sftpFrom("198.51.100.1"), nil)
	if d != nil {
		t.Fatal(d)
	}
	defer c.Close()
	if _, err := c.Login(t.Context(), "alice", Credential{Password: secret}); !errors.Is(err, ErrSealed) {
		t.Errorf("login: %v", err)
	}
	if err := c.KeyAllowed(t.Context(), "alice", newKey(t)); !errors.Is(err, ErrSealed) {
		t.Errorf("key: %v", err)
	}
}

func TestPrecheck(t *testing.T) {
	t.Parallel()
	h := build(t, nil)
	h.addAccount(t, "alice", everything)
	l := h.connect(t, policy.Facts{Protocol: policy.FTPS, Remote: netip.MustParseAddrPort("198.51.100.1:40000")})
	known, unknown := l.Precheck("alice"), l.Precheck("nobody")
	if known == nil || unknown == nil || known.Error() != unknown.Error() {
		t.Fatalf("known %v, unknown %v", known, unknown)
	}
	// A front-end that asks all the same gets no password looked at.
	_, err := l.Login(t.Context(), "alice", Credential{Password: secret})
	wantCode(t, "password in clear", err, policy.CodeSSLRequired)
	f := l.current()
	f.TLS, f.TLSVersion = true, 0x0304
	if d := l.SetFacts(f); d != nil {
		t.Fatal(d)
	}
	if d := l.Precheck("alice"); d != nil {
		t.Errorf("inside TLS: %v", d)
	}
	if _, err := l.Login(t.Context(), "alice", Credential{Password: secret}); err != nil {
		t.Errorf("login inside TLS: %v", err)
	}
}

// Plain FTP is recorded as what it is, and only the exception of exactly that account, network and time lets it in.
func TestPlainFTP(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	var skew atomic.Int64
	h := build(t, func(o *Options) { o.Now = func() time.Time { return now.Add(time.Duration(skew.Load())) } })
	for _, name := range []string{"scanner", "alice"} {
		h.addAccount(t, name, everything)
	}
	h.addAccount(t, "keys", map[string]string{"protocols": "[ftps]", "auth.ftps": "[]"})
	r := h.db.Current()
	text := string(r.Document.Text()) + "\nexceptions:\n" +
		"  - {account: scanner, allow: ftp, from: [192.0.2.0/28], until: 2026-12-01, reason: \"a copier\"}\n" +
		"  - {account: keys, allow: ftp, from: [192.0.2.0/28], until: 2026-12-01, reason: \"a copier\"}\n"
	if _, err := h.db.Apply(t.Context(), policydb.Change{Base: r.N, Text: []byte(text), Who: "test"}); err != nil {
		t.Fatal(err)
	}
	facts := func(addr string) policy.Facts {
		return policy.Facts{Protocol: policy.FTPS, Remote: netip.AddrPortFrom(netip.MustParseAddr(addr), 40000)}
	}
	refused := func(what, addr, name, code string) {
		t.Helper()
		l := h.connect(t, facts(addr))
		defer l.Close()
		_, err := l.Login(t.Context(), name, Credential{Password: secret})
		wantCode(t, what, err, code)
	}
	l := h.connect(t, facts("192.0.2.1"))
	if _, err := l.Login(t.Context(), "scanner", Credential{Password: "wrong-horse-12"}); !errors.Is(err, ErrAuth) {
		t.Fatalf("wrong password: %v", err)
	}
	if _, err := l.Login(t.Context(), "scanner", Credential{Password: secret}); err != nil {
		t.Fatal(err)
	}
	f := facts("192.0.2.1")
	f.Client = "copier 1.0"
	if d := l.SetFacts(f); d != nil {
		t.Fatalf("the same facts again: %v", d)
	}
	if list := h.m.List(); len(list) != 1 || list[0].Facts.Protocol != policy.FTP || list[0].Facts.Client != "copier 1.0" {
		t.Errorf("sessions %+v", list)
	}
	refused("another account", "192.0.2.1", "alice", policy.CodeSSLRequired)
	refused("an account that is not there", "192.0.2.1", "nobody", policy.CodeSSLRequired)
	refused("another network", "192.0.2.16", "scanner", policy.CodeSSLRequired)
	refused("a method that is not granted", "192.0.2.1", "keys", policy.CodeMethod)
	if n := count(h.records(t), func(r audit.Record) bool { return r.Action == audit.Login && r.Protocol == "ftp" }); n != 1 {
		t.Errorf("%d logins by ftp recorded", n)
	}
	for _, r := range h.records(t) {
		if r.Protocol == "ftps" {
			t.Errorf("recorded as FTPS: %s", r.Encode())
		}
	}
	if d := l.SetFacts(facts("192.0.2.16")); d == nil || d.Code != policy.CodeSSLRequired {
		t.Errorf("a session that moves to another network: %v", d)
	}
	if d := l.SetFacts(f); d != nil {
		t.Fatal(d)
	}
	// The exception ends with its last day, for those who are in too.
	skew.Store(int64(11 * 24 * time.Hour))
	refused("after its end", "192.0.2.1", "scanner", policy.CodeSSLRequired)
	h.m.Recheck(nil)
	if d := <-l.hung; d.Code != policy.CodeSSLRequired {
		t.Errorf("the session ended with %v", d)
	}
}

func TestKeyAllowed(t *testing.T) {
	t.Parallel()
	h := build(t, nil)
	h.addAccount(t, "alice", everything)
	l := h.connect(t, sftpFrom("198.51.100.1"))
	if err := l.KeyAllowed(t.Context(), "alice", h.key); err != nil {
		t.Errorf("listed key: %v", err)
	}
	for range 20 { // a client offers all it has: no failures
		for _, name := range []string{"alice"} {
			if err := l.KeyAllowed(t.Context(), name, newKey(t)); !errors.Is(err, ErrAuth) {
				t.Fatalf("unlisted key: %v", err)
			}
		}
	}
	err := l.KeyAllowed(t.Context(), "nobody", h.key)
	wantCode(t, "one too many", err, policy.CodeTooManyKeys)
	if d := <-l.hung; d.Code != policy.CodeTooManyKeys {
		t.Errorf("hung up with %v", d)
	}
}

func TestSecretsNeverPrint(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	h := build(t, func(o *Options) { o.Log = debugLog(&b) })
	h.addAccount(t, "alice", everything)
	l := h.connect(t, sftpFrom("198.51.100.1"))
	cred := Credential{Password: "canary-secret-12"}
	if _, err := l.Login(t.Context(), "alice", cred); err == nil || strings.Contains(err.Error(), "canary") {
		t.Error(err)
	}
	debugLog(&b).Error("x", "cred", cred, "secret", cred.Password)
	if strings.Contains(b.String(), "canary") {
		t.Errorf("logged: %s", b.String())
	}
}

func TestPasswordsAreRememberedForMinutes(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	h := build(t, nil)
	h.addAccount(t, "alice", everything)
	a, err := h.db.Account("alice")
	if err != nil {
		t.Fatal(err)
	}
	p := newProofs()
	p.add(a, secret, now)
	if !p.has(a, secret, now.Add(proofFor-1)) || p.has(a, secret, now.Add(proofFor)) || p.has(a, "other", now) {
		t.Error("wrong about what was verified when")
	}
	if err := h.db.SetPassword(t.Context(), "alice", other, "test"); err != nil {
		t.Fatal(err)
	}
	if b, _ := h.db.Account("alice"); p.has(b, secret, now) {
		t.Error("a changed password is still remembered")
	}
	if newProofs().of(a, secret) == p.of(a, secret) {
		t.Error("two processes have the same key")
	}
}
