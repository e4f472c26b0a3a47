package ftpd

import (
	"sync/atomic"
	"time"
)

// Limits on what a client may send, in one place. Times are in limits, so that tests can shorten them.
const (
	// maxLine is the longest command line in bytes with its end. The library's reader ends the session above 4096, and the
	// longest path of a volume (vfs.MaxPath) with a verb fits only if it stays below.
	maxLine = 4096
	// maxOverlong is what of an over-long line is read and thrown away, in bytes, before the session ends.
	maxOverlong = 256 << 10
	// maxQueue is how many lines a client may send ahead of the replies. More wait in its socket.
	maxQueue = 32
	// maxPlainLines is how many commands a client may send before AUTH TLS.
	maxPlainLines = 32
	// maxBadLines is how many lines that are no commands a session may send.
	maxBadLines = 16
	// maxClientName bounds what CLNT may tell for the record, in bytes.
	maxClientName = 64
	// wireBuffer is the size of a socket read or write on data connections, in bytes: eight TLS records.
	wireBuffer = 128 << 10
	// listBuffer is the size of one flush of a listing, in bytes.
	listBuffer = 64 << 10
	// maxUnique is how many names STOU tries.
	maxUnique = 8
)

// limits are times. 0 = default.
type limits struct {
	handshake time.Duration // TLS on either connection
	login     time.Duration // from accept to a successful PASS
	data      time.Duration // for the client to open its data connection
	refused   time.Duration // that the data connection of a refused transfer outlives the reply
	stall     time.Duration // without a byte on a data connection
	write     time.Duration // for the client to take a reply
	farewell  time.Duration // for the last reply of a connection that was ended from outside
}

func (l limits) withDefaults() limits {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&l.handshake, 15*time.Second)
	def(&l.login, 60*time.Second)
	def(&l.data, 30*time.Second)
	def(&l.refused, 5*time.Second)
	def(&l.stall, 60*time.Second)
	def(&l.write, 30*time.Second)
	def(&l.farewell, time.Second)
	return l
}

// Stats counts since New.
type Stats struct {
	Connections       uint64 // accepted
	Refused           uint64 // by policy or limits right after accept
	HandshakeFailures uint64 // TLS on control connections
	Injections        uint64 // plaintext pipelined behind AUTH TLS
	OverlongLines     uint64
	ForeignData       uint64 // data connections from another address
	Unbound           uint64 // data connections refused for not resuming the control connection's TLS session
	Truncated         uint64 // uploads that ended without close_notify
	Stalled           uint64 // transfers ended for lack of progress
	Panics            uint64 // sessions ended by one
}

type counters struct {
	connections, refused, handshakes, injections, overlong, foreign, unbound, truncated, stalled, panics atomic.Uint64
}

// Stats is a snapshot.
func (s *Server) Stats() Stats {
	c := &s.counters
	return Stats{
		Connections: c.connections.Load(), Refused: c.refused.Load(), HandshakeFailures: c.handshakes.Load(),
		Injections: c.injections.Load(), OverlongLines: c.overlong.Load(), ForeignData: c.foreign.Load(),
		Unbound: c.unbound.Load(), Truncated: c.truncated.Load(), Stalled: c.stalled.Load(), Panics: c.panics.Load(),
	}
}
