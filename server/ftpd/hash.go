package ftpd

import (
	"context"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"os"
	"strconv"
	"strings"
)

// hashNames are the algorithms of HASH, the default first.
func hashNames() []string { return []string{"SHA-256", "SHA-512"} }

// hashFeature is the list for FEAT, with a star at the current choice. draft-bryan-ftpext-hash-02, section 3.2.
func hashFeature(current string) string {
	var b strings.Builder
	for _, n := range hashNames() {
		b.WriteString(n)
		if n == current {
			b.WriteByte('*')
		}
		b.WriteByte(';')
	}
	return b.String()
}

// checksums are the commands without a standard. The old algorithms find broken copies, not forged ones.
func checksums(legacy bool) map[string]string {
	m := map[string]string{"XSHA256": "SHA-256", "XSHA512": "SHA-512"}
	if legacy {
		m["XCRC"], m["XMD5"], m["MD5"], m["XSHA"], m["XSHA1"] = "CRC32", "MD5", "MD5", "SHA-1", "SHA-1"
	}
	return m
}

func newHash(name string) hash.Hash {
	switch name {
	case "SHA-512":
		return sha512.New()
	case "SHA-1":
		return sha1.New()
	case "MD5":
		return md5.New()
	case "CRC32":
		return crc32.NewIEEE()
	default:
		return sha256.New()
	}
}

// cmdHash: HASH <path>, over the range of a RANG before it. Paths are resolved like everywhere (F9).
func (c *control) cmdHash(o *op, arg string) string {
	r := c.rang
	c.rang, c.rest = nil, 0
	sum, r, err := c.digest(o, c.hash, c.abs(arg), r)
	if err != nil {
		return c.failed(o, err)
	}
	c.reply(213, fmt.Sprintf("%s %d-%d %s %s", c.hash, r.start, r.end, sum, arg))
	return ""
}

// checksum is XCRC and its relatives: <path> [<first> [<end>]], the end not included; the path may be in quotes.
func checksum(algorithm string) func(*control, *op, string) string {
	return func(c *control, o *op, arg string) string {
		name, r, ok := parseChecksum(arg)
		if !ok {
			c.reply(501, "Syntax: "+c.srv.commands[o.verb].syntax(o.verb))
			return ""
		}
		sum, _, err := c.digest(o, algorithm, c.abs(name), r)
		if err != nil {
			return c.failed(o, err)
		}
		c.reply(250, strings.ToUpper(sum))
		return ""
	}
}

// parseChecksum reads the argument of XCRC. Without quotes the whole argument is the path: names hold spaces and digits.
func parseChecksum(arg string) (name string, r *byteRange, ok bool) {
	if !strings.HasPrefix(arg, `"`) {
		return arg, nil, true
	}
	name, rest := cutWord(arg)
	f := strings.Fields(rest)
	if len(f) == 0 {
		return name, nil, true
	}
	if len(f) > 2 {
		return "", nil, false
	}
	r = &byteRange{end: 1<<63 - 2}
	var err error
	if r.start, err = strconv.ParseInt(f[0], 10, 64); err != nil || r.start < 0 {
		return "", nil, false
	}
	if len(f) == 2 {
		if r.end, err = strconv.ParseInt(f[1], 10, 64); err != nil || r.end <= r.start {
			return "", nil, false
		}
		r.end--
	}
	return name, r, true
}

// digest reads a file, or a range of it, and returns the range that was read. ABOR and the end of the session stop it.
func (c *control) digest(o *op, algorithm, name string, r *byteRange) (string, *byteRange, error) {
	f, err := c.login.Files().OpenFile(o.ctx, name, os.O_RDONLY, 0)
	if err != nil {
		return "", nil, err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return "", nil, err
	}
	got := byteRange{0, max(size-1, 0)}
	if r != nil {
		got = byteRange{r.start, min(r.end, got.end)}
	}
	if got.start > 0 && got.start >= size {
		return "", nil, errBadRestart
	}
	if _, err := f.Seek(got.start, io.SeekStart); err != nil {
		return "", nil, err
	}
	h := newHash(algorithm)
	src := io.LimitReader(f, min(got.end-got.start+1, size))
	if _, err := io.CopyBuffer(struct{ io.Writer }{h}, cancelled{o.ctx, src}, make([]byte, wireBuffer)); err != nil {
		return "", nil, err
	}
	return hex.EncodeToString(h.Sum(nil)), &got, nil
}

// cancelled is a reader that ends with its context.
type cancelled struct {
	ctx context.Context
	r   io.Reader
}

func (c cancelled) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
