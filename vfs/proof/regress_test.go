package proof

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestPeersFailures are attacks that other encrypting file systems and servers were measured to accept. Each is refused here
// for every blob it can be tried on, whatever way the file is read.
func TestPeersFailures(t *testing.T) {
	t.Parallel()
	c := newCorpus(t)
	b := newBench(t, c)
	whole := func(make func(v, other *target) []byte) func(b *bench, v, o *target) error {
		return func(b *bench, v, o *target) error { return b.put(v.name, make(v, o)) }
	}
	for name, attack := range map[string]func(b *bench, v, o *target) error{
		"truncation at a segment boundary": whole(func(v, _ *target) []byte { return v.data[:header+(v.segments()-1)*stride] }),
		"truncation to a header":           whole(func(v, _ *target) []byte { return v.data[:header] }),
		"truncation to nothing":            whole(func(_, _ *target) []byte { return nil }),
		"zeroed segment": whole(func(v, _ *target) []byte {
			from, to := v.bounds(0)
			return splice(v.data, from, to, make([]byte, to-from))
		}),
		"zeroed final segment": whole(func(v, _ *target) []byte {
			from, to := v.bounds(v.segments() - 1)
			return splice(v.data, from, to, make([]byte, to-from))
		}),
		"leading segment removed":      whole(func(v, _ *target) []byte { return splice(v.data, header, min(header+stride, len(v.data)-32)) }),
		"whole file swapped":           func(b *bench, v, o *target) error { return firstError(b.put(v.name, o.data), b.put(o.name, v.data)) },
		"older version put back":       whole(func(_, o *target) []byte { return o.data }),
		"segments appended":            whole(func(v, _ *target) []byte { return append(bytes.Clone(v.data), v.data[header:]...) }),
		"plaintext file dropped in":    whole(func(v, _ *target) []byte { return bytes.Repeat([]byte("clear"), len(v.data)/5+1)[:len(v.data)] }),
		"deleted":                      func(b *bench, v, _ *target) error { return b.remove(v.name) },
		"sparse file of the same size": whole(func(v, _ *target) []byte { return make([]byte, len(v.data)) }),
	} {
		cases := 0
		for _, s := range c.stores {
			if s.unclean {
				continue
			}
			if err := b.begin(s, true); err != nil {
				t.Fatal(err)
			}
			blobs := s.blobs()
			for i, v := range blobs {
				other := blobs[(i+1)%len(blobs)] // in store "history" also another version of the same file
				for how := range ways {
					b.rng = rand.New(rand.NewPCG(uint64(i), uint64(how)))
					cases++
					err := attack(b, v, other)
					if err == nil {
						err = b.regress(v, other, how)
					}
					if err := firstError(err, b.restore(false)); err != nil {
						t.Errorf("%s of %s in store %q: %v", name, v.kind, s.name, err)
					}
				}
				if len(blobs) > 50 && i == 10 {
					break
				}
			}
			if err := b.end(); err != nil {
				t.Fatal(err)
			}
		}
		if cases < 50 {
			t.Errorf("%s: only %d cases", name, cases)
		}
	}
}

// regress is judge with one demand more: what relies on the blob as a whole is refused.
func (b *bench) regress(v, other *target, how int) error {
	w := damaged(b.store, v)
	w.tol.content = func(name string) bool { return b.store.users[v.name][name] || b.store.users[other.name][name] }
	got, err := b.judge(w, how)
	if err == nil && b.store.whole[v.name] && !got.refused {
		return wrong("nothing was refused")
	}
	return err
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// TestAnOpeningThatWroteIsUndone: an attack may lead back to a tree that has something to be finished. What that opening wrote
// must not be left to the next case.
func TestAnOpeningThatWroteIsUndone(t *testing.T) {
	t.Parallel()
	c := newCorpus(t)
	b := newBench(t, c)
	i := slices.IndexFunc(c.stores, func(s *store) bool { return s.unclean })
	check(t, b.begin(c.stores[i], false))
	check(t, b.patch(treeFile, 0, b.store.files[treeFile][:1]))
	_, err := b.judge(wish{}, 0)
	check(t, err)
	if b.pristine() == nil {
		t.Fatal("the opening wrote nothing")
	}
	check(t, b.restore(false))
	check(t, b.pristine())
}
