//go:build !linux

package keyring

import "os"

// lockedPage returns ordinary memory: only Linux is hardened.
func lockedPage() ([]byte, error) { return lockedPages(1) }

func lockedPages(n int) ([]byte, error) { return make([]byte, n*os.Getpagesize()), nil }

func freePage([]byte) {}

// HardenProcess does nothing on this system.
func HardenProcess() error { return nil }
