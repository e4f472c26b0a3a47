package policy

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

var units = []struct {
	suffix string
	bytes  int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1}}

func parseSize(text string) (int64, error) {
	number, factor := text, int64(1)
	for _, u := range units {
		if rest, ok := strings.CutSuffix(text, u.suffix); ok {
			number, factor = strings.TrimSpace(rest), u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > (1<<62)/factor {
		return 0, fmt.Errorf("%q is not a size; write bytes or 10GiB, 500MB", text)
	}
	return n * factor, nil
}

// formatSize takes the unit with which the number is shortest.
func formatSize(n int64) string {
	number, suffix := strconv.FormatInt(n, 10), ""
	for _, u := range units {
		if n > 0 && u.bytes > 1 && n%u.bytes == 0 {
			if in := strconv.FormatInt(n/u.bytes, 10); len(in) < len(number) {
				number, suffix = in, u.suffix
			}
		}
	}
	return number + suffix
}

var dayPart = regexp.MustCompile(`^([0-9]{1,5})d`)

// parseDuration is time.ParseDuration with days in front: 14d, 1d12h, 15m, 0.
func parseDuration(text string) (time.Duration, error) {
	bad := fmt.Errorf("%q is not a duration; write 30s, 15m, 2h, 14d", text)
	rest, days := text, int64(0)
	if m := dayPart.FindStringSubmatch(text); m != nil {
		days, _ = strconv.ParseInt(m[1], 10, 64)
		if rest = text[len(m[0]):]; rest == "" {
			rest = "0"
		}
	}
	const most = 36500 * 24 * time.Hour
	d, err := time.ParseDuration(rest)
	if err != nil || d < 0 || d%time.Second != 0 || d > most || days > int64(most/(24*time.Hour)) {
		return 0, bad
	}
	if d += time.Duration(days) * 24 * time.Hour; d > most {
		return 0, bad
	}
	return d, nil
}

func formatDuration(d time.Duration) string {
	const day = 24 * time.Hour
	var b strings.Builder
	if d >= day {
		fmt.Fprintf(&b, "%dd", d/day)
		d %= day
	}
	for _, u := range []struct {
		unit time.Duration
		name string
	}{{time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}} {
		if d >= u.unit {
			fmt.Fprintf(&b, "%d%s", d/u.unit, u.name)
			d %= u.unit
		}
	}
	if b.Len() == 0 {
		return "0"
	}
	return b.String()
}

var per = []struct {
	name string
	d    time.Duration
}{{"s", time.Second}, {"min", time.Minute}, {"hour", time.Hour}, {"day", 24 * time.Hour}}

func parseRate(text string) (Rate, error) {
	if text == "0" {
		return Rate{}, nil
	}
	number, unit, _ := strings.Cut(text, "/")
	n, err := strconv.Atoi(number)
	for _, u := range per {
		if u.name == unit && err == nil && n >= 0 && n <= 1_000_000 {
			if n == 0 {
				return Rate{}, nil
			}
			return Rate{N: n, Per: u.d}, nil
		}
	}
	return Rate{}, fmt.Errorf("%q is not a rate; write 10/min (s, min, hour, day), 0 for no limit", text)
}

func (r Rate) String() string {
	for _, u := range per {
		if u.d == r.Per && r.N > 0 {
			return strconv.Itoa(r.N) + "/" + u.name
		}
	}
	return "0"
}

// perSecond of a rate, for comparison.
func (r Rate) perSecond() float64 { return float64(r.N) / r.Per.Seconds() }
