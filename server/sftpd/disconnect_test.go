package sftpd

import (
	"bytes"
	"strings"
	"testing"
)

// The packet is one that our own parser of unencrypted packets, which holds to RFC 4253, section 6, takes apart again.
func TestDisconnectPacket(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 100, 511, 512, 5000} {
		text := strings.Repeat("x", n)
		p := disconnectPacket(text)
		payload, complete, err := parseFirstPacket(p)
		if err != nil || !complete {
			t.Fatalf("%d characters: %v, complete %v", n, err, complete)
		}
		f := fields{b: payload}
		kind, reason, said, language := f.byte(), f.uint32(), f.string(), f.string()
		if kind != 1 || reason != 7 || said != text[:min(n, maxDisconnectText)] || language != "" || !f.ok() || len(f.b) != 0 {
			t.Errorf("%d characters: %d, %d, %d characters, language %q, rest %d", n, kind, reason, len(said), language, len(f.b))
		}
		if padding := p[len(p)-int(p[4]):]; !bytes.Equal(padding, make([]byte, len(padding))) {
			t.Error("the padding is not zero")
		}
	}
}
