package proof

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// target is a blob under attack.
type target struct {
	name string // path below the account's directory
	data []byte
	kind string
}

// segments is how many segments the blob has, the final one included.
func (v *target) segments() int { return (len(v.data)-header-32)/stride + 1 }

// cut points of segment i: [from, to).
func (v *target) bounds(i int) (from, to int) {
	return header + i*stride, min(header+(i+1)*stride, len(v.data))
}

// segment is the ith segment as it lies in the blob.
func (v *target) segment(i int) []byte {
	from, to := v.bounds(i)
	return v.data[from:to]
}

func (s *store) blobs() []*target {
	var all []*target
	for name, data := range s.files {
		if !strings.HasPrefix(name, "blobs"+string(filepath.Separator)) {
			continue
		}
		v := &target{name: name, data: data, kind: "blob"}
		switch {
		case s.unclean:
			v.kind = "blob after a crash"
		case len(s.users[name]) == 0:
			v.kind = "blob of history"
		}
		all = append(all, v)
	}
	slices.SortFunc(all, func(a, b *target) int { return strings.Compare(a.name, b.name) })
	return all
}

// damaged is what must come of a blob that is not what it was: every list and
// size as before, its users refused or right, everyone else right, and Verify finds it.
func damaged(s *store, v *target) wish {
	if s.unclean { // what nobody relied on may be cut off, and a blob that is to go may be anything
		return wish{tol: tolerance{content: func(string) bool { return true }}}
	}
	return wish{findings: true, rarely: len(s.users[v.name]) > 0, tol: tolerance{content: func(name string) bool { return s.users[v.name][name] }}}
}

// change is a way to make other bytes of a blob. It must return other bytes than it is given.
type change struct {
	kind   string
	n      func(v *target) int
	make   func(v *target, i int, b *bench) []byte
	weight int
}

func one(*target) int { return 1 }

func several(n int) func(*target) int { return func(*target) int { return n } }

// splice is data with [from, to) replaced by p.
func splice(data []byte, from, to int, p ...[]byte) []byte {
	return bytes.Join(append([][]byte{data[:from]}, append(p, data[to:])...), nil)
}

func perSegment(v *target) int { return v.segments() }

func pairs(v *target) int { return v.segments() * (v.segments() - 1) }

// pair is the ith ordered pair of different numbers below n.
func pair(i, n int) (a, b int) {
	a, b = i/(n-1), i%(n-1)
	if b >= a {
		b++
	}
	return a, b
}

