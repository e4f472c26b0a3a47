// Package clock is the time that history is kept by: the system's clock, as long as it can be believed.
//
// What retention destroys is gone for good, and it goes by the clock. A clock that is years ahead after a start, or that somebody sets
// ahead, would have everything destroyed within a minute. So the server remembers the last time that it believed in (a sealed record
// beside the state), and counts by itself. The system's clock is followed where that explains it:
//
//   - after a start of the machine, up to Options.MaxOff ahead of the record: it was off;
//   - from then on, up to MaxJump ahead of what has passed by the machine's own count. A restart of the server changes nothing about
//     that: machine and record tell which count it is and how far it was (Count).
//
// What is believed without evidence is noted, and is never more than MaxOff in all, so that starting again and again gets a clock no
// further. It is earned back by the time that is counted, hour by hour (unproven).
//
// A clock further ahead is not followed: the server goes on by its own count, so that nothing is destroyed for time that it cannot
// account for, and tells (Ahead). It follows again when the clock comes back, or when an operator confirms it (Confirm). What was
// replaced and deleted meanwhile has instants that are too early by what is then leapt over; leaps are remembered, and its age
// is counted from when it really happened (Before, Settled).
//
// Where leaps may be missing, because the record was lost or is older than the state, everything up to then counts as of then (State.Known):
// it is kept for its whole time anew, and nothing goes too early. A record that is there and cannot be read is not overwritten; reading it is
// tried again, and what it knows is taken up when it succeeds (Unread).
//
// A clock that is behind is never followed back, because instants are never given twice. Up to MaxOff behind, the server's time runs at
// half speed until the clock has caught up; further behind it goes on as before and tells (Behind), until the clock is right or
// an operator confirms it, which means half speed, too. Nothing is destroyed sooner for that, and later by what the clock was ahead at most.
//
// Who reads (Now, State, Before, Settled, Record) takes no lock and never waits for the disk: they read a judgement that does not change, and a
// new one takes its place. Who judges does so in turn, and waits for the disk where something has to be durable first.
package clock

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/crypto/durable"
	"sallyport/crypto/record"
)

// Status is what the server makes of the system's clock.
type Status string

const (
	Trusted Status = "trusted"
	Ahead   Status = "ahead"  // further than can be explained: it is not followed
	Behind  Status = "behind" // of the server's own time, which does not go back
)

var (
	// ErrTrusted: there is nothing to confirm.
	ErrTrusted = errors.New("clock: it is followed already")
	// ErrMoved: the clock is not what whoever confirms it saw.
	ErrMoved = errors.New("clock: it was set since")
	// ErrKnown: no leap is missing, so there is nothing to forget.
	ErrKnown = errors.New("clock: nothing is unknown")
	// ErrClosed: the clock was closed, or did not begin.
	ErrClosed = errors.New("clock: closed")
)

const (
	defaultMaxJump = time.Hour
	defaultMaxOff  = 72 * time.Hour
	lookEvery      = time.Second
	// jitter is what two clocks that are read one after the other may differ by; smallLeap what is not worth remembering.
	jitter, smallLeap = 10 * time.Millisecond, time.Minute
	// drift is by how much the machine's count may be wrong, as a share: an order above what hardware is.
	drift = 1000
)

// Options of Open. Zero values mean defaults.
type Options struct {
	Path string
	Box  *record.Box
	// New says that nothing in the state has an age yet: a record that is missing was never written.
	New bool
	// MaxOff is how far ahead of the last known time the clock may be after a start of the machine, and how much may be unproven in all;
	// 0 = 72 h. MaxJump is how far it may get ahead of what the machine counts; 0 = 1 h.
	MaxOff, MaxJump time.Duration
	Every           time.Duration // between two looks at the clock; 0 = 1 s
	Log             *slog.Logger  // nil = nowhere

	Wall    func() time.Time     // nil = time.Now
	Elapsed func() time.Duration // since any moment, never back; nil = since Open, by the system
	Count   func() Count         // nil = the system's; none if Elapsed is given
	BootID  string               // the system's, for a process that cannot read it; "" = it can

	read func(path string) ([]byte, error) // nil = os.ReadFile
	move func(from, to string) error       // nil = os.Rename
}

