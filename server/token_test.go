package server

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"sallyport/crypto/keyring"
	"sallyport/crypto/transit"
)

// TestWhatIsSaidOfAToken: nobody is alarmed about one that is renewed, or that an agent may be about to replace; whoever has to
// replace one is, while there is time.
func TestWhatIsSaidOfAToken(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	for what, c := range map[string]struct {
		token  transit.TokenState
		alarms bool
		says   string
	}{
		"root":                        {transit.TokenState{}, false, "does not end"},
		"an agent's, at its maximum":  {transit.TokenState{TTL: 10 * time.Minute, Whole: time.Hour, Renewable: true, Login: true}, false, "an agent, or whoever else logged in for it"},
		"an agent's, not replaced":    {transit.TokenState{TTL: 90 * time.Second, Whole: time.Hour, Renewable: true, Login: true}, true, "must replace it before that"},
		"an agent's, not renewable":   {transit.TokenState{TTL: 5 * time.Minute, Whole: time.Hour, Login: true}, false, "an agent"},
		"an agent's, early":           {transit.TokenState{TTL: 50 * time.Minute, Whole: time.Hour, Renewable: true, Login: true}, false, "is renewed before that"},
		"for so many requests":        {transit.TokenState{TTL: 20 * time.Hour, Uses: 7, Whole: day, Renewable: true}, true, "ends after 7 more requests"},
		"renewed":                     {transit.TokenState{TTL: 20 * time.Hour, Whole: day, Renewable: true}, false, "ends in 20h0m0s, and is renewed"},
		"at the end of its renewals":  {transit.TokenState{TTL: 16 * time.Hour, Whole: day, Renewable: true}, true, "which is the most"},
		"not renewable, fresh":        {transit.TokenState{TTL: 30 * day, Whole: 32 * day}, false, "cannot be renewed"},
		"not renewable, nearly over":  {transit.TokenState{TTL: 3 * day, Whole: 32 * day}, true, "ends in 72h0m0s and cannot be renewed"},
		"of an agent, an hour long":   {transit.TokenState{TTL: 20 * time.Minute, Whole: time.Hour}, false, "cannot be renewed"},
		"of an agent that is away":    {transit.TokenState{TTL: 6 * time.Minute, Whole: time.Hour}, true, "cannot be renewed"},
		"of a year, a month before":   {transit.TokenState{TTL: 30 * day, Whole: 365 * day}, false, "cannot be renewed"},
		"of a year, a week before it": {transit.TokenState{TTL: 7 * day, Whole: 365 * day}, true, "cannot be renewed"},
	} {
		if tokenAlarming(c.token) != c.alarms || !strings.Contains(describeToken(c.token), c.says) {
			t.Errorf("%s: alarms %v, %q", what, tokenAlarming(c.token), describeToken(c.token))
		}
	}
}

// keeper is a key service as a doctor sees it.
type keeper struct {
	token      transit.TokenState
	unsuitable error
	deletable  bool
	away       error
}

func (k *keeper) Token(context.Context) (transit.TokenState, error) { return k.token, k.away }
func (k *keeper) TendToken(context.Context) (transit.TokenState, error) {
	panic("a doctor changes nothing")
}
func (k *keeper) Key(context.Context) (error, bool, error) { return k.unsuitable, k.deletable, k.away }

// TestDoctorSaysWhatIsUnwiseAtAKeyService: a key that can leak, or be deleted by one request, opens everything until it is too late.
func TestDoctorSaysWhatIsUnwiseAtAKeyService(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		of    keeper
		check string
		want  Result
		says  string
	}{
		"all is well":             {keeper{}, "token", OK, "does not end"},
		"a key that can leak":     {keeper{unsuitable: transit.ErrUnsuitable}, "key", Warn, "no new root is sealed by the key that is in force"},
		"a key that may go":       {keeper{deletable: true}, "key", Warn, "may be deleted there"},
		"a service that is away":  {keeper{away: transit.ErrUnavailable}, "key", Warn, "could not be looked at"},
		"an agent's token":        {keeper{token: transit.TokenState{TTL: 10 * time.Minute, Whole: time.Hour, Renewable: true, Login: true}}, "token", OK, "an agent"},
		"a token of few requests": {keeper{token: transit.TokenState{TTL: time.Hour, Whole: time.Hour, Uses: 3, Renewable: true}}, "token", Warn, "ends after 3 more requests"},
	} {
		d := &doctor{}
		d.serviceKey(t.Context(), &c.of)
		d.token(t.Context(), &c.of)
		if got, says := result(d.out, c.check); got != c.want || !strings.Contains(says, c.says) {
			t.Errorf("%s: %v, %q; want %v, %q", what, got, says, c.want, c.says)
		}
		if _, says := result(d.out, "key"); what == "all is well" && says != "" {
			t.Errorf("%s: %q", what, says)
		}
	}
}

// TestWhatAnotherKeyServiceMeansIsSaid: the other service does not decrypt, either, which is advised about in another way.
func TestWhatAnotherKeyServiceMeansIsSaid(t *testing.T) {
	t.Parallel()
	if hint := SealHint(fmt.Errorf("%w: %w", keyring.ErrElsewhere, keyring.ErrWrongKey)); !strings.Contains(hint, "seal.transit.address") || !strings.Contains(hint, "--give-up") {
		t.Errorf("advised: %q", hint)
	}
}
