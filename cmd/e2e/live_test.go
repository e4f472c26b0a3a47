//go:build e2e

package e2e

import (
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

func number(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil && n > 0 {
		return n
	}
	return otherwise
}

// A change of the policy reaches every live session of both protocols: none does afterwards what it may not do any more, and those that
// may not stay are hung up on. How long that takes is printed, and in docs/PERFORMANCE.md for SESSIONS=1000.
func TestLiveSessionsFollowThePolicy(t *testing.T) {
	s := start(t)
	n := number("SESSIONS", 60)
	s.cli("policy", "set", "accounts."+s.Account+".session.max=5000", "--reason", "test")
	key := s.signer(t)
	clients := make([]*client, n)
	var all sync.WaitGroup
	next := make(chan int)
	for range 16 {
		all.Go(func() {
			for i := range next {
				var err error
				addr := net.IPv4(127, 3, 0, byte(1+i%50))
				if i%2 == 0 {
					clients[i], err = s.sftpClient(addr, key)
				} else {
					clients[i], err = s.ftpsClient(addr)
				}
				if err != nil {
					t.Errorf("session %d: %v", i, err)
				}
			}
		})
	}
	began := time.Now()
	for i := range n {
		next <- i
	}
	close(next)
	all.Wait()
	if t.Failed() {
		t.FailNow()
	}
	t.Logf("%d sessions, half over SFTP, half over FTPS, in %v", n, time.Since(began).Round(time.Millisecond))
	t.Cleanup(func() {
		for _, c := range clients {
			_ = c.end()
		}
	})
	each := func(fn func(c *client)) {
		var all sync.WaitGroup
		for _, c := range clients {
			all.Go(func() { fn(c) })
		}
		all.Wait()
	}
	each(func(c *client) {
		if err := c.look(); err != nil {
			t.Errorf("before the change: %v", err)
		}
	})

	// Rights: after the command has returned nobody may look any more.
	began = time.Now()
	s.cli("policy", "set", "accounts."+s.Account+".paths=[{path: /, allow: []}]", "--yes")
	t.Logf("the change that takes rights away took %v, with the start of the command", time.Since(began).Round(time.Millisecond))
	var mu sync.Mutex
	still := 0
	each(func(c *client) {
		if c.look() == nil {
			mu.Lock()
			still++
			mu.Unlock()
		}
	})
	if still > 0 {
		t.Errorf("%d of %d sessions still did what the policy takes away, after the change was acknowledged", still, n)
	}
	alive := 0
	for _, c := range clients {
		select {
		case <-c.gone:
		default:
			alive++
		}
	}
	if alive != n {
		t.Errorf("%d of %d sessions live after losing rights alone", alive, n)
	}

	// The network: everybody is out.
	ended := make([]time.Time, n)
	all = sync.WaitGroup{}
	for i, c := range clients {
		all.Go(func() {
			select {
			case <-c.gone:
				ended[i] = time.Now()
			case <-time.After(time.Minute):
				t.Errorf("session %d lives a minute after the change", i)
			}
		})
	}
	began = time.Now()
	s.cli("policy", "set", "site.deny_from=[127.3.0.0/16]", "--yes")
	returned := time.Now()
	all.Wait()
	if t.Failed() {
		return
	}
	slices.SortFunc(ended, time.Time.Compare)
	ms := func(at time.Time) float64 { return float64(at.Sub(began).Microseconds()) / 1000 }
	t.Logf("ended after the command was started: the first %.1f ms, half %.1f ms, 99 %% %.1f ms, the last %.1f ms; the command returned after %.1f ms",
		ms(ended[0]), ms(ended[n/2]), ms(ended[n*99/100]), ms(ended[n-1]), ms(returned))
}