// Clock is safe for concurrent use. A nil *Clock is the system's clock, believed whatever it says: for tests and tools.
type Clock struct {
	o     Options
	slept func() time.Duration                   // what Elapsed does not count: the machine was suspended
	put   func(path string, sealed []byte) error // makes a record durable
	tell  func(State)
	stop  context.CancelFunc
	done  chan struct{}

	found  remembered // by Open
	unread Unread     // what was found instead
	cause  error      // of that
	// besides: a run before this one could not read the record, and found is what it noted meanwhile. lost: nobody can read what it noted.
	besides, lost bool
	early         *line // from found, until Begin; nil = the system's clock

	now  atomic.Pointer[judgement] // nil until Begin; stored by who has the turn
	last atomic.Int64              // that Now returned, ns since 1970

	turn    sync.Mutex // of who judges and writes; held over I/O, and taken by nobody who reads
	told    State
	saving  saving
	again   saving // of reading a record that could not be read
	left    bool   // a record for the time being is on the disk
	stepped bool   // at the last look, by more than passed: a crash must not take it back
	closed  bool
}

// State is what there is to know of the clock.
type State struct {
	Status Status
	Now    time.Time     // by which history is kept
	Wall   time.Time     // by the system
	Offset time.Duration // Wall less Now
	Since  time.Time     // when that began, by the server's time; zero if Trusted
	// Slowed: the server's time runs at half speed until the clock has caught up.
	Slowed bool
	// Confirmed: it is because an operator has said that the clock is right.
	Confirmed bool
	// Damaged: the record of the last known time could not be read, now or before an earlier start, so no clock is believed unasked.
	Damaged bool
	// Unread is what is the matter with it while it is in its place, and Cause why in words.
	Unread Unread
	Cause  string
	// Known is since when every leap is known: everything before counts as of then. Zero = since ever.
	Known time.Time
	// Unwritten: the clock is believed again and not followed yet, because the record of that cannot be written. Status is Ahead.
	Unwritten bool
	// Unproven is what was believed because the clock said so, and not made up for by time that was counted; MaxOff how much that may be.
	Unproven, MaxOff time.Duration
}

