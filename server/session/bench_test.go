package session

import (
	"context"
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
