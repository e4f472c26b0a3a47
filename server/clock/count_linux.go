package clock

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"strings"
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

// count is CLOCK_BOOTTIME, and the id that the kernel draws at its start (random(4)). known is that id for a process that cannot read it.
func count(known string) Count {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		id = []byte(known)
	}
	offsets, err := os.ReadFile("/proc/self/timens_offsets")
	var boot unix.Timespec
	if err != nil && !errors.Is(err, fs.ErrNotExist) || unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot) != nil {
		return Count{}
	}
	return Count{Of: countOf(string(id), string(offsets)), Time: time.Duration(boot.Nano())}
}

// countOf names a count; none if that is no id. What a script or another init leaves in its place ("%b") would be the same on all
// machines, and the count of one evidence for another. A time namespace moves the clock and not the id (time_namespaces(7)), so its
// offsets are a part of it.
func countOf(id, offsets string) (of [16]byte) {
	id = strings.ReplaceAll(strings.TrimSpace(id), "-", "") // as systemd writes it
	raw, err := hex.DecodeString(id)
	if err != nil || len(raw) != len(of) || [16]byte(raw) == of {
		return of
	}
	sum := sha256.Sum256([]byte(hex.EncodeToString(raw) + "\n" + offsets))
	return [16]byte(sum[:])
}
