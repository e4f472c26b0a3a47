package admin

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/crypto/keyring"
	"sallyport/policy"
	"sallyport/policy/policydb"
	"sallyport/server/audit"
	"sallyport/vfs"
)

// fixture is an admin server on real floors below, over a real socket.
type fixture struct {
	*Client
	policy   *policydb.DB
	keyring  *keyring.Keyring
	volumes  *vfs.FS
	socket   string
	log      *bytes.Buffer // read after the server has stopped, or when it is idle
	sessions []Session
	killed   []string
	mu       sync.Mutex
	acts     []audit.Event
	actError error
}

func start(t *testing.T) *fixture {
	t.Helper()
	dir := t.TempDir()
	state := filepath.Join(dir, "state")
	seal, err := keyring.NewKeyFile(filepath.Join(dir, "key"))
	check(t, err)
	k, err := keyring.Create(t.Context(), state, seal)
	check(t, err)
	box, err := k.Policy()
	check(t, err)
	db, err := policydb.Open(t.Context(), policydb.Options{Path: filepath.Join(state, "policy.db"), Box: box, Token: k.PolicyToken, PasswordCost: 4})
	check(t, err)
	volumes, err := vfs.Open(t.Context(), vfs.Options{Dir: filepath.Join(state, "accounts"), Keyring: k})
	check(t, err)
	f := &fixture{policy: db, keyring: k, volumes: volumes, log: &bytes.Buffer{}, socket: filepath.Join(state, strings.Repeat("d", 120), "admin.sock")}
	s := NewServer(Options{
		Log: slog.New(slog.NewTextHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug})), Policy: db, Keyring: k, Volumes: volumes,
		Status: func() Status { return Status{State: "ready", PID: 1} }, Reload: func(context.Context) error { return errors.New("bad file") },
		HostKeys: func() []HostKey { return nil }, RotateHostKeys: func(...string) error { return nil },
		Certs: func() []Cert { return nil }, RotateCerts: func() error { return nil },
		Sessions: func() []Session { return f.sessions },
		Kill: func(match func(Session) bool, _, _ string) int {
			for _, x := range f.sessions {
				if match(x) {
					f.killed = append(f.killed, x.ID)
				}
			}
			return len(f.killed)
		},
		Bans: func() []Ban { return nil }, Unban: func(string) bool { return false },
		Record: func(_ context.Context, a audit.Event) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.acts = append(f.acts, a)
			return f.actError
		},
		Tail:        f.tail,
		VerifyAudit: func() (*audit.Result, error) { return nil, errors.New("secret place /x") },
	})
	ln, err := Listen(f.socket, 0o600)
	check(t, err)
	f.Client = NewClient(f.socket)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln, time.Second) }()
	t.Cleanup(func() {
		cancel()
		check(t, <-done)
		check(t, errors.Join(volumes.Close(), db.Close(), k.Close()))
	})
	return f
}

// tail hands out one record, and when following waits for the end of ctx.
func (f *fixture) tail(ctx context.Context, n int, follow bool, fn func(audit.Record) error) error {
	accounts, err := f.policy.Accounts()
	if err != nil {
		return err
	}
	e := audit.Event{Action: audit.Upload, Path: "/a", Bytes: uint64(n)}
	if len(accounts) > 0 {
		e.Account = audit.ID(accounts[0].ID)
	}
	if err := fn(audit.Record{Seq: 7, Event: e}); err != nil || !follow {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

func TestAuditShowsNamesAndFollows(t *testing.T) {
	t.Parallel()
	f := start(t)
	_, err := f.AccountAdd(t.Context(), AccountAdd{Name: "acme"})
	check(t, err)
	r, err := f.AuditTail(t.Context(), AuditTail{Last: 5})
	check(t, err)
	if len(r.Records) != 1 || r.Records[0].Account != "acme" || r.Records[0].Seq != 7 || r.Records[0].Bytes != 5 {
		t.Errorf("got %+v", r.Records)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var got []AuditRecord
	err = f.AuditFollow(ctx, 3, func(r AuditRecord) error {
		got = append(got, r)
		cancel() // as Ctrl-C does
		return nil
	})
	wantCode(t, err, CodeTimeout)
	if len(got) != 1 || got[0].Account != "acme" {
		t.Errorf("followed %+v", got)
	}
}

// TestAStreamEndsWithTheServer: start's cleanup fails if Serve waits for the stream.
func TestAStreamEndsWithTheServer(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 1)
	t.Cleanup(func() { check(t, <-ended) }) // runs after start's cleanup
	f := start(t)
	seen := make(chan struct{})
	go func() {
		ended <- f.AuditFollow(context.Background(), 1, func(AuditRecord) error { close(seen); return nil })
	}()
	<-seen
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantCode(t *testing.T, err error, code Code) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Code != code {
		t.Fatalf("error is %v (%+v), want code %s", err, e, code)
	}
	return e
}

func testKey(t *testing.T, seed byte) (line, fingerprint string) {
	t.Helper()
	pub, err := ssh.NewPublicKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, 32)).Public())
	check(t, err)
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(pub))) + " test", ssh.FingerprintSHA256(pub)
}

