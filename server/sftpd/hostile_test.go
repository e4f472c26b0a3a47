package sftpd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/policy"
)

// TestHostilePackets: what can be answered is refused and the session goes on;
// what cannot ends the session. A second session notices nothing of either.
func TestHostilePackets(t *testing.T) {
	t.Parallel()
	r := newRig(t, &fakeGate{}, Limits{})
	bystander := r.raw()
	realpath := func(c *raw) {
		t.Helper()
		if typ, f := c.ask(fxpRealpath, func(p packet) packet { return p.string("/") }); typ != fxpName {
			t.Errorf("the session is broken: type %d code %d", typ, f.uint32())
		}
	}
	refused := []struct {
		name  string
		typ   byte
		build func(packet) packet
		code  uint32
	}{
		{"no fields", fxpOpen, func(p packet) packet { return p }, fxBadMessage},
		{"string longer than packet", fxpRemove, func(p packet) packet { return p.uint32(1 << 31).uint32(0) }, fxBadMessage},
		{"half a rename", fxpRename, func(p packet) packet { return p.string("/a") }, fxBadMessage},
		{"attributes cut off", fxpSetstat, func(p packet) packet { return p.string("/a").uint32(attrTimes).uint32(1) }, fxBadMessage},
		{"unknown attributes", fxpSetstat, func(p packet) packet { return p.string("/a").uint32(0x40) }, fxBadMessage},
		{"4 billion extended attributes", fxpMkdir, func(p packet) packet { return p.string("/a").uint32(attrExtended).uint32(1<<32 - 1) }, fxBadMessage},
		{"negative size", fxpSetstat, func(p packet) packet { return p.string("/a").uint32(attrSize).uint64(1 << 63) }, fxBadMessage},
		{"write shorter than said", fxpWrite, func(p packet) packet { return p.string("h").uint64(0).uint32(100) }, fxBadMessage},
		{"unknown type", 99, func(p packet) packet { return p }, fxOpUnsupported},
		{"a reply", fxpStatus, func(p packet) packet { return p.uint32(0) }, fxOpUnsupported},
		{"bad handle", fxpClose, func(p packet) packet { return p.string("nonsense") }, fxFailure},
		{"empty handle", fxpRead, func(p packet) packet { return p.string("").uint64(0).uint32(1) }, fxFailure},
		{"users of 3 bytes", fxpExtended, func(p packet) packet {
			return p.string("users-groups-by-id@openssh.com").string("abc").string("")
		}, fxBadMessage},
	}
	c := r.raw()
	for _, tt := range refused {
		if code, text := c.status(tt.typ, tt.build); code != tt.code {
			t.Errorf("%s: code %d %q, want %d", tt.name, code, text, tt.code)
		}
	}
	realpath(c)

	ending := map[string][]byte{
		"over-long packet":        {0xff, 0xff, 0xff, 0xff, fxpOpen},
		"one byte over the limit": append(packet(nil).uint32(maxPacket+1), make([]byte, maxPacket+1)...),
		"empty packet":            {0, 0, 0, 0},
		"packet without an id":    {0, 0, 0, 1, fxpOpen},
		"second INIT":             newPacket(nil, fxpInit, 3).frame(),
	}
	for name, b := range ending {
		t.Run(name, func(t *testing.T) {
			c := r.raw()
			_, _ = c.in.Write(b)
			c.ended()
		})
	}
	realpath(bystander)
}

