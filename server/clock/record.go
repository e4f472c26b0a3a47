package clock

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"sallyport/crypto/durable"
	"sallyport/crypto/record"
)

// remembered is the record on the disk (docs/FORMAT.md, "Last known time").
type remembered struct {
	now   time.Time // the server's
	wall  time.Time // the system's at that moment
	since time.Time // when it began not to be followed; zero = it is
	ahead bool      // because it is ahead
	slow  bool      // an operator has confirmed that the server's time is to wait for it
	doubt bool      // a record before this one was damaged, and no operator has confirmed a clock since
	leaps []leap
}

const (
	recordVersion = 1
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

func decode(b []byte) (r remembered, err error) {
	const fixed = 2 + 3*8 + 2
	if len(b) > 0 && b[0] != recordVersion {
		return r, fmt.Errorf("version %d of the record is unknown to this program: %w", b[0], errors.ErrUnsupported)
	}
	if len(b) < fixed || b[1]&^(flagAhead|flagSlow|flagDoubt) != 0 || len(b) != fixed+24*int(binary.BigEndian.Uint16(b[fixed-2:])) {
		return r, errMalformed
	}
	bad := false
	next := b[2:]
	instant := func() time.Time {
		n := int64(binary.BigEndian.Uint64(next))
		next = next[8:]
		if bad = bad || n < 0; n == 0 {
			return time.Time{}
		}
		return time.Unix(0, n)
	}
	r.ahead, r.slow, r.doubt = b[1]&flagAhead != 0, b[1]&flagSlow != 0, b[1]&flagDoubt != 0
	r.now, r.wall, r.since = instant(), instant(), instant()
	next = next[2:]
	last := time.Time{}
	for len(next) > 0 {
		l := leap{instant(), instant(), instant()}
		bad = bad || l.since.Before(last) || l.from.Before(l.since) || !l.to.After(l.from)
		last = l.to
		r.leaps = append(r.leaps, l)
	}
	if bad || r.now.IsZero() {
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

// remember is what is to be known at the next start, if the server's time is now.
func (c *Clock) remember(now, wall time.Time) *remembered {
	return &remembered{now: now, wall: wall, since: c.since, ahead: c.state.Status == Ahead, slow: c.slow, doubt: c.doubt, leaps: *c.leaps.Load()}
}

// Record is the record as of now, as it would be on the disk: for a copy of the state. nil before Begin.
func (c *Clock) Record() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.began {
		return nil
	}
	return c.seal(c.remember(c.Now(), c.o.Wall()))
}

func (c *Clock) seal(r *remembered) []byte {
	return c.o.Box.Seal(nil, record.DomainClock, []byte(recordPlace), r.encode())
}

// save writes the record as of now.
func (c *Clock) save() error {
	if !c.began {
		return nil
	}
	return c.write(c.remember(c.Now(), c.o.Wall()))
}

func (c *Clock) write(r *remembered) error {
	if err := durable.WriteFile(c.o.Path, c.seal(r), 0o600); err != nil {
		return fmt.Errorf("noting the time: %w", err)
	}
	c.saved = c.o.Elapsed()
	return nil
}
