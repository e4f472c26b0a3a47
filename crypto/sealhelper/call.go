package sealhelper

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"sallyport/crypto/keyring"
)

const (
	protocol    = 1
	maxOutput   = 64 << 10 // bytes of standard output
	usualOutput = 4 << 10  // bytes: a root and more
	maxErrors   = 16 << 10 // bytes of standard error that are looked at
	maxWrapped  = 16 << 10 // bytes; two of them must fit into seal.json
	graceTime   = 2 * time.Second
)

// request is what the helper reads.
type request struct {
	Protocol int    `json:"protocol"`
	Op       string `json:"op"`
	Data     []byte `json:"data,omitempty"`
	Keep     []byte `json:"keep,omitempty"` // of destroy: what must still unwrap
}

// answer is what the helper writes.
type answer struct {
	Protocol int      `json:"protocol"`
	Data     []byte   `json:"data,omitempty"`
	Label    string   `json:"label,omitempty"`
	Destroys bool     `json:"destroys,omitempty"`
	Error    *failure `json:"error,omitempty"`
}

// failure is an answer that says why not.
type failure struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// codes are the failures that a caller can tell apart.
var codes = map[string]error{
	"wrong-key": keyring.ErrWrongKey, "damaged": keyring.ErrDamaged, "unavailable": ErrUnavailable, "denied": ErrDenied, "failed": ErrHelper,
}

// Check says what is wrong with the configuration; ErrConfig. A program that
// others could replace would be given the root key.
func (c *Config) Check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrConfig, fmt.Sprintf(format, args...))
	}
	if len(c.Command) == 0 || !filepath.IsAbs(c.Command[0]) {
		return bad("command must begin with the absolute path of a program")
	}
	if c.Timeout < 0 || c.Timeout > 10*time.Minute {
		return bad("timeout must be between 0s and 10m")
	}
	return nil
}

func (c *Config) checkProgram() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s %s", ErrConfig, c.Command[0], fmt.Sprintf(format, args...))
	}
	info, err := os.Stat(c.Command[0])
	if err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if !info.Mode().IsRegular() {
		return bad("is not a program")
	}
	if info.Mode().Perm()&0o022 != 0 {
		return bad("can be changed by others (mode %#o); run chmod go-w on it", info.Mode().Perm())
	}
	user := os.Geteuid()
	if c.User != nil {
		user = int(c.User.Uid)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 && int(st.Uid) != user {
		return bad("belongs to user id %d; it must belong to the server's user or to root", st.Uid)
	}
	return nil
}

// call starts the helper for one operation and waits until it and what it
// started have gone.
func (s *Seal) call(ctx context.Context, r request) (*answer, error) {
	if err := s.config.checkProgram(); err != nil {
		return nil, err
	}
	r.Protocol = protocol
	in, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("seal helper: internal error: %w", err)
	}
	in = append(in, '\n') // before what is cleared is chosen: it may move
	defer clear(in)
	ctx, cancel := context.WithTimeout(ctx, s.config.Timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.config.Command[0], s.config.Command[1:]...)
	// Nothing of this process's environment: it can name libraries to load.
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	cmd.Dir = "/"
	cmd.Stdin = bytes.NewReader(in)
	out, errs := &bounded{max: maxOutput, full: cancel}, &bounded{max: maxErrors}
	cmd.Stdout, cmd.Stderr = out, errs
	out.buf.Grow(usualOutput) // a buffer that grows leaves the root behind in each that it outgrew
	defer out.wipe()
	// A group of its own, so that what it started ends with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: s.config.User}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = graceTime
	err = cmd.Run()
	s.log(r.Op, errs.buf.Bytes())
	switch {
	case out.over:
		return nil, fmt.Errorf("%w: more than %d bytes of output", ErrHelper, maxOutput)
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return nil, fmt.Errorf("%w: no answer to %q within %v", ErrUnavailable, r.Op, s.config.Timeout)
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	a, perr := parseAnswer(out.buf.Bytes())
	if perr == nil && a.Error != nil {
		return nil, a.Error.err(r.Op) // whatever its exit code
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %q: %w", ErrHelper, r.Op, err)
	}
	return a, perr
}

// parseAnswer reads strictly: one object, nothing unknown in it.
func parseAnswer(text []byte) (*answer, error) {
	var a answer
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&a); err != nil {
		return nil, fmt.Errorf("%w: its answer is not the JSON it should be", ErrHelper) // err could quote it
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: something follows its answer", ErrHelper)
	}
	if a.Protocol != protocol {
		return nil, fmt.Errorf("%w: it speaks protocol %d, not %d", ErrHelper, a.Protocol, protocol)
	}
	return &a, nil
}

func (f *failure) err(op string) error {
	kind, known := codes[f.Code]
	if !known {
		kind = ErrHelper
	}
	return fmt.Errorf("%w: %q: %s", kind, op, redact([]byte(f.Message), 200))
}

// longRun is what could be a key in Base64 or hexadecimal.
var longRun = regexp.MustCompile(`[A-Za-z0-9+/=_-]{20,}`)

// redact makes another program's words fit to be shown.
func redact(text []byte, most int) string {
	text = longRun.ReplaceAll(text, []byte("[redacted]"))
	text = bytes.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\ufffd' {
			return ' '
		}
		return r
	}, text)
	text = bytes.Join(bytes.Fields(text), []byte(" "))
	if len(text) > most {
		text = append(text[:most:most], "…"...)
	}
	return string(bytes.ToValidUTF8(text, []byte("?")))
}

func (s *Seal) log(op string, text []byte) {
	if s.config.Log == nil {
		return
	}
	lines := 0
	for line := range bytes.Lines(text) {
		if words := redact(line, 500); words != "" && lines < 20 {
			s.config.Log.Warn("the seal helper says", "op", op, "text", words)
			lines++
		}
	}
}

// bounded keeps the first max bytes, calls full when there are more, and lets the rest go by.
type bounded struct {
	buf  bytes.Buffer
	max  int
	over bool
	full func() // may be nil
}

func (b *bounded) Write(p []byte) (int, error) {
	if room := b.max - b.buf.Len(); len(p) > room {
		b.over = true
		b.buf.Write(p[:room])
		if b.full != nil {
			b.full()
		}
	} else {
		b.buf.Write(p)
	}
	return len(p), nil
}

func (b *bounded) wipe() { clear(b.buf.Bytes()) }
