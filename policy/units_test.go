package policy

import (
	"testing"
	"time"
)

// FuzzUnits: sizes, durations, rates and networks are never negative, and what is written of them reads as the same.
func FuzzUnits(f *testing.F) {
	for _, s := range []string{"", "0", "10GiB", "500 MB", "9223372036854775807", "4611686018427387904B", "14d", "1d12h", "99999d876000h", "15m30s", "30", "36500", "36501", "36h", "forever", "-5m", "1.5h", "1ns",
		"10/min", "1000000/s", "0/day", "/", "198.51.100.0/24", "10.1.2.3/8", "::ffff:192.0.2.1", "fe80::1%eth0", "::/0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := parseSize(s); err == nil {
			if again, err := parseSize(formatSize(n)); n < 0 || err != nil || again != n {
				t.Errorf("size %q is %d, again %d, %v", s, n, again, err)
			}
		}
		if d, err := parseDuration(s); err == nil {
			if again, err := parseDuration(formatDuration(d)); d < 0 || d%time.Second != 0 || err != nil || again != d {
				t.Errorf("duration %q is %v, again %v, %v", s, d, again, err)
			}
		}
		if d, err := parseSpan(s); err == nil {
			if again, err := parseSpan(formatSpan(d)); d < 0 || err != nil || again != d {
				t.Errorf("time %q is %v, again %v, %v", s, d, again, err)
			}
		}
		if r, err := parseRate(s); err == nil {
			if again, err := parseRate(r.String()); r.N < 0 || err != nil || again != r {
				t.Errorf("rate %q is %v, again %v, %v", s, r, again, err)
			}
		}
		if p, err := parseNetwork(s); err == nil {
			if again, err := parseNetwork(p.String()); !p.IsValid() || p.Addr().Zone() != "" || err != nil || again != p {
				t.Errorf("network %q is %v, again %v, %v", s, p, again, err)
			}
		}
	})
}
