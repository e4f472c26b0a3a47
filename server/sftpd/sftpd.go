// Package sftpd is the SFTP front-end: SSH transport and authentication on
// golang.org/x/crypto/ssh, the file-transfer protocol on github.com/pkg/sftp
// behind a packet filter of our own.
//
// It knows accounts, policies and files only through server/session. Nothing
// that this package sends to a client is internal text: status.go is the one
// place where errors become words.
//
// What the filter answers itself, and why, is written in filter.go.
package sftpd
