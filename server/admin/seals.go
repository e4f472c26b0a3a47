package admin

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sallyport/crypto/keyring"
	"sallyport/server/audit"
)

// sealChange seals the root key anew. Data and keys stay.
func (s *Server) sealChange(ctx context.Context, who Peer, r SealChange) (SealChanged, error) {
	var to keyring.Seal
	var err error
	switch r.To {
	case keyring.KindShares:
		return SealChanged{}, newError(CodeUsage, "shares are prepared first, and confirmed when they are in safe hands", "use the `sallyport` of this server's version")
	case keyring.KindPassphrase:
		pass := []byte(r.Passphrase)
		defer clear(pass)
		cost := keyring.DefaultArgon2
		if r.Memory > 0 {
			if cost, err = keyring.Argon2Of(r.Memory); err != nil {
				return SealChanged{}, newError(CodeInvalid, err.Error(), "")
			}
		}
		to, err = keyring.NewPassphrase(pass, cost)
	default:
		to, err = s.o.SealOf(ctx, r.To)
	}
	if err != nil {
		return SealChanged{}, s.sealError("the seal is as before", err)
	}
	out := SealChanged{Kind: r.To}
	if file, ok := to.(*keyring.KeyFile); ok {
		out.Where = file.Path
		same, err := s.o.Keyring.SealedBy(ctx, to)
		if err != nil {
			return SealChanged{}, s.sealError("the keyfile seal is in force as before", err)
		}
		if same {
			return SealChanged{}, newError(CodeRefused, "the key in "+file.Path+" is the one that is in force, so nothing was changed",
				"write another key into another file, `(umask 077; openssl rand -hex 32 >FILE)`, name it in sallyport.yaml as seal.key_file, and run this again; to have the same key lie elsewhere nothing is rotated")
		}
	}
	return s.reseal(ctx, who, to, out, r.To, r.Reason)
}

// reseal puts a seal in force and records it.
func (s *Server) reseal(ctx context.Context, who Peer, to keyring.Seal, out SealChanged, what, reason string) (SealChanged, error) {
	before, err := s.o.Keyring.SealInfo()
	if err != nil {
		return SealChanged{}, err
	}
	destroys := s.o.Keyring.Status().Destroys
	err = s.o.Keyring.Reseal(ctx, to)
	switch {
	case err == nil && destroys:
		out.Old = fmt.Sprintf("the old %s seal has destroyed what opened older copies of seal.json", before.Kind)
	case err == nil:
		out.Old = fmt.Sprintf("the old %s seal opens older copies of seal.json still: rotate the root key", before.Kind)
	case errors.Is(err, keyring.ErrNeeded):
		out.Old = fmt.Sprintf("the old %s seal cannot destroy what opens older copies of seal.json: rotate the root key (%v)", before.Kind, err)
	case errors.Is(err, keyring.ErrOldRoot):
		s.left()
		out.Old = fmt.Sprintf("the old %s seal has not destroyed yet what opens older copies of seal.json; the server tries again by itself, and `sallyport seal status` shows it (%v)", before.Kind, err)
	case errors.Is(err, keyring.ErrUnsure):
		// The next start may need the new secret: it must not get lost with the error.
		out.Old = "the disk did not confirm the new seal.json: keep the secrets of BOTH seals, look after the disk, and change the seal again (" + err.Error() + ")"
	default:
		return SealChanged{}, s.sealError("the "+before.Kind+" seal is in force as before", err)
	}
	return out, s.record(ctx, who, audit.Event{Action: audit.SealChange, Detail: join(before.Kind+" to "+what, reason)})
}

// sealError is an error of a seal as an operator reads it: what its keeper said, and what to do about it. Others stay as they are.
func (s *Server) sealError(doing string, err error) error {
	var e *Error
	if s.o.SealHint == nil || errors.As(err, &e) {
		return err
	}
	hint := s.o.SealHint(err)
	if errors.Is(err, keyring.ErrKeyFile) {
		hint = "seal.key_file must be there, outside the state directory, with 64 hexadecimal digits and mode 0600: `(umask 077; openssl rand -hex 32 >FILE)` makes a new one"
	}
	if hint == "" || errors.Is(err, context.Canceled) {
		return err
	}
	return &Error{Code: CodeRefused, Message: doing + ": " + err.Error(), Hint: hint, cause: err}
}

// Finisher has seals destroy what earlier changes had to leave (shred.Finisher).
type Finisher interface {
	Wake()
	Next() time.Time
	Now(ctx context.Context, who string) error
}

// left tells that something is to be destroyed later.
func (s *Server) left() {
	if s.o.Finish != nil {
		s.o.Finish.Wake()
	}
}

// sealFinish tries now to destroy what waits for it, or gives up on a former seal that is lost.
func (s *Server) sealFinish(ctx context.Context, who Peer, r SealFinish) (SealFinished, error) {
	st := s.o.Keyring.Status()
	switch {
	case r.GiveUp && st.Former == "":
		return SealFinished{}, newError(CodeConflict, "nothing of a former seal waits for its destruction", "`sallyport seal status` shows what does")
	case r.GiveUp:
		if err := s.o.Keyring.GiveUpFormer(ctx); err != nil {
			return SealFinished{}, err
		}
		detail := st.Former + " " + st.FormerLabel
		return SealFinished{GivenUp: detail}, s.record(ctx, who, audit.Event{Action: audit.RootDestroy, Result: "given-up", Detail: join(detail, r.Reason)})
	}
	if err := s.o.Finish.Now(ctx, who.String()); err != nil {
		return SealFinished{}, s.sealError("something waits for its destruction still", err)
	}
	return SealFinished{}, nil
}

func (s *Server) kitExport(ctx context.Context, who Peer, r KitExport) (Kit, error) {
	id, text, err := s.o.Keyring.ExportRecovery(ctx, r.Recipient, time.Now())
	if err != nil {
		return Kit{}, err
	}
	return Kit{ID: id, Text: string(text)}, s.record(ctx, who, audit.Event{Action: audit.KitExport, Detail: join(id, r.Reason)})
}

func (s *Server) kitRevoke(ctx context.Context, who Peer, r KitRef) (Empty, error) {
	if err := s.o.Keyring.RevokeRecovery(ctx, r.ID); err != nil {
		return Empty{}, err
	}
	return Empty{}, s.record(ctx, who, audit.Event{Action: audit.KitRevoke, Detail: join(r.ID, r.Reason)})
}
