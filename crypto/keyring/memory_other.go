//go:build !linux

package keyring

import "os"

// lockedPage returns ordinary memory: only Linux is hardened.
func lockedPage() ([]byte, error) { return make([]byte, os.Getpagesize()), nil }

func freePage([]byte) {}

// HardenProcess does nothing on this system.
func HardenProcess() error { return nil }
