package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"sallyport/crypto/keyring"
	"sallyport/server/session"
	"sallyport/vfs"
)

// parts are the floors below the front-ends, opened bottom up.
type parts struct {
	keyring  *keyring.Keyring
	volumes  *vfs.FS
	sessions *session.Manager
}

// openParts opens everything that needs the key. On error what was opened is
// closed again.
func openParts(ctx context.Context, c *Config, log *slog.Logger) (p *parts, err error) {
	p = &parts{}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	if p.keyring, err = openKeyring(ctx, c); err != nil {
		return nil, err
	}
	p.volumes, err = vfs.Open(ctx, vfs.Options{Dir: filepath.Join(c.State.Dir, "accounts"), Keyring: p.keyring, WindowBudget: c.Limits.WindowMemory})
	if err != nil {
		return nil, fmt.Errorf("opening the volumes: %w", err)
	}
	return p, nil
}

// close is the reverse of openParts; every part is closed even if one fails.
func (p *parts) close() error {
	var errs []error
	if p.volumes != nil {
		errs = append(errs, p.volumes.Close())
	}
	if p.keyring != nil {
		errs = append(errs, p.keyring.Close())
	}
	return errors.Join(errs...)
}
