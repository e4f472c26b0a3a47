// Package clock is the time that history is kept by: the system's clock, as long as it can be believed.
//
// What retention destroys is gone for good, and it goes by the clock. A clock that is years ahead after a start, or that somebody sets
// ahead, would have everything destroyed within a minute. So the server remembers the last time that it believed in (a sealed record
// beside the state), and counts by itself while it runs. The system's clock is followed where that explains it:
//
//   - at a start, up to Options.MaxOff ahead of the record: the server was off;
//   - while running, up to MaxJump ahead of what has passed by the processor's own count.
//
// A clock further ahead is not followed: the server goes on by its own count, so that nothing is destroyed for time that it cannot
// account for, and tells (Ahead). It follows again when the clock comes back, or when an operator confirms it (Confirm). What was
// replaced and deleted meanwhile has instants that are too early by what is then leapt over; leaps are remembered, and its age
// is counted from when it really happened (Before, Settled).
//
// A clock that is behind is never followed back, because instants are never given twice. Up to MaxOff behind, the server's time runs at
// half speed until the clock has caught up; further behind it goes on as before and tells (Behind), until the clock is right or
// an operator confirms it, which means half speed, too. Nothing is destroyed sooner for that, and later by what the clock was ahead at most.
package clock

import (
	"context"
	"errors"
	"io/fs"
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
	// ErrClosed: the clock was closed.
	ErrClosed = errors.New("clock: closed")
)

const (
	defaultMaxJump = time.Hour
	defaultMaxOff  = 72 * time.Hour
	lookEvery      = time.Second
	saveEvery      = time.Minute
	// jitter is what two clocks that are read one after the other may differ by; smallLeap what is not worth remembering.
	jitter, smallLeap = 10 * time.Millisecond, time.Minute
	// drift is by how much the processor's count may be wrong, as a share: an order above what hardware is.
	drift = 1000
)

// Options of Open. Zero values mean defaults.
type Options struct {
	Path string
	Box  *record.Box
	// MaxOff is how far ahead of the last known time the clock may be at a start; 0 = 72 h. MaxJump is how far it may get ahead
	// while the server runs; 0 = 1 h.
	MaxOff, MaxJump time.Duration
	Every           time.Duration // between two looks at the clock; 0 = 1 s
	Log             *slog.Logger  // nil = nowhere

	Wall    func() time.Time     // nil = time.Now
	Elapsed func() time.Duration // since any moment, never back; nil = since Open, by the system
}

// Clock is safe for concurrent use. A nil *Clock is the system's clock, believed whatever it says: for tests and tools.
type Clock struct {
	o     Options
	slept func() time.Duration // what Elapsed does not count: the machine was suspended
	tell  func(State)
	stop  context.CancelFunc
	done  chan struct{}

	line  atomic.Pointer[line]
	leaps atomic.Pointer[[]leap]

	mu     sync.Mutex // guards what follows; held while the record is written, which is rare
	state  State
	told   State
	limit  limit
	sleep  time.Duration // slept at the last look
	since  time.Time     // when what is not believed now began; zero = all is well
	doubt  bool          // the record was damaged, in this run or one before: nothing but an operator's word is believed
	lie    limit         // the clock as it was when the last run did not believe it; zero = it did
	based  bool          // limit is a clock that was believed in this run
	slow   bool          // an operator has confirmed a clock that is behind
	saved  time.Duration // Elapsed at the last save
	began  bool
	closed bool
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
	// Damaged: the record of the last known time could not be read or did not authenticate, so no clock is believed unasked.
	Damaged bool
}

// line is the server's time from a moment on.
type line struct {
	at   time.Duration // Elapsed
	now  time.Time
	rate float64 // 1, or less while it waits for the clock
}

func (l *line) read(elapsed time.Duration) time.Time {
	d := max(elapsed-l.at, 0)
	if l.rate != 1 {
		d = time.Duration(float64(d) * l.rate)
	}
	return l.now.Add(d)
}

// limit is a line that the clock may reach, and slack.
type limit struct {
	from  time.Time
	at    time.Duration
	slack time.Duration
}

func (l limit) read(elapsed time.Duration) time.Time {
	d := max(elapsed-l.at, 0)
	return l.from.Add(d + d/drift + l.slack)
}

