package ftpd

import (
	"bytes"
	"errors"
	"io"
)

var (
	// errLineTooLong: the line was skipped as a whole; the next one may be read.
	errLineTooLong = errors.New("ftpd: command line too long")
	// errBadLine: the line holds a byte that no command and no name may hold (NUL, CR); it was skipped.
	errBadLine = errors.New("ftpd: command line with a control byte")
	// errFlood: more than maxOverlong bytes without an end of line.
	errFlood = errors.New("ftpd: endless command line")
)

// lineReader cuts a control stream into lines. It is the first parser that a stranger's bytes meet.
//
// A line ends with LF, usually CRLF (RFC 959, section 5.3.1; a bare LF is common among scripts). What a connection sends before
// it breaks off without an end of line is not a line: it is never returned (F7: half a DELE is not a DELE).
// Not safe for concurrent use.
type lineReader struct {
	r          io.Reader
	buf        [maxLine]byte
	start, end int // unread bytes: buf[start:end]
	skipped    int // bytes of an over-long line that were thrown away; 0 = not skipping
}

// next returns a line without its end and without Telnet commands. It is valid until the following call.
// Errors of the reader are returned as they are, and are not remembered: after a timeout, next may be called again.
func (l *lineReader) next() ([]byte, error) {
	for {
		if i := bytes.IndexByte(l.buf[l.start:l.end], '\n'); i >= 0 {
			line := l.buf[l.start : l.start+i]
			l.start += i + 1
			if l.skipped > 0 {
				l.skipped = 0
				return nil, errLineTooLong
			}
			line = stripTelnet(bytes.TrimSuffix(line, []byte{'\r'}))
			if bytes.ContainsAny(line, "\x00\r") {
				return nil, errBadLine
			}
			return line, nil
		}
		if l.start > 0 {
			l.end = copy(l.buf[:], l.buf[l.start:l.end])
			l.start = 0
		}
		if l.end == len(l.buf) {
			if l.skipped += l.end; l.skipped > maxOverlong {
				return nil, errFlood
			}
			l.end = 0
		}
		n, err := l.r.Read(l.buf[l.end:])
		l.end += n
		if err != nil && n == 0 {
			return nil, err
		}
	}
}

// buffered tells how many bytes were received beyond the last line.
func (l *lineReader) buffered() int { return l.end - l.start }

const (
	telnetFirst = 0xF0 // the lowest Telnet command, SE
	telnetWill  = 0xFB // from here to DONT commands carry an option
	iac         = 0xFF
)

// stripTelnet removes Telnet commands (RFC 854) in place: the control connection is a Telnet stream (RFC 959, section 2.3), and
// clients send IP and SYNCH before ABOR and STAT, often with the DM lost as urgent data. In front of the verb every byte from
// 0xF0 is such a command. Later, IAC IAC is one data byte 255, and a lone IAC that no command follows stays what it is: names
// are bytes, and many clients do not double.
func stripTelnet(line []byte) []byte {
	for len(line) > 0 && line[0] >= telnetFirst {
		line = line[1:]
	}
	if bytes.IndexByte(line, iac) < 0 {
		return line
	}
	out := line[:0]
	for i := 0; i < len(line); i++ {
		if line[i] == iac && i+1 < len(line) {
			switch c := line[i+1]; {
			case c == iac:
				i++ // one of the two is data
			case c >= telnetWill:
				i += 2
				continue
			case c >= telnetFirst:
				i++
				continue
			}
		}
		out = append(out, line[i])
	}
	return out
}

// appendTelnet appends text with IAC doubled, as names in replies need it.
func appendTelnet(dst []byte, text string) []byte {
	for i := range len(text) {
		switch b := text[i]; b {
		case iac:
			dst = append(dst, iac, iac)
		case '\r', '\n', 0:
			// A name that came in over another protocol may hold these. In a reply they would end the line.
			dst = append(dst, '?')
		default:
			dst = append(dst, b)
		}
	}
	return dst
}
