package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // a host without zone files must not change when a login is allowed
)

// window is a time of the week at which sessions are allowed: "mon-fri 08:00-18:00 Europe/Berlin".
type window struct {
	days       [7]bool // by time.Weekday of its beginning
	begin, end int     // minutes of the day; an end at or before the beginning is on the next day
	zone       *time.Location
}

var dayNames = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

const hoursHint = `write "mon-fri 08:00-18:00 Europe/Berlin", "sat,sun 10:00-14:00" or "daily 22:00-06:00"; without a zone it is UTC`

func parseWindow(text string) (window, error) {
	w := window{zone: time.UTC}
	f := strings.Fields(text)
	if len(f) < 2 || len(f) > 3 {
		return w, fmt.Errorf("%q is not days, hours and a zone", text)
	}
	for _, part := range strings.Split(strings.ToLower(f[0]), ",") {
		first, last, isRange := strings.Cut(part, "-")
		if part == "daily" {
			first, last, isRange = "mon", "sun", true
		}
		a := slices.Index(dayNames, first)
		b := a
		if isRange {
			b = slices.Index(dayNames, last)
		}
		if a < 0 || b < 0 {
			return w, fmt.Errorf("%q is not a day; days are mon, tue, wed, thu, fri, sat, sun, daily", part)
		}
		for d := a; ; d = (d + 1) % 7 {
			w.days[d] = true
			if d == b {
				break
			}
		}
	}
	begin, end, ok := strings.Cut(f[1], "-")
	var err error
	if w.begin, err = minutes(begin); err != nil || !ok || w.begin == 24*60 {
		return w, fmt.Errorf("%q are not hours; write 08:00-18:00", f[1])
	}
	if w.end, err = minutes(end); err != nil {
		return w, fmt.Errorf("%q are not hours; write 08:00-18:00", f[1])
	}
	if len(f) == 3 {
		if w.zone, err = time.LoadLocation(f[2]); err != nil || f[2] == "Local" {
			return w, fmt.Errorf("%q is not a time zone; write Europe/Berlin", f[2])
		}
	}
	return w, nil
}

func minutes(text string) (int, error) {
	var h, m int
	if n, err := fmt.Sscanf(text, "%d:%d", &h, &m); n != 2 || err != nil || len(text) != 5 || h < 0 || m < 0 || m > 59 || h*60+m > 24*60 {
		return 0, fmt.Errorf("not a time of day")
	}
	return h*60 + m, nil
}

// contains is by what a clock on the wall of the zone shows.
func (w *window) contains(now time.Time) bool {
	t := now.In(w.zone)
	at, today := t.Hour()*60+t.Minute(), t.Weekday()
	if w.begin < w.end {
		return w.days[today] && at >= w.begin && at < w.end
	}
	return w.days[today] && at >= w.begin || w.days[(today+6)%7] && at < w.end
}

// hours is one list; a session must lie in one window of every list.
type hours struct {
	windows []window
	origin  Origin
}

func (p *Effective) resolveHours() {
	for _, part := range p.parts("session.hours") {
		h := hours{origin: part.origin}
		for _, text := range part.value.([]string) {
			w, err := parseWindow(text)
			if err != nil {
				panic("policy: internal error: " + err.Error())
			}
			h.windows = append(h.windows, w)
		}
		p.hours = append(p.hours, h)
	}
}

func (p *Effective) admitHours(now time.Time) *Denial {
	for i := range p.hours {
		h := &p.hours[i]
		if !slices.ContainsFunc(h.windows, func(w window) bool { return w.contains(now) }) {
			return deny(CodeHours, "session.hours", h.origin.String())
		}
	}
	return nil
}
