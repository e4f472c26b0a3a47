package transittest

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Env names the binary of a Vault or OpenBao that tests use in the place of the fake (docs/OPERATIONS.md "Key services").
const Env = "SALLYPORT_VAULT"

// Product is whose server a service is, or answers as. They share an API, and not every answer.
type Product string

// Products.
const (
	Vault   Product = "Vault"
	OpenBao Product = "OpenBao"
)

// Products are what StartAs can start: what the binary that the environment names is, or all, of the fake.
func Products(t TB) []Product {
	t.Helper()
	path := os.Getenv(Env)
	if path == "" {
		return []Product{Vault, OpenBao}
	}
	p, err := productOf(path)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return []Product{p}
}

// productOf asks a binary what it is.
func productOf(path string) (Product, error) {
	text, err := exec.Command(path, "version").Output()
	name, _, _ := strings.Cut(string(text), " ")
	if p := Product(name); err == nil && (p == Vault || p == OpenBao) {
		return p, nil
	}
	return "", fmt.Errorf("it is neither a Vault nor an OpenBao: `version` says %q, %w", text, err)
}

// TB is what is needed of a test.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Cleanup(func())
	TempDir() string
}

// Service is a key service that one test has to itself, with a transit engine at "transit". What goes wrong ends the test.
// Not safe for concurrent use; the service is.
type Service interface {
	Product() Product
	URL() string // https://127.0.0.1:PORT
	CA() []byte  // PEM: the authority of its certificate

	// Token makes a token that may do with a key what docs/OPERATIONS.md says, but for some of these operations: "read", "encrypt",
	// "decrypt", "rotate", "config", "trim".
	Token(key string, denied ...string) string
	// ShortToken is Token of one that ends after that time, may be renewed or not, and may look at itself.
	ShortToken(key string, ttl time.Duration, renewable bool) string
	// LimitedToken is Token of one that is for so many requests, and may look at itself, which is one.
	LimitedToken(key string, uses int) string
	Revoke(token string)

	AddKey(name, kind string, derived bool)
	// ImportKey makes a key of bytes that were made elsewhere.
	ImportKey(name string)
	// ConfigKey changes settings of a key, as its administrator would.
	ConfigKey(name string, settings map[string]any)
	RotateKey(name string)
	RemoveKey(name string)
	// SoftDeleteKey is for an OpenBao.
	SoftDeleteKey(name string)
	Versions(name string) []int

	SetSealed(bool)
	// Stop has it go away, Start brings it back at the same address.
	Stop()
	Start()
}

// Start starts the server that the environment names, or a fake of a Vault. It ends with the test.
func Start(t TB) Service {
	t.Helper()
	return StartAs(t, Products(t)[0])
}

// StartAs is Start of one of Products.
func StartAs(t TB, p Product) Service {
	t.Helper()
	if path := os.Getenv(Env); path != "" {
		return startVault(t, path)
	}
	s := &service{t: t, Server: New("transit", "s.token")}
	s.Server.Product = p
	s.listen(hold(t))
	t.Cleanup(s.Stop)
	return s
}

// service is a fake that listens.
type service struct {
	*Server
	t    TB
	http *httptest.Server
}

func (s *service) listen(address string) {
	s.t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		s.t.Fatalf("%v", err)
	}
	s.http = httptest.NewUnstartedServer(http.Handler(s.Server))
	s.http.Listener.Close()
	s.http.Listener = l
	s.http.StartTLS()
}

// hold returns an address with a free port, which nobody else is given who asks for any that is free: a socket is bound to it that takes no
// connections. So it is there for Start, and refuses while nobody listens.
func hold(t TB) (address string) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) // as who listens does: both may have it
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	}
	bound, nameErr := unix.Getsockname(fd)
	if err := errors.Join(err, nameErr); err != nil {
		t.Fatalf("%v", err)
	}
	return fmt.Sprintf("127.0.0.1:%d", bound.(*unix.SockaddrInet4).Port)
}

func (s *service) Product() Product { return s.Server.Product }
func (s *service) URL() string      { return s.http.URL }
func (s *service) CA() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.http.Certificate().Raw})
}
func (s *service) Stop()  { s.http.Close() }
func (s *service) Start() { s.listen(s.http.Listener.Addr().String()) }

func (s *service) AddKey(name, kind string, derived bool) { s.AddKeyOf(name, kind, derived) }

func (s *service) ConfigKey(name string, settings map[string]any) {
	s.t.Helper()
	text, err := json.Marshal(settings)
	var in map[string]any
	if err == nil {
		err = json.Unmarshal(text, &in)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.keys[name].config(name, in); err != nil || r.status != http.StatusOK {
		s.t.Fatalf("configuring %s: %v, %+v", name, err, r)
	}
}
