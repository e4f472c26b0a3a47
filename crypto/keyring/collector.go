package keyring

import (
	"fmt"
	"io"
	"sync"
	"time"

	"sallyport/crypto/locked"
	"sallyport/crypto/shamir"
)

// CollectTime is how long a collector usually waits for the next share.
const CollectTime = 15 * time.Minute

// Collector takes the shares of one set, one at a time, from different people.
// Their bytes wait in locked memory until all are there, or until nobody has
// given one for a while. Safe for concurrent use.
type Collector struct {
	set  shamir.SetID
	k, n int
	wait time.Duration

	mu    sync.Mutex // guards what follows
	pages []byte     // ShareSize bytes for each share given; nil while there are none
	have  int
	timer *time.Timer // runs while there are shares
	round int         // tells a timer that comes late from one that is due
}

// Progress is how many shares were given and how many are needed.
type Progress struct{ Have, Need int }

// Complete tells whether SealInfo.Shares can be called.
func (p Progress) Complete() bool { return p.Have >= p.Need }

func (p Progress) String() string { return fmt.Sprintf("%d/%d", p.Have, p.Need) }

// NewCollector makes a collector for the shares of this seal. It forgets what
// it has when no share has come for wait.
func (i *SealInfo) NewCollector(wait time.Duration) (*Collector, error) {
	p := new(sharesParams)
	if err := i.params(KindShares, p); err != nil {
		return nil, err
	}
	return &Collector{set: p.set(), k: p.K, n: p.N, wait: wait}, nil
}

// Format keeps shares out of logs.
func (*Collector) Format(s fmt.State, _ rune) { io.WriteString(s, "[redacted]") }

// Progress is how far it is.
func (c *Collector) Progress() Progress {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.progress()
}

func (c *Collector) progress() Progress { return Progress{c.have, c.k} }

// Add takes one share in its text form, which the caller overwrites. A share
// that is refused changes nothing: shamir.ErrShare (a *shamir.TextError names
// the wrong groups), shamir.ErrDuplicate, shamir.ErrConflict, shamir.ErrMixed.
func (c *Collector) Add(text []byte) (Progress, error) {
	share, err := shamir.ParseText(text)
	if err != nil {
		return c.Progress(), err
	}
	defer share.Wipe()
	c.mu.Lock()
	defer c.mu.Unlock()
	if share.Set != c.set || int(share.K) != c.k || int(share.N) != c.n {
		return c.progress(), fmt.Errorf("%w: this share is of set %x, unsealing needs shares of set %x", shamir.ErrMixed, share.Set, c.set)
	}
	if c.have >= c.k {
		return c.progress(), fmt.Errorf("%w: all %d that are needed have been given", shamir.ErrDuplicate, c.k)
	}
	if err := c.fits(share); err != nil {
		return c.progress(), err
	}
	if c.pages == nil {
		if c.pages, err = locked.Pages(c.k * shamir.ShareSize); err != nil {
			return c.progress(), fmt.Errorf("getting memory for shares: %w", err)
		}
	}
	b := share.Bytes()
	copy(c.slot(c.have), b)
	clear(b)
	c.have++
	c.rearm()
	return c.progress(), nil
}

func (c *Collector) slot(i int) []byte {
	return c.pages[i*shamir.ShareSize : (i+1)*shamir.ShareSize]
}

// fits compares the new share with those that are there.
func (c *Collector) fits(share *shamir.Share) error {
	for i := range c.have {
		old, err := shamir.Parse(c.slot(i))
		if err != nil {
			return fmt.Errorf("keyring: internal error: %w", err)
		}
		err = old.Fits(share)
		old.Wipe()
		if err != nil {
			return err
		}
	}
	return nil
}

// rearm begins the wait anew. The timer's function ends by itself and waits for
// nobody, so it needs no owner; one of an earlier round does nothing.
func (c *Collector) rearm() {
	c.stop()
	round := c.round
	c.timer = time.AfterFunc(c.wait, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.round == round {
			c.reset()
		}
	})
}

func (c *Collector) stop() {
	c.round++
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
}

// Reset forgets the shares given so far.
func (c *Collector) Reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reset()
}

func (c *Collector) reset() {
	c.stop()
	if c.pages != nil {
		locked.Free(c.pages)
		c.pages = nil
	}
	c.have = 0
}

// combine puts the secret together and forgets the shares, whether it succeeds
// or not: if one is wrong nobody can tell which, and all must be given again.
func (c *Collector) combine() (*[shamir.SecretSize]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.have < c.k {
		return nil, fmt.Errorf("%w: %d of the %d that are needed", shamir.ErrTooFew, c.have, c.k)
	}
	defer c.reset()
	shares := make([]shamir.Share, 0, c.k)
	defer func() { clear(shares) }()
	for i := range c.have {
		share, err := shamir.Parse(c.slot(i))
		if err != nil {
			return nil, fmt.Errorf("keyring: internal error: %w", err)
		}
		shares = append(shares, *share)
		share.Wipe()
	}
	return shamir.Combine(shares)
}
