package ftpd

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"

	"sallyport/policy"
	"sallyport/server/session"
	"sallyport/vfs"
)

// This file decides what a client is told. Codes: RFC 959, section 4.2; RFC 1123, section 4.1; RFC 2228; RFC 4217. A code of
// 4xx says "try again", 5xx "do not": clients and scripts act on that (F13).

// errPanic ended a command; the stack is in the log.
var errPanic = errors.New("ftpd: panic")

type reply struct {
	code int
	text string
}

// replies maps errors to fixed texts, first match wins. Everything else is an internal error. Never written to.
var replies = []struct {
	err error
	reply
}{
	// The data connection.
	{errHangup, reply{426, "Transfer ended by the server."}},
	{errAborted, reply{426, "Transfer aborted."}},
	{errControlLost, reply{426, "Transfer aborted: control connection lost."}},
	{errUnsecured, reply{522, "The data connection must be protected: send PBSZ 0 and PROT P first."}},
	{errNotResumed, reply{522, "The data connection must resume the TLS session of the control connection."}},
	{errTruncated, reply{426, "Data connection ended without TLS close_notify; the transfer counts as interrupted."}},
	{errNoChannel, reply{425, "No data connection; send PASV or EPSV first."}},
	{errDataTLS, reply{522, "TLS negotiation on the data connection failed."}},
	{errNoData, reply{425, "Can't open data connection."}},
	{errNoPort, reply{425, "No free port for a data connection; try again later."}},
	{os.ErrDeadlineExceeded, reply{426, "Data connection stalled; transfer ended."}},
	{errData, reply{426, "Data connection broke; transfer ended."}},
	// Login.
	{session.ErrAuth, reply{530, "Login incorrect."}},
	{session.ErrSealed, reply{421, "The server is sealed: an operator has to unseal it before anybody can log in."}},
	{session.ErrAudit, reply{451, "The server cannot write its audit log, so nothing may happen; the operator has to look after it."}},
	{session.ErrClosed, reply{421, "The session has ended."}},
	// The volume.
	{errNotListable, reply{501, "Not a directory."}},
	{errRangeUpload, reply{504, "RANG is for downloads and HASH."}},
	{errBadRestart, reply{554, "Restart position is beyond the end of the file."}},
	{vfs.ErrIntegrity, reply{550, "The stored data is damaged; the operator has been told."}},
	{vfs.ErrInterrupted, reply{550, "An upload of this file was interrupted; upload it completely or remove it first."}},
	{vfs.ErrNotEmpty, reply{550, "Directory not empty."}},
	{vfs.ErrIsDir, reply{550, "Is a directory."}},
	{vfs.ErrNotDir, reply{550, "Not a directory."}},
	{vfs.ErrLoop, reply{550, "Too many levels of symbolic links."}},
	{vfs.ErrNameTooLong, reply{553, "Name too long."}},
	{vfs.ErrBadName, reply{553, "Name not allowed."}},
	{vfs.ErrBusy, reply{450, "The name is being created by another session; try again later."}},
	{vfs.ErrTooManyPast, reply{450, "Too many old versions are open in all sessions of this account; try again later."}},
	{vfs.ErrTooMany, reply{450, "Too many open files; try again later."}},
	{vfs.ErrReadOnly, reply{451, "The volume takes no writes at the moment; the operator has to look after it."}},
	{syscall.EDQUOT, reply{552, "Quota exceeded."}},
	{syscall.ENOSPC, reply{452, "Not enough space."}},
	{session.ErrNoHistory, reply{550, "This account keeps nothing of the past (backup.retention_days is 0)."}},
	{vfs.ErrNotKept, reply{550, "Older than what is kept."}},
	{session.ErrNotThen, reply{550, "No such file or directory at that time."}},
	{session.ErrWhich, reply{550, "That lists versions: name one of them, as it stands in the list."}},
	{session.ErrInstant, reply{550, "No such time: write it like 2026-11-20T1430Z, in UTC."}},
	{vfs.ErrNothingYet, reply{550, "Nothing had been stored at that time yet."}},
	{vfs.ErrFuture, reply{550, "That time has not come yet."}},
	{vfs.ErrPurged, reply{550, "No longer kept: retention has let it go."}},
	{fs.ErrNotExist, reply{550, "No such file or directory."}},
	{fs.ErrExist, reply{550, "Already exists."}},
	{fs.ErrPermission, reply{550, "Permission denied."}},
	{fs.ErrInvalid, reply{550, "Invalid operation."}},
	{context.Canceled, reply{426, "Aborted."}},
}

// errorReply says what a client is told about err.
func (c *control) errorReply(o *op, err error) reply {
	if d := (*policy.Denial)(nil); errors.As(err, &d) {
		if o.verb == "PASS" || o.verb == "USER" {
			return reply{530, denialText(d)}
		}
		switch d.Code {
		case policy.CodeMaxSize, policy.CodeQuotaBytes, policy.CodeQuotaFiles, policy.CodeQuotaHistory:
			return reply{552, denialText(d)} // RFC 959: exceeded storage allocation
		case policy.CodeName:
			return reply{553, denialText(d)} // RFC 959: file name not allowed
		}
		return reply{550, denialText(d)}
	}
	if at, ok := session.OldestWhole(err); ok {
		return reply{550, "Some of that time was purged; the oldest that is whole is " + at + "."}
	}
	for _, r := range replies {
		if errors.Is(err, r.err) {
			if r.err == vfs.ErrIntegrity {
				c.log.Error("integrity error", "verb", o.verb, "error", unnamed(err))
			}
			return r.reply
		}
	}
	id := rand.Text()[:10]
	c.log.Error("internal error", "reference", id, "verb", o.verb, "error", unnamed(err))
	return reply{451, "Internal error, reference " + id + "."}
}

