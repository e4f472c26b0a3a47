package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestKillDuringPurge kills the real server at each step of a purge that can be seen from outside, from the change of the policy to the
// last file of the shred epoch, and starts it again: what is live and what is on hold is there to the byte, the round is completed by
// itself, the blobs of what was purged are gone, the counters are those of what is there, and nothing awaits shredding in the end.
// Where it was killed among the blobs that it unlinked, whoever opens the volume next finds none of the rest, nor the word of them, nor a
// blob of which nothing is recorded any more.
func TestKillDuringPurge(t *testing.T) {
	t.Parallel()
	k := newKilled(t, 7)
	k.clients = nil
	k.start()
	p := &purged{k: k, dir: k.account()}
	p.cli("backup", "hold", "--account", k.conn.Account, "--path", "/held", "--reason", "case")
	p.put("/live", 1)
	p.put("/held", 2)
	p.remove("/held")
	for _, gone := range []int{1, many / 2, many * 3 / 4} {
		p.cutUnlinking(gone)
	}
	steps := []struct {
		name  string
		shred bool
		seen  func() bool
	}{
		{"the policy is changed", false, func() bool { return true }},
		{"records are gone", false, func() bool { return p.stat().History == p.size }},
		{"the last blob is gone", false, func() bool { return p.count("blobs") == 2 }},
		{"the new database is begun", true, func() bool { return p.count(".db.new") > 0 }},
		{"the new database is named", true, func() bool { return p.count(".db") > 1 }},
		{"the keyring is switched", true, func() bool { return p.changed("keyring") }},
		{"the old database is gone", true, func() bool { return p.changed("keyring") && p.count(".db") == 1 }},
		{"the root is a new one", true, func() bool { return p.changed("seal.json") }},
	}
	met := 0
	for _, step := range steps {
		p.keep()
		p.with(func(r remote) error {
			for i := range lost {
				name := fmt.Sprintf("/lost%d", i)
				if err := errors.Join(r.put(name, content(byte(i)), func(int, bool) {}), r.remove(name)); err != nil {
					return err
				}
			}
			return nil
		})
		p.size = sizeOfLost // of what is on hold
		if !step.shred {
			p.remember()
		}
		action := p.letGo()
		if step.shred {
			p.cli(action...)
			p.settle(step.name)
			p.remember()
			action = []string{"backup", "purge", "--now"}
		}
		if p.cutOff(step.seen, step.shred, action) {
			met++
		}
		k.start()
		p.settle(step.name)
		p.look(step.name)
	}
	p.cli("backup", "purge", "--now")
	if st := p.stat(); st.Shred != 0 {
		t.Errorf("%d bytes await shredding in the end", st.Shred)
	}
	p.look("the end")
	k.kill()
	t.Logf("%d of %d steps were seen before the kill", met, len(steps))
	if met < len(steps)/2 {
		t.Error("the kills came at the wrong moments")
	}
}

// cutUnlinking purges many blobs, and kills the server when so many of them are unlinked and others are not.
func (p *purged) cutUnlinking(gone int) {
	step := fmt.Sprintf("%d of %d blobs are unlinked", gone, many)
	for range attempts {
		p.keep()
		p.pile()
		left := p.killAmid(gone, p.letGo())
		p.reappear()
		p.k.start()
		if st := p.stat(); left > 0 && (st.Unlink != 0 || p.count("blobs") != 2) {
			p.k.t.Fatalf("killed when %s: at the opening %d are there beside 2 that are needed (one came back without its record), %d bytes are to be unlinked", step, p.count("blobs")-2, st.Unlink)
		}
		p.settle(step)
		p.look(step)
		if left > 0 {
			p.k.t.Logf("killed when %s: %d were left", step, left)
			return
		}
	}
	p.k.t.Errorf("in %d attempts no kill came between the first blob and the last", attempts)
}

// reappear does what a power loss can: a blob whose record is gone has its file again, because the disk had not come to the removal of the name.
// It is old enough to be nobody's mistake.
func (p *purged) reappear() {
	p.k.t.Helper()
	dirs, err := filepath.Glob(filepath.Join(p.dir, "blobs", "??"))
	if err != nil || len(dirs) == 0 {
		p.k.t.Fatalf("%d directories of blobs, %v", len(dirs), err)
	}
	name := filepath.Join(dirs[0], strings.Repeat("a5", 15))
	old := time.Now().AddDate(0, 0, -30)
	if err := errors.Join(os.WriteFile(name, content(9), 0o600), os.Chtimes(name, old, old)); err != nil {
		p.k.t.Fatal(err)
	}
}

// keep has the account's history kept, letGo is the command that destroys it.
func (p *purged) keep() {
	p.k.t.Helper()
	p.cli("policy", "set", "accounts."+p.k.conn.Account+".backup.retention_days=30")
}

func (p *purged) letGo() []string {
	return []string{"policy", "set", "accounts." + p.k.conn.Account + ".backup.retention_days=0", "--reason", "test"}
}

// lost is how many files each round loses.
const (
	lost       = 12
	sizeOfLost = 70_000
)

type purged struct {
	k    *killed
	dir  string // of the account
	size uint64
	was  map[string]os.FileInfo
}

