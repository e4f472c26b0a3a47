package server

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"

	"sallyport/crypto/keyring"
	"sallyport/server/admin"
	"sallyport/server/audit"
)

// VerifyOffline checks volumes without a server: all, or that of one account.
// It holds the lock of the state directory meanwhile. keyring.ErrKeyFile
// without the key.
func VerifyOffline(ctx context.Context, c *Config, account string) (admin.Check, error) {
	if !Initialised(c.State.Dir) {
		return admin.Check{}, fmt.Errorf("%w: %s", ErrNoState, c.State.Dir)
	}
	release, err := keyring.LockState(c.State.Dir)
	if err != nil {
		return admin.Check{}, err
	}
	defer release()
	seal, err := HostSeal(ctx, c, nil)
	if err != nil {
		return admin.Check{}, err
	}
	p, err := openParts(ctx, c, seal, slog.New(slog.DiscardHandler))
	if err != nil {
		return admin.Check{}, err
	}
	defer p.close()
	return admin.VerifyVolumes(ctx, p.policy, p.volumes, account)
}

// VerifyAuditOffline checks the audit log without a server.
func VerifyAuditOffline(ctx context.Context, c *Config) (admin.Check, error) {
	if !Initialised(c.State.Dir) {
		return admin.Check{}, fmt.Errorf("%w: %s", ErrNoState, c.State.Dir)
	}
	release, err := keyring.LockState(c.State.Dir)
	if err != nil {
		return admin.Check{}, err
	}
	defer release()
	seal, err := HostSeal(ctx, c, nil)
	if err != nil {
		return admin.Check{}, err
	}
	k, err := openKeyring(ctx, c, seal)
	if err != nil {
		return admin.Check{}, err
	}
	defer k.Close()
	box, err := k.Audit()
	if err != nil {
		return admin.Check{}, err
	}
	return admin.AuditCheck(audit.Verify(filepath.Join(c.State.Dir, "audit"), box))
}
