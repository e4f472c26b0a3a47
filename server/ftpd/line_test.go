package ftpd

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// lines reads all of a stream: the lines, with errors in their places.
func lines(r io.Reader) (all []string, err error) {
	l := &lineReader{r: r}
	for {
		line, err := l.next()
		switch {
		case err == nil:
			all = append(all, string(line))
		case errors.Is(err, errLineTooLong), errors.Is(err, errBadLine):
			all = append(all, err.Error())
		default:
			return all, err
		}
	}
}

func TestLines(t *testing.T) {
	t.Parallel()
	long, longest := strings.Repeat("x", maxLine-1), strings.Repeat("x", maxLine-2)
	for _, tt := range []struct {
		name, stream string
		want         []string
	}{
		{"empty", "", nil},
		{"lines", "USER a\r\nPASS b\r\n", []string{"USER a", "PASS b"}},
		{"bare LF", "NOOP\nNOOP\n", []string{"NOOP", "NOOP"}},
		{"empty lines", "\r\n\n", []string{"", ""}},
		{"cut off", "NOOP\r\nDELE x", []string{"NOOP"}},
		{"cut off after CR", "DELE x\r", nil},
		{"NUL", "DELE a\x00b\r\nNOOP\r\n", []string{errBadLine.Error(), "NOOP"}},
		{"CR inside", "DELE a\rNOOP\r\nNOOP\r\n", []string{errBadLine.Error(), "NOOP"}},
		{"CR CR LF", "NOOP\r\r\n", []string{errBadLine.Error()}},
		{"longest", longest + "\r\nNOOP\r\n", []string{longest, "NOOP"}},
		{"too long", long + "\r\nNOOP\r\n", []string{errLineTooLong.Error(), "NOOP"}},
		{"64 KiB", strings.Repeat("x", 64<<10) + "\r\nNOOP\r\n", []string{errLineTooLong.Error(), "NOOP"}},
		{"Telnet in front", "\xff\xf4\xff\xf2ABOR\r\n", []string{"ABOR"}},
		{"DM sent as urgent data", "\xff\xf4\xffABOR\r\n", []string{"ABOR"}},
		{"doubled 255", "DELE a\xff\xffb\r\n", []string{"DELE a\xffb"}},
		{"lone 255", "DELE a\xffb\xff\r\n", []string{"DELE a\xffb\xff"}},
		{"negotiation", "DELE a\xff\xfb\x01b\xff\xf1c\r\n", []string{"DELE abc"}},
		{"negotiation cut off", "DELE a\xff\xfb\r\n", []string{"DELE a"}},
	} {
		for how, r := range map[string]io.Reader{
			"at once": strings.NewReader(tt.stream), "byte by byte": iotest.OneByteReader(strings.NewReader(tt.stream)),
			"with the end": iotest.DataErrReader(strings.NewReader(tt.stream)),
		} {
			got, err := lines(r)
			if !slices.Equal(got, tt.want) || err != io.EOF {
				t.Errorf("%s, %s: %q, %v; want %q", tt.name, how, got, err, tt.want)
			}
		}
	}
	if _, err := lines(strings.NewReader(strings.Repeat("x", 2*maxOverlong))); err != errFlood {
		t.Errorf("endless line: %v, want errFlood", err)
	}
}

func FuzzLines(f *testing.F) {
	for _, s := range []string{"USER a\r\n", "\xff\xf4\xff\xf2ABOR\r\n", "a\xff\xffb\n\x00\n\r\r\n", strings.Repeat("x", 5000) + "\n\xff"} {
		f.Add([]byte(s), 1)
		f.Add([]byte(s), 4096)
	}
	f.Fuzz(func(t *testing.T, stream []byte, chunk int) {
		whole, _ := lines(bytes.NewReader(stream))
		cut, _ := lines(&chunked{bytes.NewReader(stream), max(1, chunk&0xffff)})
		if !slices.Equal(whole, cut) {
			t.Fatalf("%q, in pieces %q", whole, cut)
		}
		if n := bytes.Count(stream, []byte{'\n'}); len(whole) > n {
			t.Fatalf("%d lines from %d line ends", len(whole), n)
		}
		for _, l := range whole {
			if strings.ContainsAny(l, "\r\n\x00") || len(l) > maxLine || l != "" && l[0] >= telnetFirst {
				t.Fatalf("line %q", l)
			}
		}
	})
}

// chunked is a reader of pieces.
type chunked struct {
	r io.Reader
	n int
}

func (c *chunked) Read(p []byte) (int, error) { return c.r.Read(p[:min(len(p), c.n)]) }

// FuzzCommands sends anything to a session that has logged in, and to one that has not.
func FuzzCommands(f *testing.F) {
	for _, s := range []string{
		"SITE CHMOD 644\r\n", "RETR a\r\nABOR\r\n", "PORT 1,2,3,4,5,6\r\n", "EPRT |2|::1|1|\r\n", "MFF a=b;c\r\n", "RANG 1 9\r\nHASH f\r\n", "REIN\r\nUSER x\r\n",
		"XMD5 \"f\"\"\" 1 2\r\n", "LIST -la *[\r\n", "SITE UTIME a 1 2 3 UTC\r\n", "OPTS MLST ;;=;\r\nMLST\r\n", "EPSV\r\nSTOR x\r\nSTAT\r\nNOOP\r\nABOR\r\n", "QUIT\r\nNOOP\r\n",
	} {
		f.Add([]byte(s), true)
		f.Add([]byte(s), false)
	}
	f.Fuzz(func(t *testing.T, stream []byte, login bool) {
		h := start(t, Explicit, func(o *Options) { o.ActiveMode = true }, withLimits(limits{data: 1, stall: 1, farewell: 1}))
		h.vol.put("/f", 0o644, []byte("content"))
		c := h.dial()
		c.expect(220)
		if login {
			c.cmd(331, "USER old-scanner")
			c.cmd(230, "PASS secret")
		}
		_, _ = c.raw.Write(stream)
		_ = c.raw.(interface{ CloseWrite() error }).CloseWrite()
		b, err := io.ReadAll(c.r)
		if isTimeout(err) {
			t.Fatalf("the session hangs after %q", stream)
		}
		for _, l := range strings.Split(strings.TrimSuffix(string(b), "\r\n"), "\r\n") {
			if l != "" && l[0] != ' ' && (len(l) < 4 || l[0] < '1' || l[0] > '5') {
				t.Fatalf("%q: malformed reply line %q", stream, l)
			}
		}
	})
}
