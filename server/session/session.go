// Package session knows who is in and what they may do: login, limits, bans, live sessions, and the guard around a
// volume. It knows neither protocol library.
//
// A front-end gets a Conn from Manager.Connect right after accept, tells it what it learns (SetFacts), logs in, works
// with the Guard of the Session, and closes the Conn last. The Manager may end a connection at any time (ban, policy
// change, limit, kill, shutdown): it calls the hangup function that Connect was given, and from then on every call
// of that session is refused with the same denial, however slow the front-end is to hang up.
//
// One race rule holds everywhere: first register, then read the policy (or the account), then decide. A change that
// is made meanwhile finds the session in the table; a change that was made before is seen by the reading.
package session

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/crypto/keyring"
	"sallyport/policy"
	"sallyport/policy/policydb"
	"sallyport/server/audit"
	"sallyport/server/clock"
	"sallyport/vfs"
)

var (
	// ErrAuth is one answer for unknown accounts, wrong secrets and disabled accounts.
	ErrAuth = errors.New("session: authentication failed")
	// ErrCodeNeeded: the first factor is right, and the account has a second one, which the front-end must ask for: Login
	// again, with the same credential and a code.
	ErrCodeNeeded = errors.New("session: a code is needed")
	// ErrSealed: the server has no keys yet; logins get one clear sentence.
	ErrSealed = errors.New("session: server is sealed")
	// ErrAudit: the audit log takes no records, so nothing may happen. The operator sees why in the log.
	ErrAudit = errors.New("session: the audit log cannot be written")
	// ErrClosed: the connection was closed.
	ErrClosed = errors.New("session: connection closed")
)

// Options of New.
type Options struct {
	// Policy, FS and Audit belong to the unsealed state. Without Policy the server is sealed: connections are taken, under the
	// same limits, so that each can be told why nobody may log in (SP-L21, and ErrSealed for logins).
	Policy *policydb.DB
	FS     *vfs.FS
	Audit  *audit.Log
	Now    func() time.Time // nil = time.Now
	// Clock is the time that history is kept by and that records bear; nil = Now. Whether somebody may come in goes by Now.
	Clock *clock.Clock
	Log   *slog.Logger // nil = nowhere
	// PasswordWorkers is how many passwords are hashed at once; 0 = half of the processors, at least one.
	PasswordWorkers int
	Limits          Limits
	// HostSpace tells the bytes in all and free where the volumes lie; nil = not known.
	HostSpace func() (total, free uint64, err error)
}

// Limits of the server. Zero values mean defaults.
type Limits struct {
	Connections      int           // in all; 10,000
	PerAddress       int           // of one address (IPv6: of one /64); 1,024
	Unauthenticated  int           // in all, before login; 512. Beyond it the oldest of the busiest address goes
	UnauthPerAddress int           // before login, of one address; 64
	LoginTime        time.Duration // from connect to login, whatever the front-end allows; 2 minutes
	KeysOffered      int           // public keys that a connection may try before each counts as a failed login; 20
	Passwords        int           // that may wait for a worker; 256
}

