package server

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"sallyport/crypto/keyring"
	"sallyport/crypto/locked"
	"sallyport/crypto/sealhelper"
	"sallyport/crypto/transit"
	"sallyport/server/admin"
	"sallyport/server/audit"
	"sallyport/server/copier"
	"sallyport/server/session"
)

// SealHint says what to do about an error of unsealing; "" if nothing is known.
func SealHint(err error) string {
	var state *StateError
	switch {
	case errors.As(err, &state):
		return state.Hint()
	case errors.Is(err, keyring.ErrElsewhere):
		return "have seal.transit.address name the service that wrapped it until `sallyport seal finish` succeeds; where that service is gone, or is known to have destroyed it, `sallyport seal finish --give-up` forgets it"
	case transit.Hint(err) != "":
		return transit.Hint(err)
	case errors.Is(err, sealhelper.ErrUnavailable), errors.Is(err, sealhelper.ErrDenied), errors.Is(err, sealhelper.ErrHelper), errors.Is(err, sealhelper.ErrConfig):
		return "try the helper by hand (docs/SEAL-HELPER.md)"
	case errors.Is(err, keyring.ErrNotFIPS):
		return "docs/FIPS.md lists what is not available with GODEBUG=fips140=only; a recovery kit that was decrypted elsewhere opens this state"
	case errors.Is(err, keyring.ErrSealed), errors.Is(err, ErrNeedsPeople):
		return "`sallyport unseal` asks for it"
	case errors.Is(err, keyring.ErrKeyFile):
		return "restore the seal key file, or name it with seal.key_file (SALLYPORT_SEAL__KEY_FILE); without it nobody can read this state"
	case errors.Is(err, keyring.ErrWrongKey):
		return "this key does not open this state directory: give the right one (of recovery kits, one of `sallyport seal export` for this state that was not revoked), or check that what sallyport.yaml names under seal belongs to state.dir"
	case errors.Is(err, errors.ErrUnsupported):
		return "this state was written by a newer version: run that one"
	case errors.Is(err, keyring.ErrDamaged):
		return "restore the named file from a copy of the state directory"
	}
	return ""
}

// unseal opens everything that needs keys with the root key that seal gives, and
// lets people in. Either all of it succeeds or nothing of it remains. One attempt
// at a time; ctx bounds the wait and the attempt. who is the operator, "" for the
// server itself.
func (s *Server) unseal(ctx context.Context, seal keyring.Seal, who string) error {
	if err := s.life.take(ctx); err != nil {
		return err
	}
	defer s.life.give()
	if !s.life.move(phaseUnsealing, phaseStarting, phaseSealed) {
		if s.life.now() == phaseReady {
			return errUnsealed
		}
		return errLeaving
	}
	p, err := openParts(ctx, s.config.Config, seal, s.formerSeal, s.log)
	if err == nil {
		if err = s.openCopier(p); err != nil {
			err = errors.Join(err, p.close())
		}
	}
	if err == nil {
		if err = s.recordStart(ctx, p, seal.Kind(), who); err != nil {
			err = errors.Join(err, p.close())
		}
	}
	if err != nil {
		if s.life.sealedBy(err, time.Now()) {
			s.log.Error("the server is sealed", "reason", err, "hint", SealHint(err))
			s.tellStatus("sealed: " + err.Error())
		}
		if who != "" {
			s.notes.note(audit.Event{Time: time.Now(), Action: audit.UnsealRefused, Who: who, Detail: err.Error()})
		}
		return err
	}
	p.scrub = startScrub(s.config.Scrub, p, s.log)
	waiting := s.door.admit(p.sessions)
	s.admin.Open(admin.NewServer(s.adminOptions(p)))
	s.life.ready(p)
	s.tellStatus("ready")
	if !locked.Locked() {
		s.log.Warn("keys are in memory that may be swapped out", "hint", "raise the limit on locked memory (LimitMEMLOCK in the unit), or have no swap")
	}
	s.log.Info("unsealed", "seal", seal.Kind(), "who", who, "accounts", len(p.keyring.Accounts()))
	if err := waiting.CloseWith(session.Sealed()); err != nil {
		s.log.Warn("connections made while sealed", "error", err)
	}
	return nil
}

