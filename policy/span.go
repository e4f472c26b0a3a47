package policy

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// Forever is the longest span of time: what is kept so long is never destroyed.
const Forever time.Duration = math.MaxInt64

// parseSpan reads a number of days, a duration in other units (36h, 1d12h), or forever.
func parseSpan(text string) (time.Duration, error) {
	if text == "forever" {
		return Forever, nil
	}
	if n, err := strconv.ParseUint(text, 10, 32); err == nil && n <= 36500 {
		return time.Duration(n) * 24 * time.Hour, nil
	}
	d, err := parseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("%q is not a time; write a number of days up to 36500, 36h, or forever", text)
	}
	return d, nil
}

// formatSpan writes whole days as their number.
func formatSpan(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d == Forever:
		return "forever"
	case d%day == 0:
		return strconv.FormatInt(int64(d/day), 10)
	}
	return formatDuration(d)
}

// plus adds spans; forever and anything is forever.
func plus(a, b time.Duration) time.Duration {
	if a > Forever-b {
		return Forever
	}
	return a + b
}

// Reach is the oldest instant that a client may go back to: what was replaced or deleted before it is out of reach. The zero
// time says that everything is within reach. With a retention of 0 nothing is: what was deleted just now is older than now.
func (b Backup) Reach(now time.Time) time.Time {
	if b.Retention == Forever {
		return time.Time{}
	}
	return now.Add(-b.Retention)
}

// Expiry is when something that was superseded at an instant has to be destroyed; false if never.
func (b Backup) Expiry(at time.Time) (time.Time, bool) {
	keep := b.Kept()
	if keep == Forever {
		return time.Time{}, false
	}
	return at.Add(keep), true
}

// Kept is how long what was superseded is kept: retention and grace. Forever if it is never purged.
func (b Backup) Kept() time.Duration {
	if b.Purge == PurgeNever {
		return Forever
	}
	return plus(b.Retention, b.Grace)
}

// PurgeNever is the word of backup.purge with which nothing is destroyed.
const PurgeNever = "never"

const (
	retentionPath = "backup.retention_days"
	leastPath     = "backup.min_retention_days"
)

// holdRetention raises a retention that nobody wrote down to what site and groups ask for at least. (One that somebody
// wrote below that is an error, see checkLeast.)
func (e *Effective) holdRetention() {
	least := &e.values[settingIndex(leastPath)]
	r := &e.values[settingIndex(retentionPath)]
	if least.value.(time.Duration) <= r.value.(time.Duration) {
		return
	}
	r.value = least.value
	r.origin.Clamped = leastPath + " of " + least.origin.String()
	e.Backup.Retention = r.value.(time.Duration)
}

// checkLeast finds a retention below the least one of the same level or above.
func (b *builder) checkLeast(chain []rung, s *Setting, l *Level, v Value) {
	if s.Path != retentionPath {
		return
	}
	least := resolveOne(b.doc, chain, settingIndex(leastPath))
	if v.value.(time.Duration) < least.value.(time.Duration) {
		b.add(problem(v.Pos, "raise it, or lower "+leastPath+" where it stands", "%s = %s of %s is below %s = %s of %s",
			s.Path, s.format(v.value), l.name, leastPath, s.format(least.value), least.origin.String()))
	}
}
