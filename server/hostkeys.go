package server

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/crypto/ssh"

	"sallyport/crypto/durable"
	"sallyport/server/admin"
)

// hostKeyKinds are the keys that a server has, in the order offered. The file
// of a kind is "ssh_host_<kind>_key", as OpenSSH names it.
var hostKeyKinds = []string{"ed25519", "ecdsa", "rsa"}

// HostKeySet holds the SSH host keys of one directory: PEM files of mode 0600.
// They are outside the seal, so that a sealed server can still identify itself.
// Safe for concurrent use.
type HostKeySet struct {
	dir    string
	mu     sync.Mutex // one writer of the directory at a time
	loaded atomic.Pointer[[]ssh.Signer]
}

// OpenHostKeys loads the keys of dir and makes those that are missing:
// Ed25519, ECDSA P-256, RSA-3072. Weak keys are ErrWeakKey.
func OpenHostKeys(dir string) (*HostKeySet, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("host keys: %w", err)
	}
	h := &HostKeySet{dir: dir}
	for _, kind := range hostKeyKinds {
		if fileExists(h.path(kind)) {
			continue
		}
		if err := h.generate(kind); err != nil {
			return nil, fmt.Errorf("making the %s host key: %w", kind, err)
		}
	}
	return h, h.Reload()
}

func (h *HostKeySet) path(kind string) string {
	return filepath.Join(h.dir, "ssh_host_"+kind+"_key")
}

// Signers are the keys to offer. The slice must not be changed.
func (h *HostKeySet) Signers() []ssh.Signer { return *h.loaded.Load() }

// Reload reads the files again. On error the keys in use stay.
func (h *HostKeySet) Reload() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.reload()
}

func (h *HostKeySet) reload() error {
	var signers []ssh.Signer
	for _, kind := range hostKeyKinds {
		s, err := readHostKey(h.path(kind))
		if errors.Is(err, fs.ErrNotExist) {
			continue // an operator may have removed a kind
		}
		if err != nil {
			return err
		}
		signers = append(signers, s)
	}
	if len(signers) == 0 {
		return fmt.Errorf("no host key in %s", h.dir)
	}
	h.loaded.Store(&signers)
	return nil
}

func readHostKey(path string) (ssh.Signer, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("host key: %w", err)
	}
	s, err := ssh.ParsePrivateKey(data)
	if err != nil {
		return nil, &StateError{path, fmt.Errorf("loading the host key: %w", err), "restore it from a copy; where clients may learn a new key, remove the file and the server makes one"}
	}
	if _, err := checkStrength(s.PublicKey().(ssh.CryptoPublicKey).CryptoPublicKey()); err != nil {
		return nil, fmt.Errorf("host key %s: %w", path, err)
	}
	return s, nil
}

// List tells the keys in use.
func (h *HostKeySet) List() []admin.HostKey {
	var out []admin.HostKey
	for _, s := range h.Signers() {
		pub := s.PublicKey()
		kind := kindOf(pub)
		line := ssh.MarshalAuthorizedKey(pub)
		out = append(out, admin.HostKey{
			Kind: kind, Algorithm: pub.Type(), Fingerprint: ssh.FingerprintSHA256(pub),
			Public: string(line[:len(line)-1]),
		})
	}
	return out
}

func kindOf(pub ssh.PublicKey) string {
	switch pub.Type() {
	case ssh.KeyAlgoED25519:
		return "ed25519"
	case ssh.KeyAlgoRSA:
		return "rsa"
	default:
		return "ecdsa"
	}
}

// ErrNoSuchKey means a kind of host key that does not exist.
var ErrNoSuchKey = errors.New("no host key of that kind")

// Rotate replaces the keys of the kinds named (all when none is) and puts the
// new ones in use. Sessions that are open go on. The old keys are destroyed.
func (h *HostKeySet) Rotate(kinds ...string) error {
	if len(kinds) == 0 {
		kinds = hostKeyKinds
	}
	for _, kind := range kinds {
		if !slices.Contains(hostKeyKinds, kind) {
			return fmt.Errorf("%q: %w", kind, ErrNoSuchKey)
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, kind := range kinds {
		if err := h.generate(kind); err != nil {
			return fmt.Errorf("rotating the %s host key: %w", kind, err)
		}
	}
	return h.reload()
}

func (h *HostKeySet) generate(kind string) error {
	var key crypto.PrivateKey
	var err error
	switch kind {
	case "ed25519":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	case "ecdsa":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "rsa":
		key, err = rsa.GenerateKey(rand.Reader, 3072)
	}
	if err != nil {
		return err
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		return err
	}
	return durable.WriteFile(h.path(kind), pem.EncodeToMemory(block), 0o600)
}
