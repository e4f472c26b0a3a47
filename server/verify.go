package server

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"sallyport/crypto/keyring"
	"sallyport/server/admin"
	"sallyport/server/audit"
	"sallyport/vfs"
)

// lockOffline takes the lock of the state directory, which no server has until release, and asks the host for the seal. ErrNoState,
// keyring.ErrInUse, keyring.ErrKeyFile.
func lockOffline(ctx context.Context, c *Config) (s keyring.Seal, release func(), err error) {
	if !Initialised(c.State.Dir) {
		return nil, nil, fmt.Errorf("%w: %s", ErrNoState, c.State.Dir)
	}
	release, err = keyring.LockState(c.State.Dir)
	if err != nil {
		return nil, nil, err
	}
	s, err = HostSeal(ctx, c, nil)
	if err != nil {
		release()
		return nil, nil, err
	}
	return s, release, nil
}

// openOffline is what a server opens, without one, under the lock of the state directory until release.
func openOffline(ctx context.Context, c *Config) (p *parts, release func(), err error) {
	seal, release, err := lockOffline(ctx, c)
	if err != nil {
		return nil, nil, err
	}
	p, err = openParts(ctx, c, seal, c.formerSeal, slog.New(slog.DiscardHandler))
	if err != nil {
		release()
		return nil, nil, err
	}
	return p, release, nil
}

// VerifyOffline checks volumes without a server: all, or that of one account.
// It holds the lock of the state directory meanwhile. keyring.ErrKeyFile
// without the key.
func VerifyOffline(ctx context.Context, c *Config, account string) (admin.Check, error) {
	p, release, err := openOffline(ctx, c)
	if err != nil {
		return admin.Check{}, err
	}
	defer release()
	defer p.close()
	return admin.VerifyVolumes(ctx, p.policy, p.volumes, account)
}

// RepairOffline plans or executes the repair of one account's volume without a server.
func RepairOffline(ctx context.Context, c *Config, r admin.VolumeRepair) (vfs.Repair, error) {
	p, release, err := openOffline(ctx, c)
	if err != nil {
		return vfs.Repair{}, err
	}
	defer release()
	a, err := p.policy.Account(r.Account)
	if err != nil {
		return vfs.Repair{}, errors.Join(err, p.close())
	}
	done, err := admin.RepairVolume(ctx, p.volumes, a, r, p.log, func(ctx context.Context, e audit.Event) error {
		e.Who = fmt.Sprintf("uid %d, offline", os.Getuid())
		return p.audit.Append(context.WithoutCancel(ctx), e)
	})
	return done, errors.Join(err, p.close())
}

// AccountsOffline are the names of all accounts, without a server.
func AccountsOffline(ctx context.Context, c *Config) ([]string, error) {
	p, release, err := openOffline(ctx, c)
	if err != nil {
		return nil, err
	}
	defer release()
	defer p.close()
	accounts, err := p.policy.Accounts()
	var names []string
	for _, a := range accounts {
		names = append(names, a.Name)
	}
	return names, err
}

// VerifyAuditOffline checks the audit log without a server.
func VerifyAuditOffline(ctx context.Context, c *Config) (admin.Check, error) {
	seal, release, err := lockOffline(ctx, c)
	if err != nil {
		return admin.Check{}, err
	}
	defer release()
	k, err := openKeyring(ctx, c, seal)
	if err != nil {
		return admin.Check{}, err
	}
	defer k.Close()
	box, err := k.Audit()
	if err != nil {
		return admin.Check{}, err
	}
	signer, _, err := k.AuditSigner()
	if err != nil {
		return admin.Check{}, err
	}
	return admin.AuditCheck(audit.Verify(filepath.Join(c.State.Dir, auditDir), box, signer.Public().(ed25519.PublicKey)))
}
