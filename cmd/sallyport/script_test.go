package main

import (
	"cmp"
	"context"
	"crypto/fips140"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"sallyport/crypto/keyring"
	"sallyport/server/clock"
	"sallyport/vfs/pagecheck"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"sallyport": main})
}

// TestStories runs testdata/*.txtar with the real binary and real sockets.
func TestStories(t *testing.T) {
	t.Parallel()
	examples, err := filepath.Abs("../../docs/examples")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("NO_COLOR", "1")
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("EXAMPLES", examples)
			if mode := os.Getenv("GODEBUG"); mode != "" { // make fips: the program as the tests
				e.Setenv("GODEBUG", mode)
			}
			// Scripts that wait in the background look for this file. Who fails waits for them before it says anything.
			e.Defer(func() { _ = os.WriteFile(filepath.Join(e.WorkDir, "over"), nil, 0o600) })
			return nil
		},
		Condition: condition,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "await": await, "connection": connect, "listeners": listeners, "mode": mode, "passable": passable, "flip": flip, "uproot": uproot, "fill": fill, "signal": sendSignal, "otp": otp, "lastknown": lastKnown, "accounted": accounted, "keyservice": keyservice, "inraw": inRaw, "wrappedkeys": wrappedKeys, "inrawkeys": inRawKeys,
		},
	})
}

// lacking tells whether a story must be left out for want of a program. Where
// everything is to be proved (CI=true) it is an error that names the package.
func lacking(program string, found, mustHave bool) (bool, error) {
	if found || !mustHave {
		return !found, nil
	}
	pkg := program
	if program == "sftp" || program == "ssh" {
		pkg = "openssh-client"
	}
	return true, fmt.Errorf("%s is missing, and CI=true leaves no story out: apt-get install %s", program, pkg)
}

// condition tells what this machine permits and has.
func condition(name string) (bool, error) {
	if program, ok := strings.CutPrefix(name, "lacks:"); ok {
		_, err := exec.LookPath(program)
		return lacking(program, err == nil, os.Getenv("CI") == "true")
	}
	switch name {
	case "romount": // this user may mount something in a namespace of its own
		return exec.Command("unshare", "-m", "mount", "--bind", os.TempDir(), os.TempDir()).Run() == nil, nil
	case "root":
		return os.Geteuid() == 0, nil
	case "lowports": // ports below 1024 are reserved, and this user can give up the right to them
		_, err := exec.LookPath("setpriv")
		first, _ := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
		return err == nil && os.Geteuid() == 0 && strings.TrimSpace(string(first)) == "1024", nil
	}
	return false, fmt.Errorf("unknown condition %s", name)
}

// exits CODE PROGRAM ARGS… runs a program that must end with the exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARGS...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("%v: exit code %d, want %d", args[1:], got, want)
	}
}

// poll calls fn until it is nil.
func poll(ts *testscript.TestScript, what string, fn func() error) {
	wait := patient(20 * time.Millisecond)
	defer wait.Stop()
	for {
		err := fn()
		if err == nil {
			return
		}
		if wait.over() {
			ts.Fatalf("not within %v: %s: %v", deadline, what, err)
		}
	}
}

// await PROGRAM ARGS… [-- REGEXP] runs a program until it succeeds, and its output matches.
func await(ts *testscript.TestScript, neg bool, args []string) {
	var match *regexp.Regexp
	if n := len(args); n > 2 && args[n-2] == "--" {
		match = regexp.MustCompile(args[n-1])
		args = args[:n-2]
	}
	poll(ts, strings.Join(args, " "), func() error {
		err := ts.Exec(args[0], args[1:]...)
		if (err != nil) != neg {
			return fmt.Errorf("ended with %v", err)
		}
		if out := ts.ReadFile("stdout") + ts.ReadFile("stderr"); match != nil && !match.MatchString(out) {
			return fmt.Errorf("printed %q", out)
		}
		return nil
	})
}

// connection FILE waits for a demo's connection.json and makes its fields
// variables: $account, $sftp_port …
func connect(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: connection FILE")
	}
	var fields map[string]any
	poll(ts, args[0], func() error {
		data, err := os.ReadFile(ts.MkAbs(args[0]))
		if err != nil {
			return err
		}
		return json.Unmarshal(data, &fields)
	})
	for k, v := range fields {
		if f, ok := v.(float64); ok {
			v = int(f)
		}
		ts.Setenv(k, fmt.Sprint(v))
	}
}