// TestHandleLimit: 10,000 OPENs get the handles that the limit allows and
// refusals, and CLOSE gives places back.
func TestHandleLimit(t *testing.T) {
	t.Parallel()
	g := &fakeGate{dir: t.TempDir()}
	if err := os.WriteFile(filepath.Join(g.dir, "f"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c := newRig(t, g, Limits{Handles: 100}).raw()
	var handles []string
	for i := range 10_000 {
		typ, f := c.ask(fxpOpen, func(p packet) packet { return p.string("/f").uint32(fxfRead).uint32(0) })
		switch typ {
		case fxpHandle:
			handles = append(handles, f.string())
		default:
			if code, text := f.uint32(), f.string(); i < 100 || code != fxFailure || !strings.Contains(text, "too many open handles") {
				t.Fatalf("open %d: code %d %q", i, code, text)
			}
		}
	}
	if len(handles) != 100 {
		t.Fatalf("%d handles, want 100", len(handles))
	}
	if code, text := c.status(fxpOpendir, func(p packet) packet { return p.string("/") }); code != fxFailure || !strings.Contains(text, "too many") {
		t.Errorf("opendir beyond the limit: %d %q", code, text)
	}
	for _, h := range handles {
		if code, _ := c.status(fxpClose, func(p packet) packet { return p.string(h) }); code != fxOK {
			t.Fatal("close failed")
		}
	}
	c.open("/f", fxfRead)
}

// TestPanicEndsOneSession: whichever handler panics, in the filter, in pkg/sftp's
// goroutines or in a listing, its client gets a reference, its session ends, its
// open upload is marked as broken, and others go on.
func TestPanicEndsOneSession(t *testing.T) {
	t.Parallel()
	for _, op := range []string{"stat", "open", "readdir", "write", "mkdir", "remove", "rename", "realpath", "setattr", "close"} {
		t.Run(op, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			armed := false
			g := &fakeGate{hook: func(o string) error {
				mu.Lock()
				defer mu.Unlock()
				if armed && o == op {
					armed = false
					panic("canary in " + op)
				}
				return nil
			}}
			r := newRig(t, g, Limits{})
			bystander, c := r.raw(), r.raw()
			h := c.open("/upload", fxfWrite|fxfCreat)
			mu.Lock()
			armed = true
			mu.Unlock()
			path := func(p packet) packet { return p.string("/x") }
			var code uint32
			var text string
			switch op {
			case "stat":
				code, text = c.status(fxpStat, path)
			case "open":
				code, text = c.status(fxpOpen, func(p packet) packet { return p.string("/x").uint32(fxfRead).uint32(0) })
			case "readdir":
				code, text = c.status(fxpOpendir, path)
			case "write":
				code, text = c.status(fxpWrite, func(p packet) packet { return p.string(h).uint64(0).string("x") })
			case "mkdir":
				code, text = c.status(fxpMkdir, func(p packet) packet { return p.string("/x").uint32(0) })
			case "remove":
				code, text = c.status(fxpRemove, path)
			case "rename":
				code, text = c.status(fxpRename, func(p packet) packet { return p.string("/x").string("/y") })
			case "realpath":
				code, text = c.status(fxpRealpath, path)
			case "setattr":
				code, text = c.status(fxpSetstat, func(p packet) packet { return p.string("/x").uint32(attrMode).uint32(0) })
			case "close":
				code, text = c.status(fxpClose, func(p packet) packet { return p.string(h) })
			}
			if code != fxFailure || !strings.HasPrefix(text, "internal error, reference ") {
				t.Errorf("code %d %q, want an internal error", code, text)
			}
			c.ended()
			if typ, _ := bystander.ask(fxpRealpath, path); typ != fxpName {
				t.Error("another session broke")
			}
			if log := r.logs.String(); !strings.Contains(log, "handler panicked") || strings.Contains(log, "canary in "+op) {
				t.Errorf("the log tells nothing of the panic, or quotes its value:\n%s", log)
			}
			if op != "close" {
				eventually(t, "the upload is marked as broken", func() bool {
					g.mu.Lock()
					defer g.mu.Unlock()
					return slices.Contains(g.broken, "/upload") && slices.Contains(g.closed, "/upload")
				})
			}
		})
	}
}

// countedFile tells how many reads of it are under way at once.
type countedFile struct {
	file
	now, most *atomic.Int64
}

func (f countedFile) ReadAt(p []byte, _ int64) (int, error) {
	defer f.now.Add(-1)
	if n := f.now.Add(1); n > f.most.Load() {
		f.most.Store(n)
	}
	runtime.Gosched()
	return len(p), nil
}

// TestScansOneAtATime: hashes and copies of huge files, which cost a client
// nothing, take one processor for each connection, and end with it.
func TestScansOneAtATime(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	shared := make(chan struct{}, 1)
	from := countedFile{now: new(atomic.Int64), most: new(atomic.Int64)}
	var running sync.WaitGroup
	for range 4 {
		f := &filter{ctx: ctx, pool: &bufferPool{}, scanning: shared}
		running.Go(func() {
			chunks := 0
			err := f.scan(from, 0, math.MaxInt64, func([]byte) error {
				if chunks++; chunks == 100 {
					cancel()
				}
				return nil
			})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("scan ended with %v", err)
			}
		})
	}
	running.Wait()
	if most := from.most.Load(); most != 1 {
		t.Errorf("%d scans at once, want 1", most)
	}
}

