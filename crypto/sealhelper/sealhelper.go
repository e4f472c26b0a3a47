// Package sealhelper is a seal whose key another program looks after: an HSM by
// PKCS#11, a TPM, a cloud's key service. Each operation starts the program once,
// writes one JSON object to its standard input and reads one from its standard
// output (docs/SEAL-HELPER.md).
package sealhelper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"syscall"
	"time"

	"sallyport/crypto/keyring"
)

var (
	// ErrConfig means that the helper cannot be started as configured.
	ErrConfig = errors.New("seal helper: unusable configuration")
	// ErrUnavailable means that the helper cannot reach its key now.
	ErrUnavailable = errors.New("seal helper: key unavailable")
	// ErrDenied means that the key's keeper refused.
	ErrDenied = errors.New("seal helper: denied")
	// ErrHelper means that the helper failed, or did not speak the protocol.
	ErrHelper = errors.New("seal helper: failed")
)

// Config says which program to start.
type Config struct {
	// Command is the program's absolute path and its arguments. No shell reads
	// them. Secrets do not belong here: other users see arguments.
	Command []string
	Timeout time.Duration // of one operation; 0 means 30 s
	// User is whom the program is run as: the server's user, where root looks at its seal. Root must not start what that user could
	// change, nor find out what only root can do. Nil means whoever this process belongs to.
	User *syscall.Credential
	Log  *slog.Logger // gets what the helper writes to standard error; nil for nobody
}

// Seal is safe for concurrent use as far as the helper is.
type Seal struct {
	config Config
	label  string
}

// destroyer is the seal of a helper that can destroy old keys.
type destroyer struct{ *Seal }

var (
	_ keyring.Labelled  = (*Seal)(nil)
	_ keyring.Destroyer = (*destroyer)(nil)
)

// New makes the seal and asks the helper what it is. It is a keyring.Destroyer
// if the helper says so.
func New(ctx context.Context, c Config) (keyring.Seal, error) {
	if c.Timeout == 0 {
		c.Timeout = 30 * time.Second
	}
	if err := c.Check(); err != nil {
		return nil, err
	}
	s := &Seal{config: c}
	out, err := s.call(ctx, request{Op: "info"})
	if err != nil {
		return nil, err
	}
	if s.label = out.Label; !printable(s.label) {
		return nil, fmt.Errorf("%w: its label is not 1 … 255 printable ASCII characters", ErrHelper)
	}
	if out.Destroys {
		return &destroyer{s}, nil
	}
	return s, nil
}

func printable(s string) bool {
	for _, c := range []byte(s) {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return len(s) > 0 && len(s) <= 255
}

// Kind is "helper".
func (s *Seal) Kind() string { return keyring.KindHelper }

// Label is what the helper says of where its key is.
func (s *Seal) Label() string { return s.label }

// Wrap gives the root to the helper.
func (s *Seal) Wrap(ctx context.Context, root []byte) ([]byte, error) {
	out, err := s.call(ctx, request{Op: "wrap", Data: root})
	if err != nil {
		return nil, err
	}
	if len(out.Data) == 0 || len(out.Data) > maxWrapped {
		return nil, fmt.Errorf("%w: it wrapped the root key to %d bytes", ErrHelper, len(out.Data))
	}
	return out.Data, nil
}

// Unwrap is the inverse of Wrap.
func (s *Seal) Unwrap(ctx context.Context, wrapped []byte) ([]byte, error) {
	out, err := s.call(ctx, request{Op: "unwrap", Data: wrapped})
	if err != nil {
		return nil, err
	}
	return out.Data, nil
}

// DestroyOld has the helper destroy the key that wrapped, unless that of keep
// is the same.
func (s *destroyer) DestroyOld(ctx context.Context, wrapped, keep []byte) error {
	_, err := s.call(ctx, request{Op: "destroy", Data: wrapped, Keep: keep})
	if keep != nil && errors.Is(err, keyring.ErrDamaged) { // so it says that keep would go along
		err = fmt.Errorf("%w: %w", keyring.ErrNeeded, err)
	}
	return err
}
