package server

import (
	"strings"
	"testing"
	"time"

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
