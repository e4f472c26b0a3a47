package admin

import (
	"context"

	"sallyport/vfs"
)

// The operations, one method each; routes.go has the other side.

// tell is call for an operation that answers nothing.
func (c *Client) tell(ctx context.Context, op string, req any) error {
	_, err := call[Empty](ctx, c, op, req)
	return err
}

func (c *Client) Status(ctx context.Context) (Status, error) {
	return call[Status](ctx, c, "status", Empty{})
}

func (c *Client) Reload(ctx context.Context) error {
	return c.tell(ctx, "reload", Empty{})
}

// Seal returns when sealing has begun: the server ends every session and becomes
// a new process image without keys.
func (c *Client) Seal(ctx context.Context, r Change) error {
	return c.tell(ctx, "seal", r)
}

func (c *Client) SealState(ctx context.Context) (SealState, error) {
	return call[SealState](ctx, c, "unseal/state", Empty{})
}

func (c *Client) Unseal(ctx context.Context, r Unseal) (SealState, error) {
	return call[SealState](ctx, c, "unseal", r)
}

func (c *Client) SealChange(ctx context.Context, r SealChange) (SealChanged, error) {
	return call[SealChanged](ctx, c, "seal/change", r)
}

func (c *Client) SealFinish(ctx context.Context, r SealFinish) (SealFinished, error) {
	return call[SealFinished](ctx, c, "seal/finish", r)
}

func (c *Client) SealPrepare(ctx context.Context, r SealChange) (SealPrepared, error) {
	return call[SealPrepared](ctx, c, "seal/prepare", r)
}

func (c *Client) SealConfirm(ctx context.Context, r SealConfirm) (SealChanged, error) {
	return call[SealChanged](ctx, c, "seal/confirm", r)
}

func (c *Client) KitExport(ctx context.Context, r KitExport) (Kit, error) {
	return call[Kit](ctx, c, "seal/export", r)
}

func (c *Client) KitRevoke(ctx context.Context, r KitRef) error {
	return c.tell(ctx, "seal/revoke", r)
}

func (c *Client) AccountAdd(ctx context.Context, r AccountAdd) (Account, error) {
	return call[Account](ctx, c, "account/add", r)
}

func (c *Client) AccountList(ctx context.Context) (Accounts, error) {
	return call[Accounts](ctx, c, "account/list", Empty{})
}

func (c *Client) AccountShow(ctx context.Context, name string) (Account, error) {
	return call[Account](ctx, c, "account/show", AccountRef{Name: name})
}

func (c *Client) AccountEnable(ctx context.Context, r AccountRef) (Account, error) {
	return call[Account](ctx, c, "account/enable", r)
}

func (c *Client) AccountDisable(ctx context.Context, r AccountRef) (Account, error) {
	return call[Account](ctx, c, "account/disable", r)
}

func (c *Client) AccountRemove(ctx context.Context, r AccountRef) error {
	return c.tell(ctx, "account/remove", r)
}

func (c *Client) Passwd(ctx context.Context, r Passwd) error {
	return c.tell(ctx, "account/passwd", r)
}

func (c *Client) AccountUnlock(ctx context.Context, r AccountRef) error {
	return c.tell(ctx, "account/unlock", r)
}

func (c *Client) SecondEnable(ctx context.Context, r SecondEnable) (Enrolment, error) {
	return call[Enrolment](ctx, c, "account/2fa/enable", r)
}

func (c *Client) SecondReset(ctx context.Context, r AccountRef) (SecondFactor, error) {
	return call[SecondFactor](ctx, c, "account/2fa/reset", r)
}

func (c *Client) SecondStatus(ctx context.Context, r AccountRef) (SecondFactor, error) {
	return call[SecondFactor](ctx, c, "account/2fa/status", r)
}

func (c *Client) KeysAdd(ctx context.Context, r KeysAdd) (Keys, error) {
	return call[Keys](ctx, c, "account/keys/add", r)
}

func (c *Client) KeysList(ctx context.Context, account string) (Keys, error) {
	return call[Keys](ctx, c, "account/keys/list", AccountRef{Name: account})
}

func (c *Client) KeysRemove(ctx context.Context, r KeysRemove) (Keys, error) {
	return call[Keys](ctx, c, "account/keys/remove", r)
}

