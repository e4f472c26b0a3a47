package sftpd

import (
	"bytes"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func newClientConn(t *testing.T) (*clientConn, net.Conn) {
	t.Helper()
	a, b := net.Pipe()
	t.Cleanup(func() { a.Close(); b.Close() })
	return &clientConn{Conn: a, heard: new(atomic.Int64), bulk: new(sync.Pool)}, b
}

// TestCork: what is written under a cork arrives in one piece, at the latest
// after corkTime even if the cork stays.
func TestCork(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, far := newClientConn(t)
		arrivals := make(chan string, 10)
		go func() {
			for buf := make([]byte, 1<<20); ; {
				n, err := far.Read(buf)
				if err != nil {
					return
				}
				arrivals <- string(buf[:n])
			}
		}()
		write := func(s string) {
			t.Helper()
			if _, err := c.Write([]byte(s)); err != nil {
				t.Fatal(err)
			}
		}
		write("alone")
		if got := <-arrivals; got != "alone" {
			t.Errorf("without a cork: %q", got)
		}
		c.cork()
		write("one")
		write("two")
		synctest.Wait()
		if len(arrivals) != 0 {
			t.Errorf("%q left the bottle early", <-arrivals)
		}
		c.uncork()
		if got := <-arrivals; got != "onetwo" {
			t.Errorf("after the cork: %q", got)
		}
		c.cork()
		write("stuck")
		start := time.Now()
		if got := <-arrivals; got != "stuck" || time.Since(start) > corkTime {
			t.Errorf("under a cork that stays: %q after %v", got, time.Since(start))
		}
		write("again")
		if got := <-arrivals; got != "again" {
			t.Errorf("later under the same cork: %q", got)
		}
		c.uncork()
		c.cork()
		big := string(bytes.Repeat([]byte("x"), bulkSize+1))
		for _, s := range []string{"y", big[:bulkSize], "z"} {
			write(s)
		}
		c.uncork()
		var all string
		for len(all) < bulkSize+2 {
			all += <-arrivals
		}
		if all != "y"+big[:bulkSize]+"z" {
			t.Error("more than a bottle came out different")
		}
		c.Close()
		c.cork()
		write("lost")
		c.uncork()
		if _, err := c.Write([]byte("x")); err == nil {
			t.Error("a failed flush was forgotten")
		}
	})
}

// TestReadAhead: whatever sizes data comes and is asked for in, it is the same
// data, and an idle connection holds no buffer.
func TestReadAhead(t *testing.T) {
	t.Parallel()
	c, far := newClientConn(t)
	want := randomBytes(1 << 20)
	go func() {
		for rest, n := want, 1; len(rest) > 0; n = (n*3 + 1) % 999_983 {
			k := min(n%200_000, len(rest))
			if _, err := far.Write(rest[:k]); err != nil {
				return
			}
			rest = rest[k:]
		}
		_, _ = far.Write([]byte("end"))
	}()
	got := make([]byte, 0, len(want))
	for n := 1; len(got) < len(want); n = (n*5 + 2) % 99_991 {
		k := min(1+n%40_000, len(want)-len(got))
		if _, err := io.ReadFull(c, got[len(got):len(got)+k]); err != nil {
			t.Fatal(err)
		}
		got = got[:len(got)+k]
	}
	if !bytes.Equal(got, want) {
		t.Error("other bytes came out than went in")
	}
	buf := make([]byte, 10)
	if n, err := c.Read(buf); string(buf[:n]) != "end" || err != nil {
		t.Errorf("read %q, %v", buf[:n], err)
	}
	if c.ahead != nil || c.hot {
		t.Error("the next read would hold a buffer while nothing comes")
	}
}
