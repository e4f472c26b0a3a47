package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"sallyport/crypto/keyring"
	"sallyport/crypto/sealhelper"
	"sallyport/crypto/transit"
)

// seal asks whether the root key can be got at, by whom, and by whom not.
func (d *doctor) seal(ctx context.Context) {
	d.sealedNow()
	d.unsealers()
	info, err := keyring.ReadSeal(d.c.State.Dir)
	switch {
	case err != nil:
		d.add("seal", Fail, err.Error(), cmp.Or(SealHint(err), "see the check of the state directory"))
		return
	case info.Kind == keyring.KindKeyFile:
		d.keyFile(ctx)
	case info.Kind == keyring.KindShares:
		d.add("seal", OK, fmt.Sprintf("%d of %d shares of set %x unseal the server", info.K, info.N, info.Set), "")
	case info.Kind == keyring.KindPassphrase && d.approvedOnly():
		d.add("seal", Fail, "a passphrase cannot unseal it with fips140=only (Argon2id)", "seal it in another way while that is off: `sallyport seal rotate --to shares` (docs/FIPS.md)")
	case needsPeople(info.Kind):
		d.add("seal", OK, "people unseal it, by "+info.Kind, "")
	default:
		d.hostSeal(ctx, info)
	}
	if info.Former != "" {
		d.add("erasure", Warn, fmt.Sprintf("what the seal before wrapped (%s %s) is not destroyed there yet; a running server tries again by itself", info.Former, info.FormerLabel),
			"`sallyport seal status` says why; `sallyport seal finish` tries now, and `--give-up` forgets it where that key is lost for good")
	}
	if len(info.Epochs) > 1 {
		d.add("erasure", Warn, "an old root key is not destroyed at the seal yet; a running server tries again by itself", "`sallyport seal status` says why; `sallyport seal finish` tries now")
	}
	if info.Kind != keyring.KindKeyFile && len(info.Kits) == 0 {
		d.add("recovery", Warn, "there is no recovery kit", "make one with `sallyport seal export --recipient age1…` and keep it off this host: who loses the seal's secret loses the files")
	}
}

// hostSeal looks at a seal whose key is not in a file.
func (d *doctor) hostSeal(ctx context.Context, info *keyring.SealInfo) {
	if file := d.c.Seal.Transit.TokenFile; info.Kind == keyring.KindTransit && filepath.IsAbs(file) && !d.private("seal", file, 0o640) {
		return
	}
	seal, err := d.openingSeal(ctx, info.Kind)
	if err == nil {
		err = keyring.Check(ctx, d.c.State.Dir, seal)
	}
	if err != nil {
		d.add("seal", Fail, err.Error(), cmp.Or(SealHint(err), "check seal."+info.Kind+", and whether the key's keeper can be reached"))
		return
	}
	d.add("seal", OK, info.Kind+" ("+info.Label+") opens the keyring", "")
	if t, ok := seal.(transit.Tokened); ok {
		d.serviceKey(ctx, t)
		d.token(ctx, t)
	}
}

// serviceKey looks at the settings of a key at a key service. What it wrapped opens whatever they are.
func (d *doctor) serviceKey(ctx context.Context, of transit.Tokened) {
	unsuitable, deletable, err := of.Key(ctx)
	switch {
	case err != nil:
		d.add("key", Warn, "the key at the key service could not be looked at: "+err.Error(), SealHint(err))
	case unsuitable != nil:
		d.add("key", Warn, "no new root is sealed by the key that is in force: "+unsuitable.Error(), "make another (docs/OPERATIONS.md, Key services), name it in seal.transit.key, and run `sallyport seal rotate --to transit`, then `sallyport seal rotate`")
	case deletable:
		d.add("key", Warn, "the key at the key service may be deleted there, which would be the end of all data", "unless that is wanted now, set deletion_allowed=false for it")
	}
}

// openingSeal is the seal as the server would use it: a helper is started as the server's user, for root, too.
func (d *doctor) openingSeal(ctx context.Context, kind string) (keyring.Seal, error) {
	if kind != keyring.KindHelper || os.Geteuid() != 0 {
		return HostSeal(ctx, d.c, nil)
	}
	who, err := credentialOf(d.c.State.Dir)
	if err != nil {
		return nil, err
	}
	c := d.c.Seal.helper(nil)
	c.User = who
	return sealhelper.New(ctx, c)
}

// token looks at that of a key service. It renews nothing: a server does.
func (d *doctor) token(ctx context.Context, of transit.Tokened) {
	t, err := of.Token(ctx)
	switch {
	case errors.Is(err, transit.ErrForbidden):
		d.add("token", Warn, "the token of the key service must not look at itself, so nobody here knows when it ends", tokenHint)
	case err != nil:
		d.add("token", Warn, "the token of the key service could not be looked at: "+err.Error(), SealHint(err))
	case t.Due() && !t.Login:
		d.add("token", Warn, fmt.Sprintf("the token of the key service ends in %s and was not renewed; a running server does that", t.TTL), tokenHint)
	case tokenAlarming(t):
		d.add("token", Warn, "the token of the key service "+describeToken(t), tokenHint)
	default:
		d.add("token", OK, "the token of the key service "+describeToken(t), "")
	}
}

// sealedNow is worth a line of its own: nobody can log in.
func (d *doctor) sealedNow() {
	if d.running != nil && d.running.Sealed != nil {
		d.add("sealed", Warn, "the running server is "+d.running.State+": "+d.running.Sealed.Reason, d.running.Sealed.Hint)
	}
}

// unsealers must be able to reach the socket.
func (d *doctor) unsealers() {
	a := d.c.Admin
	if len(a.UIDs)+len(a.UnsealUIDs)+len(a.UnsealGIDs) == 0 {
		return
	}
	const search fs.FileMode = 0o001
	for dir := filepath.Dir(d.c.AdminSocket()); dir != "/"; dir = filepath.Dir(dir) {
		if fi, err := os.Stat(dir); err == nil && fi.Mode()&search == 0 {
			d.add("admin socket", Warn, fmt.Sprintf("%s has mode %04o: users of admin.uids, admin.unseal_uids and admin.unseal_gids may not get to %s", dir, fi.Mode().Perm(), d.c.AdminSocket()),
				"set admin.socket to a directory that they can enter, e.g. with RuntimeDirectoryMode=0711 in the unit")
			return
		}
	}
}

func (d *doctor) keyFile(ctx context.Context) {
	path := d.c.KeyFile()
	if d.running != nil && d.running.State == "ready" && !fileExists(path) {
		d.add("seal", OK, "the running server is unsealed; its key is not on this host's disk at "+path, "")
		return
	}
	if !d.private("seal", path, 0o600) {
		return
	}
	if within(d.c.State.Dir, path) {
		d.add("seal", Fail, "the seal key lies in the state directory", "move it out and set seal.key_file")
		return
	}
	owner, err := ownerOf(d.c.State.Dir)
	if err == nil {
		err = keyring.Check(ctx, d.c.State.Dir, &keyring.KeyFile{Path: path, Owner: owner})
	}
	if err != nil {
		d.add("seal", Fail, err.Error(), "check that seal.key_file and state.dir belong together")
		return
	}
	if sameFilesystem(path, d.c.State.Dir) {
		d.add("seal", Warn, path+" opens the keyring; it is on the same filesystem as the state", "whoever gets this disk gets both: use a systemd credential, or keep the key on another device")
		return
	}
	d.add("seal", OK, path+" opens the keyring", "")
}