func (l *Limits) defaults() {
	for _, d := range []struct {
		field *int
		value int
	}{{&l.Connections, 10_000}, {&l.PerAddress, 1024}, {&l.Unauthenticated, 512}, {&l.UnauthPerAddress, 64}, {&l.KeysOffered, 20}, {&l.Passwords, 256}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if l.LoginTime == 0 {
		l.LoginTime = 2 * time.Minute
	}
}

// now is the time of history and records.
func (m *Manager) now() time.Time {
	if m.o.Clock == nil {
		return m.o.Now()
	}
	return m.o.Clock.Now()
}

// reach is since when an account may look back; see policy.Backup.Reach.
func (m *Manager) reach(b policy.Backup) time.Time {
	if m.o.Clock == nil || b.Retention == policy.Forever {
		return b.Reach(m.o.Now())
	}
	return m.o.Clock.Reach(b.Retention)
}

// Manager is safe for concurrent use. Its goroutines end in Close.
type Manager struct {
	o        Options
	throttle *throttle
	gate     *gate
	proofs   *proofs
	decoys   map[string]*policydb.Account // by kind of hash: what a password of nobody is checked against
	drain    *drainer
	check    func(a *policydb.Account, secret string) bool // (*Account).CheckPassword; tests count its calls
	wait     func(context.Context, *Conn, time.Duration)   // tests do not wait

	offers atomic.Pointer[offers]

	ctx  context.Context // of the goroutines; ends in Close
	stop context.CancelFunc
	work sync.WaitGroup

	mu       sync.Mutex // guards what follows; never held over I/O or a callback
	conns    map[string]*Conn
	crowd    map[netip.Addr]*crowd
	unauth   int
	accounts map[keyring.AccountID]*accountState
	seq      uint64
	closed   bool // takes no connections
	stopped  bool // starts no goroutines

	testOnlyRegistered func() // called after a session stands in the table, before it is decided on
}

// Sealed is the denial of everybody while the server has no keys.
func Sealed() *policy.Denial { return policy.Deny(policy.CodeSealed, "sealed", "server") }

// Door is where a front-end takes its connections: a Manager, or what stands in front of one while the server is sealed
// now and unsealed later.
type Door interface {
	Connect(ctx context.Context, f policy.Facts, hangup func(*policy.Denial)) (*Conn, *policy.Denial)
}

// crowd counts the connections of one address.
type crowd struct{ all, unauth int }

// New starts a manager. It registers itself with Policy (changes reach live sessions) and FS (audit events of volumes are
// brought into the chain).
func New(o Options) (*Manager, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.PasswordWorkers == 0 {
		o.PasswordWorkers = max(1, runtime.NumCPU()/2)
	}
	o.Limits.defaults()
	m := &Manager{o: o, check: (*policydb.Account).CheckPassword, wait: wait, throttle: newThrottle(), gate: newGate(o.PasswordWorkers, o.Limits.Passwords), proofs: newProofs(),
		conns: map[string]*Conn{}, crowd: map[netip.Addr]*crowd{}, accounts: map[keyring.AccountID]*accountState{}}
	m.ctx, m.stop = context.WithCancel(context.Background())
	if o.Policy != nil {
		m.decoys = map[string]*policydb.Account{}
		for _, kind := range policy.Lookup("password.hash").Values {
			m.decoys[kind] = o.Policy.Decoy(kind)
		}
		o.Policy.OnChange(m.Recheck)
		o.Policy.OnAccount(m.recheckAccount)
		o.Policy.OnTrust(m.recheckTrust)
	}
	if o.FS != nil && o.Audit != nil {
		m.drain = newDrainer(o.Audit, o.Log)
		m.work.Go(func() { m.drain.run(m.ctx) })
		o.FS.OnOutbox(m.drain.add)
	}
	m.work.Go(m.sweepLoop)
	return m, nil
}

// Close is CloseWith SP-S32.
func (m *Manager) Close() error {
	return m.CloseWith(policy.Deny(policy.CodeShutdown, "shutdown", "operator"))
}

// CloseWith ends every connection with d, brings the last audit events of volumes into the chain, and waits for its
// goroutines. The front-ends must have been shut down before if their transfers are to finish. Further calls do nothing.
func (m *Manager) CloseWith(d *policy.Denial) error {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return nil
	}
	m.closed = true
	m.mu.Unlock()
	for _, c := range m.snapshot() {
		c.end(d, "", "")
	}
	m.mu.Lock()
	m.stopped = true
	m.mu.Unlock()
	m.stop()
	m.work.Wait()
	return m.Drain(context.Background()) // what fails stays in its volume for the next start
}

// spawn runs fn in a goroutine that Close waits for; after Close, in this one.
func (m *Manager) spawn(fn func()) {
	m.mu.Lock()
	stopped := m.stopped
	if !stopped {
		m.work.Go(fn)
	}
	m.mu.Unlock()
	if stopped {
		fn()
	}
}

func (m *Manager) sealed() bool { return m.o.Policy == nil || m.o.FS == nil || m.o.Audit == nil }

// revision in force.
func (m *Manager) revision() *policy.Revision {
	if m.o.Policy == nil {
		return &policy.Revision{Document: policy.Default()}
	}
	return m.o.Policy.Current()
}

// resolve the policy of a name that a client gave; what cannot be an account gets the policy of one that nobody has.
func (m *Manager) resolve(account string) *policy.Effective {
	return m.revision().Resolve(bounded(account))
}

// bounded is a name that a client gave, or nobody. A stranger may send a quarter of a megabyte as a name, and names that
// failed are remembered.
func bounded(account string) string {
	if !policy.ValidName(account) {
		return nobody
	}
	return account
}

// nobody is not a valid name, so no account and no section of a policy can have it.
const nobody = "?"

func (m *Manager) snapshot() []*Conn {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make([]*Conn, 0, len(m.conns))
	for _, c := range m.conns {
		list = append(list, c)
	}
	return list
}
