// Package proof holds machines that try to break a volume. It has tests only,
// and sees what an attacker sees: files and system calls.
//
// The tamper machine (tamper_test.go) changes what lies on the disk, in every
// way it knows, and asks for exact bytes or an integrity error: in reads,
// listings and sizes, and of Verify. `make tamper` runs it at length.
//
// What it leaves out is what docs/THREATMODEL.md leaves out: the rollback of a
// whole database to an earlier time, which it checks to give exactly that
// time's content, and an attacker who rewrites bbolt's page structures below a
// running server.
package proof