// eventually polls for ten seconds of ticks: who has no processor gets fewer, and more time.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	const every = 2 * time.Millisecond
	tick := time.NewTicker(every)
	defer tick.Stop()
	for left := 10 * time.Second / every; !cond(); left-- {
		if left == 0 {
			t.Fatalf("never: %s", what)
		}
		<-tick.C
	}
}

// TestBrokenConnection: an upload without CLOSE ends as interrupted, however
// much arrived; one whose CLOSE arrived is complete.
func TestBrokenConnection(t *testing.T) {
	t.Parallel()
	g := &fakeGate{}
	c := newRig(t, g, Limits{}).raw()
	whole, half := c.open("/whole", fxfWrite|fxfCreat), c.open("/half", fxfWrite|fxfCreat)
	for _, h := range []string{whole, half} {
		c.status(fxpWrite, func(p packet) packet { return p.string(h).uint64(0).string("data") })
	}
	c.status(fxpClose, func(p packet) packet { return p.string(whole) })
	c.ssh.Close()
	eventually(t, "/half is closed", func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		return slices.Contains(g.closed, "/half")
	})
	g.mu.Lock()
	defer g.mu.Unlock()
	if !slices.Equal(g.broken, []string{"/half"}) {
		t.Errorf("broken transfers: %q, want /half", g.broken)
	}
}

// TestCloseHoldsNobodyUp: while a CLOSE waits for the disk, reads by another
// handle are served, and what follows the CLOSE by name waits for it.
func TestCloseHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	g := &fakeGate{dir: t.TempDir(), hook: func(op string) error {
		if op == "close" {
			<-release
		}
		return nil
	}}
	if err := os.WriteFile(filepath.Join(g.dir, "r"), []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := newRig(t, g, Limits{}).raw()
	defer sync.OnceFunc(func() { close(release) })()
	w, rd := c.open("/w", fxfWrite|fxfCreat), c.open("/r", fxfRead)
	closing := c.send(fxpClose, func(p packet) packet { return p.string(w) })
	stat := c.send(fxpStat, func(p packet) packet { return p.string("/w") })
	if typ, f := c.ask(fxpRead, func(p packet) packet { return p.string(rd).uint64(0).uint32(9) }); typ != fxpData || f.string() != "hello" {
		t.Fatalf("read during a close: type %d", typ)
	}
	if code, _ := c.status(fxpWrite, func(p packet) packet { return p.string(w).uint64(0).string("x") }); code != fxFailure {
		t.Error("a write after the CLOSE was served")
	}
	release <- struct{}{}
	for _, want := range []uint32{closing, stat} {
		f := fields{b: c.recv()}
		if f.byte(); f.uint32() != want {
			t.Fatalf("the STAT behind a CLOSE overtook it")
		}
	}
}

// TestReadsOverlap: many reads by one handle are in the volume at once.
func TestReadsOverlap(t *testing.T) {
	t.Parallel()
	const depth = 8
	var inside sync.WaitGroup
	inside.Add(depth)
	g := &fakeGate{dir: t.TempDir(), hook: func(op string) error {
		if op == "read" {
			inside.Done()
			inside.Wait()
		}
		return nil
	}}
	if err := os.WriteFile(filepath.Join(g.dir, "f"), bytes.Repeat([]byte("x"), depth), 0o600); err != nil {
		t.Fatal(err)
	}
	c := newRig(t, g, Limits{}).raw()
	h := c.open("/f", fxfRead)
	var burst []byte
	for i := range depth {
		burst = append(burst, newPacket(nil, fxpRead, uint32(1000+i)).string(h).uint64(uint64(i)).uint32(1).frame()...)
	}
	c.write(burst)
	for range depth {
		if p := c.recv(); p[0] != fxpData {
			t.Errorf("reply of type %d", p[0])
		}
	}
}

