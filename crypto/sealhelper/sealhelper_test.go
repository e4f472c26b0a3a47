package sealhelper

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"sallyport/crypto/keyring"
)

// script is a helper in sh; $request has what it was asked.
func script(t testing.TB, body string) Config {
	t.Helper()
	path := filepath.Join(t.TempDir(), "helper")
	if err := os.WriteFile(path, []byte("#!/bin/sh\nread -r request\n"+body+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return Config{Command: []string{path}, Timeout: time.Minute}
}

const infoAnswer = `case $request in *'"op":"info"'*) echo '{"protocol":1,"label":"a test"}'; exit 0;; esac` + "\n"

func newSeal(t testing.TB, c Config) keyring.Seal {
	t.Helper()
	s, err := New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var root = bytes.Repeat([]byte("root key"), 4)

func TestAnswersThatAreRefused(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		body string
		want error
	}{
		"nothing":          {``, ErrHelper},
		"not JSON":         {`echo hello`, ErrHelper},
		"two objects":      {`echo '{"protocol":1,"data":"AAAA"}{}'`, ErrHelper},
		"unknown member":   {`echo '{"protocol":1,"data":"AAAA","x":1}'`, ErrHelper},
		"another protocol": {`echo '{"protocol":2,"data":"AAAA"}'`, ErrHelper},
		"no data":          {`echo '{"protocol":1}'`, ErrHelper},
		"bad Base64":       {`echo '{"protocol":1,"data":"?"}'`, ErrHelper},
		"too much":         {`yes '{"protocol":1,"data":"AAAA"}' | head -c 200000`, ErrHelper},
		"without end":      {`exec yes '{"protocol":1,"data":"AAAA"}'`, ErrHelper}, // and not ErrUnavailable, after a minute
		"exit code":        {`echo '{"protocol":1,"data":"AAAA"}'; exit 3`, ErrHelper},
		"wrong key":        {`echo '{"protocol":1,"error":{"code":"wrong-key","message":"no"}}'`, keyring.ErrWrongKey},
		"damaged":          {`echo '{"protocol":1,"error":{"code":"damaged","message":"no"}}'`, keyring.ErrDamaged},
		"unavailable":      {`echo '{"protocol":1,"error":{"code":"unavailable","message":"no"}}'; exit 1`, ErrUnavailable},
		"denied":           {`echo '{"protocol":1,"error":{"code":"denied","message":"no"}}'`, ErrDenied},
		"unknown code":     {`echo '{"protocol":1,"error":{"code":"?","message":"no"}}'`, ErrHelper},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := newSeal(t, script(t, infoAnswer+c.body))
			if out, err := s.Wrap(t.Context(), root); !errors.Is(err, c.want) {
				t.Errorf("%q, %v; want %v", out, err, c.want)
			}
		})
	}
}

// A helper that hangs, with a child that holds its output open, is ended as a whole.
func TestHelperThatHangsIsKilledWithItsChildren(t *testing.T) {
	t.Parallel()
	mark := filepath.Join(t.TempDir(), "pid")
	s := newSeal(t, script(t, infoAnswer+fmt.Sprintf("sleep 600 & echo $! > %s.new; mv %[1]s.new %[1]s; wait", mark)))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		_, err := s.Wrap(ctx, root)
		done <- err
	}()
	var pid []byte
	for len(pid) == 0 { // until the child runs; the test's own deadline ends it otherwise
		pid, _ = os.ReadFile(mark)
		runtime.Gosched()
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want %v", err, context.Canceled)
	}
	limit := time.After(time.Minute)
	for { // the kernel has its signal, and ends it when it is its turn
		state, err := os.ReadFile("/proc/" + strings.TrimSpace(string(pid)) + "/stat")
		if err != nil || strings.Contains(string(state), ") Z") {
			return
		}
		select {
		case <-limit:
			t.Fatalf("its child lives on: %s", state)
		default:
			runtime.Gosched()
		}
	}
}

func TestHelperThatTakesTooLongIsUnavailable(t *testing.T) {
	t.Parallel()
	s := newSeal(t, script(t, infoAnswer+"exec sleep 600"))
	s.(*Seal).config.Timeout = time.Second
	if _, err := s.Wrap(t.Context(), root); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("%v, want ErrUnavailable", err)
	}
}

