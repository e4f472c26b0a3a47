package clock

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"sallyport/crypto/record"
)

// remembered is the record on the disk (docs/FORMAT.md, "Last known time").
type remembered struct {
	now      time.Time // the server's
	wall     time.Time // the system's at that moment
	since    time.Time // when it began not to be followed; zero = it is
	ahead    bool      // because it is ahead
	slow     bool      // an operator has confirmed that the server's time is to wait for it
	doubt    bool      // a record before this one could not be read, and no operator has confirmed a clock since
	count    Count     // the machine's at that moment
	base     time.Time // where the first clock that was believed since the machine was started would be, with drift; zero = none was
	unproven time.Duration
	known    time.Time // leaps before that may be missing; zero = none are
	leaps    []leap
}

const (
	recordVersion = 3
	recordPlace   = "clock"
	flagAhead     = 1
	flagSlow      = 2
	flagDoubt     = 4
)

var errMalformed = errors.New("clock: the record is malformed")

func (r *remembered) encode() []byte {
	flags := byte(0)
	if r.ahead {
		flags |= flagAhead
	}
	if r.slow {
		flags |= flagSlow
	}
	if r.doubt {
		flags |= flagDoubt
	}
	b := []byte{recordVersion, flags}
	b = appendTime(b, r.now)
	b = appendTime(b, r.wall)
	b = appendTime(b, r.since)
	b = append(b, r.count.Of[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(r.count.Time))
	b = appendTime(b, r.base)
	b = binary.BigEndian.AppendUint64(b, uint64(r.unproven))
	b = appendTime(b, r.known)
	b = binary.BigEndian.AppendUint16(b, uint16(len(r.leaps)))
	for _, l := range r.leaps {
		b = appendTime(appendTime(appendTime(b, l.since), l.from), l.to)
	}
	return b
}

// appendTime writes the zero time as 0, and so what is before 1970: a clock that says so is not believed anyway.
func appendTime(b []byte, t time.Time) []byte {
	n := int64(0)
	if !t.IsZero() {
		n = max(t.UnixNano(), 0)
	}
	return binary.BigEndian.AppendUint64(b, uint64(n))
}

// fields reads what follows the flags. bad is set for good by what no record may say.
type fields struct {
	next []byte
	bad  bool
}

func (f *fields) take(n int) []byte {
	if len(f.next) < n {
		f.bad, f.next = true, make([]byte, n)
	}
	b := f.next[:n]
	f.next = f.next[n:]
	return b
}

func (f *fields) number() int64 {
	n := int64(binary.BigEndian.Uint64(f.take(8)))
	f.bad = f.bad || n < 0
	return n
}

func (f *fields) instant() time.Time {
	n := f.number()
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n)
}

// decode reads records of this program and of those before it, which knew no count, or not since when they knew every leap. A version of
// a later program is errors.ErrUnsupported.
func decode(b []byte) (r remembered, err error) {
	if len(b) < 2 {
		return r, errMalformed
	}
	if b[0] == 0 {
		return r, errMalformed
	}
	if b[0] > recordVersion {
		return r, fmt.Errorf("version %d of the record is unknown to this program: %w", b[0], errors.ErrUnsupported)
	}
	r.ahead, r.slow, r.doubt = b[1]&flagAhead != 0, b[1]&flagSlow != 0, b[1]&flagDoubt != 0
	f := &fields{next: b[2:], bad: b[1]&^(flagAhead|flagSlow|flagDoubt) != 0}
	r.now, r.wall, r.since = f.instant(), f.instant(), f.instant()
	if b[0] > 1 {
		r.count.Of = [16]byte(f.take(16))
		r.count.Time = time.Duration(f.number())
		r.base, r.unproven = f.instant(), time.Duration(f.number())
	}
	if b[0] > 2 {
		r.known = f.instant()
	}
	n := int(binary.BigEndian.Uint16(f.take(2)))
	last := time.Time{}
	for range n {
		l := leap{f.instant(), f.instant(), f.instant()}
		f.bad = f.bad || l.since.Before(last) || l.from.Before(l.since) || !l.to.After(l.from)
		last = l.to
		r.leaps = append(r.leaps, l)
	}
	if f.bad || len(f.next) > 0 || r.now.IsZero() {
		return r, errMalformed
	}
	return r, nil
}

func (c *Clock) open(sealed []byte) (remembered, error) {
	plain, err := c.o.Box.Open(nil, record.DomainClock, []byte(recordPlace), sealed)
	if err != nil {
		return remembered{}, err
	}
	return decode(plain)
}

// remember is what is to be known at the next start of a judgement. Its time is that of the count beside it, however long ago the judgement was
// made: a time from before a slow disk with a count from after it would lose what passed between them. What the machine has slept since the
// judgement is in none of its times, and so is not in what the next start measures by: otherwise nobody would ever count it.
func (c *Clock) remember(j *judgement) *remembered {
	elapsed := c.o.Elapsed()
	slept := c.sleptSince(j.slept) // asked before the count: a sleep in between must not be counted twice
	at := c.o.Count()
	at.Time = max(at.Time-slept, 0)
	r := &remembered{
		now: later(j.line.read(elapsed), time.Unix(0, c.last.Load())), wall: c.o.Wall().Add(-slept), since: j.since, ahead: j.state.Status == Ahead && !j.state.Unwritten, slow: j.slow, doubt: j.doubt,
		count: at, unproven: j.unproven.read(elapsed), known: j.past.known, leaps: j.past.leaps,
	}
	if !j.base.from.IsZero() {
		r.base = j.base.read(elapsed)
	}
	return r
}

// Record is the record as of now, as it would be on the disk: for a copy of the state. nil before Begin.
func (c *Clock) Record() []byte {
	j := c.now.Load()
	if j == nil {
		return nil
	}
	return c.seal(c.remember(j))
}

func (c *Clock) seal(r *remembered) []byte {
	return c.o.Box.Seal(nil, record.DomainClock, []byte(recordPlace), r.encode())
}