// changes of one blob by itself. Those that fail peers are named in regress_test.go.
var changes = []change{
	{"extend by random bytes", several(300), func(v *target, i int, b *bench) []byte {
		return append(bytes.Clone(v.data), random(b, 1+i)...)
	}, 1},
	{"extend by zeroes", several(300), func(v *target, i int, _ *bench) []byte {
		return append(bytes.Clone(v.data), make([]byte, 1+i*i)...)
	}, 1},
	{"drop a segment", perSegment, func(v *target, i int, _ *bench) []byte {
		from, to := v.bounds(i)
		return splice(v.data, from, to)
	}, 1},
	{"duplicate a segment", perSegment, func(v *target, i int, _ *bench) []byte {
		from, _ := v.bounds(i)
		return splice(v.data, from, from, v.segment(i))
	}, 1},
	{"insert a segment of the same blob", func(v *target) int { return v.segments() * v.segments() }, func(v *target, i int, _ *bench) []byte {
		at, _ := v.bounds(i % v.segments())
		return splice(v.data, at, at, v.segment(i/v.segments()))
	}, 1},
	{"reorder two segments", func(v *target) int { return pairs(v) / 2 }, func(v *target, i int, _ *bench) []byte {
		x := 0
		for i >= v.segments()-1-x {
			i -= v.segments() - 1 - x
			x++
		}
		y := x + 1 + i
		fx, tx := v.bounds(x)
		fy, ty := v.bounds(y)
		return slices.Concat(v.data[:fx], v.data[fy:ty], v.data[tx:fy], v.data[fx:tx], v.data[ty:])
	}, 1},
	{"copy a segment over another", pairs, func(v *target, i int, _ *bench) []byte {
		x, y := pair(i, v.segments())
		from, to := v.bounds(y)
		return splice(v.data, from, to, v.segment(x))
	}, 1},
	{"zero a segment", perSegment, func(v *target, i int, _ *bench) []byte {
		from, to := v.bounds(i)
		return splice(v.data, from, to, make([]byte, to-from))
	}, 1},
	{"zero a range", several(2000), func(v *target, _ int, b *bench) []byte {
		from := b.rng.IntN(len(v.data) - 1)
		to := from + 1 + b.rng.IntN(len(v.data)-from)
		p := splice(v.data, from, to, make([]byte, to-from))
		if bytes.Equal(p, v.data) { // it was zero: part of the header is
			p[from] = 1
		}
		return p
	}, 2},
	{"scramble a range", several(2000), func(v *target, _ int, b *bench) []byte {
		from := b.rng.IntN(len(v.data) - 16)
		to := from + 16 + b.rng.IntN(len(v.data)-from-15)
		return splice(v.data, from, to, random(b, to-from))
	}, 2},
	{"remove a range", several(2000), func(v *target, _ int, b *bench) []byte {
		from := b.rng.IntN(len(v.data) - 1)
		to := from + 1 + b.rng.IntN(len(v.data)-from)
		return splice(v.data, from, to)
	}, 2},
	{"change the length field of a segment", func(v *target) int { return v.segments() * 8 }, func(v *target, i int, b *bench) []byte {
		from, _ := v.bounds(i / 8)
		p := bytes.Clone(v.data)
		length := [][]byte{{0, 0, 0, 0}, {0, 0, 0, 32}, {0, 1, 0, 32}, {0xff, 0xff, 0xff, 0xff}, {0, 0, 0, 33}, {0, 1, 0, 31}, {0x7f, 0xff, 0xff, 0xff}, random(b, 4)}[i%8]
		copy(p[from:], length)
		if bytes.Equal(p, v.data) {
			p[from] ^= 0xff
		}
		return p
	}, 1},
	{"make the last full segment the final one", one, func(v *target, _ int, _ *bench) []byte {
		if v.segments() < 2 {
			return v.data[:header]
		}
		p := bytes.Clone(v.data[:header+(v.segments()-1)*stride])
		copy(p[header+(v.segments()-2)*stride:], []byte{0, 1, 0, 32})
		return p
	}, 1},
	{"make the final segment a full one", one, func(v *target, _ int, b *bench) []byte {
		p := append(bytes.Clone(v.data), random(b, stride)...)
		from, _ := v.bounds(v.segments() - 1)
		copy(p[from:], []byte{0xff, 0xff, 0xff, 0xff})
		return p
	}, 1},
	{"random bytes as long", several(4), func(v *target, _ int, b *bench) []byte { return random(b, len(v.data)) }, 1},
}

func random(b *bench, n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(b.rng.Uint32())
	}
	return p
}

