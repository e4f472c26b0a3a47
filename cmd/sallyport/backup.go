package main

import "github.com/spf13/cobra"

// backupCommand is the group; each command has a file of its own.
func (a *app) backupCommand() *cobra.Command {
	return group("backup", "What was replaced and deleted, and copies of everything", a.backupList(), a.backupHold(), a.backupRelease(), a.backupRestore(), a.backupPurge(), a.backupVerify(),
		a.backupState(), a.backupDrill(), a.backupClock())
}
