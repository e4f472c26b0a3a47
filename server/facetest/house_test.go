package facetest

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"sallyport/crypto/keyring"
	"sallyport/policy/policydb"
	"sallyport/server/audit"
	"sallyport/server/ftpd"
	"sallyport/server/session"
	"sallyport/server/sftpd"
	"sallyport/vfs"
)

// patience bounds every wait: generous, and never reached when things work.
const patience = 60 * time.Second

const password = "correct-horse-12"

// house is a whole server on loopback: both front-ends over one state directory.
type house struct {
	state    string
	ring     *keyring.Keyring
	key      ssh.Signer // of every account
	hostKey  ssh.Signer
	cert     tls.Certificate
	pool     *x509.CertPool
	policyDB *policydb.DB
	chain    *audit.Log
	files    *vfs.FS
	manager  *session.Manager
	ftp      *ftpd.Server
	sftp     *sftpd.Server
	ftpAddr  string
	sftpAddr string
	served   sync.WaitGroup
	errs     chan error // of Serve

	mu       sync.Mutex // guards accounts
	accounts int
}

// newHouse builds the server. The state lies in memory where the host has such a place: what is tested here does not
// depend on the disk, and thousands of commits do.
func newHouse(tb testing.TB) *house {
	tb.Helper()
	state, err := os.MkdirTemp(fastDir(), "facetest")
	if err != nil {
		tb.Fatal(err)
	}
	h := &house{state: state, key: newSigner(tb), hostKey: newSigner(tb)}
	tb.Cleanup(func() { os.RemoveAll(state) })
	h.certify(tb)
	seal, err := keyring.NewKeyFile(filepath.Join(tb.TempDir(), "key"))
	if err != nil {
		tb.Fatal(err)
	}
	if h.ring, err = keyring.Create(context.Background(), state, seal); err != nil {
		tb.Fatal(err)
	}
	if err := h.start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := h.stop(); err != nil {
			tb.Error(err)
		}
		h.ring.Close()
	})
	return h
}

// fastDir is in memory, where there is room: the houses take 250 MB, and a container's /dev/shm has 64.
func fastDir() string {
	var s unix.Statfs_t
	if err := unix.Statfs("/dev/shm", &s); err == nil && s.Type == unix.TMPFS_MAGIC && s.Bavail*uint64(s.Bsize) >= 1<<30 {
		return "/dev/shm"
	}
	return ""
}

func newSigner(tb testing.TB) ssh.Signer {
	tb.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func (h *house) certify(tb testing.TB) {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		tb.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	h.cert, h.pool = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, x509.NewCertPool()
	h.pool.AddCert(leaf)
}

// start opens everything below and serves both protocols on ports of the kernel's choice.
func (h *house) start() (err error) {
	ctx := context.Background()
	policyBox, err := h.ring.Policy()
	if err != nil {
		return err
	}
	names, err := h.ring.Names()
	if err != nil {
		return err
	}
	auditBox, err := h.ring.Audit()
	if err != nil {
		return err
	}
	if h.policyDB, err = policydb.Open(ctx, policydb.Options{
		Path: filepath.Join(h.state, "policy.db"), Box: policyBox, Token: h.ring.PolicyToken, Names: names, NameToken: h.ring.NameToken, PasswordCost: bcrypt.MinCost,
	}); err != nil {
		return err
	}
	if h.chain, err = audit.Open(audit.Options{Dir: filepath.Join(h.state, "audit"), Box: auditBox}); err != nil {
		return err
	}
	if h.files, err = vfs.Open(ctx, vfs.Options{
		Dir: filepath.Join(h.state, "accounts"), Keyring: h.ring, Recovered: session.Recovered,
	}); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	if h.manager, err = session.New(session.Options{Policy: h.policyDB, FS: h.files, Audit: h.chain, Log: log}); err != nil {
		return err
	}
	if h.sftp, err = sftpd.New(sftpd.Options{
		Sessions: h.manager, HostKeys: func() []ssh.Signer { return []ssh.Signer{h.hostKey} }, Log: log,
	}); err != nil {
		return err
	}
	if h.ftp, err = ftpd.New(ftpd.Options{
		Sessions: h.manager, Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &h.cert, nil }, Log: log,
	}); err != nil {
		return err
	}
	h.errs = make(chan error, 2)
	if h.sftpAddr, err = h.serve(h.sftp.Serve); err != nil {
		return err
	}
	h.ftpAddr, err = h.serve(func(ctx context.Context, ln net.Listener) error { return h.ftp.Serve(ctx, ln, ftpd.Explicit) })
	return err
}

