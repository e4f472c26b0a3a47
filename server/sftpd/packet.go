package sftpd

import (
	"encoding/binary"
	"errors"
	"io"
	"sync"
)

// Packet types of SFTP version 3: draft-ietf-secsh-filexfer-02, section 3.
const (
	fxpInit          = 1
	fxpVersion       = 2
	fxpOpen          = 3
	fxpClose         = 4
	fxpRead          = 5
	fxpWrite         = 6
	fxpLstat         = 7
	fxpFstat         = 8
	fxpSetstat       = 9
	fxpFsetstat      = 10
	fxpOpendir       = 11
	fxpReaddir       = 12
	fxpRemove        = 13
	fxpMkdir         = 14
	fxpRmdir         = 15
	fxpRealpath      = 16
	fxpStat          = 17
	fxpRename        = 18
	fxpReadlink      = 19
	fxpSymlink       = 20
	fxpStatus        = 101
	fxpHandle        = 102
	fxpData          = 103
	fxpName          = 104
	fxpAttrs         = 105
	fxpExtended      = 200
	fxpExtendedReply = 201
)

// Open flags: draft-ietf-secsh-filexfer-02, section 6.3.
const (
	fxfRead   = 0x01
	fxfWrite  = 0x02
	fxfAppend = 0x04
	fxfCreat  = 0x08
	fxfTrunc  = 0x10
	fxfExcl   = 0x20
)

const (
	// maxPacket is the longest packet body accepted, in bytes: OpenSSH's
	// SFTP_MAX_MSG_LENGTH, which its clients treat as the limit as well.
	maxPacket = 256 << 10
	// maxData is the longest READ and WRITE told in limits@openssh.com, in
	// bytes: maxPacket less 1 KiB for the fields around the data, as OpenSSH.
	maxData = maxPacket - 1024
	// minPacket is type and request id: what every request after INIT has.
	minPacket = 5
	// dataHeader is length, type, id and count before the bytes of DATA.
	dataHeader = 13
)

var (
	errMalformed = errors.New("sftpd: malformed packet")
	errTooLong   = errors.New("sftpd: packet too long")
	errTooShort  = errors.New("sftpd: packet too short")
)

// fields reads the fields of a packet in order. After the first field that is
// not there, every value is zero and ok reports false; callers look once.
type fields struct {
	b   []byte
	bad bool
}

func (f *fields) take(n int) []byte {
	if n < 0 || n > len(f.b) {
		f.bad, f.b = true, nil
		return nil
	}
	v := f.b[:n:n]
	f.b = f.b[n:]
	return v
}

func (f *fields) byte() byte {
	if v := f.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (f *fields) uint32() uint32 {
	if v := f.take(4); v != nil {
		return binary.BigEndian.Uint32(v)
	}
	return 0
}

func (f *fields) uint64() uint64 {
	if v := f.take(8); v != nil {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

// bytes is a string field; the result aliases the packet.
func (f *fields) bytes() []byte {
	n := f.uint32()
	if uint64(n) > uint64(len(f.b)) {
		f.bad, f.b = true, nil
		return nil
	}
	return f.take(int(n))
}

func (f *fields) string() string { return string(f.bytes()) }

func (f *fields) ok() bool { return !f.bad }

// packet is a reply under construction, with room for its length in front.
type packet []byte

func newPacket(buf []byte, typ byte, id uint32) packet {
	p := append(buf[:0], 0, 0, 0, 0, typ)
	return packet(binary.BigEndian.AppendUint32(p, id))
}

func (p packet) uint32(v uint32) packet { return binary.BigEndian.AppendUint32(p, v) }
func (p packet) uint64(v uint64) packet { return binary.BigEndian.AppendUint64(p, v) }
func (p packet) string(s string) packet {
	return append(p.uint32(uint32(len(s))), s...)
}

// frame writes the length and returns the bytes for the wire.
func (p packet) frame() []byte {
	binary.BigEndian.PutUint32(p, uint32(len(p)-4))
	return p
}

// readFrame reads one packet body into a buffer of the pool. io.EOF means that
// the client ended between packets; a length outside the limits is an error,
// because there is no way to find the next packet.
func readFrame(r io.Reader, pool *bufferPool) (*buffer, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxPacket {
		return nil, errTooLong
	}
	if n < minPacket {
		return nil, errTooShort
	}
	buf := pool.get(int(n))
	if _, err := io.ReadFull(r, buf.b); err != nil {
		pool.put(buf)
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return buf, nil
}

// buffer is a byte slice that returns to its pool.
type buffer struct {
	b     []byte
	class int
}

// classes are the buffer sizes in bytes: names and attributes; the packets of
// clients that stay at 32 KiB; the packets of clients that ask for limits.
var classes = [...]int{1 << 10, 34 << 10, maxPacket + dataHeader}

// bufferPool recycles packet buffers between the sessions of one server, so
// that a transfer allocates nothing per packet. Safe for concurrent use.
type bufferPool struct{ pools [len(classes)]sync.Pool }

// get returns a buffer of n bytes, n at most the largest class.
func (p *bufferPool) get(n int) *buffer {
	c := 0
	for classes[c] < n {
		c++
	}
	buf, _ := p.pools[c].Get().(*buffer)
	if buf == nil {
		buf = &buffer{b: make([]byte, classes[c]), class: c}
	}
	buf.b = buf.b[:n]
	return buf
}

func (p *bufferPool) put(buf *buffer) {
	if buf != nil {
		p.pools[buf.class].Put(buf)
	}
}
