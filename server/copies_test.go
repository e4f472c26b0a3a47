package server

import (
	"strings"
	"testing"
	"time"

	"sallyport/server/admin"
)

// TestWarningsOfOldCopies: who never made a copy is not pestered, and told so when asking; who did is warned when the last one is old, or
// not whole, and when the last drill is long ago.
func TestWarningsOfOldCopies(t *testing.T) {
	t.Parallel()
	now := time.Date(2027, 1, 31, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	const day = 24 * time.Hour
	for _, tt := range []struct {
		have      admin.Copies
		unasked   string
		asked     string
		unlimited bool
	}{
		{admin.Copies{}, "", "no copy of the state was ever made", false},
		{admin.Copies{Last: ago(47 * time.Hour)}, "", "the restore of a copy was never tried", false},
		{admin.Copies{Last: ago(47 * time.Hour), Drill: ago(89 * day)}, "", "", false},
		{admin.Copies{Last: ago(3 * day), Drill: ago(time.Hour)}, "made on 2027-01-28T12:00:00Z, 72h0m0s ago", "made on 2027-01-28", false},
		{admin.Copies{Last: ago(3 * day), Drill: ago(400 * day)}, "", "", true},
		{admin.Copies{Last: ago(time.Hour), Drill: ago(91 * day)}, "was last tried on", "was last tried on", false},
		{admin.Copies{Last: ago(time.Hour), Damaged: 3, Drill: ago(day)}, "3 accounts are not whole", "3 accounts are not whole", true},
		{admin.Copies{Drill: ago(400 * day)}, "", "ever made", false}, // a drill of a copy that nobody knows of
	} {
		c := DefaultConfig().Copies
		if tt.unlimited {
			c = Copies{}
		}
		for _, asked := range []bool{false, true} {
			want := tt.unasked
			if asked {
				want = tt.asked
			}
			got, hints := c.advice(&tt.have, asked, now)
			if text := strings.Join(got, "; "); want == "" && text != "" || !strings.Contains(text, want) || len(hints) != len(got) {
				t.Errorf("%+v, asked %v: %q, want %q", tt.have, asked, text, want)
			}
		}
	}
}