// Open makes a clock that stands where its record left it until Begin; it is the system's if there is no record.
func Open(o Options) *Clock {
	if o.MaxOff == 0 {
		o.MaxOff = defaultMaxOff
	}
	if o.MaxJump == 0 {
		o.MaxJump = defaultMaxJump
	}
	if o.Every == 0 {
		o.Every = lookEvery
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Wall == nil {
		o.Wall = time.Now
	}
	if o.read == nil {
		o.read = os.ReadFile
	}
	if o.move == nil {
		o.move = os.Rename
	}
	c := &Clock{o: o, slept: func() time.Duration { return 0 }, done: make(chan struct{})}
	c.put = func(path string, sealed []byte) error { return durable.WriteFile(path, sealed, 0o600) }
	if o.Elapsed == nil {
		begin := time.Now()
		c.o.Elapsed, c.slept = func() time.Duration { return time.Since(begin) }, slept
	}
	switch {
	case o.Count != nil:
	case o.Elapsed != nil:
		c.o.Count = func() Count { return Count{} }
	default:
		c.o.Count = func() Count { return count(o.BootID) }
	}
	if err := errors.Join(durable.RemoveTemp(o.Path), durable.RemoveTemp(o.Path+meanwhile)); err != nil {
		c.o.Log.Warn("what a crash left of the record of the last known time stays", "error", err)
	}
	c.find()
	return c
}

// find reads the record.
func (c *Clock) find() {
	c.found, c.unread, c.cause = c.read(c.o.Path)
	r, why, err := c.read(c.o.Path + meanwhile)
	if c.besides = why == ""; c.besides {
		c.found = r
	}
	if c.lost = !c.besides && why != Missing; c.lost {
		c.o.Log.Error("what was noted while the record of the last known time could not be used cannot be used either", "file", c.o.Path+meanwhile, "error", err)
	}
	c.left = c.besides || c.lost
	if c.unread == "" || c.besides {
		passed, _ := c.o.Count().since(c.found.count)
		c.early = &line{at: c.o.Elapsed(), now: c.found.now.Add(passed), rate: 1}
	}
	if c.unread != "" && c.unread != Missing {
		c.o.Log.Error("the record of the last known time cannot be used; it stays where it is, and is tried again", "file", c.o.Path, "because", string(c.unread), "error", c.cause)
	}
}

// Begin judges the clock for the first time, and from then on Every until Close. last is the newest time that is known from
// elsewhere, for a state without a record or with one that is older; zero says that there is none, and without a record the clock is believed.
// tell is called from the clock's goroutine when State's Status, Slowed, Damaged, Unwritten, Unread or Known are others than before; first if
// they are not those of a clock that is trusted, and of the record. One that cannot be read is tried again, and one that cannot be written is
// written later: nobody is kept out for either.
func (c *Clock) Begin(last time.Time, tell func(State)) {
	c.begin(last)
	ctx, cancel := context.WithCancel(context.Background())
	c.tell, c.stop = tell, cancel
	go c.run(ctx)
}

func (c *Clock) begin(last time.Time) {
	c.turn.Lock()
	defer c.turn.Unlock()
	at := c.o.Count()
	r := c.resumed(last, at)
	if at.Of == ([16]byte{}) {
		c.o.Log.Info("the machine does not tell how long it has been on: each start counts as one of the machine")
	}
	now := c.o.Elapsed()
	j := r.resume(at, now)
	j.slept = c.slept()
	if !r.known.Equal(c.found.known) && j.since.IsZero() { // nobody knows how far the last run was behind a clock that it did not follow
		j.since = j.line.now
	}
	switch {
	case c.unread == "" && c.besides: // to be taken up below
		j.unread, j.cause = Unreadable, "it could not be read before, and is not gone on from yet"
	case c.unread != "" && c.unread != Missing:
		j.unread, j.cause = c.unread, c.cause.Error()
		c.again.failed(now)
	}
	c.told = State{Status: Trusted, Known: c.found.known}
	c.now.Store(&j)
	if c.unread == "" {
		c.reread(now)
	}
	if err := c.look(c.o.Wall(), now); err == nil {
		c.save(now)
	}
}

// Close ends the goroutine and notes the time. Now goes on.
func (c *Clock) Close() error {
	if c == nil {
		return nil
	}
	if c.stop != nil {
		c.stop()
		<-c.done
	}
	c.turn.Lock()
	defer c.turn.Unlock()
	c.closed = true
	j := c.now.Load()
	if j == nil {
		return nil
	}
	return c.write(j)
}

// Now is the time that history is kept by. From Begin on it never goes back, for all who ask together.
func (c *Clock) Now() time.Time {
	if c == nil {
		return time.Now()
	}
	switch j := c.now.Load(); {
	case j != nil:
		return c.onwards(j.line.read(c.o.Elapsed()))
	case c.early != nil:
		return c.early.read(c.o.Elapsed())
	}
	return c.o.Wall()
}

// State is a snapshot.
func (c *Clock) State() State {
	if c == nil {
		now := time.Now()
		return State{Status: Trusted, Now: now, Wall: now}
	}
	j := c.now.Load()
	if j == nil {
		j = &judgement{}
	}
	return c.described(j)
}

func (c *Clock) described(j *judgement) State {
	s := j.news()
	s.Now, s.Wall = c.Now(), c.o.Wall().Round(0)
	s.Offset = s.Wall.Sub(s.Now)
	s.Unproven, s.MaxOff = j.unproven.read(c.o.Elapsed()), c.o.MaxOff
	return s
}

func (c *Clock) run(ctx context.Context) {
	defer close(c.done)
	tick := time.NewTicker(c.o.Every)
	defer tick.Stop()
	for {
		c.Look()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// Look judges the clock now and not within a second, and tells if that is news. It is for tests with a clock of their own.
func (c *Clock) Look() {
	c.turn.Lock()
	now := c.o.Elapsed()
	if c.again.wait > 0 && now >= c.again.next {
		c.reread(now)
	}
	err := c.look(c.o.Wall(), now)
	j := c.now.Load()
	news := j.news() != c.told
	if err == nil && (news || c.saving.due(now) || c.stepped) {
		c.save(now)
	}
	c.told = j.news()
	c.turn.Unlock()
	if news && c.tell != nil {
		c.tell(c.described(j))
	}
}

// sleptSince is what the machine has slept since what it had slept at an earlier moment. Less than a second may be the time between two readings.
func (c *Clock) sleptSince(earlier time.Duration) time.Duration {
	if d := c.slept() - earlier; d >= time.Second {
		return d
	}
	return 0
}

// look judges, and has the judgement in force. Called by who has the turn. A leap over which what got its instants too early is older than
// it looks is durable first; an error says that it is not, and that the clock is not followed for that.
func (c *Clock) look(wall time.Time, now time.Duration) error {
	before := c.now.Load()
	j := *before
	if d := c.sleptSince(j.slept); d > 0 {
		j.passed(d, now)
		j.slept += d
	}
	still := j
	j.judge(&c.o, wall.Round(0), now) // by its date, and not by what has passed
	var err error
	if !j.past.end().Equal(before.past.end()) {
		if err = c.try(now, &j); err != nil {
			j = still
			j.keepOn(j.line.read(now), now, 1)
			j.note(State{Status: Ahead, Unwritten: true}, j.line.now)
		}
	}
	c.stepped = j.line.read(now).Sub(before.line.read(now)) > smallLeap
	c.now.Store(&j)
	return err
}