func TestANewAccountHasExactlyWhatIsGiven(t *testing.T) {
	t.Parallel()
	f := start(t)
	line, fingerprint := testKey(t, 1)
	bare, err := f.AccountAdd(t.Context(), AccountAdd{Name: "bare"})
	check(t, err)
	if len(bare.Protocols) != 0 || bare.Paths != "[]" || bare.Password || len(bare.Keys) != 0 || !bare.Enabled {
		t.Errorf("bare account has %+v, want nothing granted", bare)
	}
	full, err := f.AccountAdd(t.Context(), AccountAdd{
		Name: "full", Protocols: []string{"sftp"}, Keys: []string{line}, Password: "long enough 42!",
		Paths: []PathRight{{"/in", []string{"list", "write"}}},
	})
	check(t, err)
	if !slices.Equal(full.Protocols, []string{"sftp"}) || full.Paths != "[{path: /in, allow: [list, write]}]" || !full.Password ||
		len(full.Keys) != 1 || full.Keys[0].Fingerprint != fingerprint || full.Keys[0].Comment != "test" {
		t.Errorf("got %+v", full)
	}
	e := f.policy.Current().Resolve("full")
	if policy.Permit(e, policy.OpWrite, "/in/a") != nil || policy.Permit(e, policy.OpWrite, "/out/a") == nil {
		t.Error("rights are not those given")
	}
	list, err := f.AccountList(t.Context())
	check(t, err)
	if len(list.Accounts) != 2 || list.Accounts[0].Name != "bare" {
		t.Errorf("list is %+v", list)
	}
	a, err := f.policy.Account("full")
	check(t, err)
	v, err := f.volumes.Volume(t.Context(), a.ID)
	check(t, err)
	view := v.View(vfs.ViewOptions{})
	defer view.Close()
	if fi, err := view.Stat("/in"); err != nil || !fi.IsDir() {
		t.Errorf("the folder that rights are given for is not there: %v, %v", fi, err)
	}
	if len(f.acts) != 2 || f.acts[0].Action != audit.AccountAdd || f.acts[0].Account.IsZero() {
		t.Errorf("audit acts: %+v", f.acts)
	}
}

func TestARefusedAccountLeavesNothing(t *testing.T) {
	t.Parallel()
	f := start(t)
	_, err := f.AccountAdd(t.Context(), AccountAdd{Name: "taken"})
	check(t, err)
	for _, tt := range []struct {
		name string
		add  AccountAdd
		code Code
		say  string
	}{
		{"exists", AccountAdd{Name: "taken"}, CodeInvalid, "exists already"},
		{"name", AccountAdd{Name: "../x"}, CodeInvalid, "not an account name"},
		{"weak password", AccountAdd{Name: "a", Password: "abcdefgh"}, CodeInvalid, "password.min_length = 12"},
		{"protocol", AccountAdd{Name: "b", Protocols: []string{"telnet"}}, CodeInvalid, `"telnet" is not one of`},
		{"verb", AccountAdd{Name: "c", Paths: []PathRight{{"/", []string{"everything"}}}}, CodeInvalid, "everything"},
		{"key", AccountAdd{Name: "d", Keys: []string{"ssh-ed25519 nonsense"}}, CodeInvalid, "key 1 is not one authorized_keys line"},
		{"key options", AccountAdd{Name: "e", Keys: []string{`command="x" ` + first(testKey(t, 2))}}, CodeInvalid, "without options"},
		{"group", AccountAdd{Name: "g", Groups: []string{"none"}}, CodeInvalid, "none"},
	} {
		_, err := f.AccountAdd(t.Context(), tt.add)
		if e := wantCode(t, err, tt.code); !strings.Contains(e.Message, tt.say) {
			t.Errorf("%s: message %q, want it to name %q", tt.name, e.Message, tt.say)
		}
	}
	if n := len(f.keyring.Accounts()); n != 1 {
		t.Errorf("%d keys in the keyring after the refusals, want 1", n)
	}
	dirs, err := os.ReadDir(filepath.Join(filepath.Dir(filepath.Dir(f.socket)), "accounts"))
	check(t, err)
	if len(dirs) != 1 {
		t.Errorf("%d volumes after the refusals, want 1", len(dirs))
	}
}