// blobAttacks are all attacks on blobs of one store.
func blobAttacks(s *store, c *corpus) []*attack {
	var out []*attack
	add := func(a *attack) {
		a.store, a.online = s, !s.unclean
		out = append(out, a)
	}
	blobs := s.blobs()
	byKind := map[string][]*target{}
	for _, v := range blobs {
		byKind[v.kind] = append(byKind[v.kind], v)
	}
	for kind, group := range byKind {
		size := 0
		for _, v := range group {
			size += len(v.data)
		}
		// at finds byte i of all blobs of the group.
		at := func(i int) (*target, int) {
			for _, v := range group {
				if i < len(v.data) {
					return v, i
				}
				i -= len(v.data)
			}
			panic("proof: internal error: no such byte")
		}
		add(&attack{kind: "flip a bit", target: kind, n: size * 8, unit: size, weight: 40, apply: func(b *bench, i int) (wish, error) {
			v, off := at(i % size)
			return damaged(s, v), b.flip(v.name, off, 1<<((i+i/size)%8))
		}})
		add(&attack{kind: "replace a byte", target: kind, n: size * 255, weight: 4, apply: func(b *bench, i int) (wish, error) {
			v, off := at(i % size)
			return damaged(s, v), b.flip(v.name, off, byte(1+i/size))
		}})
		headers := len(group) * header
		add(&attack{kind: "flip a bit of a header", target: kind, n: headers * 8, unit: headers, weight: 2, apply: func(b *bench, i int) (wish, error) {
			v := group[i/header%len(group)]
			return damaged(s, v), b.flip(v.name, i%header, 1<<((i+i/headers)%8))
		}})
		add(&attack{kind: "truncate", target: kind, n: size, unit: size, weight: 20, apply: func(b *bench, i int) (wish, error) {
			v, off := at(i)
			return damaged(s, v), b.cut(v.name, off)
		}})
		for _, ch := range changes {
			n := 0
			for _, v := range group {
				n += ch.n(v)
			}
			add(&attack{kind: ch.kind, target: kind, n: n, weight: ch.weight, apply: func(b *bench, i int) (wish, error) {
				for _, v := range group {
					if k := ch.n(v); i >= k {
						i -= k
						continue
					}
					return damaged(s, v), b.put(v.name, ch.make(v, i, b))
				}
				panic("proof: internal error: no such change")
			}})
		}
		add(&attack{kind: "delete a blob", target: kind, n: len(group), apply: func(b *bench, i int) (wish, error) {
			return damaged(s, group[i]), b.remove(group[i].name)
		}})
		add(&attack{kind: "something else than a file", target: kind, n: len(group) * 4, apply: func(b *bench, i int) (wish, error) {
			v := group[i/4]
			return damaged(s, v), b.replaceBy(v, i%4)
		}})
	}
	if len(blobs) > 1 {
		for _, a := range twoBlobAttacks(s, blobs) {
			add(a)
		}
	}
	for _, a := range foreignBlobAttacks(s, c, blobs) {
		add(a)
	}
	return out
}

// replaceBy puts something at a blob's name that is no file of that name.
func (b *bench) replaceBy(v *target, what int) error {
	if err := b.remove(v.name); err != nil {
		return err
	}
	switch what {
	case 0:
		return os.Mkdir(b.path(v.name), 0o700)
	case 1:
		return syscall.Mkfifo(b.path(v.name), 0o600)
	case 2: // the right bytes, but by way of a link that leads out of the store
		outside := filepath.Join(b.dir, "outside")
		if err := os.WriteFile(outside, v.data, 0o600); err != nil {
			return err
		}
		return os.Symlink(outside, b.path(v.name))
	}
	return os.Symlink(v.name, b.path(v.name)) // leads to itself
}

