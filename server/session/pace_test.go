package session

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"sallyport/policy"
)

// However the chunks come, what was moved after t is at most rate·t and a quarter of a second's worth.
func TestFlowKeepsTheRate(t *testing.T) {
	t.Parallel()
	start := time.Now()
	now := start
	f := flow{now: func() time.Time { return now }}
	for _, c := range []struct {
		rate  int64
		chunk int
	}{{1 << 20, 128 << 10}, {100_000, 256 << 10}, {1 << 30, 32 << 10}, {4000, 3000}} {
		begun, moved := now, int64(0)
		for range 50 {
			now = now.Add(f.reserve(c.chunk, c.rate))
			moved += int64(c.chunk)
		}
		seconds := now.Sub(begun).Seconds()
		want := float64(moved) / float64(c.rate)
		slack := max(0.26, leastBurst/float64(c.rate)+0.01)
		if seconds < want-slack || seconds > want+slack {
			t.Errorf("%d bytes at %d/s took %.2f s, want %.2f", moved, c.rate, seconds, want)
		}
		now = now.Add(time.Minute) // nothing of the last rate is owed
	}
	if d := f.reserve(1<<30, 0); d != 0 {
		t.Errorf("without a limit it waits %v", d)
	}
}

// Every way that content moves is paced, in its direction, for the session and for the account.
func TestEveryTransferIsPaced(t *testing.T) {
	t.Parallel()
	h := build(t, nil)
	h.addAccount(t, "alice", everything)
	_, s := h.login(t, "alice")
	big := strings.Repeat("x", 3<<20)
	moved := func(what string, up bool, fn func(f *File) error) {
		t.Helper()
		for _, setting := range []string{"session", "account"} {
			direction := map[bool]string{true: "_upload", false: "_download"}[up]
			h.set(t, policy.Site, "bandwidth."+setting+direction, "1GiB")
			flows := map[string]*flow{"session_upload": &s.flowIn, "session_download": &s.flowOut, "account_upload": &s.account.flowIn, "account_download": &s.account.flowOut}
			fl := flows[setting+direction]
			before := fl.testOnlyCounted
			f, err := s.Files().OpenFile(t.Context(), "/f", os.O_RDWR|os.O_CREATE, 0o644)
			if err != nil {
				t.Fatal(err)
			}
			if err := fn(f); err != nil && err != io.EOF {
				t.Fatalf("%s: %v", what, err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			if n := fl.testOnlyCounted - before; n != len(big) {
				t.Errorf("%s: %d of %d bytes are counted for the %s", what, n, len(big), setting)
			}
			h.set(t, policy.Site, "bandwidth."+setting+direction, "0")
		}
	}
	moved("ReadFrom", true, func(f *File) error { _, err := f.ReadFrom(strings.NewReader(big)); return err })
	moved("Write", true, func(f *File) error { _, err := f.Write([]byte(big)); return err })
	moved("WriteAt", true, func(f *File) error { _, err := f.WriteAt([]byte(big), 0); return err })
	moved("WriteTo", false, func(f *File) error { _, err := f.WriteTo(io.Discard); return err })
	moved("Read", false, func(f *File) error { _, err := io.ReadFull(struct{ io.Reader }{f}, make([]byte, len(big))); return err })
	moved("ReadAt", false, func(f *File) error { _, err := f.ReadAt(make([]byte, len(big)), 0); return err })
}

// A transfer that waits ends with its session, and goes on at once when the limit goes.
func TestAPacedTransferEndsWithItsSession(t *testing.T) {
	t.Parallel()
	h := build(t, nil)
	h.addAccount(t, "alice", everything)
	h.set(t, policy.Site, "bandwidth.session_upload", "1") // a byte a second
	l, s := h.login(t, "alice")
	f, err := s.Files().OpenFile(t.Context(), "/f", os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		for {
			if _, err := f.Write(make([]byte, 1000)); err != nil {
				done <- err
				return
			}
		}
	}()
	if n := h.m.Kill(func(Info) bool { return true }, "op", "test"); n != 1 {
		t.Fatal(n)
	}
	<-l.hung
	wantCode(t, "the transfer", <-done, policy.CodeKilled)

	_, s = h.login(t, "alice")
	if f, err = s.Files().OpenFile(context.Background(), "/g", os.O_WRONLY|os.O_CREATE, 0o644); err != nil {
		t.Fatal(err)
	}
	go func() {
		_, err := f.Write(make([]byte, 100_000)) // a day at that rate
		done <- err
	}()
	h.set(t, policy.Site, "bandwidth.session_upload", "0")
	if err := <-done; err != nil {
		t.Errorf("after the limit went: %v", err)
	}
}

func TestHoursEndSessions(t *testing.T) {
	t.Parallel()
	now := time.Now()
	h := build(t, nil)
	h.addAccount(t, "alice", everything)
	l, _ := h.login(t, "alice")
	// Open for everything but the present minute and its neighbours.
	day := strings.ToLower(now.UTC().Add(48 * time.Hour).Format("Mon"))
	h.set(t, policy.AccountTarget("alice"), "session.hours", fmt.Sprintf("[%q]", day+" 00:00-24:00"))
	if d := <-l.hung; d.Code != policy.CodeHours {
		t.Errorf("the session: %v", d)
	}
	again := h.connect(t, sftpFrom("198.51.100.7"))
	_, err := again.Login(t.Context(), "alice", Credential{PublicKey: h.key})
	wantCode(t, "a login", err, policy.CodeHours)
}

func TestUploadNames(t *testing.T) {
	t.Parallel()
	h := build(t, nil)
	h.addAccount(t, "alice", everything)
	_, s := h.login(t, "alice")
	g := s.Files()
	put := func(name string) error {
		f, err := g.OpenFile(t.Context(), name, os.O_WRONLY|os.O_CREATE, 0o644)
		if err != nil {
			return err
		}
		_, err = f.Write([]byte("x"))
		f.TransferError(err)
		return f.Close()
	}
	for _, err := range []error{put("/old.txt"), g.Mkdir("/d", 0o755), g.Symlink("/d/target.exe", "/harmless.csv")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	h.set(t, policy.Site, "upload.deny_names", `["*.exe"]`)
	h.set(t, policy.AccountTarget("alice"), "upload.allow_names", `["*.csv", "*.exe"]`)
	if err := put("/d/a.csv"); err != nil {
		t.Errorf("an allowed name: %v", err)
	}
	wantCode(t, "a name that is not listed", put("/a.txt"), policy.CodeName)
	wantCode(t, "a denied name", put("/a.EXE"), policy.CodeName)
	wantCode(t, "through a symlink", put("/harmless.csv"), policy.CodeName)
	wantCode(t, "a rename to it", g.Rename("/d/a.csv", "/a.exe"), policy.CodeName)
	wantCode(t, "a rename that replaces nothing", g.RenameNew("/d/a.csv", "/a.exe"), policy.CodeName)
	if err := g.Rename("/d", "/e.exe"); err != nil {
		t.Errorf("a directory may have any name: %v", err)
	}
	if _, err := g.OpenFile(t.Context(), "/old.txt", os.O_RDONLY, 0); err != nil {
		t.Errorf("reading what is there: %v", err)
	}
	if err := g.Remove("/old.txt"); err != nil {
		t.Errorf("removing what is there: %v", err)
	}
}
