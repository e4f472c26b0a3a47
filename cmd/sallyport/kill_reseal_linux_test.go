package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport/crypto/keyring"
)

// TestKillDuringSealRotateTo kills the real server inside `seal rotate --to`: before and after each request to the key service or
// to the helper takes effect, when the new seal.json is begun, and when it is named. Afterwards seal.json names the old seal or the new
// one, and the new one from its rename on, after it was tried; the server opens with that one alone, while what the other would need
// is away, and tells so; what was uploaded is there; and the change can be made again. What the old seal had wrapped is destroyed
// wherever the new one is in force, without anybody asking for it.
func TestKillDuringSealRotateTo(t *testing.T) {
	t.Parallel()
	r := newResealed(t)
	r.start()
	r.addAccount(t, "alice", "Correct-horse-42")
	r.store()
	for _, c := range []struct {
		from, to string
		// requests to what keeps the key, until the new seal is in force and after that; the rest is the destruction of the old.
		before, after int
	}{
		{keyring.KindKeyFile, keyring.KindTransit, 5, 0}, // read, rotate, encrypt, and two trials
		{keyring.KindTransit, keyring.KindKeyFile, 0, 5}, // read, rotate, config, trim, read
		{keyring.KindKeyFile, keyring.KindHelper, 4, 0},  // info, wrap, and two trials
		{keyring.KindHelper, keyring.KindKeyFile, 0, 1},  // destroy
		{keyring.KindTransit, keyring.KindTransit, 5, 5}, // whether it is the same key, read, config, trim, read
		{keyring.KindKeyFile, keyring.KindPassphrase, 0, 0},
		{keyring.KindKeyFile, keyring.KindShares, 0, 0},
		{keyring.KindShares, keyring.KindKeyFile, 0, 0},
	} {
		r.reach(c.from)
		for n := 1; n <= c.before+c.after; n++ {
			for _, when := range []string{"before", "after"} {
				if changed := r.cut(c.from, c.to, fmt.Sprintf("%s request %d", when, n), &request{n, when}, ""); changed != (n > c.before) {
					t.Errorf("%s to %s, killed %s request %d: the new seal is in force: %v", c.from, c.to, when, n, changed)
				}
				r.reach(c.from)
			}
		}
		for _, step := range []string{"begun", "named"} {
			if changed := r.cut(c.from, c.to, "seal.json is "+step, nil, step); step == "named" && !changed {
				t.Errorf("%s to %s: seal.json was named, and the old seal is in force", c.from, c.to)
			}
			r.reach(c.from)
		}
	}
	r.kill()
}

// cut begins a change and has the server killed at a request, or at a step of seal.json; then it starts it again and looks. It tells
// whether the new seal is in force.
func (r *resealed) cut(from, to, what string, at *request, step string) (changed bool) {
	r.t.Helper()
	what = from + " to " + to + ", " + what
	old := r.sealJSON()
	wrapped := r.wrapped()
	r.arm(at)
	var w *os.File
	if step != "" {
		w = watchSeal(r.t, r.state)
	}
	answered := make(chan error, 1)
	go func() {
		err := r.change(to)
		if err != nil && w != nil { // then the step does not come
			_ = w.SetReadDeadline(time.Now())
		}
		answered <- err
	}()
	if step != "" {
		if err := awaitSeal(w, step); err != nil {
			_ = r.cmd.Process.Kill() // or a change that goes on would not answer
			r.t.Fatalf("%s: %v, and the change: %v", what, err, <-answered)
		}
		_ = r.cmd.Process.Kill()
		w.Close()
	}
	if err := <-answered; err == nil && at != nil {
		r.t.Fatalf("%s: nobody was killed", what)
	}
	r.kill()
	r.arm(nil)
	changed = !bytes.Equal(r.sealJSON(), old)
	if want := map[bool]string{true: to, false: from}[changed]; r.kind() != want {
		r.t.Fatalf("%s: sealed by %s, want %s", what, r.kind(), want)
	}
	r.start()
	r.settled(what)
	r.look(what)
	if there := r.opens(from, wrapped); there == changed {
		r.t.Errorf("%s: the new seal is in force: %v; what opens the old seal.json is there: %v", what, changed, there)
	}
	return changed
}

// settled returns when the server has finished by itself what was cut off.
func (r *resealed) settled(what string) {
	r.t.Helper()
	wait := patient(5 * time.Millisecond)
	defer wait.Stop()
	for {
		st, err := r.cl.SealStatus(r.t.Context())
		if err == nil && st.Former == "" && st.OldRoot == 0 {
			return
		}
		if err != nil || wait.over() {
			r.t.Fatalf("%s: something waits still: %+v, %v", what, st, err)
		}
	}
}

func (r *resealed) look(what string) {
	r.t.Helper()
	st, err := r.cl.SealStatus(r.t.Context())
	if err != nil || st.Kind != r.kind() || st.OldRoot != 0 || st.Epoch != 1 || strings.HasPrefix(st.Service, "not") {
		r.t.Errorf("%s: %+v, %v, and seal.json is of %s", what, st, err, r.kind())
	}
	client := r.dial(r.t, "alice")
	defer client.close()
	if got, err := client.get("/file"); err != nil || !bytes.Equal(got, r.stored) {
		r.t.Errorf("%s: %d bytes of the file, %v", what, len(got), err)
	}
	left, err := filepath.Glob(filepath.Join(r.state, "seal.json?*"))
	if err != nil || len(left) > 0 {
		r.t.Errorf("%s: %q is left, %v", what, left, err)
	}
}

// watchSeal has the kernel tell what becomes of seal.json.
func watchSeal(t *testing.T, state string) *os.File {
	t.Helper()
	fd, err := syscall.InotifyInit1(syscall.IN_CLOEXEC | syscall.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := syscall.InotifyAddWatch(fd, state, syscall.IN_CREATE|syscall.IN_MOVED_TO); err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fd), "inotify")
}

// awaitSeal returns when seal.json is begun beside the old one, or named.
func awaitSeal(w *os.File, step string) error {
	if err := w.SetReadDeadline(time.Now().Add(deadline)); err != nil {
		return err
	}
	buf := make([]byte, 64<<10)
	for {
		n, err := w.Read(buf)
		if err != nil {
			return err
		}
		for at := 0; at < n; {
			mask, size := binary.NativeEndian.Uint32(buf[at+4:]), int(binary.NativeEndian.Uint32(buf[at+12:]))
			name := string(bytes.TrimRight(buf[at+syscall.SizeofInotifyEvent:at+syscall.SizeofInotifyEvent+size], "\x00"))
			at += syscall.SizeofInotifyEvent + size
			if step == "named" && name == "seal.json" && mask&syscall.IN_MOVED_TO != 0 || step == "begun" && strings.HasPrefix(name, "seal.json.tmp-") {
				return nil
			}
		}
	}
}