// serve runs a front-end in a goroutine that stop waits for.
func (h *house) serve(fn func(context.Context, net.Listener) error) (addr string, err error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	h.served.Go(func() { h.errs <- fn(context.Background(), ln) })
	return ln.Addr().String(), nil
}

// stop ends the server in order. Sessions that are still there are cut.
func (h *house) stop() error {
	cut, cancel := context.WithCancel(context.Background())
	cancel()
	_ = h.sftp.Shutdown(cut) // tells that it had to cut
	_ = h.ftp.Shutdown(cut)
	h.served.Wait()
	close(h.errs)
	var errs []error
	for err := range h.errs {
		errs = append(errs, err)
	}
	return errors.Join(append(errs, h.manager.Close(), h.files.Close(), h.chain.Close(), h.policyDB.Close())...)
}

// account is one account and its volume.
type account struct {
	house *house
	name  string
	id    keyring.AccountID
}

// newAccount may do everything, and has the settings of grants beside that.
func (h *house) newAccount(grants map[string]string) (*account, error) {
	ctx := context.Background()
	h.mu.Lock() // one at a time: a policy revision is made on the one before
	defer h.mu.Unlock()
	h.accounts++
	a := &account{house: h, name: fmt.Sprintf("account%d", h.accounts)}
	all := map[string]string{
		"protocols": "[sftp, ftps]", "auth.sftp": "[publickey]", "paths": "[{path: /, allow: [all]}]", "session.max": "100",
	}
	for k, v := range grants {
		all[k] = v
	}
	var err error
	if a.id, err = h.ring.NewAccount(ctx); err != nil {
		return nil, err
	}
	if err := h.files.Create(ctx, a.id); err != nil {
		return nil, err
	}
	if _, err := h.policyDB.CreateAccount(ctx, policydb.NewAccount{Name: a.name, ID: a.id, Who: "test", Grants: all}); err != nil {
		return nil, err
	}
	if err := h.policyDB.SetPassword(ctx, a.name, password, "test"); err != nil {
		return nil, err
	}
	_, err = h.policyDB.AddKey(ctx, a.name, policydb.PublicKey{Blob: h.key.PublicKey().Marshal()}, "test")
	return a, err
}

func (a *account) volume() (*vfs.Volume, error) {
	return a.house.files.Volume(context.Background(), a.id)
}

// verify runs the volume's own check over everything.
func (a *account) verify() error {
	v, err := a.volume()
	if err != nil {
		return err
	}
	var errs []error
	if _, err := v.Verify(context.Background(), func(finding string) { errs = append(errs, errors.New("verify: "+finding)) }); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// eventually polls for something that the server does by itself.
func eventually(what string, ok func() bool) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); time.Now().Before(end); <-tick.C {
		if ok() {
			return nil
		}
	}
	return fmt.Errorf("not within %v: %s", patience, what)
}

// left waits until the server has no session of the connection from local: then nothing of it is under way any more.
func (h *house) left(local net.Addr) error {
	return eventually("the session has ended", func() bool {
		for _, s := range h.manager.List() {
			if s.Facts.Remote.String() == local.String() {
				return false
			}
		}
		return true
	})
}
