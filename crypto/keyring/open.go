package keyring

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"sallyport/crypto/durable"
)

// Open unwraps the root with s and authenticates the whole keyring. It finishes or rolls back what a crash cut off, so
// the state directory must be this process's alone (AcquireState). Errors:
// fs.ErrNotExist if the directory holds no keyring, ErrWrongKey and ErrDamaged
// as far as they can be told apart, errors.ErrUnsupported for a newer format,
// and whatever the seal returns.
func Open(ctx context.Context, stateDir string, s Seal) (*Keyring, error) {
	defer forget(s)
	// What a crashed process renamed last may not be durable yet; what is removed because of it would be missed.
	if err := durable.SyncDir(stateDir); err != nil {
		return nil, fmt.Errorf("opening the keyring: %w", err)
	}
	k, err := load(ctx, stateDir, s)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{sealName, keyringName} {
		// What a crash left half-written may hold keys that were removed since.
		if err := durable.RemoveTemp(filepath.Join(stateDir, name)); err != nil {
			return nil, errors.Join(err, k.Close())
		}
	}
	if err := k.recoverRotation(ctx); err != nil {
		return nil, errors.Join(err, k.Close())
	}
	return k, nil
}

// Check tells whether s opens the keyring; the errors are Open's. It changes nothing, on the disk or at the seal: a server
// may be at work in the directory, and what Open would finish or remove as the remains of a crash is what that server is doing.
func Check(ctx context.Context, stateDir string, s Seal) error {
	defer forget(s)
	for {
		before, err := readSeal(stateDir)
		if err != nil {
			return err
		}
		k, err := load(ctx, stateDir, s)
		if err == nil {
			return k.Close()
		}
		// The two files are of one moment only if seal.json is still the one that was there before the keyring was read.
		after, again := readSeal(stateDir)
		if again != nil || bytes.Equal(before.Check, after.Check) || ctx.Err() != nil {
			return err
		}
	}
}

// load reads and authenticates both files. It writes nothing.
func load(ctx context.Context, stateDir string, s Seal) (*Keyring, error) {
	if err := checkOutside(s, stateDir); err != nil {
		return nil, err
	}
	sealed, err := readSeal(stateDir)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(filepath.Join(stateDir, keyringName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s is there, %s is not; if this state directory was never used, remove %[2]s and begin again",
			ErrDamaged, sealName, keyringName)
	} else if err != nil {
		return nil, fmt.Errorf("opening the keyring: %w", err)
	}
	epoch, err := ringEpoch(data)
	if err != nil {
		return nil, err
	}
	root, err := sealed.unseal(ctx, s, epoch)
	if err != nil {
		return nil, err
	}
	ring, err := decodeRing(data, root)
	if err != nil {
		root.destroy()
		return nil, err
	}
	k, err := newKeyring(stateDir, s, sealed, root, ring)
	if err != nil {
		root.destroy()
		return nil, err
	}
	return k, nil
}
