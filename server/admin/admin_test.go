package admin

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/crypto/keyring"
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

	names sync.Mutex // held by restores
	holds []keyring.AccountID
}

func start(t testing.TB) *fixture {
	t.Helper()
	dir := t.TempDir()
	state := filepath.Join(dir, "state")
	seal, err := keyring.NewKeyFile(filepath.Join(dir, "key"))
	check(t, err)
	k, err := keyring.Create(t.Context(), state, seal)
	check(t, err)
	box, err := k.Policy()
	check(t, err)
	names, err := k.Names()
	check(t, err)
	db, err := policydb.Open(t.Context(), policydb.Options{Path: filepath.Join(state, "policy.db"), Box: box, Token: k.PolicyToken, Names: names, NameToken: k.NameToken, PasswordCost: 4})
	check(t, err)
	volumes, err := vfs.Open(t.Context(), vfs.Options{Dir: filepath.Join(state, "accounts"), Keyring: k})
	check(t, err)
	f := &fixture{policy: db, keyring: k, volumes: volumes, log: &bytes.Buffer{}, socket: filepath.Join(state, strings.Repeat("d", 120), "admin.sock")}
	s := NewServer(Options{
		Log: slog.New(slog.NewTextHandler(f.log, &slog.HandlerOptions{Level: slog.LevelDebug})), Policy: db, Keyring: k, Volumes: volumes,
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
		Bans: func() []Ban { return nil }, Ban: func(netip.Prefix, time.Time, string, string) {}, Unban: func(netip.Prefix) bool { return false }, Unlock: func(string) {},
		Record: func(_ context.Context, a audit.Event) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.acts = append(f.acts, a)
			return f.actError
		},
		RecordSeq: func(_ context.Context, a audit.Event) (uint64, error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.acts = append(f.acts, a)
			return uint64(len(f.acts)), f.actError
		},
		HoldNames: func(id keyring.AccountID) func() {
			f.names.Lock()
			f.holds = append(f.holds, id)
			return f.names.Unlock
		},
		Tail: f.tail,
		ReadAudit: func(ctx context.Context, seq uint64) (rec audit.Record, err error) {
			if seq != 7 {
				return rec, audit.ErrNoRecord
			}
			return rec, f.tail(ctx, 0, false, func(r audit.Record) error { rec = r; return nil })
		},
		VerifyAudit: func() (*audit.Result, error) { return nil, errors.New("secret place /x") },
	})
	d := NewDoor(DoorOptions{Log: s.o.Log, Status: func() Status { return Status{State: "ready", PID: 1} }, Reload: func(context.Context) error { return errors.New("bad file") }})
	d.Open(s)
	ln, err := Listen(f.socket, 0o600)
	check(t, err)
	f.Client = NewClient(f.socket)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Serve(ctx, ln, time.Second) }()
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

// TestAStreamEndsWithTheServer: start's cleanup fails if Serve waits for the stream.

func check(t testing.TB, err error) {
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
