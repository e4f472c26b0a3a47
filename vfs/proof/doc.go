// Package proof holds machines that try to break a volume. It has tests only,
// and sees what an attacker and a disk see: files and system calls.
//
// The tamper machine (tamper_test.go) changes what lies on the disk, in every
// way it knows, and asks for exact bytes or an integrity error: in reads,
// listings and sizes, and of Verify; and for what policy.db and the audit log
// say, or a refusal. `make tamper` runs it at length.
//
// The crash machine (crash_test.go) runs a program that works on a site under a
// tracer (ptrace), and makes from its system calls every state that a power loss
// may leave, by the rules in disk_test.go: uploads and changes of names, new keys,
// policy revisions, credentials, audit records, the repair of a damaged volume. What was
// acknowledged must be there, everything must open without help, and after
// housekeeping nothing may be left that nobody knows. The same tracer makes calls
// fail (faults_test.go): each write, each sync, each change of a name.
// `make crash` runs it at length, and then kills the real server again and again
// (cmd/sallyport/kill_test.go).
//
// # What they leave out
//
// The rollback of a whole database to an earlier time, which docs/THREATMODEL.md
// leaves out too; they check that it gives exactly that time's content. An
// attacker who rewrites bbolt's page structures below a running server. Disks
// that say "synced" and have not, that spoil what was synced when they tear a
// write beside it, or write less than a sector. A power loss in the middle of a
// recovery: recovery is run once more on its own result only. Other platforms than linux/amd64,
// where nobody wrote down the numbers of the system calls for the tracer.
package proof
