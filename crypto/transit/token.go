package transit

import (
	"context"
	"net/http"
	"strings"
	"time"
)

// TokenState is what the service says of the token in token_file.
type TokenState struct {
	TTL       time.Duration // until it ends; 0 = it does not
	Uses      int           // requests until it ends; 0 = any number
	Whole     time.Duration // what a renewal gives it at most
	Renewable bool
	// Login: it was given for a login (AppRole, Kubernetes, …), as an agent does, and not made by somebody. Whoever logged in can
	// again, and an agent does when little of its time is left.
	Login bool
}

// Token asks for the token. It changes nothing. ErrForbidden also where the token's policy does not let it look at itself.
func (s *Seal) Token(ctx context.Context) (TokenState, error) {
	var data struct {
		TTL         int64  `json:"ttl"`          // seconds
		CreationTTL int64  `json:"creation_ttl"` // seconds
		Period      int64  `json:"period"`       // seconds
		Uses        int    `json:"num_uses"`
		Renewable   bool   `json:"renewable"`
		Path        string `json:"path"` // of the request that made it
	}
	if err := s.client.do(ctx, http.MethodGet, "/v1/auth/token/lookup-self", nil, &data); err != nil {
		return TokenState{}, s.explain("looking at the token for", err)
	}
	seconds := func(n int64) time.Duration { return time.Duration(min(max(n, 0), 1<<32)) * time.Second }
	whole := max(data.CreationTTL, data.Period)
	if whole > 0 { // in the last second the service says 0, too
		data.TTL = max(data.TTL, 1)
	}
	return TokenState{TTL: seconds(data.TTL), Uses: max(data.Uses, 0), Whole: seconds(whole), Renewable: data.Renewable,
		Login: data.Path != "" && !strings.HasPrefix(data.Path, "auth/token/")}, nil
}

// TendToken renews the token once a third of its time is over, so that two more attempts are left before it ends, and tells what it
// is then. An agent that looks after the same token is not disturbed.
func (s *Seal) TendToken(ctx context.Context) (TokenState, error) {
	t, err := s.Token(ctx)
	if err != nil || !t.Due() {
		return t, err
	}
	if err := s.renew(ctx); err != nil {
		return t, err
	}
	return s.Token(ctx)
}

// Due tells whether it should be renewed now.
func (t TokenState) Due() bool { return t.Renewable && t.TTL > 0 && t.TTL <= t.Whole*2/3 }

// Ends tells whether nothing keeps the token alive: it cannot be renewed, or a renewal has not brought it over the time when it is due,
// or it is for so many requests.
func (t TokenState) Ends() bool { return t.Uses > 0 || t.TTL > 0 && (!t.Renewable || t.Due()) }

func (s *Seal) renew(ctx context.Context) error {
	if err := s.client.do(ctx, http.MethodPost, "/v1/auth/token/renew-self", map[string]any{}, nil); err != nil {
		return s.explain("renewing the token for", err)
	}
	return nil
}

// Tokened is a seal whose token can be looked at and renewed, and whose key can be looked at.
type Tokened interface {
	Token(ctx context.Context) (TokenState, error)
	TendToken(ctx context.Context) (TokenState, error)
	Key(ctx context.Context) (unsuitable error, deletable bool, err error)
}

var _, _ Tokened = (*Seal)(nil), (*destroyer)(nil)
