package server

import (
	"context"
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

// refusedAttempt remembers who was not allowed to try.
func (s *Server) refusedAttempt(who admin.Peer, refusal *admin.Error) {
	s.notes.note(audit.Event{Time: time.Now(), Action: audit.UnsealRefused, Who: who.String(), Detail: refusal.Message})
}
