package sftpd

import (
	"encoding/binary"
	"io"
	"net"
	"time"
)

const (
	msgDisconnect         = 1
	reasonServiceNotThere = 7 // SSH_DISCONNECT_SERVICE_NOT_AVAILABLE: RFC 4253, section 11.1

	// RFC 4253, section 6.
	plainHeader = 5 // length of the packet u32, length of the padding u8
	plainBlock  = 8
	minPadding  = 4

	maxDisconnectText = 512
	maxUnread         = 64 << 10 // bytes of a client that are taken in before its connection is closed
)

// disconnectPlain ends a connection whose keys have not been exchanged, after
// both sides have identified themselves: packets are not encrypted yet, so the
// DISCONNECT that x/crypto cannot send can be written by hand, and clients show
// its text as the reason. What the client sends meanwhile is taken in for a
// moment, because closing with unread bytes would reset the connection, and the
// text would be lost with it.
func disconnectPlain(nc net.Conn, text string) {
	_ = nc.SetDeadline(time.Now().Add(sayWait))
	if _, err := nc.Write(disconnectPacket(text)); err != nil {
		return
	}
	if t, ok := nc.(interface{ CloseWrite() error }); ok && t.CloseWrite() == nil {
		_, _ = io.CopyN(io.Discard, nc, maxUnread)
	}
}

// disconnectPacket is an unencrypted SSH_MSG_DISCONNECT: RFC 4253, sections 6
// and 11.1. The padding is zero: without encryption it hides nothing.
func disconnectPacket(text string) []byte {
	text = text[:min(len(text), maxDisconnectText)]
	payload := []byte{msgDisconnect, 0, 0, 0, reasonServiceNotThere}
	payload = binary.BigEndian.AppendUint32(payload, uint32(len(text)))
	payload = append(payload, text...)
	payload = append(payload, 0, 0, 0, 0) // no language tag
	padding := plainBlock - (plainHeader+len(payload))%plainBlock
	if padding < minPadding {
		padding += plainBlock
	}
	p := binary.BigEndian.AppendUint32(nil, uint32(1+len(payload)+padding))
	p = append(p, byte(padding))
	p = append(p, payload...)
	return append(p, make([]byte, padding)...)
}
