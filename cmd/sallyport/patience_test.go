package main

import "time"

// deadline of everything that a test waits for, on a machine that runs.
const deadline = 60 * time.Second

// patience is a deadline that counts ticks. A machine that stood still for a minute (a virtual one that was paused, one whose processors others
// had) gives one tick for all of it: whoever is waited for has not run either, and a test that looked at the clock would blame him.
type patience struct {
	*time.Ticker
	left int
}

// patient ticks until Stop.
func patient(every time.Duration) *patience {
	return &patience{time.NewTicker(every), int(deadline / every)}
}

// over waits for a tick, and says whether that was the last.
func (p *patience) over() bool {
	<-p.C
	p.left--
	return p.left < 0
}
