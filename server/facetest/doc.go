// Package facetest shows that one volume has one meaning: the afero face (vfs.View), SFTP and FTPS, the last two through real
// clients over real sockets, must answer alike wherever docs/SEMANTICS.md speaks.
//
//	suite_test.go     runs each case of the tables (…_cases_test.go) over each face, then compares what all faces see of the result
//	machine_test.go   a state machine: random operations of several sessions, of one face or mixed, beside a model with history
//	face_test.go      what a face is; afero_test.go, sftp_test.go and ftps_test.go are the three
//
// The package holds tests only.
package facetest
