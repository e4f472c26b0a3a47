package admin

import (
	"context"
	"crypto/ed25519"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"sallyport/crypto/keyring"
	"sallyport/policy"
	"sallyport/policy/policydb"
	"sallyport/server/audit"
	"sallyport/server/clock"
	"sallyport/server/copier"
	"sallyport/server/shred"
	"sallyport/vfs"
)

// Options of NewServer. What only the assembled server can do comes as
// function values.
type Options struct {
	Log *slog.Logger

	Policy  *policydb.DB
	Keyring *keyring.Keyring
	Volumes *vfs.FS

	// Seal begins to seal the server and returns before its end.
	Seal func(ctx context.Context, who Peer, reason string) error
	// SealOf is the seal of a kind whose key this host finds without people.
	SealOf func(ctx context.Context, kind string) (keyring.Seal, error)
	// SealHint says what to do about an error of a seal; "" if it knows nothing of it. nil = knows nothing.
	SealHint func(error) string

	HostKeys       func() []HostKey
	RotateHostKeys func(kinds ...string) error
	Certs          func() []Cert
	RotateCerts    func() error

	Scrub    func() ScrubStatus
	Sessions func() []Session
	// Kill ends the sessions that match and counts them.
	Kill func(match func(Session) bool, who, reason string) int
	Bans func() []Ban
	// Ban keeps a network out until then and ends its sessions.
	Ban func(n netip.Prefix, until time.Time, who, reason string)
	// Unban lifts the ban of a network or address; false if there was none.
	Unban func(netip.Prefix) bool
	// Unlock forgets the failed logins of an account.
	Unlock func(account string)

	// Shred runs a shred epoch and records it (shred.Shredder.Run).
	Shred func(ctx context.Context, who, reason string, o vfs.ShredOptions) (shred.Receipt, error)

	// Token says what is known of the token of a key service; "" = nothing, nil = there is none.
	Token func() string
	// Finish has seals destroy what was left; nil = nobody does (tests).
	Finish Finisher

	// WouldEnd tells which sessions a policy would end, WouldPurge what it would destroy, Facts what is known of a session.
	// nil = not known.
	WouldEnd   func(*policy.Revision) []SessionEnd
	WouldPurge func(context.Context, *policy.Revision) ([]PolicyPurge, error)
	// Clock is the time that history is kept by; nil = the system's.
	Clock *clock.Clock
	// HoldsChanged tells that holds of an account came or went.
	HoldsChanged func(keyring.AccountID)
	// HoldNames keeps sessions of an account from using paths until release (session.Manager.HoldNames); nil = there are none.
	HoldNames func(keyring.AccountID) (release func())
	Facts     func(session string) (account string, f policy.Facts, ok bool)

	// Copier hands out copies of the whole state.
	Copier *copier.Copier

	// Of the audit log: Append, AppendSeq, Tail, Read and Verify. Tail and ExportAudit have the event of everything acknowledged before.
	Record      func(context.Context, audit.Event) error
	RecordSeq   func(context.Context, audit.Event) (uint64, error)
	Tail        func(ctx context.Context, n int, follow bool, fn func(audit.Record) error) error
	ReadAudit   func(ctx context.Context, seq uint64) (audit.Record, error)
	VerifyAudit func() (*audit.Result, error)
	ExportAudit func(ctx context.Context, o audit.ExportOptions, fn func(line []byte) error) error
	AuditKey    func() (ed25519.PublicKey, uint32)
	// ResolveUIDs may have names for account ids, beside root and the server's own user.
	ResolveUIDs []uint32
}