func first(a, _ string) string { return a }

func TestAccountLife(t *testing.T) {
	t.Parallel()
	f := start(t)
	ctx := t.Context()
	_, err := f.AccountAdd(ctx, AccountAdd{Name: "acme"})
	check(t, err)
	line, fingerprint := testKey(t, 3)
	keys, err := f.KeysAdd(ctx, KeysAdd{Account: "acme", Keys: []string{line}})
	check(t, err)
	if len(keys.Keys) != 1 || keys.Keys[0].Fingerprint != fingerprint {
		t.Fatalf("keys are %+v", keys)
	}
	_, err = f.KeysRemove(ctx, KeysRemove{Account: "acme", Fingerprint: "SHA256:none"})
	wantCode(t, err, CodeNotFound)
	keys, err = f.KeysRemove(ctx, KeysRemove{Account: "acme", Fingerprint: fingerprint})
	check(t, err)
	if len(keys.Keys) != 0 {
		t.Errorf("keys after removal: %+v", keys)
	}
	check(t, f.Passwd(ctx, Passwd{Account: "acme", Password: "a-fine-pass-77"}))
	e := wantCode(t, f.Passwd(ctx, Passwd{Account: "acme", Password: "abcdefghijklmn"}), CodeInvalid)
	if !strings.Contains(e.Message, "password.min_nonletters = 2") {
		t.Errorf("message %q names no rule", e.Message)
	}
	acc, err := f.AccountDisable(ctx, AccountRef{Name: "acme"})
	check(t, err)
	if acc.Enabled {
		t.Error("still enabled")
	}
	check(t, f.AccountRemove(ctx, AccountRef{Name: "acme"}))
	_, err = f.AccountShow(ctx, "acme")
	wantCode(t, err, CodeNotFound)
	if n := len(f.keyring.Accounts()); n != 0 {
		t.Errorf("%d keys left after the removal", n)
	}
	wantCode(t, f.AccountRemove(ctx, AccountRef{Name: "acme"}), CodeNotFound)
}