// listeners makes $server_pid, $sftp_port, $ftps_explicit_port and
// $ftps_implicit_port of the running server's status.
func listeners(ts *testscript.TestScript, _ bool, _ []string) {
	ts.Check(ts.Exec("sallyport", "status", "-o", "json"))
	var st struct {
		PID       int
		Listeners []struct{ Protocol, Address string }
	}
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &st))
	ts.Setenv("server_pid", strconv.Itoa(st.PID))
	for _, l := range st.Listeners {
		ts.Setenv(strings.ReplaceAll(l.Protocol, "-", "_")+"_port", l.Address[strings.LastIndexByte(l.Address, ':')+1:])
	}
}

// mode OCTAL FILE… checks permissions.
func mode(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: mode OCTAL FILE...")
	}
	want, err := strconv.ParseUint(args[0], 8, 32)
	ts.Check(err)
	for _, f := range args[1:] {
		fi, err := os.Stat(ts.MkAbs(f))
		ts.Check(err)
		if (fi.Mode().Perm() != os.FileMode(want)) != neg {
			ts.Fatalf("%s has mode %04o", f, fi.Mode().Perm())
		}
	}
}

// passable lets other users through the story's directories, which are root's alone where the umask says so. The directory of temporary files is
// not the story's: it is everybody's already, or no other user can take part.
func passable(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: passable")
	}
	top := cmp.Or(os.Getenv("GOTMPDIR"), os.TempDir()) // where testscript makes its directories
	for dir := ts.MkAbs("."); dir != filepath.Clean(top) && dir != "/"; dir = filepath.Dir(dir) {
		fi, err := os.Stat(dir)
		ts.Check(err)
		ts.Check(os.Chmod(dir, fi.Mode().Perm()|0o011)) // some of them are still of the group of root
	}
	for dir := filepath.Clean(top); dir != "/" && dir != "."; dir = filepath.Dir(dir) {
		if fi, err := os.Stat(dir); err != nil || fi.Mode().Perm()&0o001 == 0 {
			ts.Fatalf("other users cannot get through %s (%v): have TMPDIR where they can", dir, err)
		}
	}
}

// flip GLOB OFFSET inverts one byte of the first file that matches; a negative
// offset counts from the end.
func flip(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: flip GLOB OFFSET")
	}
	files, err := filepath.Glob(ts.MkAbs(args[0]))
	ts.Check(err)
	if len(files) == 0 {
		ts.Fatalf("no file matches %s", args[0])
	}
	at, err := strconv.Atoi(args[1])
	ts.Check(err)
	data, err := os.ReadFile(files[0])
	ts.Check(err)
	if at < 0 {
		at += len(data)
	}
	data[at] ^= 0xff
	ts.Check(os.WriteFile(files[0], data, 0o600))
}

// uproot GLOB damages the page of a database that leads to all others, in place.
func uproot(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: uproot GLOB")
	}
	files, err := filepath.Glob(ts.MkAbs(args[0]))
	ts.Check(err)
	if len(files) != 1 {
		ts.Fatalf("%d files match %s", len(files), args[0])
	}
	data, err := os.ReadFile(files[0])
	ts.Check(err)
	at := pagecheck.Roots(data)[0] * pagecheck.Size
	f, err := os.OpenFile(files[0], os.O_WRONLY, 0)
	ts.Check(err)
	_, err = f.WriteAt([]byte{data[at] ^ 0xff}, int64(at))
	ts.Check(errors.Join(err, f.Close()))
}

// fill FILE BYTES writes a file whose every byte depends on its place.
func fill(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: fill FILE BYTES")
	}
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(i ^ i>>8 ^ i>>16)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), data, 0o600))
}

