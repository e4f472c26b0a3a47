package session

import (
	"context"
	"errors"
	"testing"

	"sallyport/policy"
)

// A connection from accept to the end of the session, with a remembered password: what a client pays that opens many.
func BenchmarkLogin(b *testing.B) {
	h := build(b, nil)
	h.set(b, policy.Site, "session.max", "1000")
	h.addAccount(b, "alice", everything)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c, d := h.m.Connect(context.Background(), sftpFrom("198.51.100.1"), nil)
			if d != nil {
				b.Error(d)
				return
			}
			if _, err := c.Login(context.Background(), "alice", Credential{Password: secret}); err != nil {
				b.Error(err)
			}
			c.Close()
		}
	})
}

// BenchmarkStranger is what a stranger can measure at a key that is not listed: how much longer it takes for an account that exists.
func BenchmarkStranger(b *testing.B) {
	h := build(b, func(o *Options) { o.Limits.KeysOffered = 1 << 30 })
	h.addAccount(b, "alice", everything)
	for _, name := range []string{"alice", "nobody"} {
		b.Run(name, func(b *testing.B) {
			l := h.connect(b, sftpFrom("203.0.113.5"))
			defer l.Close()
			for b.Loop() {
				if err := l.KeyAllowed(b.Context(), name, h.key[:len(h.key)-1]); !errors.Is(err, ErrAuth) {
					b.Fatal(err)
				}
			}
		})
	}
}