func TestPolicySetAndGet(t *testing.T) {
	t.Parallel()
	f := start(t)
	ctx := t.Context()
	_, err := f.AccountAdd(ctx, AccountAdd{Name: "john.doe", Protocols: []string{"sftp"}})
	check(t, err)
	rev, err := f.PolicySet(ctx, PolicySet{Set: []KeyValue{{"site.transport.tls_min", `"1.3"`}, {"accounts.john.doe.session.max", "4"}, {"session.idle", "10m"}}, Change: Change{Reason: "OPS-1"}})
	check(t, err)
	p, err := f.PolicyGet(ctx, PolicyQuery{Key: "accounts.john.doe.session.max"})
	check(t, err)
	if len(p.Settings) != 1 || p.Settings[0].Value != "4" || p.Revision != rev.Revision {
		t.Errorf("got %+v", p)
	}
	p, err = f.PolicyGet(ctx, PolicyQuery{Key: "site"})
	check(t, err)
	if len(p.Settings) != 2 || p.Settings[0].Key != "site.transport.tls_min" || p.Settings[1] != (Setting{Key: "site.session.idle", Value: "10m"}) {
		t.Errorf("site is %+v", p.Settings)
	}
	p, err = f.PolicyShow(ctx, PolicyQuery{Account: "john.doe"})
	check(t, err)
	i := slices.IndexFunc(p.Settings, func(s Setting) bool { return s.Key == "session.max" })
	if i < 0 || p.Settings[i].Value != "4" || !strings.HasPrefix(p.Settings[i].Origin, "account john.doe") {
		t.Errorf("effective session.max: %+v", p.Settings)
	}
	p, err = f.PolicyShow(ctx, PolicyQuery{})
	check(t, err)
	if !strings.Contains(p.Document, "john.doe:") {
		t.Errorf("document is %q", p.Document)
	}
	_, err = f.PolicySet(ctx, PolicySet{Set: []KeyValue{{"accounts.john.doe.session.max", ""}}, Base: rev.Revision})
	check(t, err)
	p, err = f.PolicyGet(ctx, PolicyQuery{Key: "accounts.john.doe.session.max"})
	check(t, err)
	if p.Settings[0].Value != "16" || !strings.HasPrefix(p.Settings[0].Origin, "not set") {
		t.Errorf("after unset: %+v", p.Settings)
	}
	_, err = f.PolicySet(ctx, PolicySet{Set: []KeyValue{{"session.max", "5"}}, Base: rev.Revision})
	wantCode(t, err, CodeConflict)
	_, err = f.PolicySet(ctx, PolicySet{Set: []KeyValue{{"session.max", "many"}}})
	wantCode(t, err, CodeInvalid)
	_, err = f.PolicySet(ctx, PolicySet{Set: []KeyValue{{"session.maxx", "5"}}})
	wantCode(t, err, CodeInvalid)
	_, err = f.PolicySet(ctx, PolicySet{Set: []KeyValue{{"accounts.nobody.session.max", "5"}}})
	wantCode(t, err, CodeNotFound)
	_, err = f.PolicyGet(ctx, PolicyQuery{Key: "accounts.nobody"})
	wantCode(t, err, CodeNotFound)
	if r := f.policy.Current(); r.Who != "uid:"+itoa(os.Getuid()) {
		t.Errorf("revision by %q", r.Who)
	}
}

func itoa(n int) string { return strings.TrimPrefix(Peer{UID: uint32(n)}.String(), "uid:") }

func TestConcurrentChangesAllHappen(t *testing.T) {
	t.Parallel()
	f := start(t)
	base := f.policy.Current().N
	var wg sync.WaitGroup
	for _, key := range []string{"session.max", "quota.files", "password.history"} {
		wg.Go(func() {
			if _, err := f.PolicySet(context.Background(), PolicySet{Set: []KeyValue{{key, "9"}}}); err != nil {
				t.Errorf("%s: %v", key, err)
			}
		})
	}
	wg.Wait()
	r := f.policy.Current()
	for _, key := range []string{"session.max", "quota.files", "password.history"} {
		if v, _ := r.Document.Get(policy.Site, key); v != "9" {
			t.Errorf("%s = %q after concurrent changes, want 9", key, v)
		}
	}
	if r.N != base+3 {
		t.Errorf("revision %d, want %d", r.N, base+3)
	}
}

func TestSessionsKill(t *testing.T) {
	t.Parallel()
	f := start(t)
	_, err := f.AccountAdd(t.Context(), AccountAdd{Name: "acme"})
	check(t, err)
	now := time.Now()
	f.sessions = []Session{{ID: "b", Account: "acme", Since: now}, {ID: "a", Account: "acme", Since: now.Add(-time.Minute)}}
	s, err := f.SessionList(t.Context())
	check(t, err)
	if s.Sessions[0].ID != "a" {
		t.Errorf("not sorted by start: %+v", s)
	}
	_, err = f.SessionKill(t.Context(), SessionKill{ID: "zzz"})
	wantCode(t, err, CodeNotFound)
	_, err = f.SessionKill(t.Context(), SessionKill{})
	wantCode(t, err, CodeUsage)
	k, err := f.SessionKill(t.Context(), SessionKill{Account: "acme"})
	check(t, err)
	if k.Killed != 2 || len(f.killed) != 2 {
		t.Errorf("killed %d: %v", k.Killed, f.killed)
	}
	_, err = f.SessionKill(t.Context(), SessionKill{Account: "nobody"})
	wantCode(t, err, CodeNotFound)
}

