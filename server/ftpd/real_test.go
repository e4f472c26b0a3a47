package ftpd

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"sallyport/crypto/keyring"
	"sallyport/policy"
	"sallyport/policy/policydb"
	"sallyport/server/audit"
	"sallyport/server/session"
	"sallyport/vfs"
)

// house is everything below the front-end, for real.
type house struct {
	*host
	sessions *session.Manager
	db       *policydb.DB
	log      *audit.Log
	fs       *vfs.FS
	ring     *keyring.Keyring
	ids      map[string]keyring.AccountID
}

const realSecret = "correct-horse-12"

// startReal is start on the real session manager, volumes, policy and audit log, with the account alice.
// At the end of the test every volume is verified as the production check does it.
func startReal(t *testing.T, m Mode, change ...func(*Options)) *house {
	t.Helper()
	ctx := context.Background()
	dir := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	h := &house{ids: map[string]keyring.AccountID{}}
	seal, err := keyring.NewKeyFile(filepath.Join(t.TempDir(), "key"))
	must(err)
	h.ring, err = keyring.Create(ctx, dir, seal)
	must(err)
	box, err := h.ring.Policy()
	must(err)
	names, err := h.ring.Names()
	must(err)
	h.db, err = policydb.Open(ctx, policydb.Options{Path: filepath.Join(dir, "policy.db"), Box: box, Token: h.ring.PolicyToken, Names: names, NameToken: h.ring.NameToken, PasswordCost: bcrypt.MinCost})
	must(err)
	box, err = h.ring.Audit()
	must(err)
	h.log, err = audit.Open(audit.Options{Dir: filepath.Join(dir, "audit"), Box: box})
	must(err)
	h.fs, err = vfs.Open(ctx, vfs.Options{Dir: filepath.Join(dir, "accounts"), Keyring: h.ring, Recovered: session.Recovered})
	must(err)
	h.sessions, err = session.New(session.Options{Policy: h.db, FS: h.fs, Audit: h.log})
	must(err)
	t.Cleanup(func() {
		for name, id := range h.ids {
			h.verify(name, id)
		}
		for _, c := range []io.Closer{h.sessions, h.fs, h.log, h.db} {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	h.host = start(t, m, append([]func(*Options){func(o *Options) { o.backend, o.Sessions = nil, h.sessions }}, change...)...)
	h.vol, h.password = nil, realSecret
	h.account("alice")
	return h
}

// records counts what the audit log holds by action, protocol and code.
func (h *house) records() map[string]int {
	h.t.Helper()
	got := map[string]int{}
	err := h.log.Tail(h.t.Context(), -1, false, func(r audit.Record) error {
		got[string(r.Action)+" "+r.Protocol+" "+r.Code]++
		return nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return got
}

func (h *house) account(name string) {
	h.t.Helper()
	ctx := context.Background()
	id, err := h.ring.NewAccount(ctx)
	if err == nil {
		err = h.fs.Create(ctx, id)
	}
	grants := map[string]string{"protocols": "[ftps]", "paths": "[{path: /, allow: [all]}]"}
	if err == nil {
		_, err = h.db.CreateAccount(ctx, policydb.NewAccount{Name: name, ID: id, Who: "test", Grants: grants})
	}
	if err == nil {
		err = h.db.SetPassword(ctx, name, realSecret, "test")
	}
	if err != nil {
		h.t.Fatal(err)
	}
	h.ids[name] = id
}

func (h *house) verify(name string, id keyring.AccountID) {
	h.t.Helper()
	v, err := h.fs.Volume(context.Background(), id)
	if err != nil {
		h.t.Errorf("volume of %s: %v", name, err)
		return
	}
	r, err := v.Verify(context.Background(), func(finding string) { h.t.Errorf("volume of %s: %s", name, finding) })
	if err != nil || r.Findings > 0 {
		h.t.Errorf("volume of %s: %+v, %v", name, r, err)
	}
	if n := v.Stats().OpenHandles; n != 0 {
		h.t.Errorf("volume of %s: %d handles were left open", name, n)
	}
}

// set changes one setting of the policy, for live sessions too.
func (h *house) set(t policy.Target, path, value string) {
	h.t.Helper()
	r := h.db.Current()
	doc, err := r.Document.Set(t, path, value)
	if err == nil {
		_, err = h.db.Apply(context.Background(), policydb.Change{Base: r.N, Text: doc.Text(), Who: "test"})
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

// both runs a hostile test on the fake floors and on the real ones.
func both(t *testing.T, m Mode, change func(*Options), test func(t *testing.T, h *host)) {
	var changes []func(*Options)
	if change != nil {
		changes = append(changes, change)
	}
	t.Run("fake floors", func(t *testing.T) {
		t.Parallel()
		h := start(t, m, changes...)
		h.kick = func() string {
			h.vol.kick(&policy.Denial{Code: "SP-A12", Message: "Your address may not use this account."})
			return "SP-A12"
		}
		test(t, h)
	})
	t.Run("real floors", func(t *testing.T) {
		t.Parallel()
		r := startReal(t, m, changes...)
		r.kick = func() string {
			r.sessions.Kill(func(session.Info) bool { return true }, "test", "")
			return policy.CodeKilled
		}
		test(t, r.host)
	})
}

// put makes a file, and the directory that it is in.
func (h *host) put(name, content string) {
	h.t.Helper()
	if h.vol != nil {
		if dir := path.Dir(name); dir != "/" {
			h.vol.put(dir, fs.ModeDir|0o755, nil)
		}
		h.vol.put(name, 0o644, []byte(content))
		return
	}
	c := h.dial().login()
	if dir := path.Dir(name); dir != "/" {
		c.cmd(250, "SITE MKDIR %s", dir)
	}
	c.stor("STOR "+name, content)
	c.cmd(221, "QUIT")
	c.expectEnd()
}

func (h *host) get(name string) string {
	h.t.Helper()
	if h.vol != nil {
		content, _ := h.vol.get(name)
		return content
	}
	c := h.dial().login()
	defer c.cmd(221, "QUIT")
	return c.retr("RETR " + name)
}

// connections tells how many the server has.
func (s *Server) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// interrupted begins an upload and breaks it off with a bare FIN.
func (c *client) interrupted(command, content string) {
	c.t.Helper()
	c.epsv()
	raw := c.open()
	c.cmd(150, "%s", command)
	d := tls.Client(raw, c.tls)
	if _, err := io.WriteString(d, content); err != nil {
		c.t.Fatal(err)
	}
	if err := raw.(*net.TCPConn).CloseWrite(); err != nil {
		c.t.Fatal(err)
	}
	c.expect(426)
}

// refused sends a transfer command that must not begin.
func (c *client) refused(code int, command, contains string) {
	c.t.Helper()
	c.epsv()
	c.open()
	if got := c.cmd(code, "%s", command); !strings.Contains(got, contains) {
		c.t.Errorf("%s: %q does not say %q", command, got, contains)
	}
}

func noise(n int) string {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	return string(b)
}

func TestRealTransfers(t *testing.T) {
	t.Parallel()
	h := startReal(t, Explicit)
	c := h.dial().login()
	for _, size := range []int{0, 1, 4096, 4097, 65_536, 5 << 20} {
		content := noise(size)
		c.stor("STOR f", content)
		if got := c.retr("RETR f"); got != content {
			t.Fatalf("%d bytes came back as %d", size, len(got))
		}
		if got := c.cmd(213, "SIZE f"); got != fmt.Sprintf("213 %d", size) {
			t.Errorf("SIZE: %q", got)
		}
	}
	content := noise(3 << 20)
	c.stor("STOR g", content[:1<<20])
	c.stor("APPE g", content[1<<20:2<<20])
	c.cmd(350, "REST %d", 2<<20)
	c.stor("STOR g", content[2<<20:])
	if got := c.retr("RETR g"); got != content {
		t.Error("append and restart do not give the whole")
	}
	c.cmd(350, "REST %d", 1<<20)
	if got := c.retr("RETR g"); got != content[1<<20:] {
		t.Error("restarted download")
	}
	c.cmd(350, "RANG 70000 140000")
	if got := c.retr("RETR g"); got != content[70000:140001] {
		t.Error("range")
	}
	c.cmd(350, "REST 1000")
	c.stor("STOR g", "end")
	if got := c.retr("RETR g"); got != content[:1000]+"end" {
		t.Errorf("%d bytes: what lay beyond the restart must be gone", len(got))
	}
	c.cmd(350, "REST 5000")
	c.refused(554, "RETR g", "beyond")
	c.cmd(257, "MKD d")
	c.cmd(350, "RNFR g")
	c.cmd(250, "RNTO d/g")
	c.cmd(550, "RMD d")
	c.cmd(213, "MFMT 20200203040506 d/g")
	c.cmd(213, "MFCT 20190203040506 d/g")
	c.stor("STOR d/made", content[:10])
	c.cmd(213, "MFF Create=19600203040506;UNIX.mode=0640; d/made")
	c.cmd(200, "SITE CHMOD 600 d/g")
	c.cmd(200, "SITE SYMLINK g d/link")
	mlsd := c.retr("MLSD d")
	for _, want := range []string{"Type=file;Size=1003;Modify=20200203040506;Create=20190203040506;", "Create=19600203040506;", "UNIX.mode=0640; made\r\n", "Perm=adfrw;", "UNIX.mode=0600; g\r\n", "Type=OS.unix=slink:g;"} {
		if !strings.Contains(mlsd, want) {
			t.Errorf("MLSD lacks %q:\n%s", want, mlsd)
		}
	}
	if got := c.retr("RETR d/link"); got != content[:1000]+"end" {
		t.Error("through the symlink")
	}
	c.cmd(250, "DELE d/link")
	c.cmd(250, "DELE d/g")
	c.cmd(250, "DELE d/made")
	c.cmd(250, "RMD d")
}

// v1 of a file, v2 cut off: v1, v2 or an error for whoever resumes, never a mixture. DESIGN.md, section 2.
func TestRealInterruptedUploads(t *testing.T) {
	t.Parallel()
	h := startReal(t, Explicit)
	c := h.dial().login()
	content := noise(600_000)

	c.interrupted("STOR new", content[:200_000])
	if got := c.cmd(213, "SIZE new"); got != "213 200000" {
		t.Errorf("the part that arrived: %s", got)
	}
	if got := c.cmd(250, "MLST new"); !strings.Contains(got, "X.partial=1;") {
		t.Errorf("MLST does not tell the partial upload: %q", got)
	}
	c.cmd(350, "REST 200000")
	c.stor("STOR new", content[200_000:])
	if got := c.retr("RETR new"); got != content {
		t.Error("the resumed upload is not the whole")
	}
	if got := c.cmd(250, "MLST new"); strings.Contains(got, "X.partial") {
		t.Errorf("still partial: %q", got)
	}

	c.stor("STOR old", content[:100_000])
	c.interrupted("STOR old", strings.Repeat("x", 150_000))
	if got := c.retr("RETR old"); got != content[:100_000] {
		t.Error("a cut overwrite damaged what was there")
	}
	c.cmd(350, "REST 100000")
	c.refused(550, "STOR old", "interrupted")
	c.refused(550, "APPE old", "interrupted")
	c.stor("STOR old", content)
	if got := c.retr("RETR old"); got != content {
		t.Error("a complete upload after a cut one")
	}
}

func TestRealPolicy(t *testing.T) {
	t.Parallel()
	h := startReal(t, Explicit)
	alice := policy.AccountTarget("alice")
	c := h.dial()
	c.expect(220)
	if a, b := c.cmd(530, "USER alice"), c.cmd(530, "USER nobody"); a != b || !strings.Contains(a, "[SP-T21]") {
		t.Errorf("%q, for an unknown account %q", a, b)
	}
	wrong := func(user, pass string) string {
		c := h.dial().secure()
		c.cmd(331, "USER %s", user)
		defer c.expectEnd()
		return c.cmd(530, "PASS %s", pass)
	}
	if a, b := wrong("alice", "wrong"), wrong("nobody", "wrong"); a != b || a != "530 Login incorrect." {
		t.Errorf("%q, for an unknown account %q", a, b)
	}

	c = h.dial().login()
	c.stor("STOR f", "content")
	c.cmd(257, "MKD in")
	h.set(alice, "paths", "[{path: /in, allow: [list, read]}]")
	c.refused(550, "STOR in/f", "[SP-P")
	c.cmd(550, "DELE f")
	h.set(alice, "paths", "[{path: /, allow: [all]}]")
	h.set(alice, "upload.max_size", "1000")
	c.epsv()
	raw := c.open()
	c.cmd(150, "STOR big")
	d := tls.Client(raw, c.tls)
	_, _ = io.WriteString(d, noise(100_000))
	_ = d.Close()
	if got := c.expect(552); !strings.Contains(got, "[SP-P41]") {
		t.Errorf("too large: %q", got)
	}
	h.set(alice, "upload.max_size", "0")

	h.set(alice, "transport.ftps_session_binding", "require")
	h.host.t.Run("require", func(t *testing.T) {
		if got := c.retr("RETR f"); got != "content" {
			t.Errorf("resumed: %q", got)
		}
		c.epsv()
		raw := c.open()
		c.cmd(150, "RETR f")
		cfg := c.tls.Clone()
		cfg.ClientSessionCache = nil
		b, _ := io.ReadAll(tls.Client(raw, cfg))
		c.expect(522)
		if len(b) > 0 {
			t.Errorf("unresumed: %q", b)
		}
	})
	// A change that shuts the account out ends its sessions.
	h.set(alice, "deny_from", "[127.0.0.0/8]")
	c.expect(421)
	c.expectEnd()
}

func TestRealPlainFTPByException(t *testing.T) {
	t.Parallel()
	h := startReal(t, Explicit)
	h.account("old-scanner")
	until := time.Now().AddDate(0, 1, 0).Format(time.DateOnly)
	r := h.db.Current()
	before := string(r.Document.Text())
	text := before + "\nexceptions:\n  - {account: old-scanner, allow: ftp, from: [127.0.0.0/8], until: " + until + ", reason: \"a copier without TLS\"}\n"
	if _, err := h.db.Apply(context.Background(), policydb.Change{Base: r.N, Text: []byte(text), Who: "test"}); err != nil {
		t.Fatal(err)
	}
	c := h.dial()
	c.expect(220)
	c.cmd(530, "USER alice")
	c.cmd(331, "USER old-scanner")
	c.cmd(230, "PASS "+realSecret)
	c.epsv()
	d := c.open()
	c.cmd(150, "STOR scan")
	_, _ = io.WriteString(d, "a page")
	_ = d.Close()
	c.expect(226)
	c.cmd(200, "CLNT copier") // tells the session manager its facts again
	if got := h.sessions.List(); len(got) != 1 || got[0].Facts.Protocol != policy.FTP || got[0].Facts.Client != "copier" {
		t.Errorf("sessions: %+v", got)
	}
	wrong := h.dial()
	wrong.expect(220)
	wrong.cmd(331, "USER old-scanner")
	wrong.cmd(530, "PASS wrong-horse-12")
	secure := h.dial()
	secure.secure()
	secure.cmd(331, "USER old-scanner")
	secure.cmd(230, "PASS "+realSecret)
	c.cmd(220, "REIN")
	c.cmd(530, "USER alice")
	c.cmd(331, "USER old-scanner")
	c.cmd(230, "PASS "+realSecret)
	if got := h.sessions.List(); len(got) != 2 || got[0].Facts.Protocol == got[1].Facts.Protocol {
		t.Errorf("sessions: %+v", got)
	}

	var got map[string]int
	eventually(t, "the upload is in the log", func() bool {
		got = h.records()
		return got["upload ftp "] == 1
	})
	// USER alone does not make a connection plain FTP: it may still begin TLS.
	want := map[string]int{
		"login ftp ": 2, "login ftps ": 1, "upload ftp ": 1, "logout ftp ": 1, "login-refused ftp ": 1, "login-refused ftps " + policy.CodeSSLRequired: 1,
	}
	if !maps.Equal(got, want) {
		t.Errorf("records %v, want %v", got, want)
	}

	// The exception ends: so does what came in by it, and nothing else.
	r = h.db.Current()
	if _, err := h.db.Apply(context.Background(), policydb.Change{Base: r.N, Text: []byte(before), Who: "test"}); err != nil {
		t.Fatal(err)
	}
	c.expect(421)
	c.expectEnd()
	secure.cmd(200, "NOOP")
}

func TestRealKill(t *testing.T) {
	t.Parallel()
	h := startReal(t, Explicit, withLimits(limits{data: time.Hour})) // who waits for the data connection waits longer than the client
	c := h.dial().login()
	c.epsv()
	c.send("STOR f\r\n")
	eventually(t, "the transfer waits", func() bool { return h.srv.transferring() })
	c.wait()
	if n := h.sessions.Kill(func(session.Info) bool { return true }, "test", ""); n != 1 {
		t.Fatalf("%d sessions killed", n)
	}
	for _, text, err := c.reply(); !strings.HasPrefix(text, "421"); _, text, err = c.reply() {
		if err != nil {
			t.Fatal(err)
		}
	}
	c.expectEnd()
	eventually(t, "the session is gone", func() bool { return len(h.sessions.List()) == 0 })
}

func TestRealParallelSessions(t *testing.T) {
	t.Parallel()
	h := startReal(t, Explicit)
	t.Run("clients", func(t *testing.T) {
		for i := range 6 {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				c := h.dial()
				c.t = t
				c.login()
				for j := range 5 {
					name, content := fmt.Sprintf("f-%d-%d", i, j), noise(1000*(i+1)*(j+1))
					c.stor("STOR "+name, content)
					if got := c.retr("RETR " + name); got != content {
						t.Errorf("%s: %d bytes came back", name, len(got))
					}
				}
				c.cmd(221, "QUIT")
			})
		}
	})
	if got := strings.Count(h.dial().login().retr("NLST"), "\r\n"); got != 30 {
		t.Errorf("%d files, want 30", got)
	}
}
