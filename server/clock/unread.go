package clock

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sallyport/crypto/durable"
)

// Unread is why a record was not read.
type Unread string

const (
	Missing    Unread = "missing"    // there is none
	Unreadable Unread = "unreadable" // the disk or its rights do not give it
	Damaged    Unread = "damaged"    // it does not authenticate, or says what no record may say
	Newer      Unread = "newer"      // it has a version that only later programs know
)

// asideMark stands in the name of what was put aside: clock.unread-<time>.
const asideMark = ".unread-"

// meanwhile is the end of the name of the record of a server that could not read its own, in its place for the time being.
const meanwhile = ".meanwhile"

// read reads what is in the place of the record, or of the one for the time being.
func (c *Clock) read(path string) (r remembered, why Unread, err error) {
	sealed, err := c.o.read(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return r, Missing, err
	case err != nil:
		return r, Unreadable, err
	}
	r, err = c.open(sealed)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		return remembered{}, Newer, err
	case err != nil:
		return remembered{}, Damaged, err
	}
	return r, "", nil
}

// resumed is the record that the first judgement goes on from: the one that was found, or what stands in for it. last is what the state knows
// of the time without it.
func (c *Clock) resumed(last time.Time, at Count) remembered {
	if c.unread == "" || c.besides {
		r := c.found
		if !c.lost && !r.lacks(last, at) {
			return r
		}
		c.o.Log.Warn("the record of the last known time is older than the state: what is there is kept for its whole time anew", "file", c.o.Path, "record", r.now.UTC(), "state", last.UTC())
		p := past{known: r.known}
		p.from(later(last, r.now))
		r.known = p.known
		return r
	}
	begins := last.IsZero()
	if begins {
		last = c.o.Wall()
	}
	r := remembered{now: last, wall: last, doubt: c.unread != Missing}
	if c.unread != Missing || !begins && !c.o.New {
		r.known = last
	}
	if c.unread == Missing && !r.known.IsZero() {
		c.o.Log.Warn("the record of the last known time is missing: what is there is kept for its whole time anew", "file", c.o.Path, "since", last.UTC())
	}
	return r
}

// reread tries again to read what could not be read, and goes on from it. Called by who has the turn.
func (c *Clock) reread(now time.Duration) {
	before := c.now.Load()
	if before.unread == "" {
		return
	}
	r, why, err := c.read(c.o.Path)
	j := *before
	switch why {
	case "":
		j = c.adopt(&r, before, now)
		if c.write(&j) != nil { // what is leapt over has to be durable first, as ever; it has told
			c.again.failed(now)
			return
		}
		c.again = saving{}
		c.o.Log.Info("the record of the last known time is read again, and gone on from")
	case Missing: // somebody took it away: nothing is overwritten any more
		j.unread, j.cause, c.again = "", "", saving{}
		c.o.Log.Warn("the record of the last known time that could not be read is gone; a new one is begun")
	default:
		j.unread, j.cause = why, err.Error()
		c.again.failed(now)
	}
	c.now.Store(&j)
}

// adopt goes on from a record that is read late: as if it had been at the start, but that what got an instant since then got it too early, if
// the server's time has to go forward now.
func (c *Clock) adopt(r *remembered, before *judgement, now time.Duration) judgement {
	at, own, began := c.o.Count(), before.line.read(now), before.past.known
	then := at
	then.Time -= own.Sub(began)
	j := r.resume(at, now)
	j.slept = c.slept()
	ordered := !began.Before(j.past.end())
	switch forward := j.line.now.After(own); {
	case r.lacks(began, then):
		j.past.from(began)
		fallthrough
	case !forward && ordered:
		if j.keepOn(later(own, j.line.now), now, 1); j.since.IsZero() || began.Before(j.since) {
			j.since = began
		}
	case forward && ordered && j.since.IsZero():
		j.past.add(leap{since: began, from: began, to: j.line.now}) // to its end, and what happens until the clock is followed later still
		j.since = j.line.now
	default: // no leap says it: everything up to now counts as of now
		j.keepOn(later(own, j.line.now), now, 1)
		j.past.from(j.line.now)
		j.since = j.line.now
	}
	return j
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// putAside gives what could not be read a name under which it is kept, and no reader looks for it.
func (c *Clock) putAside() error {
	name := c.o.Path + asideMark + c.o.Wall().UTC().Format("20060102T150405Z")
	to := name
	for n := 2; ; n++ {
		if _, err := os.Lstat(to); errors.Is(err, fs.ErrNotExist) {
			break
		} else if err != nil || n > maxAside {
			return fmt.Errorf("putting the record that was not read aside: %w", errors.Join(err, fs.ErrExist))
		}
		to = fmt.Sprintf("%s.%d", name, n)
	}
	err := c.o.move(c.o.Path, to)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // somebody else did
	}
	if err == nil {
		err = durable.SyncDir(filepath.Dir(c.o.Path))
	}
	if err != nil {
		return fmt.Errorf("putting the record that was not read aside: %w", err)
	}
	c.o.Log.Warn("the record of the last known time that could not be read is put aside", "as", to)
	return nil
}

// maxAside is how many records may be put aside within a second.
const maxAside = 1000

// Aside are the names of the records that were put aside beside path, oldest first.
func Aside(path string) (names []string, err error) {
	entries, err := os.ReadDir(filepath.Dir(path))
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), filepath.Base(path)+asideMark) {
			names = append(names, e.Name())
		}
	}
	return names, err
}