// unnamed is err for the log: without the path that the volume puts around it, because names are sealed on disk.
func unnamed(err error) error {
	for {
		pe, ok := errors.AsType[*fs.PathError](err)
		if !ok {
			return err
		}
		err = pe.Err
	}
}

// denialText is what the client sees of a denial: one sentence, and the code that leads the operator to the rule.
func denialText(d *policy.Denial) string { return d.Message + " [" + d.Code + "]" }

// phrase turns a reply of the library into what the client is told. The library's codes are right where it succeeds; its texts
// never leave.
func (c *control) phrase(o *op, code int, text string) reply {
	if err := o.failure(); err != nil && code >= 200 {
		return c.errorReply(o, err)
	}
	if code >= 400 {
		return c.refusal(o, code, text)
	}
	switch o.verb {
	case "USER":
		return reply{code, "Password required."}
	case "PASS":
		return reply{code, "Logged in."}
	case "CWD", "XCWD", "CDUP", "XCUP":
		return reply{code, "Directory is now " + quoted(c.cc.Path()) + "."}
	case "MKD", "XMKD":
		return reply{257, quoted(o.path) + " created."}
	case "RMD", "XRMD":
		return reply{code, "Directory removed."}
	case "DELE":
		return reply{code, "File removed."}
	case "RNFR":
		c.renaming = true
		return reply{code, "Ready for RNTO."}
	case "RNTO":
		return reply{code, "Renamed."}
	case "PASV", "EPSV", "PORT", "EPRT":
		return c.channelReply(o)
	case "RETR", "STOR", "APPE", "LIST", "NLST", "MLSD", "STOU":
		return c.transferReply(o, code)
	case "QUIT":
		return reply{code, "Goodbye."}
	default: // PWD, SIZE, MDTM, TYPE, MODE: the text is the answer
		return reply{code, text}
	}
}

func (c *control) transferReply(o *op, code int) reply {
	switch {
	case code >= 200:
		return reply{226, "Transfer complete."}
	case o.name != "":
		return reply{150, "FILE: " + o.name} // RFC 1123, section 4.1.2.9: the format that clients parse
	default:
		return reply{150, "Opening data connection."}
	}
}

// refusal is for failures that the library saw and our driver did not.
func (c *control) refusal(o *op, code int, text string) reply {
	switch {
	case strings.HasPrefix(text, "Unhandled internal error"):
		// The library's own recovery from a panic; its text would quote the panic (F10).
		c.srv.counters.panics.Add(1)
		c.end("421 Internal error; the session ends.")
		return c.errorReply(o, errPanic)
	case o.verb == "CWD" || o.verb == "XCWD":
		return reply{550, "Not a directory."}
	case o.verb == "SIZE":
		return reply{550, "Is a directory."}
	case o.verb == "PASV" || o.verb == "EPSV" || o.verb == "PORT" || o.verb == "EPRT":
		c.dropChannel()
		return reply{425, "Can't open data connection."}
	case o.verb == "TYPE" || o.verb == "MODE":
		return reply{504, "Not implemented for this parameter."}
	case o.transfer:
		return reply{425, "Can't open data connection."}
	}
	return c.errorReply(o, fmt.Errorf("the FTP engine refused with %d", code))
}

// reply sends a reply of one line.
func (c *conn) reply(code int, text string) {
	c.send(func(b []byte) []byte { return appendLine(b, code, ' ', text) })
}

// replyLines sends a reply of several lines. RFC 959, section 4.2: the lines between begin with a space here, so that none can
// be taken for the last (RFC 2389 and RFC 3659 want exactly this for FEAT and MLST).
func (c *conn) replyLines(code int, first string, lines []string, last string) {
	c.send(func(b []byte) []byte {
		b = appendLine(b, code, '-', first)
		for _, l := range lines {
			b = append(appendTelnet(append(b, ' '), l), '\r', '\n')
		}
		return appendLine(b, code, ' ', last)
	})
}

// writeLine sends a line that has its code.
func (c *conn) writeLine(line string) {
	c.send(func(b []byte) []byte { return append(appendTelnet(b, line), '\r', '\n') })
}

func appendLine(b []byte, code int, sep byte, text string) []byte {
	b = strconv.AppendInt(b, int64(code), 10)
	b = appendTelnet(append(b, sep), text)
	return append(b, '\r', '\n')
}

// send writes a whole reply at once. A client that does not take it within the limit loses the connection.
func (c *conn) send(build func([]byte) []byte) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	c.wbuf = build(c.wbuf[:0])
	c.armWrite()
	if _, err := c.stream.Write(c.wbuf); err != nil {
		c.log.Debug("reply not sent", "error", err)
		_ = c.raw.Close()
	}
	if cap(c.wbuf) > 2*maxLine {
		c.wbuf = nil // a long STAT; an idle session does not keep it
	}
}

// parseReply reads the last line of a reply of the library.
func parseReply(line string) (code int, text string, ok bool) {
	if len(line) < 4 || line[3] != ' ' {
		return 0, "", false
	}
	code, err := strconv.Atoi(line[:3])
	return code, line[4:], err == nil && code >= 100
}

// quoted is a path as 257 wants it: in quotes, quotes doubled. RFC 959, appendix II.
func quoted(p string) string { return `"` + strings.ReplaceAll(p, `"`, `""`) + `"` }
