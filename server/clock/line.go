package clock

import "time"

// line is the server's time from a moment on.
type line struct {
	at   time.Duration // Elapsed
	now  time.Time
	rate float64 // 1, or less while it waits for the clock
}

func (l line) read(elapsed time.Duration) time.Time {
	d := max(elapsed-l.at, 0)
	if l.rate != 1 {
		d = time.Duration(float64(d) * l.rate)
	}
	return l.now.Add(d)
}

// onwards is no earlier than what it returned before, to anybody. A line takes the place of another while it is read, and a slower one
// begins below what the other still gives to who was held up between the two readings that it takes.
func (c *Clock) onwards(t time.Time) time.Time {
	n := t.UnixNano()
	for {
		last := c.last.Load()
		if n <= last {
			return time.Unix(0, last)
		}
		if c.last.CompareAndSwap(last, n) {
			return t
		}
	}
}
