package server

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"sallyport/crypto/escrow"
	"sallyport/crypto/keyring"
	"sallyport/crypto/shamir"
	"sallyport/server/admin"
	"sallyport/server/audit"
)

// people is what persons have given so far to unseal the server.
type people struct {
	mu       sync.Mutex // guards what follows; held while a share is added, not while keys are opened
	shares   *keyring.Collector
	set      shamir.SetID
	last     int // shares that were there after the last one was given
	failures map[uint32]failure
}

// failure counts what a user got wrong in a row.
type failure struct {
	n  int
	at time.Time
}

// Guessing through the socket is slowed down; passphrase and shares are strong
// enough by themselves, and who has the disk does not ask the server.
const (
	freeFailures = 5
	failurePause = 10 * time.Second
)

// mayTry says how long a user has to wait; 0 = go on.
func (p *people) mayTry(uid uint32, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.failures[uid]
	if f.n < freeFailures {
		return 0
	}
	return max(0, f.at.Add(failurePause).Sub(now))
}

func (p *people) failed(uid uint32, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failures == nil {
		p.failures = map[uint32]failure{}
	}
	p.failures[uid] = failure{p.failures[uid].n + 1, now}
}

func (p *people) succeeded(uid uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.failures, uid)
}

// collector is that of the seal's set of shares; shares of another set are forgotten.
func (p *people) collector(info *keyring.SealInfo) (*keyring.Collector, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shares != nil && p.set == info.Set {
		return p.shares, nil
	}
	if p.shares != nil {
		p.shares.Reset()
	}
	c, err := info.NewCollector(keyring.CollectTime)
	if err != nil {
		return nil, err
	}
	p.shares, p.set, p.last = c, info.Set, 0
	return c, nil
}

// add gives a share. forgotten says that earlier ones had to be forgotten,
// because the next took too long: their holders must give them again.
func (p *people) add(c *keyring.Collector, text []byte) (progress keyring.Progress, forgotten int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.Progress().Have == 0 {
		forgotten = p.last
	}
	progress, err = c.Add(text)
	p.last = progress.Have
	if progress.Complete() {
		p.last = 0 // they are used up
	}
	return progress, forgotten, err
}

func (p *people) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shares != nil {
		p.shares.Reset()
	}
	p.last = 0
}

// sealState is what an operator has to know to unseal.
func (s *Server) sealState(context.Context) (admin.SealState, error) {
	st := admin.SealState{State: string(s.life.now())}
	if sealed := s.life.sealedState(); sealed != nil {
		st.Reason = sealed.Reason
	}
	info, err := keyring.ReadSeal(s.config.State.Dir)
	if err != nil {
		return st, stillSealed(err)
	}
	st.Kind, st.Label = info.Kind, info.Label
	if info.Kind == keyring.KindShares {
		st.Need, st.Set = info.K, hex.EncodeToString(info.Set[:])
		if s.life.whole() == nil {
			c, err := s.people.collector(info)
			if err != nil {
				return st, err
			}
			st.Have = c.Progress().Have
		}
	}
	return st, nil
}

// unsealBy is an operator's attempt.
func (s *Server) unsealBy(ctx context.Context, who admin.Peer, r admin.Unseal) (admin.SealState, error) {
	if s.life.whole() != nil {
		return s.sealState(ctx)
	}
	if wait := s.people.mayTry(who.UID, time.Now()); wait > 0 {
		e := &admin.Error{Code: admin.CodeRefused, Message: "too many failed attempts to unseal", Hint: fmt.Sprintf("wait %v", wait.Round(time.Second))}
		s.refusedAttempt(who, e)
		return admin.SealState{}, e
	}
	if r.Forget {
		s.people.forget()
		s.notes.note(audit.Event{Time: time.Now(), Action: audit.UnsealRefused, Who: who.String(), Detail: "the shares given so far were forgotten"})
		return s.sealState(ctx)
	}
	seal, st, err := s.sealFrom(ctx, who, r)
	if err != nil {
		s.people.failed(who.UID, time.Now())
		s.log.Warn("unsealing refused", "who", who.String(), "pid", who.PID, "reason", err)
		s.notes.note(audit.Event{Time: time.Now(), Action: audit.UnsealRefused, Who: who.String(), Detail: err.Error()})
		return st, stillSealed(err)
	}
	if seal == nil { // more shares are needed
		s.people.succeeded(who.UID)
		return st, nil
	}
	bounded, cancel := context.WithTimeout(s.ctx, attemptTime) // not ctx: a client that goes away must not undo what it gave
	defer cancel()
	if err := s.unseal(bounded, seal, who.String()); err != nil && !errors.Is(err, errUnsealed) {
		s.people.failed(who.UID, time.Now())
		return admin.SealState{}, stillSealed(err)
	}
	s.people.succeeded(who.UID)
	return s.sealState(ctx)
}

