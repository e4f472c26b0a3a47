package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"sallyport/crypto/keyring"
	"sallyport/server/statecopy"
)

// Errors of opening a state directory.
var (
	// ErrNoState means that the directory is not there or was never initialised.
	ErrNoState = errors.New("no initialised state directory")
	// ErrRestoring means that a restore into the directory was not finished.
	ErrRestoring = errors.New("the restore of this state directory was not finished")
	// ErrStateExists means that the state directory was initialised before.
	ErrStateExists = errors.New("the state directory is initialised already")
)

// sealFile marks an initialised state directory (docs/FORMAT.md "Keys").
const sealFile = "seal.json"

// Initialised tells whether dir holds a state.
func Initialised(dir string) bool { return fileExists(filepath.Join(dir, sealFile)) }

// CreateState makes the state directory under the seal that the configuration
// describes: with a key file outside it (used if it exists), a transit engine or
// a helper. ErrStateExists if there is a state already, ErrNeedsPeople for the
// kinds that CreateSealedState takes.
func CreateState(ctx context.Context, c *Config) error {
	if Initialised(c.State.Dir) {
		return fmt.Errorf("%w: %s", ErrStateExists, c.State.Dir)
	}
	seal, err := c.sealOfKind(ctx, c.Seal.Kind, nil)
	if err != nil {
		return err
	}
	if c.Seal.Kind == keyring.KindKeyFile {
		if err := makeKeyFile(c.KeyFile()); err != nil {
			return err
		}
	}
	return CreateSealedState(ctx, c, seal)
}

func makeKeyFile(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("making the directory of the seal key: %w", err)
	}
	if fileExists(path) {
		return nil
	}
	if _, err := keyring.NewKeyFile(path); err != nil {
		return fmt.Errorf("making the seal key: %w", err)
	}
	return nil
}

// CreateSealedState makes the state directory: the keyring under that seal, host
// keys and, where none is configured, a self-signed certificate. ErrStateExists
// if there is a state already.
func CreateSealedState(ctx context.Context, c *Config, seal keyring.Seal) error {
	if Initialised(c.State.Dir) {
		return fmt.Errorf("%w: %s", ErrStateExists, c.State.Dir)
	}
	if fileExists(filepath.Join(c.State.Dir, statecopy.RestoringFile)) {
		return fmt.Errorf("%w: %s", ErrRestoring, c.State.Dir)
	}
	if err := os.MkdirAll(c.State.Dir, 0o700); err != nil {
		return fmt.Errorf("making the state directory: %w", err)
	}
	release, err := keyring.LockState(c.State.Dir)
	if err != nil {
		return err
	}
	defer release()
	k, err := keyring.Create(ctx, c.State.Dir, seal)
	if err != nil {
		return fmt.Errorf("making the keyring: %w", err)
	}
	public, err := k.PendingPublic()
	if err == nil { // from the first start on
		n := &notes{path: filepath.Join(c.State.Dir, notesFile)}
		err = n.begin(public)
		n.close()
	}
	if err = errors.Join(err, k.Close()); err != nil {
		return fmt.Errorf("making the keyring: %w", err)
	}
	if _, err := OpenHostKeys(c.HostKeyDir()); err != nil {
		return err
	}
	return ensureCertificate(c, time.Now())
}

// ensureCertificate makes the self-signed certificate where the server uses
// its own and there is none yet.
func ensureCertificate(c *Config, now time.Time) error {
	pairs, own := c.Certificates()
	if !own || fileExists(pairs[0].Certificate) {
		return nil
	}
	if err := SelfSign(pairs[0], c.certNames(), now); err != nil {
		return fmt.Errorf("making a self-signed certificate: %w", err)
	}
	return nil
}

// openKeyring opens the keys of an initialised state.
func openKeyring(ctx context.Context, c *Config, seal keyring.Seal) (*keyring.Keyring, error) {
	if !Initialised(c.State.Dir) {
		return nil, fmt.Errorf("%w: %s", ErrNoState, c.State.Dir)
	}
	k, err := keyring.Open(ctx, c.State.Dir, seal)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", c.State.Dir, err)
	}
	return k, nil
}
