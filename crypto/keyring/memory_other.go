//go:build !linux

package keyring

// HardenProcess does nothing on this system.
func HardenProcess() error { return nil }
