package server

import (
	"fmt"
	"log/slog"

	"golang.org/x/sys/unix"

	"sallyport/crypto/keyring"
)

// harden closes ways in which keys in memory could leave the process or the
// process could gain rights: no core dump, no ptrace by the same user, no new
// privileges through exec (prctl(2)), and files that nobody else can read
// whatever mode a caller forgot.
func harden(limits Limits, log *slog.Logger) error {
	unix.Umask(0o077)
	if err := keyring.HardenProcess(); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("renouncing new privileges: %w", err)
	}
	if unix.Geteuid() == 0 {
		log.Warn("the server runs as root", "hint", adviceRoot)
	}
	return raiseOpenFiles(uint64(limits.OpenFiles), log)
}

// raiseOpenFiles lifts the soft limit of open files to want, or to the hard
// limit if want is 0 (a session needs a descriptor, a transfer two more).
func raiseOpenFiles(want uint64, log *slog.Logger) error {
	var now unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &now); err != nil {
		return fmt.Errorf("reading the limit of open files: %w", err)
	}
	next := unix.Rlimit{Cur: want, Max: now.Max}
	if want == 0 {
		next.Cur = now.Max
	}
	next.Max = max(next.Max, next.Cur)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &next); err != nil {
		log.Warn("limit of open files not raised", "wanted", next.Cur, "hard_limit", now.Max, "error", err)
	}
	return nil
}
