package clock

import "time"

// judgement is everything that is made of the clock at a look. One that is in force does not change: the next takes its place.
type judgement struct {
	line  line
	past  past // its leaps are never changed in place
	state State

	unread Unread // what is in the place of the record is not this server's: it is not overwritten
	cause  string // of that

	since    time.Time     // when what is not believed now began; zero = all is well
	doubt    bool          // the record could not be read, in this run or one before: nothing but an operator's word is believed
	lie      reach         // the clock as it was when the last run did not believe it; zero = it did
	lied     time.Duration // by how much it was ahead then
	base     reach         // the first clock that was believed since the machine was started; zero = none was
	unproven unproven
	slept    time.Duration // by the machine, as far as it is in all of this
	slow     bool          // an operator has confirmed a clock that is behind
}

// resume goes on from the record. If the machine has counted since, the run before has not ended, as far as time goes: what passed is
// known, and the clock gets no further by another start. at is the machine's count now.
func (r *remembered) resume(at Count, now time.Duration) judgement {
	passed, same := at.since(r.count)
	j := judgement{
		line: line{at: now, now: r.now.Add(passed).Round(0), rate: 1}, past: past{r.leaps, r.known}, state: State{Status: Trusted},
		since: r.since, slow: r.slow, doubt: r.doubt, unproven: unproven{by: max(r.unproven-passed, 0), at: now},
	}
	if r.ahead {
		j.lie, j.lied = reach{from: r.wall.Add(passed), at: now}, r.wall.Sub(r.now)
	}
	if same && !r.base.IsZero() {
		j.base = reach{from: r.base.Add(passed + passed/drift), at: now}
	}
	return j
}

// judge decides whether to follow the clock.
func (j *judgement) judge(o *Options, wall time.Time, now time.Duration) {
	own := j.line.read(now)
	ahead := wall.Sub(own)
	left := o.MaxOff - j.unproven.read(now) + jitter
	switch {
	case j.doubt, ahead > 0 && (j.stillFalse(o, wall, now) || !j.base.from.IsZero() && wall.After(j.base.read(now).Add(o.MaxJump))), ahead > max(left, smallLeap):
		j.keepOn(own, now, 1)
		j.note(State{Status: Ahead, Damaged: j.doubt}, own)
	case ahead > left: // by so little that it is not worth a word: what runs makes up for it at once
		j.keepOn(own, now, 1)
		j.note(State{Status: Trusted}, own)
	case ahead >= -jitter:
		j.follow(wall, now)
	case -ahead <= o.MaxOff || j.slow:
		// Half speed, or just as much as the clock lacks, until the next look.
		j.keepOn(own, now, max(0.5, 1-float64(-ahead)/float64(o.Every)))
		if -ahead <= o.MaxJump {
			j.note(State{Status: Trusted}, own)
		} else {
			j.note(State{Status: Behind, Slowed: true, Confirmed: j.slow}, own)
		}
	default:
		j.keepOn(own, now, 1)
		j.note(State{Status: Behind}, own)
	}
}

// stillFalse tells whether the clock is where the last run did not believe it. Without this, a restart would make a few hours that it
// was ahead look like a few hours that the server was off.
func (j *judgement) stillFalse(o *Options, wall time.Time, now time.Duration) bool {
	if j.lie.from.IsZero() {
		return false
	}
	if near := min(o.MaxJump, max(j.lied/2, 0)); !wall.Before(j.lie.read(now).Add(-near)) {
		return true
	}
	j.lie = reach{}
	return false
}

// passed moves everything that counts by Elapsed by what it did not count.
func (j *judgement) passed(d, now time.Duration) {
	j.line = line{at: now, now: j.line.read(now).Add(d), rate: j.line.rate}
	j.unproven = unproven{by: j.unproven.read(now) - d, at: now}
	j.base.passed(d)
	j.lie.passed(d)
}

// keepOn goes on by the own count.
func (j *judgement) keepOn(own time.Time, now time.Duration, rate float64) {
	j.line = line{at: now, now: own, rate: rate}
}

// note sets the state, and remembers since when the clock is not simply followed.
func (j *judgement) note(s State, own time.Time) {
	if j.since.IsZero() {
		j.since = own
	}
	if s.Status != Trusted {
		s.Since = j.since
	}
	j.state = s
}

// news is what of a state is worth telling.
func (j *judgement) news() State {
	s := j.state
	s.Unread, s.Cause, s.Known = j.unread, j.cause, j.past.known
	return s
}

// follow makes the clock the server's time, if it is not behind it. What got its instants since the clock was not believed got them too
// early, by what is leapt over now.
func (j *judgement) follow(wall time.Time, now time.Duration) {
	own := j.line.read(now)
	to := wall
	if to.Before(own) {
		to = own
	}
	if !j.since.IsZero() && to.Sub(own) > smallLeap {
		j.past.add(leap{since: j.since, from: own, to: to})
	}
	if j.past.known.After(to) { // nothing happened later than now
		j.past.known = to
	}
	j.unproven = unproven{by: j.unproven.read(now) + to.Sub(own), at: now}
	if j.base.from.IsZero() { // later ones are measured by it
		j.base = reach{from: to, at: now}
	}
	j.since, j.doubt, j.lie, j.slow = time.Time{}, false, reach{}, false
	j.state = State{Status: Trusted}
	j.line = line{at: now, now: to, rate: 1}
}