// account is the directory of the only one.
func (k *killed) account() string {
	k.t.Helper()
	list, err := filepath.Glob(filepath.Join(k.state, "accounts", "*"))
	if err != nil || len(list) != 1 {
		k.t.Fatalf("%q, %v", list, err)
	}
	return list[0]
}

func (p *purged) command(args ...string) *exec.Cmd {
	return exec.CommandContext(p.k.t.Context(), "sallyport", append([]string{"--socket", p.k.conn.AdminSocket}, args...)...)
}

func (p *purged) cli(args ...string) []byte {
	p.k.t.Helper()
	var errs bytes.Buffer
	cmd := p.command(args...)
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		p.k.t.Fatalf("%q: %v\n%s%s", args, err, out, errs.Bytes())
	}
	return out
}

func (p *purged) with(fn func(remote) error) {
	p.k.t.Helper()
	r, err := dialSFTP(&p.k.conn)
	if err == nil {
		err = fn(r)
		r.close()
	}
	if err != nil {
		p.k.t.Fatal(err)
	}
}

func content(seed byte) []byte {
	return bytes.Repeat([]byte{seed, 7, seed ^ 1, 3, 5, 9, 1}, sizeOfLost/7)
}

func (p *purged) put(name string, seed byte) {
	p.k.t.Helper()
	p.with(func(r remote) error { return r.put(name, content(seed), func(int, bool) {}) })
}

func (p *purged) remove(name string) {
	p.k.t.Helper()
	p.with(func(r remote) error { return r.remove(name) })
}

// count counts the files of the account whose path has a directory or an end.
func (p *purged) count(what string) (n int) {
	_ = filepath.WalkDir(p.dir, func(path string, d fs.DirEntry, err error) error { // what goes while it is looked at is gone
		if err == nil && !d.IsDir() && (strings.Contains(path, "/"+what+"/") || strings.HasSuffix(path, what)) {
			n++
		}
		return nil
	})
	return n
}

// remember is what changed compares with.
func (p *purged) remember() {
	p.was = map[string]os.FileInfo{}
	for _, name := range []string{"keyring", "seal.json"} {
		p.was[name], _ = os.Stat(filepath.Join(p.k.state, name))
	}
}

// changed tells whether another file has the name.
func (p *purged) changed(name string) bool {
	fi, err := os.Stat(filepath.Join(p.k.state, name))
	return err == nil && !os.SameFile(fi, p.was[name])
}

// cutOff begins something, and kills the server when a step of it is seen, or when it is over.
func (p *purged) cutOff(seen func() bool, ends bool, action []string) (met bool) {
	p.k.t.Helper()
	cmd := p.command(action...)
	if err := cmd.Start(); err != nil {
		p.k.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }() // the server is killed under it
	if !ends {
		<-done
	}
	for end := time.Now().Add(deadline); !met && time.Now().Before(end); {
		met = seen()
		select {
		case <-done:
			if ends {
				end = time.Now()
			}
		default:
		}
	}
	p.k.kill()
	<-done
	return met
}

type volumeStat struct {
	Files   uint64 `json:"files"`
	Live    uint64 `json:"live_bytes"`
	History uint64 `json:"history_bytes"`
	Unlink  uint64 `json:"doomed_bytes"`
	Shred   uint64 `json:"awaiting_shred"`
}

func (p *purged) stat() (st volumeStat) {
	p.k.t.Helper()
	var all struct{ Volumes []volumeStat }
	out := p.cli("vfs", "stat", "--account", p.k.conn.Account, "-o", "json")
	if err := json.Unmarshal(out, &all); err != nil || len(all.Volumes) != 1 {
		p.k.t.Fatalf("%v: %s", err, out)
	}
	return all.Volumes[0]
}

// settle waits for the round to be completed.
func (p *purged) settle(step string) {
	p.k.t.Helper()
	wait := patient(20 * time.Millisecond)
	defer wait.Stop()
	for {
		st := p.stat()
		if st.History == sizeOfLost && st.Unlink == 0 {
			return
		}
		if wait.over() {
			p.k.t.Fatalf("after %q the purge is not completed: %+v", step, st)
		}
	}
}

// look compares what is there with what must be.
func (p *purged) look(step string) {
	p.k.t.Helper()
	if st := p.stat(); st.Files != 1 || st.Live != sizeOfLost || st.History != sizeOfLost {
		p.k.t.Errorf("after %q: %+v", step, st)
	}
	if n := p.count("blobs"); n != 2 {
		p.k.t.Errorf("after %q there are %d blobs, want that of the live file and that on hold", step, n)
	}
	p.with(func(r remote) error {
		got, err := r.get("/live")
		if err == nil && !bytes.Equal(got, content(1)) {
			err = fmt.Errorf("after %q the live file is not what it was", step)
		}
		return err
	})
	p.cli("vfs", "verify", "--account", p.k.conn.Account)
	if out := p.cli("backup", "list", "--account", p.k.conn.Account); !bytes.Contains(out, []byte("/held")) || bytes.Contains(out, []byte("/lost")) {
		p.k.t.Errorf("after %q history is\n%s", step, out)
	}
}
