package admin

import (
	"net"
	"sync"
	"sync/atomic"
)

// maxStrangers is how many connections of users who may do nothing here are open at once. They are told so; but where the socket's
// mode lets everybody connect, nobody without rights may take the server's descriptors and memory.
const maxStrangers = 8

// strangers is a listener that bounds the connections of those who are not known. The kernel says who connects.
type strangers struct {
	net.Listener
	known func(Peer) bool
	open  atomic.Int32
}

func (l *strangers) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		uc, ok := c.(*net.UnixConn)
		if !ok {
			return c, nil // guard refuses a connection without a peer
		}
		if p, err := peerOf(c); err == nil && l.known(p) {
			return c, nil
		}
		if l.open.Add(1) <= maxStrangers {
			return &strangerConn{UnixConn: uc, leave: sync.OnceFunc(func() { l.open.Add(-1) })}, nil
		}
		l.open.Add(-1)
		c.Close()
	}
}

type strangerConn struct {
	*net.UnixConn
	leave func()
}

func (c *strangerConn) Close() error {
	defer c.leave()
	return c.UnixConn.Close()
}