func (c *Client) TrustList(ctx context.Context) (Trust, error) {
	return call[Trust](ctx, c, "ca/list", Empty{})
}

func (c *Client) AuthorityAdd(ctx context.Context, r AuthorityAdd) (Trust, error) {
	return call[Trust](ctx, c, "ca/add", r)
}

func (c *Client) AuthorityRemove(ctx context.Context, r TrustRef) (Trust, error) {
	return call[Trust](ctx, c, "ca/remove", r)
}

func (c *Client) Revoke(ctx context.Context, r TrustRef) (Trust, error) {
	return call[Trust](ctx, c, "ca/revoke", r)
}

func (c *Client) Unrevoke(ctx context.Context, r TrustRef) (Trust, error) {
	return call[Trust](ctx, c, "ca/unrevoke", r)
}

func (c *Client) SessionList(ctx context.Context) (Sessions, error) {
	return call[Sessions](ctx, c, "session/list", Empty{})
}

func (c *Client) SessionKill(ctx context.Context, r SessionKill) (Killed, error) {
	return call[Killed](ctx, c, "session/kill", r)
}

func (c *Client) BanList(ctx context.Context) (Bans, error) {
	return call[Bans](ctx, c, "ban/list", Empty{})
}

func (c *Client) BanAdd(ctx context.Context, r BanAdd) (Bans, error) {
	return call[Bans](ctx, c, "ban/add", r)
}

func (c *Client) BanRemove(ctx context.Context, r BanRef) error {
	return c.tell(ctx, "ban/remove", r)
}

func (c *Client) PolicyShow(ctx context.Context, q PolicyQuery) (Policy, error) {
	return call[Policy](ctx, c, "policy/show", q)
}

func (c *Client) PolicyGet(ctx context.Context, q PolicyQuery) (Policy, error) {
	return call[Policy](ctx, c, "policy/get", q)
}

func (c *Client) PolicySet(ctx context.Context, r PolicySet) (Revision, error) {
	return call[Revision](ctx, c, "policy/set", r)
}

func (c *Client) PolicyPlan(ctx context.Context, r PolicyChange) (PolicyPlan, error) {
	return call[PolicyPlan](ctx, c, "policy/plan", r)
}

func (c *Client) PolicyApply(ctx context.Context, r PolicyChange) (PolicyPlan, error) {
	return call[PolicyPlan](ctx, c, "policy/apply", r)
}

func (c *Client) PolicyConfirm(ctx context.Context, r PolicyConfirm) (Confirmed, error) {
	return call[Confirmed](ctx, c, "policy/confirm", r)
}

func (c *Client) PolicyHistory(ctx context.Context, q PolicyHistory) (PolicyRevisions, error) {
	return call[PolicyRevisions](ctx, c, "policy/history", q)
}

func (c *Client) PolicyTest(ctx context.Context) (PolicyTests, error) {
	return call[PolicyTests](ctx, c, "policy/test", Empty{})
}

func (c *Client) PolicyExplain(ctx context.Context, r PolicyExplain) (Explanation, error) {
	return call[Explanation](ctx, c, "policy/explain", r)
}

func (c *Client) AuditTail(ctx context.Context, r AuditTail) (AuditRecords, error) {
	return call[AuditRecords](ctx, c, "audit/tail", r)
}

// AuditFollow calls fn with the last records and with every new one, until ctx
// ends, fn fails or the server stops.
func (c *Client) AuditFollow(ctx context.Context, r AuditTail, fn func(AuditRecord) error) error {
	return stream(ctx, c, "audit/follow", r, fn)
}

// AuditSearch calls fn with every record that matches. Without an error these were all.
func (c *Client) AuditSearch(ctx context.Context, r AuditSearch, fn func(AuditRecord) error) error {
	return stream(ctx, c, "audit/search", r, fn)
}

// AuditExport calls fn with every line. Without an error these were all.
func (c *Client) AuditExport(ctx context.Context, r AuditExport, fn func(AuditLine) error) error {
	return stream(ctx, c, "audit/export", r, fn)
}

func (c *Client) AuditKey(ctx context.Context) (AuditKey, error) {
	return call[AuditKey](ctx, c, "audit/key", Empty{})
}

func (c *Client) AuditVerify(ctx context.Context) (Check, error) {
	return call[Check](ctx, c, "audit/verify", Empty{})
}