func TestOnlyKnownUsersMayCall(t *testing.T) {
	t.Parallel()
	s := NewServer(Options{Log: slog.New(slog.DiscardHandler), UIDs: []uint32{4321}, Status: func() Status { return Status{State: "ready"} }})
	for _, tt := range []struct {
		peer *Peer
		want int
	}{
		{&Peer{UID: 0}, http.StatusOK},
		{&Peer{UID: uint32(os.Getuid())}, http.StatusOK},
		{&Peer{UID: 4321}, http.StatusOK},
		{&Peer{UID: 4322}, http.StatusForbidden},
		{nil, http.StatusForbidden}, // the kernel did not say who
	} {
		r := httptest.NewRequest(http.MethodPost, "/v1/status", strings.NewReader("{}"))
		if tt.peer != nil {
			r = r.WithContext(context.WithValue(r.Context(), peerKey{}, *tt.peer))
		}
		w := httptest.NewRecorder()
		s.http.Handler.ServeHTTP(w, r)
		if w.Code != tt.want {
			t.Errorf("peer %v: status %d, want %d", tt.peer, w.Code, tt.want)
		}
	}
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	f := start(t)
	hc := f.http
	for _, tt := range []struct {
		method, path, body string
		want               int
	}{
		{"POST", "/v1/status", `{"unknown": 1}`, 400},
		{"POST", "/v1/status", `{} {}`, 400},
		{"POST", "/v1/status", ``, 400},
		{"GET", "/v1/status", ``, 404},
		{"POST", "/v1/none", `{}`, 404},
		{"POST", "/v1/policy/show", `{"account":"` + strings.Repeat("a", maxBody) + `"}`, 400},
	} {
		req, err := http.NewRequestWithContext(t.Context(), tt.method, "http://x"+tt.path, strings.NewReader(tt.body))
		check(t, err)
		res, err := hc.Do(req)
		check(t, err)
		body, err := io.ReadAll(res.Body)
		check(t, err)
		res.Body.Close()
		if res.StatusCode != tt.want || !strings.Contains(string(body), `{"error":{"code":"`) {
			t.Errorf("%s %s %.40q: %d %s, want %d and an error", tt.method, tt.path, tt.body, res.StatusCode, body, tt.want)
		}
	}
}

func TestInternalErrorsAreNotShown(t *testing.T) {
	t.Parallel()
	f := start(t)
	_, err := f.AuditVerify(t.Context())
	e := wantCode(t, err, CodeInternal)
	ref := strings.TrimPrefix(e.Message, "internal error, reference ")
	if strings.Contains(e.Message, "secret place") || ref == e.Message {
		t.Errorf("message %q", e.Message)
	}
	if !strings.Contains(f.log.String(), ref) || !strings.Contains(f.log.String(), "secret place /x") {
		t.Errorf("the log has no cause under reference %s: %s", ref, f.log)
	}
}

func TestAnUnrecordedActIsSaid(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.actError = errors.New("disk full")
	_, err := f.PolicySet(t.Context(), PolicySet{Set: []KeyValue{{"session.max", "5"}}})
	if e := wantCode(t, err, CodeInternal); !strings.Contains(e.Message, "done, but") {
		t.Errorf("message %q", e.Message)
	}
}

func TestNoServer(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "admin.sock")
	_, err := NewClient(socket).Status(t.Context())
	if e := wantCode(t, err, CodeUnreachable); e.Code.Exit() != 7 || !strings.Contains(e.Message, socket) {
		t.Errorf("got %+v", e)
	}
	ln, err := Listen(socket, 0o600)
	check(t, err)
	ln.Close() // leaves a stale socket behind
	_, err = NewClient(socket).Status(t.Context())
	wantCode(t, err, CodeUnreachable)
	ln, err = Listen(socket, 0o600)
	check(t, err)
	defer ln.Close()
	if fi, err := os.Stat(socket); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("socket mode %v, %v", fi.Mode(), err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = NewClient(socket).Status(ctx) // accepted by the kernel, answered by nobody
	if e := wantCode(t, err, CodeTimeout); e.Code.Exit() != 9 {
		t.Errorf("exit %d", e.Code.Exit())
	}
}

func TestListenReplacesOnlySockets(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "admin.sock")
	check(t, os.WriteFile(path, []byte("precious"), 0o600))
	if _, err := Listen(path, 0o600); err == nil {
		t.Fatal("listened on a file")
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "precious" {
		t.Errorf("the file is %q, %v", data, err)
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	r := AccountAdd{Name: "a", Password: "canary"}
	slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "password", r.Password)
	slog.New(slog.NewTextHandler(&b, nil)).Info("x", "request", r)
	if strings.Contains(b.String(), "canary") {
		t.Errorf("log has the secret: %s", b.String())
	}
}