// sealFrom makes the seal of what a person gave; nil while shares are missing.
func (s *Server) sealFrom(ctx context.Context, who admin.Peer, r admin.Unseal) (keyring.Seal, admin.SealState, error) {
	none := admin.SealState{}
	info, err := keyring.ReadSeal(s.config.State.Dir)
	if err != nil {
		return nil, none, err
	}
	switch {
	case r.Kit != "":
		kit, identity := []byte(r.Kit), []byte(r.Identity)
		defer clear(kit)
		defer clear(identity)
		seal, err := info.Recovery(kit, identity)
		return seal, none, err
	case info.Kind == keyring.KindPassphrase:
		if r.Passphrase == "" {
			return nil, none, wanted("a passphrase")
		}
		pass := []byte(r.Passphrase)
		defer clear(pass)
		seal, err := info.Passphrase(pass)
		return seal, none, err
	case info.Kind == keyring.KindShares:
		if r.Share == "" {
			return nil, none, wanted("a share")
		}
		return s.takeShare(ctx, who, info, r.Share)
	case r.Passphrase != "" || r.Share != "":
		return nil, none, &admin.Error{Code: admin.CodeUsage, Message: "the seal is of kind " + info.Kind + ", which needs nothing from people", Hint: "run `sallyport unseal` alone: the server tries at once"}
	}
	seal, err := s.openingConfig().sealOfKind(ctx, info.Kind, s.log)
	return seal, none, err
}

func wanted(what string) *admin.Error {
	return &admin.Error{Code: admin.CodeUsage, Message: "this server is unsealed with " + what, Hint: "`sallyport unseal` asks for it"}
}

func (s *Server) takeShare(ctx context.Context, who admin.Peer, info *keyring.SealInfo, share admin.Secret) (keyring.Seal, admin.SealState, error) {
	c, err := s.people.collector(info)
	if err != nil {
		return nil, admin.SealState{}, err
	}
	text := []byte(share)
	defer clear(text)
	progress, forgotten, err := s.people.add(c, text)
	if err != nil {
		return nil, admin.SealState{}, encrypted(text, err)
	}
	s.log.Info("share given", "who", who.String(), "have", progress.Have, "need", progress.Need)
	s.notes.note(audit.Event{Time: time.Now(), Action: audit.UnsealShare, Who: who.String(), Detail: progress.String()})
	if progress.Complete() {
		seal, err := info.Shares(c)
		return seal, admin.SealState{}, err
	}
	st, err := s.sealState(ctx)
	if forgotten > 0 {
		st.Note = fmt.Sprintf("%d given before had to be forgotten, because no other came for %v: their holders must give them again", forgotten, keyring.CollectTime)
	}
	return nil, st, err
}

var errEncrypted = errors.New("this share is encrypted")

// encrypted says so of what is no share because its holder has not decrypted it.
func encrypted(text []byte, err error) error {
	if !bytes.HasPrefix(bytes.TrimSpace(text), []byte("-----BEGIN AGE ENCRYPTED FILE-----")) {
		return err
	}
	return errEncrypted
}

// stillSealed is an error of unsealing as an operator reads it.
func stillSealed(err error) error {
	var e *admin.Error
	if errors.As(err, &e) {
		return e
	}
	e = &admin.Error{Code: admin.CodeSealed, Message: "still sealed: " + err.Error(), Hint: SealHint(err)}
	switch {
	case errors.Is(err, errEncrypted):
		e.Hint = "its holder decrypts it: `age -d -i KEY FILE | sallyport unseal --stdin`"
	case errors.Is(err, shamir.ErrShare):
		e.Hint = "type the share again as it was printed"
	case errors.Is(err, shamir.ErrMixed):
		e.Hint = "this share is of an older or another set: find the one that was handed out last"
	case errors.Is(err, shamir.ErrDuplicate), errors.Is(err, shamir.ErrConflict):
		e.Hint = "another holder's share is needed; `sallyport unseal --forget` begins again"
	case errors.Is(err, escrow.ErrNoMatch), errors.Is(err, escrow.ErrIdentity), errors.Is(err, escrow.ErrDamaged):
		e.Hint = "give the private key of the recipient whom the kit was made for, with --identity"
	}
	return e
}
