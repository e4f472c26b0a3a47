package server

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"sallyport/crypto/keyring"
	"sallyport/crypto/transit"
)

// Times of looking after the token of a key service.
const (
	tokenLeast = 10 * time.Second // between two looks
	tokenMost  = time.Hour        // so that a replaced or revoked token is noticed
	tokenIdle  = 5 * time.Minute  // between looks whether there is a key service by now
	tokenRetry = time.Minute      // after an error
	tokenTime  = time.Minute      // of one look
	tokenAlarm = 7 * 24 * time.Hour
)

// tokenCare renews the token with which a key service is asked, and knows what is to be said of it. It does so while the server is
// sealed, too: a token that ends meanwhile would leave it sealed.
type tokenCare struct {
	said atomic.Pointer[string] // of the token, for people; nil = nothing is known
	last string                 // what was logged last; of the one goroutine
}

// say is what is known of the token; "" if nothing is.
func (c *tokenCare) say() string {
	if s := c.said.Load(); s != nil {
		return *s
	}
	return ""
}

// tendToken looks after it until ctx ends.
func (s *Server) tendToken(ctx context.Context) error {
	for {
		wait := time.NewTimer(s.lookAfterToken(ctx))
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return nil
		}
	}
}

// lookAfterToken is one look, and the pause until the next.
func (s *Server) lookAfterToken(ctx context.Context) time.Duration {
	info, err := keyring.ReadSeal(s.config.State.Dir)
	if err != nil || info.Kind != keyring.KindTransit {
		s.token.said.Store(nil)
		return tokenIdle
	}
	seal, err := s.openingConfig().sealOfKind(ctx, info.Kind, nil)
	if err != nil {
		return tokenRetry // who unseals says so
	}
	bounded, cancel := context.WithTimeout(ctx, tokenTime)
	defer cancel()
	t, err := seal.(transit.Tokened).TendToken(bounded)
	if ctx.Err() != nil {
		return tokenRetry
	}
	said, pause := "", tokenRetry
	switch {
	case errors.Is(err, transit.ErrToken):
		said = "has ended, was revoked, or may not be used from here: nothing is unsealed, rotated or destroyed at the key service until token_file has another"
	case errors.Is(err, transit.ErrForbidden):
		said, pause = "must not look at itself, so this server neither knows when it ends nor renews it", tokenMost
	case err != nil && t == (transit.TokenState{}):
		said = "could not be looked at" // the service is away: seal status says why
	case err != nil:
		said = fmt.Sprintf("ends in %s, and could not be renewed: %v", t.TTL, err)
	default:
		said, pause = describeToken(t), min(max(t.TTL/6, tokenLeast), tokenMost)
		if t.TTL == 0 {
			pause = tokenMost
		}
	}
	s.token.said.Store(&said)
	s.logToken(t, err)
	return pause
}

// logToken warns once of each thing that somebody has to do something about.
func (s *Server) logToken(t transit.TokenState, err error) {
	what := ""
	switch {
	case errors.Is(err, transit.ErrToken):
		what = "ended"
	case errors.Is(err, transit.ErrForbidden):
		what = "not known"
	case err != nil && t != (transit.TokenState{}) && (!t.Login || tokenAlarming(t)): // an agent gets another
		what = "not renewed"
	case err == nil && tokenAlarming(t):
		what = "ends"
	case err != nil:
		return
	}
	if what != "" && what != s.token.last {
		s.log.Warn("the token of the key service "+s.token.say(), "hint", tokenHint)
	}
	s.token.last = what
}

const tokenHint = "put a token that lasts into seal.transit.token_file, or let an agent do it; its policy should have auth/token/lookup-self and auth/token/renew-self (docs/OPERATIONS.md, Key services)"

// describeToken completes a sentence that begins with the token.
func describeToken(t transit.TokenState) string {
	switch {
	case t.Uses > 0:
		return fmt.Sprintf("ends after %d more requests, each look at it among them: it must be replaced by one without -use-limit", t.Uses)
	case t.TTL == 0:
		return "does not end"
	case t.Renewable && !t.Ends():
		return fmt.Sprintf("ends in %s, and is renewed before that", t.TTL)
	case t.Login:
		return fmt.Sprintf("ends in %s: an agent, or whoever else logged in for it, must replace it before that", t.TTL)
	case t.Renewable:
		return fmt.Sprintf("ends in %s, which is the most that a renewal gives it: it must be replaced before that", t.TTL)
	}
	return fmt.Sprintf("ends in %s and cannot be renewed: it must be replaced before that", t.TTL)
}

// tokenAlarming: it is about to end. One that cannot be renewed may be an agent's, which replaces it when little of its time is left:
// Vault Agent when a fifth or a tenth of what the last renewal gave is, and the last ones before its maximum give less and less.
func tokenAlarming(t transit.TokenState) bool {
	switch {
	case !t.Ends():
		return false
	case t.Uses > 0:
		return true
	case t.Login:
		return t.TTL <= min(t.Whole/30, tokenAlarm)
	}
	return t.Renewable || t.TTL <= min(t.Whole/10, tokenAlarm)
}
