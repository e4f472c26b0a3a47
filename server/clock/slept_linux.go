package clock

import (
	"time"

	"golang.org/x/sys/unix"
)

// slept is how long the machine was suspended since it was started: what CLOCK_BOOTTIME counts and CLOCK_MONOTONIC does not
// (clock_gettime(2)).
func slept() time.Duration {
	var boot, mono unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot) != nil || unix.ClockGettime(unix.CLOCK_MONOTONIC, &mono) != nil {
		return 0
	}
	return time.Duration(boot.Nano() - mono.Nano())
}