// otp FILE VAR WHICH sets a variable to a code out of what `account 2fa enable`
// printed: the code so many periods from now (0, 1), recoveryN, or wrongN: six digits
// that are the code of no period near now, other ones for each N.
func otp(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: otp FILE VAR OFFSET|recoveryN|wrongN")
	}
	text := ts.ReadFile(args[0])
	if n, ok := strings.CutPrefix(args[2], "recovery"); ok {
		i, err := strconv.Atoi(n)
		ts.Check(err)
		codes := regexp.MustCompile(`[a-z2-7]{4}(-[a-z2-7]{4}){3}`).FindAllString(text, -1)
		ts.Setenv(args[1], codes[i-1])
		return
	}
	m := regexp.MustCompile(`secret=([A-Z2-7]+)`).FindStringSubmatch(text)
	secret, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(m[1])
	ts.Check(err)
	// RFC 6238, written down here once more: the program must not be its own witness.
	algorithm := sha1.New
	if strings.Contains(text, "algorithm=SHA256") { // under fips140=only
		algorithm = sha256.New
	}
	now := time.Now().Unix() / 30
	code := func(period int64) string {
		var sum []byte
		fips140.WithoutEnforcement(func() { // this is the owner's phone, not the server
			h := hmac.New(algorithm, secret)
			ts.Check(binary.Write(h, binary.BigEndian, period))
			sum = h.Sum(nil)
		})
		at := sum[len(sum)-1] & 15
		return fmt.Sprintf("%06d", (binary.BigEndian.Uint32(sum[at:])&0x7fffffff)%1e6)
	}
	if n, ok := strings.CutPrefix(args[2], "wrong"); ok {
		left, err := strconv.Atoi(n)
		ts.Check(err)
		near := map[string]bool{}
		for period := now - 10; period <= now+10; period++ {
			near[code(period)] = true
		}
		for guess := 0; ; guess++ {
			if c := fmt.Sprintf("%06d", guess); !near[c] {
				if left--; left <= 0 {
					ts.Setenv(args[1], c)
					return
				}
			}
		}
	}
	offset, err := strconv.Atoi(args[2])
	ts.Check(err)
	ts.Setenv(args[1], code(now+int64(offset)))
}

// lastknown DAYS [on] makes the last time that the state below host knows of so many days ago: the system's clock cannot be set for a test, and for
// who starts a server the one looks like the other. The machine was off since, or on: then it has counted that no time passed.
func lastKnown(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 && (len(args) != 2 || args[1] != "on") {
		ts.Fatalf("usage: lastknown DAYS [on]")
	}
	days, err := strconv.Atoi(args[0])
	ts.Check(err)
	state := ts.MkAbs("host/var/lib/sallyport")
	ring, err := keyring.Open(context.Background(), state, &keyring.KeyFile{Path: ts.MkAbs("host/etc/sallyport/sallyport.key")})
	ts.Check(err)
	defer ring.Close()
	box, err := ring.Policy()
	ts.Check(err)
	path := filepath.Join(state, "clock")
	if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) {
		ts.Check(err)
	}
	o := clock.Options{Path: path, Box: box, Wall: func() time.Time { return time.Now().Add(-time.Duration(days) * 24 * time.Hour) }} // a day of 24 hours, whatever the time zone does meanwhile
	if len(args) == 1 {
		o.Count = func() clock.Count { return clock.Count{} }
	}
	c := clock.Open(o)
	c.Begin(time.Time{}, func(clock.State) {})
	ts.Check(c.Close())
}

// sendSignal NAME PID
func sendSignal(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: signal HUP|INT|TERM PID")
	}
	pid, err := strconv.Atoi(args[1])
	ts.Check(err)
	sig, ok := map[string]syscall.Signal{"HUP": syscall.SIGHUP, "INT": syscall.SIGINT, "TERM": syscall.SIGTERM}[args[0]]
	if !ok || pid <= 1 {
		ts.Fatalf("cannot send %s to %d", args[0], pid)
	}
	ts.Check(syscall.Kill(pid, sig))
}

func TestNoStoryIsLeftOutInCI(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		program         string
		found, mustHave bool
		skip            bool
		says            string
	}{
		{"curl", true, true, false, ""},
		{"curl", true, false, false, ""},
		{"curl", false, false, true, ""},
		{"curl", false, true, true, "apt-get install curl"},
		{"sftp", false, true, true, "apt-get install openssh-client"},
	} {
		skip, err := lacking(tt.program, tt.found, tt.mustHave)
		if skip != tt.skip || (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%+v: %v, %v", tt, skip, err)
		}
	}
}
