package clock

import "time"

// Count is what a machine counts by itself from its start on, over restarts of the server: it is evidence of time that passed.
type Count struct {
	// Of is which count that is: another one after each start of the machine. Zero: there is none, and each start of the server is
	// like one of the machine.
	Of   [16]byte
	Time time.Duration
}

// since is what passed from an earlier reading on, as far as there is evidence: nothing for two counts, nor for one that went back, as
// that of a machine does which was brought back from a snapshot.
func (c Count) since(earlier Count) (passed time.Duration, same bool) {
	if c.Of == ([16]byte{}) || c.Of != earlier.Of || c.Time < earlier.Time {
		return 0, false
	}
	return c.Time - earlier.Time, true
}

// lacks tells whether a record is older than a state that knows of the time last already, when the count is at: leaps may be missing in it. A
// server that was killed notes no more than a minute of its time too little, and no leap that is less was ever remembered.
func (r *remembered) lacks(last time.Time, at Count) bool {
	passed, _ := at.since(r.count)
	return last.Sub(r.now.Add(passed)) > 2*saveEvery
}

// reach is how far a clock may be that goes as it did at a moment.
type reach struct {
	from time.Time
	at   time.Duration // Elapsed
}

func (r reach) read(elapsed time.Duration) time.Time {
	d := max(elapsed-r.at, 0)
	return r.from.Add(d + d/drift)
}

// passed moves it by time that Elapsed does not count.
func (r *reach) passed(d time.Duration) {
	if !r.from.IsZero() {
		r.from = r.from.Add(d)
	}
}

// unproven is how much time was believed because a clock said so, over all starts. It gets less by the time that there is evidence of,
// hour by hour. As it is never more than Options.MaxOff, the server's time has never gone further than twice what was counted and that
// once, however often server and machine were started: otherwise each start would believe as much again.
type unproven struct {
	by time.Duration
	at time.Duration // Elapsed
}

func (u unproven) read(elapsed time.Duration) time.Duration {
	return max(u.by-max(elapsed-u.at, 0), 0)
}
