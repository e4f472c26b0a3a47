package facetest

import (
	"bytes"
	"errors"
)

// cut sends content and breaks the connection. The session is another one afterwards.
func (x *exam) cut(c *client, name string, how mode, off int, content []byte) {
	x.Helper()
	x.begin(*c, name, how, off, content)
	x.ok((*c).Cut())
	x.again(c)
}

// broken breaks a transfer so that the server has surely taken content: in its session where the face can do that.
func (x *exam) broken(c *client, name string, how mode, off int, content []byte) {
	x.Helper()
	u := x.begin(*c, name, how, off, content)
	if _, err := u.Break(); errors.Is(err, errInexpressible) {
		x.ok((*c).Cut())
		x.again(c)
	} else {
		x.ok(err)
	}
}

// partial checks that a name holds a beginning of want, and returns it.
func (x *exam) partial(c client, name string, want []byte) []byte {
	x.Helper()
	got, err := read(c, name)
	if classOf(err) == notExist {
		return nil
	}
	x.ok(err)
	if !bytes.HasPrefix(want, got) {
		x.Fatalf("%q holds %s, which is no beginning of what was sent", name, brief(got))
	}
	return got
}

var interruptCases = []conformance{
	{name: "I1 I7 a cut upload of a new name", run: func(x *exam) {
		for _, n := range []int{1, 5000, 65_536, 300_000} {
			want := noise(uint64(n), n)
			x.cut(&x.a, "/f", overwrite, 0, want)
			got := x.partial(x.b, "/f", want)
			if x.face.handles() && len(got) != n { // each write was answered
				x.Fatalf("%d of %d bytes", len(got), n)
			}
			x.put(x.b, "/f", []byte("whole"))
			x.holds(x.a, "/f", []byte("whole"))
			x.ok(x.b.Remove("/f"))
		}
	}},
	{name: "I1 a broken upload of a new name, and nothing of it", run: func(x *exam) {
		x.broken(&x.a, "/f", overwrite, 0, noise(1, 200_000))
		x.holds(x.b, "/f", noise(1, 200_000))
		x.broken(&x.a, "/empty", overwrite, 0, nil)
		x.absent(x.b, "/empty")
		x.ok(x.b.Mkdir("/empty")) // the name is free
		x.broken(&x.a, "/g", extend, 0, noise(2, 10))
		x.holds(x.b, "/g", noise(2, 10))
	}},
	{name: "I2 resume after a break, and again", run: func(x *exam) {
		want := noise(1, 500_000)
		x.broken(&x.a, "/f", overwrite, 0, want[:100_000])
		x.holds(x.b, "/f", want[:100_000])
		x.broken(&x.a, "/f", resume, 100_000, want[100_000:200_001])
		x.holds(x.b, "/f", want[:200_001])
		x.broken(&x.b, "/f", extend, 0, want[200_001:300_000])
		x.holds(x.a, "/f", want[:300_000])
		x.resume(x.a, "/f", 300_000, want[300_000:400_000])
		x.append(x.b, "/f", want[400_000:])
		x.holds(x.b, "/f", want)
		x.broken(&x.a, "/f", extend, 0, []byte("x")) // whole by now: not resumed any more
		x.holds(x.b, "/f", want)
		x.refused(interrupted, x.a, "/f", extend, 0)
	}},
	{name: "I2 resume after a cut, by what is there", run: func(x *exam) {
		want := noise(1, 2<<20)
		x.cut(&x.a, "/f", overwrite, 0, want[:1<<20])
		n := int64(0)
		if got := x.partial(x.b, "/f", want); got != nil {
			var err error
			n, err = x.a.Size("/f")
			x.ok(err)
			x.resume(x.a, "/f", int(n), want[n:])
		} else {
			x.put(x.a, "/f", want)
		}
		x.holds(x.b, "/f", want)
		x.append(x.a, "/f", []byte("+"))
		x.holds(x.b, "/f", append(want, '+'))
	}},
	{name: "I2 a resumed upload that owes nothing becomes complete", run: func(x *exam) {
		want := noise(1, 100_000)
		x.broken(&x.a, "/f", overwrite, 0, want)
		x.resume(x.a, "/f", len(want), nil)
		x.holds(x.b, "/f", want)
		x.complete("/f")
	}},
	{name: "I2 an empty append makes a partial upload complete", run: func(x *exam) {
		want := noise(1, 100_000)
		x.broken(&x.a, "/f", overwrite, 0, want)
		x.append(x.a, "/f", nil)
		x.holds(x.b, "/f", want)
		x.complete("/f")
	}},
	{name: "I4 I5 a broken overwrite", run: func(x *exam) {
		old := noise(1, 100_000)
		x.put(x.a, "/f", old)
		x.broken(&x.a, "/f", overwrite, 0, noise(2, 150_000))
		x.holds(x.b, "/f", old)
		x.refused(interrupted, x.a, "/f", extend, 0)
		x.refused(interrupted, x.b, "/f", resume, 100_000)
		x.ok(x.a.Rename("/f", "/g"))
		x.refused(interrupted, x.b, "/g", resume, 1)
		x.broken(&x.a, "/g", overwrite, 0, []byte("again"))
		x.holds(x.b, "/g", old)
		x.refused(interrupted, x.a, "/g", extend, 0)
		x.put(x.a, "/g", noise(2, 150_000))
		x.append(x.a, "/g", []byte("+"))
		x.holds(x.b, "/g", append(noise(2, 150_000), '+'))
		x.cut(&x.a, "/g", overwrite, 0, []byte("x"))
		x.ok(x.b.Remove("/g"))
		x.append(x.b, "/g", []byte("free"))
		x.holds(x.a, "/g", []byte("free"))
	}},
	{name: "I4 a cut overwrite, append and resume leave the old content", run: func(x *exam) {
		old := noise(1, 100_000)
		for _, how := range []mode{overwrite, extend, resume} {
			x.put(x.a, "/f", old)
			x.cut(&x.a, "/f", how, 50_000*int(how/resume), noise(2, 300_000))
			x.holds(x.b, "/f", old)
		}
	}},
	{name: "N1 a cut frees the name", run: func(x *exam) {
		x.begin(x.a, "/f", overwrite, 0, nil)
		x.want(exists, x.b.Mkdir("/f"))
		x.ok(x.a.Cut())
		x.again(&x.a)
		x.ok(x.b.Mkdir("/f"))
	}},
	{name: "two uploads of one new name, one is cut", run: func(x *exam) {
		u := x.begin(x.a, "/f", overwrite, 0, noise(1, 50_000))
		x.broken(&x.b, "/f", overwrite, 0, noise(2, 80_000))
		x.ok(u.Close())
		x.holds(x.b, "/f", noise(1, 50_000))
		x.complete("/f")
		u = x.begin(x.a, "/g", overwrite, 0, noise(1, 50_000))
		v := x.begin(x.b, "/g", overwrite, 0, noise(2, 80_000))
		x.ok(v.Close())
		if _, err := u.Break(); errors.Is(err, errInexpressible) {
			x.ok(x.a.Cut())
			x.again(&x.a)
		} else {
			x.ok(err)
		}
		x.holds(x.b, "/g", noise(2, 80_000))
	}},
	{name: "rename of a partial upload keeps it resumable", run: func(x *exam) {
		want := noise(1, 100_000)
		x.broken(&x.a, "/f", overwrite, 0, want[:60_000])
		x.ok(x.b.Rename("/f", "/g"))
		x.ok(x.b.Chmod("/g", 0o600))
		x.resume(x.a, "/g", 60_000, want[60_000:])
		x.holds(x.b, "/g", want)
		x.complete("/g")
	}},
	{name: "rename and removal under an upload that is cut", run: func(x *exam) {
		x.put(x.b, "/f", []byte("old"))
		x.begin(x.a, "/f", overwrite, 0, []byte("new"))
		x.ok(x.b.Rename("/f", "/g"))
		x.ok(x.a.Cut())
		x.again(&x.a)
		x.holds(x.b, "/g", []byte("old"))
		x.put(x.b, "/h", []byte("old"))
		x.begin(x.a, "/h", overwrite, 0, []byte("new"))
		x.ok(x.b.Remove("/h"))
		x.ok(x.a.Cut())
		x.again(&x.a)
		x.absent(x.b, "/h")
		x.lists(x.b, "/", "g")
	}},
	{name: "I9 what Sync published stays", handles: true, run: func(x *exam) {
		want := noise(1, 200_000)
		h := x.open(x.a, "/f", rwNew)
		x.writeAt(h, want[:100_000], 0)
		x.ok(h.Sync())
		x.writeAt(h, want[100_000:], 100_000)
		x.ok(x.a.Cut())
		x.again(&x.a)
		x.holds(x.b, "/f", want)
		x.append(x.a, "/f", []byte("+")) // partial, so it can be resumed
		x.holds(x.b, "/f", append(want, '+'))
	}},
	{name: "I9 attributes between Sync and the break", handles: true, run: func(x *exam) {
		want := noise(1, 200_000)
		h := x.open(x.a, "/f", rwNew)
		x.writeAt(h, want[:100_000], 0)
		x.ok(h.Sync())
		x.ok(x.a.Chmod("/f", 0o600))
		x.ok(h.Sync())
		x.writeAt(h, want[100_000:], 100_000)
		x.ok(x.a.Cut())
		x.again(&x.a)
		x.holds(x.b, "/f", want)
		x.append(x.a, "/f", []byte("+"))
		x.holds(x.b, "/f", append(want, '+'))
	}},
	{name: "I1 nothing behind a gap", handles: true, run: func(x *exam) {
		want := noise(1, 300_000)
		h := x.open(x.a, "/f", rwNew)
		x.writeAt(h, want[200_000:], 200_000)
		x.writeAt(h, want[:90_000], 0)
		g := x.open(x.a, "/g", rwNew)
		x.writeAt(g, want, 1)
		x.ok(x.a.Cut())
		x.again(&x.a)
		x.holds(x.b, "/f", want[:90_000])
		x.absent(x.b, "/g")
	}},
	{name: "I3 policy discards interrupted uploads", grants: map[string]string{"upload.interrupted": "discard"}, run: func(x *exam) {
		if x.face.name() == "afero" {
			return // has no policy
		}
		x.put(x.a, "/old", []byte("old"))
		x.broken(&x.a, "/f", overwrite, 0, noise(1, 200_000))
		x.absent(x.b, "/f")
		x.broken(&x.a, "/old", overwrite, 0, noise(1, 200_000))
		x.holds(x.b, "/old", []byte("old"))
		x.ok(x.b.Mkdir("/f"))
	}},
}

// complete checks that a file is not marked as partial, with the volume's own eyes.
func (x *exam) complete(name string) {
	x.Helper()
	v, err := x.account.volume()
	x.ok(err)
	w := v.View(everything)
	defer w.Close()
	i, err := info(w.Stat(name))
	x.ok(err)
	if i.Partial() || i.Interrupted() {
		x.Fatalf("%s: partial %v, interrupted %v", name, i.Partial(), i.Interrupted())
	}
}
