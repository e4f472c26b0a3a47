package sftpd

import (
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"
)

// FuzzFields reads the fields of packets: attributes, extended requests, strings. Nothing that is not there is read as
// anything but zero, and attributes that are taken survive being written.
func FuzzFields(f *testing.F) {
	f.Add([]byte(packet(nil).uint32(attrSize | attrMode | attrTimes).uint64(5).uint32(0o644).uint32(1).uint32(2)))
	f.Add([]byte(packet(nil).uint32(attrExtended).uint32(0xffffffff).string("a").string("b")))
	f.Add([]byte(packet(nil).string("sha512,md5").uint64(1).uint64(2).uint32(256)))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		in := &fields{b: b}
		a := readAttrs(in)
		if in.ok() {
			if c, empty := a.change(); c.Size != nil && *c.Size < 0 || empty != (c.Size == nil && c.Mode == nil && c.Mtime == nil) {
				t.Errorf("%x: change %+v, empty %v", b, c, empty)
			}
			if a.perm(0)&^0o777 != 0 {
				t.Errorf("%x: mode %o", b, a.perm(0))
			}
		}
		in = &fields{b: b}
		q := readCheck(in)
		if !in.ok() && (in.uint32() != 0 || in.string() != "") {
			t.Errorf("%x: something was read after the end", b)
		}
		if name, h := newHash(q.algorithms); (h == nil) != (name == "") || h != nil && !strings.Contains(q.algorithms, name) {
			t.Errorf("%q chooses %q", q.algorithms, name)
		}
		in = &fields{b: b}
		for in.ok() && len(in.b) > 0 {
			if s := in.bytes(); len(s) > len(b) {
				t.Errorf("a string of %d bytes in %d", len(s), len(b))
			}
		}
	})
}

// FuzzServer sends bytes to a whole server before any login: it must end the connection in time, neither panic nor log
// one, and keep nothing.
func FuzzServer(f *testing.F) {
	hello := kexInit("SSH-2.0-OpenSSH_9.2", "aes128-gcm@openssh.com", "aes128-gcm@openssh.com")
	f.Add(hello)
	f.Add(append(hello, 0, 0, 0, 12, 10, 30, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Add([]byte("SSH-2.0-x\r\n\xff\xff\xff\xff"))
	f.Add([]byte("SSH-1.5-old\n"))
	r := newRig(f, &fakeGate{}, Limits{})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<17 {
			return
		}
		c, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		go func() { // ends with the connection
			_, _ = c.Write(b)
			_ = c.(*net.TCPConn).CloseWrite()
		}()
		said, err := io.Copy(io.Discard, c)
		if e, ok := err.(net.Error); ok && e.Timeout() {
			t.Fatalf("the connection hangs after %q", b)
		}
		if said > 1<<16 {
			t.Errorf("%d bytes came back", said)
		}
		if s := r.logs.String(); strings.Contains(s, "panic") {
			t.Error(s)
		}
		var m runtime.MemStats
		if runtime.ReadMemStats(&m); m.HeapAlloc > 512<<20 {
			t.Errorf("%d MiB are in use", m.HeapAlloc>>20)
		}
	})
}
