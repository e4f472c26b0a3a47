package main

import "github.com/spf13/cobra"

// backupCommand is the group; each command has a file of its own.
func (a *app) backupCommand() *cobra.Command {
	return group("backup", "History, and what was purged from it", a.backupPurge(), a.backupState(), a.backupDrill())
}