func TestEnvironmentIsEmptyAndNoShellReadsArguments(t *testing.T) {
	t.Setenv("SALLYPORT_TEST_SECRET", "x")
	file := filepath.Join(t.TempDir(), "env")
	c := script(t, infoAnswer+`env > `+file+`; echo "args: $1" >> `+file+`; echo '{"protocol":1,"data":"AAAA"}'`)
	c.Command = append(c.Command, `$(touch /nowhere); "a b"`)
	if _, err := newSeal(t, c).Wrap(t.Context(), root); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(got), "SECRET") || strings.Contains(string(got), "HOME=") || !strings.Contains(string(got), `args: $(touch /nowhere); "a b"`) {
		t.Errorf("the helper saw:\n%s", got)
	}
}

func TestErrorsAreLoggedWithoutWhatCouldBeAKey(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	c := script(t, infoAnswer+`printf 'the token\033[31m is away\nkey %s\n' QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo= >&2; echo '{"protocol":1,"error":{"code":"failed","message":"root is 00112233445566778899aabbccddeeff00112233"}}'`)
	c.Log = slog.New(slog.NewTextHandler(&log, nil))
	_, err := newSeal(t, c).Wrap(t.Context(), root)
	if err == nil || strings.Contains(err.Error(), "0011223344") || !strings.Contains(err.Error(), "[redacted]") {
		t.Errorf("error: %v", err)
	}
	if text := log.String(); strings.Contains(text, "QUJD") || !strings.Contains(text, "is away") || strings.Contains(text, "x1b") {
		t.Errorf("log: %s", text)
	}
}

func TestProgramsThatAreRefused(t *testing.T) {
	t.Parallel()
	open := script(t, infoAnswer)
	if err := os.Chmod(open.Command[0], 0o777); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]Config{
		"none": {}, "relative": {Command: []string{"helper"}}, "missing": {Command: []string{"/nowhere/helper"}},
		"directory": {Command: []string{t.TempDir()}}, "writable by others": open, "time": {Command: open.Command, Timeout: time.Hour},
	} {
		if _, err := New(t.Context(), c); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v, want ErrConfig", what, err)
		}
	}
	if _, err := New(t.Context(), script(t, `echo '{"protocol":1,"label":"caf\u00e9"}'`)); !errors.Is(err, ErrHelper) {
		t.Errorf("a label that is not ASCII: %v", err)
	}
}

// example is one of docs/examples, installed as an operator would.
func example(t *testing.T, name string, args ...string) Config {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../docs/examples", name))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, text, 0o700); err != nil {
		t.Fatal(err)
	}
	return Config{Command: append([]string{path}, args...), Timeout: 2 * time.Minute}
}

func need(t *testing.T, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatalf("%s is not installed", tool)
			}
			t.Skipf("%s is not installed", tool)
		}
	}
}

func run(t *testing.T, env []string, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
}

func TestShellExample(t *testing.T) {
	t.Parallel()
	need(t, "openssl", "sed")
	key := filepath.Join(t.TempDir(), "helper.pem")
	run(t, nil, "openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", key)
	c := example(t, "seal-helper-openssl.sh", key)
	state := t.TempDir()
	k, err := keyring.Create(t.Context(), state, newSeal(t, c))
	if err != nil {
		t.Fatal(err)
	}
	if err := k.RotateRoot(t.Context()); err != nil {
		t.Fatal(err)
	}
	k.Close()
	if k, err = keyring.Open(t.Context(), state, newSeal(t, c)); err != nil {
		t.Fatal(err)
	}
	k.Close()
	run(t, nil, "openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", key)
	if _, err := keyring.Open(t.Context(), state, newSeal(t, c)); !errors.Is(err, keyring.ErrWrongKey) {
		t.Errorf("another key: %v, want ErrWrongKey", err)
	}
}