// TestWritesKeepOrder: writes that overlap in the file end as the last one says.
func TestWritesKeepOrder(t *testing.T) {
	t.Parallel()
	g := &fakeGate{}
	c := newRig(t, g, Limits{}).raw()
	h := c.open("/f", fxfWrite|fxfCreat)
	var burst []byte
	for i := range 500 {
		if i%50 == 0 { // something slow in between
			burst = append(burst, newPacket(nil, fxpExtended, uint32(2000+i)).string("fsync@openssh.com").string(h).frame()...)
		}
		burst = append(burst, newPacket(nil, fxpWrite, uint32(1000+i)).string(h).uint64(0).string(fmt.Sprintf("%03d", i)).frame()...)
	}
	go func() { _, _ = c.in.Write(burst) }()
	for range 510 {
		if f := (fields{b: c.recv()}); f.byte() != fxpStatus {
			t.Fatal("not a status")
		}
	}
	if got, _ := os.ReadFile(filepath.Join(g.dir, "f")); string(got) != "499" {
		t.Errorf("the file holds %q, want 499", got)
	}
}

func TestHangup(t *testing.T) {
	t.Parallel()
	g := &fakeGate{}
	r := newRig(t, g, Limits{})
	c := r.raw()
	c.open("/f", fxfWrite|fxfCreat)
	g.mu.Lock()
	hangup := g.hangups[0]
	g.mu.Unlock()
	hangup(&policy.Denial{Code: "SP-A20", Message: "Your address is no longer allowed."})
	c.ended()
	if err := c.ssh.Wait(); err == nil {
		t.Error("the connection ended without an error")
	}
	eventually(t, "the client was told why", func() bool {
		return c.stderr.String() == "Your address is no longer allowed. [SP-A20]\r\n"
	})
	eventually(t, "the upload is marked as broken", func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		return slices.Contains(g.broken, "/f")
	})
}

// TestNothingServedAfterCut: requests that come in after the connection was cut
// are not looked at, however long the socket stays open.
func TestNothingServedAfterCut(t *testing.T) {
	t.Parallel()
	ctx, cut := context.WithCancel(context.Background())
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	var handles atomic.Int64
	handles.Store(1)
	g := &fakeGate{hook: func(op string) error { t.Errorf("%s was served", op); return nil }}
	in := append(newPacket(nil, fxpInit, 3).frame(), newPacket(nil, fxpStat, 1).string("/").frame()...)
	cut()
	err = newFilter(ctx, filterOptions{
		channel: struct {
			io.Reader
			io.Writer
		}{bytes.NewReader(in), io.Discard},
		end: func(string) {}, guest: &fakeGuest{fakeTree{g, root}}, pool: &bufferPool{}, budget: &handles,
		log: slog.New(slog.DiscardHandler),
	}).serve()
	if !errors.Is(err, errEnded) {
		t.Errorf("serve = %v, want %v", err, errEnded)
	}
}

// TestShutdownDrains: an open transfer may finish, an idle session ends at once.
func TestShutdownDrains(t *testing.T) {
	t.Parallel()
	g := &fakeGate{}
	r := newRig(t, g, Limits{})
	idle, busy := r.raw(), r.raw()
	h := busy.open("/f", fxfWrite|fxfCreat)
	result := make(chan error, 1)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	go func() { result <- r.server.Shutdown(ctx) }()
	idle.ended()
	eventually(t, "the idle client was told why", func() bool { return idle.stderr.String() == shuttingDown+"\r\n" })
	if code, text := busy.status(fxpWrite, func(p packet) packet { return p.string(h).uint64(0).string("data") }); code != fxOK {
		t.Fatalf("write while draining: %d %s", code, text)
	}
	if code, text := busy.status(fxpClose, func(p packet) packet { return p.string(h) }); code != fxOK {
		t.Fatalf("close while draining: %d %s", code, text)
	}
	busy.ended()
	if err := <-result; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if g.broken != nil {
		t.Errorf("broken transfers: %q", g.broken)
	}
	if _, err := r.dialErr(); err == nil {
		t.Error("a connection came in after Shutdown")
	}
}
