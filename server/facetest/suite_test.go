package facetest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// conformance is one statement that every face which can express it must meet.
type conformance struct {
	name    string // begins with the sentence of docs/SEMANTICS.md, where there is one
	handles bool   // only for faces with handles
	only    string // only for this face
	grants  map[string]string
	run     func(x *exam)
}

// exam is a case on one face: two sessions of an account with an empty volume.
type exam struct {
	*testing.T
	face    face
	account *account
	a, b    client
}

func TestConformance(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	var all []conformance
	for _, part := range [][]conformance{contentCases, nameCases, pathCases, attrCases, interruptCases, limitCases} {
		all = append(all, part...)
	}
	// A group that ends before the house does.
	t.Run("cases", func(t *testing.T) {
		for _, c := range all {
			for _, f := range faces() {
				if c.handles && !f.handles() || c.only != "" && c.only != f.name() {
					continue
				}
				t.Run(c.name+"/"+f.name(), func(t *testing.T) {
					t.Parallel()
					runCase(t, h, f, c)
				})
			}
		}
	})
}

// runCase runs a case, then looks at what it left through every face.
func runCase(t *testing.T, h *house, f face, c conformance) {
	account, err := h.newAccount(c.grants)
	if err != nil {
		t.Fatal(err)
	}
	x := &exam{T: t, face: f, account: account}
	x.a, x.b = x.login(f), x.login(f)
	c.run(x)
	x.ok(x.a.Close())
	x.ok(x.b.Close())
	x.agree()
}

// agree compares what all faces see, and has the volume check itself.
func (x *exam) agree() {
	x.Helper()
	var first string
	for i, f := range faces() {
		c := x.login(f)
		s, err := snapshot(c)
		if err != nil {
			x.Errorf("looking through %s: %v", f.name(), err)
		}
		if i == 0 {
			first = s
		} else if s != first {
			x.Errorf("%s and %s see\n%s", f.name(), faces()[0].name(), difference(s, first))
		}
		x.ok(c.Close())
	}
	x.ok(x.account.verify())
}

// difference is the lines that only one of both has.
func difference(one, other string) string {
	var out []string
	for i, pair := range [][2]string{{one, other}, {other, one}} {
		have := strings.Split(pair[1], "\n")
		for line := range strings.SplitSeq(pair[0], "\n") {
			if !slices.Contains(have, line) {
				out = append(out, "+-"[i:i+1]+line)
			}
		}
	}
	return strings.Join(out, "\n")
}

func (x *exam) login(f face) client {
	x.Helper()
	c, err := f.login(x.account)
	if err != nil {
		x.Fatalf("login over %s: %v", f.name(), err)
	}
	return c
}

// again replaces a session that was cut.
func (x *exam) again(c *client) {
	x.Helper()
	*c = x.login(x.face)
}

func (x *exam) ok(err error) {
	x.Helper()
	if err != nil {
		x.Fatal(err)
	}
}

// want checks what an operation is refused with.
func (x *exam) want(c class, err error) {
	x.Helper()
	if got := classOf(err); got != c {
		x.Fatalf("got %q (%v), want %q", got, err, c)
	}
}

func (x *exam) put(c client, name string, content []byte) {
	x.Helper()
	if err := put(c, name, overwrite, 0, content); err != nil {
		x.Fatalf("upload of %q: %v", name, err)
	}
}

func (x *exam) append(c client, name string, content []byte) {
	x.Helper()
	if err := put(c, name, extend, 0, content); err != nil {
		x.Fatalf("append to %q: %v", name, err)
	}
}

func (x *exam) resume(c client, name string, off int, content []byte) {
	x.Helper()
	if err := put(c, name, resume, int64(off), content); err != nil {
		x.Fatalf("resume of %q at %d: %v", name, off, err)
	}
}

// begin starts an upload and sends content.
func (x *exam) begin(c client, name string, how mode, off int, content []byte) upload {
	x.Helper()
	u, err := c.Put(name, how, int64(off))
	if err != nil {
		x.Fatalf("beginning an upload of %q: %v", name, err)
	}
	if len(content) > 0 {
		if _, err := u.Write(content); err != nil {
			x.Fatalf("uploading to %q: %v", name, err)
		}
	}
	return u
}

// refused says how an upload that may not be is refused.
func (x *exam) refused(want class, c client, name string, how mode, off int) {
	x.Helper()
	u, err := c.Put(name, how, int64(off))
	if err == nil {
		_ = u.Close()
	}
	x.want(want, err)
}

// noResume checks that what does not exist is not resumed. FTP sees a position beyond the end of nothing (RFC 3659, section 5.4).
func (x *exam) noResume(c client, name string) {
	x.Helper()
	if x.face.handles() {
		x.refused(notExist, c, name, resume, 1)
	} else {
		x.refused(restart, c, name, resume, 1)
	}
}

// reserved checks the refusal of the name that the server keeps for itself. The policy speaks before the volume does where it
// sees the name, which a symlink may hide.
func (x *exam) reserved(err error) {
	x.Helper()
	if x.face.name() == "afero" || classOf(err) != permission {
		x.want(badName, err)
	}
}

func (x *exam) open(c client, name string, flag int) handle {
	x.Helper()
	h, err := c.Open(name, flag)
	if err != nil {
		x.Fatalf("opening %q: %v", name, err)
	}
	return h
}

func (x *exam) writeAt(h handle, p []byte, off int) {
	x.Helper()
	if n, err := h.WriteAt(p, int64(off)); err != nil || n != len(p) {
		x.Fatalf("wrote %d of %d at %d: %v", n, len(p), off, err)
	}
}

// holds checks content and size.
func (x *exam) holds(c client, name string, want []byte) {
	x.Helper()
	got, err := read(c, name)
	if err != nil {
		x.Fatalf("reading %q: %v", name, err)
	}
	if !bytes.Equal(got, want) {
		x.Fatalf("%q holds %s, want %s", name, brief(got), brief(want))
	}
	if n, err := c.Size(name); err != nil || n != int64(len(want)) {
		x.Fatalf("%q: size %d, %v; %d bytes read", name, n, err, len(want))
	}
}

// absent checks that nothing is there.
func (x *exam) absent(c client, name string) {
	x.Helper()
	_, err := c.Lstat(name)
	x.want(notExist, err)
}

func (x *exam) lists(c client, dir string, want ...string) {
	x.Helper()
	got := x.names(c, dir)
	if want = slices.Sorted(slices.Values(want)); !slices.Equal(got, want) {
		x.Fatalf("%q lists %q, want %q", dir, got, want)
	}
}

func (x *exam) names(c client, dir string) []string {
	x.Helper()
	list, err := c.List(dir)
	x.ok(err)
	var got []string
	for _, e := range list {
		got = append(got, e.name)
	}
	slices.Sort(got)
	return got
}

func brief(b []byte) string {
	if len(b) > 24 {
		return fmt.Sprintf("%q… (%d bytes)", b[:12], len(b))
	}
	return fmt.Sprintf("%q", b)
}

// noise is n reproducible random bytes, different for each seed.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	var key [32]byte
	key[0], key[1], key[2] = byte(seed), byte(seed>>8), byte(seed>>16)
	rand.NewChaCha8(key).Read(b)
	return b
}
