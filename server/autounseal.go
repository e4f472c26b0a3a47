package server

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// Times of unsealing without people.
const (
	firstPause = 500 * time.Millisecond
	// lastPauseLocal is for a key that lies on this host: looking costs nothing,
	// and whoever puts it back waits for it.
	lastPauseLocal = 5 * time.Second
	// lastPauseRemote is for a key service, which a thousand servers that come
	// back at once must not beat down.
	lastPauseRemote = time.Minute
	// attemptTime bounds one attempt at a key service and the opening of
	// everything behind it.
	attemptTime = 10 * time.Minute
	// doorsWait is how long clients that connect at a start wait in the queue
	// of the listener for the first attempt, rather than being told that the
	// server is sealed, which it is for milliseconds.
	doorsWait = 5 * time.Second
)

// pauseAfter is the time from the nth failed attempt (1, 2, …) to the next:
// doubled each time up to last, with a jitter of a quarter either way.
func pauseAfter(n int, last time.Duration, jitter func() float64) time.Duration {
	d := last
	if n < 20 { // the shift stays small
		d = min(last, firstPause<<(n-1))
	}
	return time.Duration(float64(d) * (0.75 + jitter()/2))
}

// unsealAlone tries until somebody, it or an operator, has unsealed the server,
// or ctx ends. tried is called after the first attempt.
func (s *Server) unsealAlone(ctx context.Context, last time.Duration, attempt func(context.Context) error, tried func()) {
	for n := 1; ; n++ {
		bounded, cancel := context.WithTimeout(ctx, attemptTime)
		err := attempt(bounded)
		cancel()
		tried()
		if err == nil || errors.Is(err, errUnsealed) || errors.Is(err, errLeaving) || ctx.Err() != nil {
			return
		}
		pause := pauseAfter(n, last, rand.Float64)
		s.life.tryAgainAt(time.Now().Add(pause))
		wait := time.NewTimer(pause)
		select {
		case <-wait.C:
		case <-s.again:
			wait.Stop()
		case <-s.life.opened:
			wait.Stop()
			return
		case <-ctx.Done():
			wait.Stop()
			return
		}
	}
}
