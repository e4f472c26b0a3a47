package sftpd

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/crypto/ssh"
)

// kexInit builds an identification and KEXINIT with the given ciphers.
func kexInit(ident string, c2s, s2c string) []byte {
	p := packet{msgKexInit}
	p = append(p, make([]byte, 16)...)
	for _, l := range []string{"curve25519-sha256", "ssh-ed25519", c2s, s2c, "hmac-sha2-256", "hmac-sha2-256", "none", "none", "", ""} {
		p = p.string(l)
	}
	p = append(p, 0, 0, 0, 0, 0)
	pad := 8 - (len(p)+5)%8
	if pad < 4 {
		pad += 8
	}
	out := packet(ident + "\r\n").uint32(uint32(1 + len(p) + pad))
	out = append(append(out, byte(pad)), p...)
	return append(out, make([]byte, pad)...)
}

func TestParseHello(t *testing.T) {
	t.Parallel()
	gcm := "chacha20-poly1305@openssh.com," + ssh.CipherAES128GCM
	whole := kexInit("SSH-2.0-OpenSSH_9.2p1 Debian", gcm, gcm)
	h, complete, err := parseHello(whole)
	if err != nil || !complete || !h.kexInit || h.ident != "SSH-2.0-OpenSSH_9.2p1 Debian" {
		t.Fatalf("parseHello = %+v, %v, %v", h, complete, err)
	}
	for n := range whole {
		if _, complete, err := parseHello(whole[:n]); complete || err != nil {
			t.Fatalf("the first %d of %d bytes: complete %v, %v", n, len(whole), complete, err)
		}
	}
	if got := h.steer(modern().ciphers); len(got) != 1 || got[0] != ssh.CipherAES128GCM {
		t.Errorf("steered to %q", got)
	}
	one, _, _ := parseHello(kexInit("SSH-2.0-x", gcm, "aes256-ctr"))
	if got := one.steer(modern().ciphers); len(got) != len(modern().ciphers) {
		t.Errorf("GCM in one direction was steered to %q", got)
	}
	for name, b := range map[string][]byte{
		"HTTP":             []byte("GET / HTTP/1.1\r\n\r\n"),
		"SSH 1":            []byte("SSH-1.5-old\r\n"),
		"control byte":     []byte("SSH-2.0-a\x1b[2J\r\n"),
		"long line":        []byte("SSH-2.0-" + strings.Repeat("x", 300) + "\r\n"),
		"endless line":     []byte(strings.Repeat("x", 300)),
		"4 GiB packet":     append([]byte("SSH-2.0-x\r\n"), 0xff, 0xff, 0xff, 0xff),
		"not KEXINIT":      append([]byte("SSH-2.0-x\r\n"), 0, 0, 0, 12, 10, 21, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
		"padding too long": append([]byte("SSH-2.0-x\r\n"), 0, 0, 0, 12, 12, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
		"trailing bytes":   bytes.Replace(whole, []byte("hmac-sha2-256"), []byte("hmac-sha2-25\x00"), 1),
	} {
		if h, complete, err := parseHello(b); err == nil || !complete || h.kexInit {
			t.Errorf("%s: parseHello = %+v, %v, %v", name, h, complete, err)
		}
	}
}

// FuzzParseHello: never a panic, never more taken than promised, and more bytes
// never take back what was understood.
func FuzzParseHello(f *testing.F) {
	f.Add(kexInit("SSH-2.0-OpenSSH_9.2", "aes128-gcm@openssh.com", "aes128-gcm@openssh.com"))
	f.Add([]byte("SSH-2.0-x\n\x00\x00\x00\x0c"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, complete, err := parseHello(b)
		if len(h.ident) > maxIdent || !printable(h.ident) {
			t.Errorf("identification %q", h.ident)
		}
		if !complete && len(b) > maxIdent+2+4+maxKexInit {
			t.Errorf("asks for more after %d bytes", len(b))
		}
		if complete && err == nil {
			again, _, err := parseHello(append(bytes.Clone(b), "more"...))
			if err != nil || again.ident != h.ident || !again.kexInit {
				t.Errorf("with more bytes: %+v, %v", again, err)
			}
		}
		if len(h.steer(modern().ciphers)) == 0 {
			t.Error("steered to nothing")
		}
	})
}

// FuzzFilter feeds a session with bytes as they come from a client: it must not
// panic, must not leave a handle open, and must answer in whole packets.
func FuzzFilter(f *testing.F) {
	seed := func(ps ...packet) {
		all := newPacket(nil, fxpInit, 3).frame()
		for _, p := range ps {
			all = append(all, p.frame()...)
		}
		f.Add(all)
	}
	h := string([]byte{0, 0, 0, 0, 0, 0, 0, 1})
	open := newPacket(nil, fxpOpen, 1).string("/f").uint32(fxfRead | fxfWrite | fxfCreat).uint32(0)
	seed(open, newPacket(nil, fxpWrite, 2).string(h).uint64(0).string("data"),
		newPacket(nil, fxpRead, 3).string(h).uint64(0).uint32(10), newPacket(nil, fxpFstat, 4).string(h),
		newPacket(nil, fxpFsetstat, 5).string(h).uint32(attrSize).uint64(1), newPacket(nil, fxpClose, 6).string(h))
	seed(newPacket(nil, fxpOpendir, 1).string("/"), newPacket(nil, fxpReaddir, 2).string(h))
	seed(newPacket(nil, fxpSetstat, 1).string("/f").uint32(attrExtended).uint32(1).string("a").string("b"))
	seed(newPacket(nil, fxpRename, 1).string("/f").string("/g"), newPacket(nil, fxpSymlink, 2).string("a").string("/b"),
		newPacket(nil, fxpRealpath, 3).string("../.."), newPacket(nil, fxpMkdir, 4).string("/d").uint32(0))
	for _, e := range extensions {
		seed(open, newPacket(nil, fxpExtended, 2).string(e[0]).string(h).uint64(0).uint64(0).string(h).uint64(9))
		seed(open, newPacket(nil, fxpExtended, 2).string(e[0]).string(h).string("sha256").uint64(0).uint64(0).uint32(0))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1<<16 {
			return
		}
		root, err := os.OpenRoot(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		var handles atomic.Int64
		handles.Store(4)
		var out bytes.Buffer
		logs := &logBuffer{}
		x := newFilter(context.Background(), filterOptions{
			channel: struct {
				io.Reader
				io.Writer
			}{bytes.NewReader(b), &out},
			end: func(string) {}, guest: &fakeGuest{fakeTree{&fakeGate{}, root}}, pool: &bufferPool{}, budget: &handles,
			log: slog.New(slog.NewTextHandler(logs, nil)),
		})
		_ = x.serve()
		if strings.Contains(logs.String(), "panicked") {
			t.Error(logs.String())
		}
		if n := handles.Load(); n != 4 {
			t.Errorf("%d handles are left, want 4", n)
		}
		for r := bytes.NewReader(out.Bytes()); r.Len() > 0; {
			var head [4]byte
			_, _ = io.ReadFull(r, head[:])
			if n := (&fields{b: head[:]}).uint32(); n < minPacket || int64(n) > int64(r.Len()) {
				t.Fatalf("reply of %d bytes, %d are there", n, r.Len())
			} else {
				_, _ = io.CopyN(io.Discard, r, int64(n))
			}
		}
	})
}

// TestOrder: exclusive requests wait for all before them, shared ones only for
// the last exclusive one.
func TestOrder(t *testing.T) {
	t.Parallel()
	var o order
	add := func(shared bool) chan struct{} {
		d := make(chan struct{})
		o.add(shared, d)
		return d
	}
	r1, r2 := add(true), add(true)
	if n := len(o.waits(true)); n != 0 {
		t.Errorf("a read waits for %d reads", n)
	}
	if n := len(o.waits(false)); n != 2 {
		t.Errorf("a write waits for %d of 2 reads", n)
	}
	close(r1)
	if n := len(o.waits(false)); n != 1 {
		t.Errorf("a write waits for %d of 1 read", n)
	}
	w := add(false)
	if n := len(o.waits(true)); n != 1 {
		t.Errorf("a read waits for %d of 1 write", n)
	}
	close(w)
	close(r2)
	if n := len(o.waits(false)) + len(o.waits(true)); n != 0 {
		t.Errorf("waits for %d finished requests", n)
	}
}

func BenchmarkFilterWrite(b *testing.B) {
	data := make([]byte, maxData-100)
	rand.Read(data)
	root, err := os.OpenRoot(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer root.Close()
	var handles atomic.Int64
	handles.Store(4)
	r, w := io.Pipe()
	x := newFilter(b.Context(), filterOptions{
		channel: struct {
			io.Reader
			io.Writer
		}{r, io.Discard},
		end: func(string) {}, guest: &fakeGuest{fakeTree{&fakeGate{}, root}}, pool: &bufferPool{}, budget: &handles,
		log: slog.New(slog.DiscardHandler),
	})
	go func() {
		h := string([]byte{0, 0, 0, 0, 0, 0, 0, 1})
		w.Write(newPacket(nil, fxpInit, 3).frame())
		w.Write(newPacket(nil, fxpOpen, 1).string("/f").uint32(fxfWrite | fxfCreat).uint32(0).frame())
		p := newPacket(nil, fxpWrite, 2).string(h).uint64(0).string(string(data)).frame()
		for b.Loop() {
			w.Write(p)
		}
		w.Close()
	}()
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	_ = x.serve()
}
