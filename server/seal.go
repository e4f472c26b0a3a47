package server

import (
	"context"
	"errors"
	"time"

	"sallyport/server/admin"
	"sallyport/server/audit"
	"sallyport/server/session"
)

// drop is the way from ready to a new process image: nobody is let in any more,
// every session ends at once, and its client is told why.
func (s *Server) drop() {
	s.admin.Shut()
	if p := s.life.whole(); p != nil {
		sealed, err := sealedSessions(s.config.Config, s.log)
		if err != nil {
			s.log.Error("turning connections away", "error", err)
		} else {
			s.door.admit(sealed)
		}
		if err := p.sessions.CloseWith(session.Sealed()); err != nil {
			s.log.Warn("sessions ended", "error", err)
		}
	}
}

// seal begins to seal the server: it is recorded, and Run ends this image of the
// process. It returns before the end.
func (s *Server) seal(ctx context.Context, who, why string) error {
	if err := s.life.take(ctx); err != nil {
		return err
	}
	defer s.life.give()
	if !s.life.move(phaseSealing, phaseReady) {
		return &admin.Error{Code: admin.CodeSealed, Message: "the server is " + string(s.life.now())}
	}
	e := audit.Event{Action: audit.SealNow, Who: who, Detail: why}
	if err := s.life.whole().audit.Append(context.WithoutCancel(ctx), e); err != nil {
		s.log.Error("sealing is not in the audit log", "who", who, "error", err) // keys must go all the same
	}
	s.handover.Sealed = &sealedBy{Who: who, Why: why, At: time.Now()}
	s.log.Warn("sealing", "who", who, "why", why)
	s.tellStatus("sealing")
	s.end(errSealing)
	return nil
}

// sealState is what an operator has to know to unseal.
func (s *Server) sealState(context.Context) (admin.SealState, error) {
	st := admin.SealState{State: string(s.life.now()), Kind: s.config.Seal.Kind}
	if sealed := s.life.sealedState(); sealed != nil {
		st.Reason = sealed.Reason
	}
	return st, nil
}

// unsealBy is an operator's attempt.
func (s *Server) unsealBy(ctx context.Context, who admin.Peer, _ admin.Unseal) (admin.SealState, error) {
	bounded, cancel := context.WithTimeout(s.ctx, attemptTime) // not ctx: a client that goes away must not undo what it gave
	defer cancel()
	seal, err := HostSeal(bounded, s.config.Config, s.log)
	if err == nil {
		err = s.unseal(bounded, seal, who.String())
	}
	if err != nil && !errors.Is(err, errUnsealed) {
		return admin.SealState{}, &admin.Error{Code: admin.CodeSealed, Message: "still sealed: " + err.Error(), Hint: SealHint(err)}
	}
	return s.sealState(ctx)
}

// refusedAttempt remembers who was not allowed to try.
func (s *Server) refusedAttempt(who admin.Peer, refusal *admin.Error) {
	s.life.note(audit.Event{Time: time.Now(), Action: audit.UnsealRefused, Who: who.String(), Detail: refusal.Message})
}
