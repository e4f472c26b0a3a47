// Package e2e drives the real binary with the clients that people use: curl,
// lftp, OpenSSH's sftp, sshfs and rclone. Run it with `make e2e`; the tests
// carry the build tag e2e because they need those programs installed. What
// can be read as a story is one: testdata/*.txtar.
package e2e