// Open makes a clock that is the system's until Begin.
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
	c := &Clock{o: o, slept: func() time.Duration { return 0 }, done: make(chan struct{})}
	if o.Elapsed == nil {
		begin := time.Now()
		c.o.Elapsed, c.slept = func() time.Duration { return time.Since(begin) }, slept
	}
	c.leaps.Store(new([]leap))
	if err := durable.RemoveTemp(o.Path); err != nil {
		c.o.Log.Warn("what a crash left of the record of the last known time stays", "error", err)
	}
	return c
}

// Begin judges the clock for the first time, and from then on Every until Close. last is the newest time that is known from
// elsewhere, for a state without a record; zero says that there is none, and the clock is believed. tell is called from the
// clock's goroutine when State's Status, Slowed or Damaged are others than before; first if they are not those of a clock that is trusted.
// A record that cannot be read is a damaged one, and one that cannot be written is written later: nobody is kept out for either.
func (c *Clock) Begin(last time.Time, tell func(State)) {
	c.begin(last)
	ctx, cancel := context.WithCancel(context.Background())
	c.tell, c.stop = tell, cancel
	go c.run(ctx)
}

func (c *Clock) begin(last time.Time) {
	r := remembered{now: last, wall: last}
	sealed, err := os.ReadFile(c.o.Path)
	if err == nil {
		var got remembered
		if got, err = c.open(sealed); err == nil {
			r = got
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.o.Log.Error("the record of the last known time is damaged", "file", c.o.Path, "error", err)
		r.doubt = true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.o.Elapsed()
	if r.now.IsZero() {
		r.now = c.o.Wall()
	}
	c.sleep = c.slept()
	c.leaps.Store(&r.leaps)
	c.since, c.slow, c.doubt = r.since, r.slow, r.doubt
	if r.ahead {
		c.lie = limit{from: r.wall, at: now, slack: -c.o.MaxJump}
	}
	c.limit = limit{from: r.now, at: now, slack: c.o.MaxOff}
	c.line.Store(&line{at: now, now: r.now.Round(0), rate: 1})
	c.state, c.told = State{Status: Trusted}, State{Status: Trusted}
	c.began = true
	c.look(c.o.Wall(), now)
	c.saveLater(now)
}

// saveLater writes the record as of now; if that fails, another try comes with the next save.
func (c *Clock) saveLater(now time.Duration) {
	if err := c.save(); err != nil {
		c.o.Log.Error("the last known time cannot be written", "error", err)
		c.saved = now // a minute later
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
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	return c.save()
}

// Now is the time that history is kept by. It never goes back, and takes no lock.
func (c *Clock) Now() time.Time {
	if c == nil {
		return time.Now()
	}
	l := c.line.Load()
	if l == nil {
		return c.o.Wall()
	}
	return l.read(c.o.Elapsed())
}

// State is a snapshot.
func (c *Clock) State() State {
	if c == nil {
		now := time.Now()
		return State{Status: Trusted, Now: now, Wall: now}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.state
	s.Now, s.Wall = c.Now(), c.o.Wall().Round(0)
	s.Offset = s.Wall.Sub(s.Now)
	return s
}

// Confirm says that the system's clock is right, for who saw it at an Offset (State): one that is ahead is followed at once and for good,
// for one that is behind the server's time slows down until it has caught up. It is durable on return. ErrTrusted if there is nothing to
// confirm, ErrMoved if the clock is another by more than a minute, whatever happened while they thought about it.
func (c *Clock) Confirm(offset time.Duration) (State, error) {
	err := c.confirm(offset)
	return c.State(), err
}

func (c *Clock) confirm(offset time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return ErrClosed
	}
	wall, now := c.o.Wall().Round(0), c.o.Elapsed()
	c.look(wall, now)
	switch {
	case c.state.Status == Trusted, c.state.Slowed:
		return ErrTrusted
	case (wall.Sub(c.line.Load().read(now)) - offset).Abs() > smallLeap:
		return ErrMoved
	case c.state.Status == Ahead:
		return c.follow(wall, now, true)
	}
	c.slow = true
	if err := c.save(); err != nil {
		c.slow = false
		return err
	}
	c.look(wall, now)
	return nil
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
	c.mu.Lock()
	now := c.o.Elapsed()
	c.look(c.o.Wall(), now)
	if now-c.saved >= saveEvery || c.state != c.told {
		c.saveLater(now)
	}
	news := c.state != c.told
	c.told = c.state
	s := c.state
	c.mu.Unlock()
	if news && c.tell != nil {
		s.Now, s.Wall = c.Now(), c.o.Wall().Round(0)
		s.Offset = s.Wall.Sub(s.Now)
		c.tell(s)
	}
}