// routes binds the operations that need keys; calls.go has the other side, door.go the rest.
func (s *Server) routes(mux *http.ServeMux) {
	handle(s, mux, "seal", s.seal)
	handle(s, mux, "seal/change", s.sealChange)
	handle(s, mux, "seal/finish", s.sealFinish)
	handle(s, mux, "seal/prepare", s.sealPrepare)
	handle(s, mux, "seal/confirm", s.sealConfirm)
	handle(s, mux, "seal/export", s.kitExport)
	handle(s, mux, "seal/revoke", s.kitRevoke)
	handle(s, mux, "account/add", s.accountAdd)
	handle(s, mux, "account/list", s.accountList)
	handle(s, mux, "account/show", s.accountShow)
	handle(s, mux, "account/enable", s.accountEnable)
	handle(s, mux, "account/disable", s.accountDisable)
	handle(s, mux, "account/remove", s.accountRemove)
	handle(s, mux, "account/destroy", s.accountDestroy)
	handle(s, mux, "account/passwd", s.passwd)
	handle(s, mux, "account/unlock", s.unlock)
	handle(s, mux, "account/2fa/enable", s.secondEnable)
	handle(s, mux, "account/2fa/reset", s.secondReset)
	handle(s, mux, "account/2fa/status", s.secondStatus)
	handle(s, mux, "account/keys/add", s.keysAdd)
	handle(s, mux, "account/keys/list", s.keysList)
	handle(s, mux, "account/keys/remove", s.keysRemove)
	handle(s, mux, "ca/list", s.trust)
	handle(s, mux, "ca/add", s.authorityAdd)
	handle(s, mux, "ca/remove", s.authorityRemove)
	handle(s, mux, "ca/revoke", s.revoke)
	handle(s, mux, "ca/unrevoke", s.unrevoke)
	handle(s, mux, "session/list", s.sessionList)
	handle(s, mux, "session/kill", s.sessionKill)
	handle(s, mux, "ban/list", s.banList)
	handle(s, mux, "ban/add", s.banAdd)
	handle(s, mux, "ban/remove", s.banRemove)
	handle(s, mux, "policy/show", s.policyShow)
	handle(s, mux, "policy/get", s.policyGet)
	handle(s, mux, "policy/set", s.policySet)
	handle(s, mux, "policy/plan", s.policyPlan)
	handle(s, mux, "policy/apply", s.policyApply)
	handle(s, mux, "policy/confirm", s.policyConfirm)
	handle(s, mux, "policy/history", s.policyHistory)
	handle(s, mux, "policy/test", s.policyTest)
	handle(s, mux, "policy/explain", s.policyExplain)
	handle(s, mux, "audit/tail", s.auditTail)
	handleStream(s, mux, "audit/follow", true, s.auditFollow)
	handleStream(s, mux, "audit/search", false, s.auditSearch)
	handleStream(s, mux, "audit/export", false, s.auditExport)
	handle(s, mux, "audit/key", s.auditKey)
	handle(s, mux, "audit/verify", s.auditVerify)
	handle(s, mux, "hostkey/rotate", s.hostKeyRotate)
	handle(s, mux, "cert/rotate", s.certRotate)
	handle(s, mux, "vfs/stat", s.volumeStat)
	handle(s, mux, "vfs/verify", s.volumeVerify)
	handle(s, mux, "vfs/repair", s.volumeRepair)
	handle(s, mux, "vfs/scrub/status", s.scrubStatus)
	handle(s, mux, "vfs/compact", s.volumeCompact)
	handle(s, mux, "seal/status", s.sealStatus)
	handle(s, mux, "seal/rotate", s.sealRotate)
	handle(s, mux, "backup/purge", s.backupPurge)
	s.stateCopyRoutes(mux)
	s.historyRoutes(mux)
}

func (s *Server) seal(ctx context.Context, who Peer, r Change) (Empty, error) {
	return Empty{}, s.o.Seal(ctx, who, r.Reason)
}

func (s *Server) hostKeyRotate(ctx context.Context, who Peer, r HostKeyRotate) (HostKeys, error) {
	if err := s.o.RotateHostKeys(r.Kinds...); err != nil {
		return HostKeys{}, err
	}
	return HostKeys{s.o.HostKeys()}, s.record(ctx, who, audit.Event{Action: audit.HostRotate, Detail: join(strings.Join(r.Kinds, ", "), r.Reason)})
}

func (s *Server) certRotate(ctx context.Context, who Peer, r Change) (Certs, error) {
	if err := s.o.RotateCerts(); err != nil {
		return Certs{}, err
	}
	return Certs{s.o.Certs()}, s.record(ctx, who, audit.Event{Action: audit.CertRotate, Detail: r.Reason})
}
