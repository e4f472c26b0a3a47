//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// guesser tries passwords from fifty addresses of fifty networks at once until the time is over, and counts by address how many
// were looked at.
type guesser struct {
	s     *server
	until time.Time
	try   func(addr net.IP, account, password string) (looked bool)
}

const addresses = 50

func (g *guesser) run(account func(k int) string) (looked []int, sent int, took time.Duration) {
	began := time.Now()
	looked = make([]int, addresses)
	var tries atomic.Int64
	var all sync.WaitGroup
	for k := range addresses {
		all.Go(func() {
			for n := 0; time.Now().Before(g.until); n++ {
				tries.Add(1)
				if g.try(net.IPv4(127, 0, byte(10+k), 1), account(k), fmt.Sprintf("guess-%d-%d", k, n)) {
					looked[k]++
				}
			}
		})
	}
	all.Wait()
	return looked, int(tries.Load()), time.Since(began)
}

// mostIn is what login.per_account lets through in the time until the last answer, which on a slow machine comes long after the last try was begun.
func mostIn(took time.Duration) int { return 5 + int((took+12*time.Second-1)/(12*time.Second)) + 2 }

func total(list []int) (n int) {
	for _, x := range list {
		n += x
	}
	return n
}

// Fifty addresses that guess at one account get together what one would get, over either protocol, and its owner hardly notices; fifty that
// try one password of every account get the few tries of each address. SECONDS=60 makes the figures of docs/PERFORMANCE.md.
func TestFiftyAddressesGuess(t *testing.T) {
	seconds := number("SECONDS", 6)
	overSSH := func(s *server) func(net.IP, string, string) bool {
		return func(addr net.IP, account, password string) bool {
			asked := false
			c, said, err := s.ssh(addr, account, ssh.RetryableAuthMethod(ssh.PasswordCallback(func() (string, error) { asked = true; return password, nil }), 1))
			if err == nil {
				_ = c.Close()
				t.Errorf("a guess opened %s", account)
			}
			// A connection that was refused or cut says nothing of the password either.
			return asked && lookedAt(said) && strings.Contains(err.Error(), "unable to authenticate")
		}
	}
	overFTPS := func(s *server) func(net.IP, string, string) bool {
		return func(addr net.IP, account, password string) bool {
			conn, _, code, answer, err := s.ftps(addr, account, password)
			if conn != nil {
				_ = conn.Close()
				t.Errorf("a guess opened %s", account)
			}
			return err == nil && code == 530 && lookedAt(answer)
		}
	}
	for _, p := range []struct {
		name string
		try  func(*server) func(net.IP, string, string) bool
	}{{"SSH", overSSH}, {"FTPS", overFTPS}} {
		t.Run(p.name, func(t *testing.T) {
			s := start(t)
			s.cli("policy", "set", "site.auth.sftp=[publickey, password]", "--reason", "test")
			owner := net.IPv4(127, 9, 9, 9)
			own := func() time.Duration {
				began := time.Now()
				conn, _, code, answer, err := s.ftps(owner, s.Account, s.Password)
				if conn == nil {
					t.Errorf("the owner was refused: %d %s, %v", code, answer, err)
					return 0
				}
				_ = conn.Close()
				return time.Since(began)
			}
			own()
			var times []time.Duration
			stop, stopped := make(chan struct{}), make(chan struct{})
			go func() { // ends with stop
				defer close(stopped)
				tick := time.NewTicker(time.Second)
				defer tick.Stop()
				for {
					select {
					case <-tick.C:
						times = append(times, own())
					case <-stop:
						return
					}
				}
			}()
			g := &guesser{s: s, try: p.try(s), until: time.Now().Add(time.Duration(seconds) * time.Second)}
			looked, sent, took := g.run(func(int) string { return s.Account })
			close(stop)
			<-stopped
			slices.Sort(times)
			median := time.Duration(0)
			if len(times) > 0 {
				median = times[len(times)/2]
			}
			t.Logf("one account, %d addresses, %d s: %d of %d guesses looked at (at most %d from one address); the owner's logins: %d, median %v", addresses, seconds, total(looked), sent, slices.Max(looked), len(times), median.Round(time.Millisecond))
			// login.per_account: five at once, and five per minute from then on; each that waits for its hash meanwhile was let in before.
			if got, most := total(looked), mostIn(took); got > most || got == 0 {
				t.Errorf("%d guesses at one account were looked at in %v, want 1 to %d", got, took, most)
			}
			g.until = time.Now().Add(time.Duration(seconds) * time.Second)
			looked, sent, took = g.run(func(k int) string { return fmt.Sprintf("nobody%02d", k) })
			t.Logf("an account for each of %d addresses, %d s: %d of %d guesses looked at (%d to %d from one address)", addresses, seconds, total(looked), sent, slices.Min(looked), slices.Max(looked))
			// login.per_account holds for accounts that do not exist, too.
			if got, most := slices.Max(looked), mostIn(took); got > most || total(looked) == 0 {
				t.Errorf("%d guesses of one address were looked at in %v, want at most %d", got, took, most)
			}
		})
	}
}
