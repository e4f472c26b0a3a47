package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"sallyport/crypto/keyring"
	"sallyport/policy/policydb"
	"sallyport/server/admin"
	"sallyport/server/audit"
	"sallyport/server/clock"
	"sallyport/server/copier"
	"sallyport/server/retention"
	"sallyport/server/session"
	"sallyport/server/shred"
	"sallyport/vfs"
)

// bootEnv is the kernel's boot id, from systemd: the unit lets the server see nothing of /proc but processes.
const bootEnv = "SALLYPORT_BOOT_ID"

// parts are the floors below the front-ends, opened bottom up.
type parts struct {
	log      *slog.Logger
	keyring  *keyring.Keyring
	policy   *policydb.DB
	audit    *audit.Log
	clock    *clock.Clock
	volumes  *vfs.FS
	sessions *session.Manager
	shredder *shred.Shredder
	finisher *shred.Finisher
	copier   *copier.Copier // nil but in a server

	retention *retention.Keeper
	restHouse func() // ends housekeeping; nil before it began
	scrub     *scrub // nil until everything else is there
}

// openParts opens everything that needs the key. On error what was opened is
// closed again.
func openParts(ctx context.Context, c *Config, seal keyring.Seal, find keyring.Finder, log *slog.Logger) (*parts, error) {
	p := &parts{log: log}
	if err := p.open(ctx, c, seal, find); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

func (p *parts) open(ctx context.Context, c *Config, seal keyring.Seal, find keyring.Finder) (err error) {
	if p.keyring, err = openKeyring(ctx, c, seal); err != nil {
		return err
	}
	box, err := p.keyring.Policy()
	if err != nil {
		return err
	}
	names, err := p.keyring.Names()
	if err != nil {
		return err
	}
	if err := policyIsThere(c, len(p.keyring.Accounts())); err != nil {
		return err
	}
	if p.policy, err = policydb.Open(ctx, policydb.Options{Path: filepath.Join(c.State.Dir, policyFile), Box: box, Token: p.keyring.PolicyToken, Names: names, NameToken: p.keyring.NameToken}); err != nil {
		return policyError(c, err)
	}
	p.clock = clock.Open(clock.Options{
		Path: filepath.Join(c.State.Dir, clockFile), Box: box, New: len(p.keyring.Accounts()) == 0, MaxOff: c.Clock.MaxOff, MaxJump: c.Clock.MaxJump, BootID: os.Getenv(bootEnv),
		Log: p.log.With("part", "clock"),
	})
	if err := p.openAudit(c); err != nil {
		return err
	}
	p.clock.Begin(p.audit.Last(), p.clockChanged)
	p.volumes, err = vfs.Open(ctx, vfs.Options{
		Dir: filepath.Join(c.State.Dir, "accounts"), Keyring: p.keyring, WindowBudget: c.Limits.WindowMemory, Recovered: session.Recovered,
		IdleClose: c.State.IdleClose, Holds: p.holds, Now: p.clock.Now,
	})
	if err != nil {
		return fmt.Errorf("opening the volumes: %w", err)
	}
	if p.sessions, err = p.newSessions(c); err != nil {
		return err
	}
	p.restHouse = p.volumes.Housekeep(vfs.HousekeeperOptions{Report: p.tidied})
	if err := p.leftovers(); err != nil {
		return err
	}
	p.retention = retention.Start(retention.Options{Policy: p.policy, Volumes: p.volumes, Clock: p.clock, Log: p.log.With("part", "retention"), Rate: c.Retention.Rate})
	p.keyring.FindSeals(find)
	p.finisher = shred.StartFinisher(shred.FinishOptions{Keyring: p.keyring, Record: p.audit.Append, Log: p.log.With("part", "shred")})
	at, daily := c.Shred.time()
	p.shredder = shred.Start(shred.Options{
		Volumes: p.volumes, Record: p.audit.AppendSeq, Log: p.log.With("part", "shred"), Repack: vfs.Repack, Left: p.finisher.Wake, Daily: daily, At: at, Jitter: c.Shred.Jitter,
		Ready: func() bool { s := p.clock.State(); return s.Status == clock.Trusted || s.Confirmed },
	})
	return nil
}

func (p *parts) openAudit(c *Config) error {
	box, err := p.keyring.Audit()
	if err != nil {
		return err
	}
	signer, version, err := p.keyring.AuditSigner()
	if err != nil {
		return err
	}
	p.audit, err = audit.Open(audit.Options{
		Dir: filepath.Join(c.State.Dir, auditDir), Box: box, Signer: signer, KeyVersion: version, Log: p.log.With("part", "audit"),
		MaxAge: c.Audit.MaxAge, Keep: c.Audit.Keep, Reserve: c.Audit.Reserve, Continue: c.Audit.OnFailure == AuditContinue,
		Now: p.clock.Now, Age: func(t time.Time) time.Duration { return p.clock.Now().Sub(p.clock.Settled(t)) },
	})
	if err != nil {
		return auditError(c, err)
	}
	return nil
}

// clockChanged says what has become of the clock, in the log and in the audit log.
func (p *parts) clockChanged(s clock.State) {
	level := slog.LevelInfo
	if s.Status != clock.Trusted {
		level = slog.LevelWarn
	}
	p.log.Log(context.Background(), level, admin.DescribeClock(s), "hint", admin.AdviseClock(s))
	if err := p.audit.Append(context.Background(), admin.ClockEvent(s, "")); err != nil {
		p.log.Error("audit log cannot be written", "error", err)
	}
}

// clockWarning is what an operator must know of the clock; "" if it is followed.
func (p *parts) clockWarning() string {
	if s := p.clock.State(); s.Status != clock.Trusted {
		return admin.DescribeClock(s)
	}
	return ""
}

// auditWarnings are what an operator must know of the audit log before anything else.
func (p *parts) auditWarnings() []string {
	var list []string
	st := p.audit.Stats()
	if err := p.audit.Failure(); err != nil {
		effect := "everything is refused"
		if p.audit.Err() == nil {
			effect = "the server goes on without it, as audit.on_failure says"
		}
		list = append(list, fmt.Sprintf("the audit log cannot be written, %s: %v", effect, err))
	}
	if st.Lost > 0 {
		list = append(list, fmt.Sprintf("%d audit records were lost since the start", st.Lost))
	}
	if st.Low {
		list = append(list, fmt.Sprintf("no disk space can be reserved for the audit log; %d bytes are left of it", st.Reserved))
	}
	return list
}

// leftovers names keys of accounts that the account table does not know: a
// removal that a crash cut short, or an account table put back to an earlier
// state. They are never destroyed unasked, because the second case needs them.
func (p *parts) leftovers() error {
	accounts, err := p.policy.Accounts()
	if err != nil {
		return fmt.Errorf("reading the accounts: %w", err)
	}
	known := make(map[keyring.AccountID]bool, len(accounts))
	for _, a := range accounts {
		known[a.ID] = true
	}
	for _, id := range p.keyring.Accounts() {
		if !known[id] {
			p.log.Warn("the keyring has the key of an account that does not exist", "account", id,
				"hint", "if its removal was cut short: `sallyport account remove "+id.String()+" --destroy`; if the account table was put back to an earlier state, it is needed")
		}
	}
	return nil
}

// tidied says what housekeeping did to a volume.
func (p *parts) tidied(v *vfs.Volume, r *vfs.TidyResult, err error) {
	if err != nil {
		p.log.Warn("housekeeping of a volume failed", "account", v.ID(), "error", err)
		return
	}
	p.log.Info("housekeeping", "account", v.ID(), "folded", r.Folded, "repacked", r.Repacked, "swept", r.Swept, "bytes", r.Copied, "damaged", r.Damaged)
}

// holds are the paths of an account that nothing may destroy.
func (p *parts) holds(id keyring.AccountID) ([]string, error) {
	list, err := p.policy.Holds(id)
	var paths []string
	for _, h := range list {
		paths = append(paths, h.Path)
	}
	return paths, err
}

// close is the reverse of open; every part is closed even if one fails.
func (p *parts) close() error {
	var errs []error
	if p.copier != nil { // it reads everything below
		errs = append(errs, p.copier.Close())
	}
	if p.shredder != nil {
		errs = append(errs, p.shredder.Close())
	}
	if p.finisher != nil {
		errs = append(errs, p.finisher.Close())
	}
	if p.retention != nil {
		errs = append(errs, p.retention.Close())
	}
	if p.scrub != nil {
		p.scrub.stop()
	}
	if p.sessions != nil {
		errs = append(errs, p.sessions.Close())
	}
	if p.restHouse != nil {
		p.restHouse()
	}
	if p.volumes != nil {
		errs = append(errs, p.volumes.Close())
	}
	errs = append(errs, p.clock.Close()) // its time goes on
	if p.audit != nil {
		errs = append(errs, p.audit.Close())
	}
	if p.policy != nil {
		errs = append(errs, p.policy.Close())
	}
	if p.keyring != nil {
		errs = append(errs, p.keyring.Close())
	}
	return errors.Join(errs...)
}