// TestPKCS11Example runs the example on a SoftHSM token: the keys never leave
// it, and an old root is useless to whoever has the old disk and the token.
func TestPKCS11Example(t *testing.T) {
	t.Parallel()
	need(t, "softhsm2-util", "pkcs11-tool", "openssl", "python3")
	module := "/usr/lib/softhsm/libsofthsm2.so"
	dir := t.TempDir()
	tokens, conf, pin := filepath.Join(dir, "tokens"), filepath.Join(dir, "softhsm2.conf"), filepath.Join(dir, "pin")
	for path, text := range map[string]string{conf: "directories.tokendir = " + tokens + "\nobjectstore.backend = file\nlog.level = ERROR\n", pin: "1234\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(tokens, 0o700); err != nil {
		t.Fatal(err)
	}
	env := "SOFTHSM2_CONF=" + conf
	run(t, []string{env}, "softhsm2-util", "--init-token", "--free", "--label", "sallyport", "--so-pin", "5678", "--pin", "1234")
	c := example(t, "seal-helper-pkcs11.py", "--module", module, "--token", "sallyport", "--pin-file", pin, "--env", env)
	var log bytes.Buffer
	c.Log = slog.New(slog.NewTextHandler(&log, nil))

	s := newSeal(t, c)
	if _, ok := s.(keyring.Destroyer); !ok {
		t.Fatal("it does not destroy")
	}
	state, old := filepath.Join(dir, "state"), filepath.Join(dir, "old")
	k, err := keyring.Create(t.Context(), state, s)
	if err != nil {
		t.Fatalf("%v\n%s", err, log.String())
	}
	if err := os.CopyFS(old, os.DirFS(state)); err != nil {
		t.Fatal(err)
	}
	if err := k.RotateRoot(t.Context()); err != nil {
		t.Fatalf("%v\n%s", err, log.String())
	}
	k.Close()
	if k, err = keyring.Open(t.Context(), state, newSeal(t, c)); err != nil {
		t.Fatalf("%v\n%s", err, log.String())
	}
	k.Close()
	if _, err := keyring.Open(t.Context(), old, newSeal(t, c)); !errors.Is(err, keyring.ErrWrongKey) {
		t.Errorf("the old disk with the token: %v, want ErrWrongKey", err)
	}
	if err := os.Chmod(pin, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := New(t.Context(), c); !errors.Is(err, ErrDenied) || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a PIN that everybody can read: %v", err)
	}
	if err := os.Chmod(pin, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(pin, []byte("9999\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(t.Context(), c); !errors.Is(err, ErrDenied) {
		t.Errorf("another PIN: %v, want ErrDenied", err)
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte(`{"protocol":1,"data":"AAAA"}`))
	f.Add([]byte(`{"protocol":1,"label":"x","destroys":true}`))
	f.Add([]byte(`{"protocol":1,"error":{"code":"denied","message":"no\n"}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		a, err := parseAnswer(text)
		if err != nil {
			if !errors.Is(err, ErrHelper) || len(err.Error()) > 200 {
				t.Fatalf("%v", err)
			}
			return
		}
		if a.Error != nil {
			if words := a.Error.err("wrap").Error(); len(words) > 400 || strings.ContainsAny(words, "\n\x00\x1b") {
				t.Fatalf("not one short line: %q", words)
			}
		}
		again, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseAnswer(again); err != nil {
			t.Fatalf("accepted, but not again: %v", err)
		}
	})
}

// TestRootLooksAtTheHelperAsTheServersUser: neither with rights that the server does not have, nor at the command of whoever can change the program.
func TestRootLooksAtTheHelperAsTheServersUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
	server := &syscall.Credential{Uid: 65534, Gid: 65534, Groups: []uint32{65533}}
	s := newSeal(t, Config{
		Command: []string{"/bin/sh", "-c", `read -r request; echo "{\"protocol\":1,\"label\":\"$(id -u) $(id -G)\"}"`}, User: server,
	})
	if got := s.(keyring.Labelled).Label(); got != "65534 65534 65533" {
		t.Errorf("the helper ran as %q", got)
	}
	c := script(t, "")
	for owner, want := range map[int]error{0: nil, 65534: nil, 65533: ErrConfig} {
		if err := os.Chown(c.Command[0], owner, -1); err != nil {
			t.Fatal(err)
		}
		c.User = server
		if err := c.checkProgram(); !errors.Is(err, want) {
			t.Errorf("a program of user %d, for the server's user: %v", owner, err)
		}
		c.User = nil
		if err := c.checkProgram(); (err == nil) != (owner == 0) {
			t.Errorf("a program of user %d, for root: %v", owner, err)
		}
	}
}