func (c *Client) HostKeyList(ctx context.Context) (HostKeys, error) {
	return call[HostKeys](ctx, c, "hostkey/list", Empty{})
}

func (c *Client) HostKeyRotate(ctx context.Context, r HostKeyRotate) (HostKeys, error) {
	return call[HostKeys](ctx, c, "hostkey/rotate", r)
}

func (c *Client) CertList(ctx context.Context) (Certs, error) {
	return call[Certs](ctx, c, "cert/list", Empty{})
}

func (c *Client) CertRotate(ctx context.Context, r Change) (Certs, error) {
	return call[Certs](ctx, c, "cert/rotate", r)
}

func (c *Client) VolumeStat(ctx context.Context, r VolumeRef) (VolumeStats, error) {
	return call[VolumeStats](ctx, c, "vfs/stat", r)
}

func (c *Client) VolumeVerify(ctx context.Context, r VolumeRef) (Check, error) {
	return call[Check](ctx, c, "vfs/verify", r)
}

// VolumeRepair answers with names of files: they are for the operator's eyes only.
func (c *Client) VolumeRepair(ctx context.Context, r VolumeRepair) (vfs.Repair, error) {
	return call[vfs.Repair](ctx, c, "vfs/repair", r)
}

func (c *Client) ScrubStatus(ctx context.Context) (ScrubStatus, error) {
	return call[ScrubStatus](ctx, c, "vfs/scrub/status", Empty{})
}

func (c *Client) VolumeCompact(ctx context.Context, r ShredAsk) (KeysRotated, error) {
	return call[KeysRotated](ctx, c, "vfs/compact", r)
}

func (c *Client) SealStatus(ctx context.Context) (SealStatus, error) {
	return call[SealStatus](ctx, c, "seal/status", Empty{})
}

func (c *Client) SealRotate(ctx context.Context, r SealRotate) (KeysRotated, error) {
	return call[KeysRotated](ctx, c, "seal/rotate", r)
}

func (c *Client) BackupPurge(ctx context.Context, r ShredAsk) (KeysRotated, error) {
	return call[KeysRotated](ctx, c, "backup/purge", r)
}

// BackupRestore calls fn with what is done so far, and last with all of it.
func (c *Client) BackupRestore(ctx context.Context, r RestoreAsk, fn func(Restored) error) error {
	return stream(ctx, c, "backup/restore", r, fn)
}

// BackupDestroy calls fn as accounts are purged. Without an error these were all.
func (c *Client) BackupDestroy(ctx context.Context, r PurgeAsk, fn func(PurgedAccount) error) error {
	return stream(ctx, c, "backup/destroy", r, fn)
}

func (c *Client) BackupHold(ctx context.Context, r HoldAsk) (Hold, error) {
	return call[Hold](ctx, c, "backup/hold", r)
}

func (c *Client) BackupRelease(ctx context.Context, r HoldRef) (Hold, error) {
	return call[Hold](ctx, c, "backup/release", r)
}

// BackupClock tells what the server makes of the system's clock.
func (c *Client) BackupClock(ctx context.Context) (Clock, error) {
	return call[Clock](ctx, c, "backup/clock", Empty{})
}

// ForgetLeaps has dates be ages where leaps of the clock may be missing.
func (c *Client) ForgetLeaps(ctx context.Context, r ClockForget) (Clock, error) {
	return call[Clock](ctx, c, "backup/clock-forget", r)
}

// ConfirmClock has the server follow the system's clock.
func (c *Client) ConfirmClock(ctx context.Context, r ClockConfirm) (Clock, error) {
	return call[Clock](ctx, c, "backup/clock-confirm", r)
}

func (c *Client) BackupHolds(ctx context.Context, r VolumeRef) (Holds, error) {
	return call[Holds](ctx, c, "backup/holds", r)
}

// BackupHistory answers with names of files: they are for the operator's eyes only.
func (c *Client) BackupHistory(ctx context.Context, r HistoryAsk) (HistoryItems, error) {
	return call[HistoryItems](ctx, c, "backup/history", r)
}

func (c *Client) AccountDestroy(ctx context.Context, r AccountRef) (Destroyed, error) {
	return call[Destroyed](ctx, c, "account/destroy", r)
}
