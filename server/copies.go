package server

import (
	"fmt"
	"time"

	"sallyport/server/admin"
)

// copies is what is known of copies of this state.
func (p *parts) copies() *admin.Copies {
	last := p.copier.Last()
	out := &admin.Copies{}
	if c := last.Copy; c != nil {
		out.Last, out.Damaged = c.At, c.Damaged
	}
	if d := last.Drill; d != nil {
		out.Drill = d.At
	}
	return out
}

const (
	hintCopy  = "make one with `sallyport backup state --to DIR`, best every night: docs/examples has a timer"
	hintDrill = "try one with `sallyport backup drill --from DIR`, where the seal's secret is"
	hintWhole = "`sallyport vfs verify` says what is damaged; mend it and make the copy again"
)

// advice is what an operator must know of the copies, with what to do. asked: by somebody who wants to know whether there are any
// at all; nobody is pestered with that who never made one.
func (c *Copies) advice(have *admin.Copies, asked bool, now time.Time) (warnings, hints []string) {
	say := func(hint, format string, args ...any) {
		warnings, hints = append(warnings, fmt.Sprintf(format, args...)), append(hints, hint)
	}
	days := func(since time.Time) string { return now.Sub(since).Round(time.Hour).String() }
	switch {
	case have.Last.IsZero() && asked:
		say(hintCopy, "no copy of the state was ever made")
	case have.Last.IsZero():
	case c.MaxAge > 0 && now.Sub(have.Last) > c.MaxAge:
		say(hintCopy, "the last copy of the state was made on %s, %s ago", have.Last.UTC().Format(time.RFC3339), days(have.Last))
	}
	if have.Damaged > 0 {
		say(hintWhole, "%d accounts are not whole in the last copy of the state", have.Damaged)
	}
	switch {
	case have.Last.IsZero():
	case have.Drill.IsZero() && asked:
		say(hintDrill, "the restore of a copy was never tried")
	case have.Drill.IsZero():
	case c.DrillMaxAge > 0 && now.Sub(have.Drill) > c.DrillMaxAge:
		say(hintDrill, "the restore of a copy was last tried on %s, %s ago", have.Drill.UTC().Format(time.RFC3339), days(have.Drill))
	}
	return warnings, hints
}

// copies tells what the running server knows; without one nobody does, because it is sealed.
func (d *doctor) copies() {
	if d.running == nil || d.running.Copies == nil {
		return
	}
	have := d.running.Copies
	warnings, hints := d.c.Copies.advice(have, true, d.now)
	for i, w := range warnings {
		d.add("copies", Warn, w, hints[i])
	}
	if len(warnings) == 0 {
		d.add("copies", OK, fmt.Sprintf("the last copy of the state is of %s, a restore was tried on %s", have.Last.UTC().Format(time.RFC3339), have.Drill.UTC().Format(time.DateOnly)), "")
	}
}

// copyMetrics: an age that is not there says that there was none.
func copyMetrics(m exposition, have *admin.Copies, now time.Time) {
	if !have.Last.IsZero() {
		m.gauge("sallyport_state_copy_age_seconds", "Seconds since the last copy of the state came in force; absent if there was none.", now.Sub(have.Last).Seconds())
		m.gauge("sallyport_state_copy_damaged_accounts", "Accounts that are not whole in the last copy of the state.", float64(have.Damaged))
	}
	if !have.Drill.IsZero() {
		m.gauge("sallyport_state_drill_age_seconds", "Seconds since the restore of a copy was last tried and found good; absent if there was none.", now.Sub(have.Drill).Seconds())
	}
}