// openCopier makes the part that hands out copies of the state.
func (s *Server) openCopier(p *parts) (err error) {
	p.copier, err = copier.New(copier.Options{
		Keyring: p.keyring, Policy: p.policy, Volumes: p.volumes, Audit: p.audit, Identity: s.config.readIdentity, Pending: s.notes.whole, Clock: p.clock.Record, Dir: s.config.State.Dir, Program: s.o.Version,
		Log: s.log.With("part", "copier"),
	})
	return err
}

// recordStart puts the start, what was noted while sealed, and the unsealing
// into the audit log, before anybody is let in: a gap in the log is then either
// explained or suspicious.
func (s *Server) recordStart(ctx context.Context, p *parts, kind, who string) error {
	start := audit.Event{Action: audit.ServerStart, Detail: "version " + s.o.Version}
	if by := s.handover.Sealed; by != nil {
		start.Detail += "; after sealing by " + by.Who
	}
	if p.audit.Empty() && p.policy.Current().N > 0 {
		// Every change of the policy is recorded, so there was a log.
		s.log.Error("the audit log is missing and begins anew", "dir", filepath.Join(s.config.State.Dir, auditDir))
		start.Detail += "; the log begins anew, what was recorded before is missing"
	}
	err := p.audit.Append(ctx, start)
	if err == nil {
		err = s.notes.fold(p.keyring, func(noted []audit.Event) error { return p.audit.AppendAll(ctx, noted) })
		if err != nil && ctx.Err() == nil && p.audit.Err() == nil { // audit.on_failure is continue
			s.log.Error("notes of attempts to unseal stay where they are until the next unsealing", "error", err)
			err = nil
		}
	}
	if err == nil {
		err = p.audit.Append(ctx, audit.Event{Action: audit.Unseal, Who: who, Detail: kind})
	}
	if err != nil {
		return fmt.Errorf("recording the start: %w", err)
	}
	return nil
}

// oneLine fits a status of systemd.
func oneLine(text string) string {
	for i, r := range text {
		if r == '\n' {
			return text[:i]
		}
	}
	return text
}

// unsealAtStart tries by itself where no person is needed, unless a person has
// sealed the server: then a person must unseal it. The error is nil but with
// Options.MustUnseal.
func (s *Server) unsealAtStart(ctx context.Context, tried func()) error {
	defer tried()
	if by := s.handover.Sealed; by != nil {
		why := "sealed by " + by.Who
		if by.Why != "" {
			why += ": " + by.Why
		}
		s.life.sealedBy(errors.New(why), by.At)
		s.log.Warn("the server is sealed", "who", by.Who, "why", by.Why)
		return nil
	}
	if s.o.MustUnseal {
		return s.tryAlone(ctx)
	}
	last := lastPauseLocal
	info, err := keyring.ReadSeal(s.config.State.Dir)
	switch {
	case err == nil && needsPeople(info.Kind):
		s.life.sealedBy(fmt.Errorf("%w: it takes %s to unseal it", keyring.ErrSealed, whatPeopleGive(info)), time.Now())
		s.log.Warn("the server is sealed", "seal", info.Kind, "hint", "sallyport unseal")
		return nil
	case err == nil && !keyIsLocal(info.Kind):
		last = lastPauseRemote
	}
	s.unsealAlone(ctx, last, s.tryAlone, tried)
	return nil
}

// tryAlone is one attempt without people.
func (s *Server) tryAlone(ctx context.Context) error {
	seal, err := HostSeal(ctx, s.openingConfig(), s.log)
	if err != nil {
		if s.life.sealedBy(err, time.Now()) {
			s.log.Error("the server is sealed", "reason", err, "hint", SealHint(err))
		}
		return err
	}
	return s.unseal(ctx, seal, "")
}