// twoBlobAttacks use one blob of the account against another: swap them whole, or move parts between them.
func twoBlobAttacks(s *store, blobs []*target) []*attack {
	n := len(blobs)
	both := func(v, o *target) wish {
		w := damaged(s, v)
		if !s.unclean {
			w.tol.content = func(name string) bool { return s.users[v.name][name] || s.users[o.name][name] }
		}
		return w
	}
	withID := func(data []byte, v *target) []byte {
		p := bytes.Clone(data)
		copy(p[8:24], v.data[8:24])
		return p
	}
	kind := blobs[0].kind
	var out []*attack
	for _, x := range []struct {
		kind string
		n    int
		make func(b *bench, v, o *target, i int) (wish, error)
	}{
		{"swap two blobs", 1, func(b *bench, v, o *target, _ int) (wish, error) {
			if err := b.put(v.name, o.data); err != nil {
				return wish{}, err
			}
			return both(v, o), b.put(o.name, v.data)
		}},
		{"swap two blobs and their ids", 1, func(b *bench, v, o *target, _ int) (wish, error) {
			if err := b.put(v.name, withID(o.data, v)); err != nil {
				return wish{}, err
			}
			return both(v, o), b.put(o.name, withID(v.data, o))
		}},
		{"put one blob in place of another", 1, func(b *bench, v, o *target, _ int) (wish, error) {
			return damaged(s, v), b.put(v.name, o.data)
		}},
		{"another blob under this header", 1, func(b *bench, v, o *target, _ int) (wish, error) {
			return damaged(s, v), b.put(v.name, append(bytes.Clone(v.data[:header]), o.data[header:]...))
		}},
		{"another header on this blob", 1, func(b *bench, v, o *target, _ int) (wish, error) {
			return damaged(s, v), b.put(v.name, append(bytes.Clone(o.data[:header]), v.data[header:]...))
		}},
		{"a segment of another blob", 4, func(b *bench, v, o *target, _ int) (wish, error) {
			from, to := v.bounds(b.rng.IntN(v.segments()))
			return damaged(s, v), b.put(v.name, splice(v.data, from, to, o.segment(b.rng.IntN(o.segments()))))
		}},
		{"insert a segment of another blob", 4, func(b *bench, v, o *target, _ int) (wish, error) {
			at, _ := v.bounds(b.rng.IntN(v.segments()))
			return damaged(s, v), b.put(v.name, splice(v.data, at, at, o.segment(b.rng.IntN(o.segments()))))
		}},
	} {
		out = append(out, &attack{kind: x.kind, target: kind, n: n * (n - 1) * x.n, apply: func(b *bench, i int) (wish, error) {
			a, o := pair(i%(n*(n-1)), n)
			return x.make(b, blobs[a], blobs[o], i)
		}})
	}
	return out
}

// foreignBlobAttacks bring blobs from elsewhere: another account's, plaintext, or unknown ones.
func foreignBlobAttacks(s *store, c *corpus, blobs []*target) []*attack {
	peers := c.peer.blobs()
	var out []*attack
	add := func(kind, what string, n int, apply func(b *bench, i int) (wish, error)) {
		out = append(out, &attack{kind: kind, target: what, n: n, apply: apply})
	}
	if len(blobs) > 0 {
		add("a blob of another account", blobs[0].kind, len(blobs)*len(peers), func(b *bench, i int) (wish, error) {
			v, p := blobs[i%len(blobs)], bytes.Clone(peers[i/len(blobs)].data)
			if i%2 == 1 {
				copy(p[8:24], v.data[8:24])
			}
			return damaged(s, v), b.put(v.name, p)
		})
		add("plaintext dropped in", blobs[0].kind, len(blobs)*2, func(b *bench, i int) (wish, error) {
			v := blobs[i/2]
			p := bytes.Repeat([]byte("text in clear\n"), len(v.data)/14+1)[:len(v.data)]
			if i%2 == 1 { // the very content of the file, which the attacker may know
				for name := range s.users[v.name] {
					p = append([]byte{0}, s.truth[name].content...)
				}
			}
			return damaged(s, v), b.put(v.name, p)
		})
	}
	add("inject a blob that nobody knows", "blob directory", 200, func(b *bench, i int) (wish, error) {
		p := random(b, i)
		if len(blobs) > 0 && i%2 == 0 {
			p = blobs[i%len(blobs)].data
		}
		want := wish{findings: true}
		if s.unclean {
			want = wish{}
		}
		name := blobPath([16]byte(random(b, 16)))
		if err := os.MkdirAll(b.path(filepath.Dir(name)), 0o700); err != nil {
			return wish{}, err
		}
		return want, b.put(name, p)
	})
	return out
}
