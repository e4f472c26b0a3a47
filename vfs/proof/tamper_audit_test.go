package proof

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sallyport/crypto/keyring"
	"sallyport/server/audit"
)

const (
	auditRecords = 24 // in each of the logs
	removeFile   = "remove, swap or rename files"
)

// auditStore is an audit log of several files with checkpoints. A crashed one has records behind its last head: who cuts
// those off is not found, as docs/THREATMODEL.md says.
func auditStore(t testing.TB, c *corpus, crashed bool) *store {
	t.Helper()
	ctx := context.Background()
	s := &store{name: "log", id: keyring.AccountID{0xff, 0xaa}, of: auditOf, dirs: []string{"."}, rewritten: true}
	if crashed {
		s.name, s.id[2] = "log after a crash", 1
	}
	root := filepath.Join(scratch(t), "site")
	log, err := openAudit(root, c.ring)
	if err != nil {
		t.Fatal(err)
	}
	keep := func() {
		image := map[string][]byte{}
		entries, err := os.ReadDir(filepath.Join(root, "audit"))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if image[e.Name()], err = os.ReadFile(filepath.Join(root, "audit", e.Name())); err != nil {
				t.Fatal(err)
			}
		}
		s.earlier, s.files = append(s.earlier, image), image
	}
	var text strings.Builder
	say := func() { s.past = append(s.past, past{truth: tree{says: node{content: []byte(text.String())}}}) }
	say()
	for i := range auditRecords {
		if err := log.Append(ctx, event(i)); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(&text, i+1, event(i).Detail)
		say()
		if i%7 == 4 { // so that the head, written when a file is ended, names a later record than the last checkpoint
			if err := log.Sign(ctx); err != nil {
				t.Fatal(err)
			}
		}
		if i < auditRecords-1 {
			keep()
		}
	}
	if crashed {
		keep()
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	if !crashed {
		keep()
	}
	s.head = headOf(t, c, s)
	s.truth = s.past[auditRecords].truth
	s.fork = forkOf(t, c, s.earlier[forked-1])
	s.ask = func(b *bench, want wish) (verdict, error) { return askAudit(b, want, c.ring) }
	return s
}

// forked is the record from which on there is another history of the log.
const forked = 12

// forkOf goes on from an earlier state of a log with other records than it did, of the same lengths.
func forkOf(t testing.TB, c *corpus, from map[string][]byte) map[string][]byte {
	t.Helper()
	dir := t.TempDir()
	for name, data := range from {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	log, err := openAuditDir(dir, c.ring)
	if err != nil {
		t.Fatal(err)
	}
	for i := forked; i < auditRecords; i++ {
		e := event(i)
		e.Detail = strings.Replace(e.Detail, "event", "other", 1)
		if err := log.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		t.Fatal(err)
	}
	fork := map[string][]byte{}
	for _, p := range files {
		if fork[filepath.Base(p)], err = os.ReadFile(p); err != nil {
			t.Fatal(err)
		}
	}
	return fork
}

// headOf is the number of the record that the head names.
func headOf(t testing.TB, c *corpus, s *store) int {
	t.Helper()
	dir := t.TempDir()
	for name, data := range s.files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	box, err := c.ring.Audit()
	if err != nil {
		t.Fatal(err)
	}
	signer, _, err := c.ring.AuditSigner()
	if err != nil {
		t.Fatal(err)
	}
	res, err := audit.Verify(dir, box, signer.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	return int(res.Head)
}

// askAudit verifies the log as it lies, which reads every record; then it opens it as a start does, and reads it through: where that
// succeeds, it says the same or more, but never anything that was not recorded.
func askAudit(b *bench, want wish, ring *keyring.Keyring) (verdict, error) {
	box, err := ring.Audit()
	if err != nil {
		return verdict{}, err
	}
	signer, _, err := ring.AuditSigner()
	if err != nil {
		return verdict{}, err
	}
	dir := b.path(".")
	res, verr := audit.Verify(dir, box, signer.Public().(ed25519.PublicKey))
	var text strings.Builder
	log, err := openAuditDir(dir, ring)
	if err == nil {
		err = log.Tail(context.Background(), -1, false, func(r audit.Record) error {
			fmt.Fprintln(&text, r.Seq, r.Event.Detail)
			return nil
		})
		log.Close() // what it says of itself does not matter any more
		got := text.String()
		if err != nil { // records of another history of this log authenticate, too; it must end with an error where the two meet
			got = strings.ReplaceAll(got, "other", "event")
		}
		if !strings.HasPrefix(string(b.store.truth[says].content), got) {
			return verdict{}, wrong("it serves what was never recorded\n%s", text.String())
		}
	}
	if verr != nil {
		return judgeText(b, want, "", verr, audit.ErrDamaged)
	}
	if err != nil {
		return verdict{}, wrong("it verifies and does not open: %v", err)
	}
	if n := strings.Count(text.String(), "\n"); uint64(n) != res.Records {
		return verdict{}, wrong("%d records verify, %d are served", res.Records, n)
	}
	return judgeText(b, want, text.String(), nil, audit.ErrDamaged)
}

// frameBounds are the ends of the frames of a log file, the first being that of its magic.
func frameBounds(data []byte) []int {
	ends := []int{8}
	for at := 8; at+4 <= len(data); {
		if at += 4 + int(binary.BigEndian.Uint32(data[at:])); at > len(data) {
			break
		}
		ends = append(ends, at)
	}
	return ends
}

// auditFile is a file of a log under attack.
type auditFile struct {
	name, kind string
	data       []byte
	ends       []int // of frames, or of entries
	first      int   // number of the record before the first
}

func (f *auditFile) frame(i int) []byte { return f.data[f.ends[i]:f.ends[i+1]] }

func auditFiles(s *store) []*auditFile {
	var all []*auditFile
	for name, data := range s.files {
		f := &auditFile{name: name, data: data, kind: auditOf + "record"}
		switch name {
		case "head":
			f.kind = auditOf + "head"
		case "checkpoints":
			f.kind = auditOf + "checkpoint"
			for at := 8; at <= len(data); at += 196 {
				f.ends = append(f.ends, at)
			}
		default:
			f.ends = frameBounds(data)
			fmt.Sscanf(name, "%d.log", &f.first)
			f.first--
		}
		all = append(all, f)
	}
	slices.SortFunc(all, func(a, b *auditFile) int { return strings.Compare(a.name, b.name) })
	return all
}

// auditAttacks change the lines of the log, its head and its checkpoints.
func auditAttacks(s *store, c *corpus) []*attack {
	var out []*attack
	files := auditFiles(s)
	last := files[len(files)-3] // before "checkpoints" and "head"
	add := func(kind, target string, n, unit, weight int, apply func(b *bench, i int) (wish, error)) {
		out = append(out, &attack{kind: kind, target: target, store: s, n: n, unit: unit, weight: weight, apply: apply})
	}
	// hurt is what must come of a file of which the part from a frame on is not what it was.
	hurt := func(f *auditFile, frame int) wish {
		if f == last && f.first+frame >= s.head { // behind the head: a record that was never acknowledged may look like that
			return wish{mayRefuse: true, trees: []tree{s.past[f.first+frame].truth}}
		}
		return refused
	}
	frameOf := func(f *auditFile, off int) int {
		return max(0, slices.IndexFunc(f.ends, func(end int) bool { return off < end })-1)
	}
	for _, f := range files {
		size := len(f.data)
		add("flip a bit", f.kind, size*8, size, 2, func(b *bench, i int) (wish, error) {
			off := i % size
			return hurt(f, frameOf(f, off)), b.flip(f.name, off, 1<<((i+i/size)%8))
		})
		add("truncate", f.kind, size, size, 2, func(b *bench, i int) (wish, error) {
			w := hurt(f, frameOf(f, i))
			if f == last && f.first > s.head && i < 8 { // a new file that has no beginning yet
				w = wish{mayRefuse: true, trees: []tree{s.past[f.first].truth}}
			}
			return w, b.cut(f.name, i)
		})
		add("extend by random bytes", f.kind, 200, 0, 1, func(b *bench, i int) (wish, error) {
			w := wish{mayRefuse: true}
			if f.kind == auditOf+"head" {
				w = refused
			}
			return w, b.put(f.name, append(bytes.Clone(f.data), random(b, i+1)...))
		})
		add("extend by zeroes", f.kind, 200, 0, 1, func(b *bench, i int) (wish, error) {
			w := wish{mayRefuse: true}
			if f.kind == auditOf+"head" {
				w = refused
			}
			return w, b.put(f.name, append(bytes.Clone(f.data), make([]byte, i*i+1)...))
		})
		add(removeFile, f.kind, 1, 0, 1, func(b *bench, _ int) (wish, error) {
			w := wish{refuse: true, missing: true}
			if f == last && f.first >= s.head {
				w = wish{trees: []tree{s.past[f.first].truth}}
			}
			return w, b.remove(f.name)
		})
		if len(f.ends) > 1 {
			for _, a := range frameAttacks(s, f, files, hurt) {
				a.store, a.target = s, f.kind
				out = append(out, a)
			}
		}
	}
	add(removeFile, auditOf+"record", len(files)*(len(files)-1), 0, 1, func(b *bench, i int) (wish, error) {
		x, y := pair(i, len(files))
		if err := b.put(files[x].name, files[y].data); err != nil {
			return wish{}, err
		}
		return refused, b.put(files[y].name, files[x].data)
	})
	add(removeFile, auditOf+"record", len(files)*5, 0, 1, func(b *bench, i int) (wish, error) { // another number
		f := files[i/5]
		if f.ends == nil || f.kind == auditOf+"checkpoint" {
			return wish{}, nil
		}
		if err := b.remove(f.name); err != nil {
			return wish{}, err
		}
		w := wish{refuse: true, missing: true}
		if f == last && f.first >= s.head { // then it is a file that nobody misses, and another too many
			w = wish{mayRefuse: true, trees: []tree{s.past[f.first].truth}}
		}
		return w, b.put(fmt.Sprintf("%020d.log", f.first+2+7*(i%5)), f.data)
	})
	for _, name := range []string{"head", "checkpoints"} {
		f := files[slices.IndexFunc(files, func(f *auditFile) bool { return f.name == name })]
		var older [][]byte
		for _, then := range s.earlier {
			if d := then[name]; len(d) > 0 && !bytes.Equal(d, f.data) && !slices.ContainsFunc(older, func(o []byte) bool { return bytes.Equal(o, d) }) {
				older = append(older, d)
			}
		}
		// An older head names what is there, too; checkpoints that end early are found by the head.
		add("replace a record by an older value", f.kind, len(older), 0, 1, func(b *bench, i int) (wish, error) {
			w := wish{}
			if name == "checkpoints" {
				w = refused
			}
			return w, b.put(name, older[i])
		})
	}
	add("put all of it back (rollback)", auditOf+"log", len(s.earlier), 0, 1, func(b *bench, i int) (wish, error) {
		for name := range s.files {
			if err := b.remove(name); err != nil {
				return wish{}, err
			}
		}
		for name, data := range s.earlier[i] {
			if err := b.put(name, data); err != nil {
				return wish{}, err
			}
		}
		n := min(i+1, auditRecords)
		return wish{trees: []tree{s.past[n].truth}}, nil
	})
	add("put a part of the log back", auditOf+"log", 400, 0, 2, func(b *bench, i int) (wish, error) {
		then := s.earlier[i%len(s.earlier)]
		changed := false
		for name, data := range s.files {
			if name == "head" || b.rng.IntN(2) == 0 { // the head stays
				continue
			}
			changed = changed || !bytes.Equal(data, then[name])
			var err error
			if then[name] == nil {
				err = b.remove(name)
			} else {
				err = b.put(name, then[name])
			}
			if err != nil {
				return wish{}, err
			}
		}
		n := min(i%len(s.earlier)+1, auditRecords)
		if !changed {
			return wish{}, nil
		}
		w := wish{refuse: n < s.head, missing: true}
		if n >= s.head {
			w = wish{mayRefuse: true, missing: true, trees: []tree{s.truth, s.past[n].truth}}
		}
		return w, nil
	})
	return out
}

// frameAttacks change whole frames of a log file, or entries of the checkpoints.
func frameAttacks(s *store, f *auditFile, files []*auditFile, hurt func(*auditFile, int) wish) []*attack {
	n := len(f.ends) - 1
	var out []*attack
	add := func(kind string, n int, apply func(b *bench, i int) (wish, []byte)) {
		out = append(out, &attack{kind: kind, n: n, weight: 1, apply: func(b *bench, i int) (wish, error) {
			w, data := apply(b, i)
			return w, b.put(f.name, data)
		}})
	}
	add("delete a record", n, func(b *bench, i int) (wish, []byte) {
		w := hurt(f, i)
		if f.kind == auditOf+"checkpoint" {
			w = refused
		}
		return w, splice(f.data, f.ends[i], f.ends[i+1])
	})
	add("copy a record to another key", n*(n+1), func(b *bench, i int) (wish, []byte) {
		at := i / n
		if at == i%n { // before itself is behind itself
			at++
		}
		return within(f, at, n, hurt), splice(f.data, f.ends[at], f.ends[at], f.frame(i%n))
	})
	add("swap two records", n*(n-1), func(b *bench, i int) (wish, []byte) {
		x, y := pair(i, n)
		x, y = min(x, y), max(x, y)
		return hurt(f, x), slices.Concat(f.data[:f.ends[x]], f.frame(y), f.data[f.ends[x+1]:f.ends[y]], f.frame(x), f.data[f.ends[y+1]:])
	})
	add("put one record in place of another", n*(n-1), func(b *bench, i int) (wish, []byte) {
		x, y := pair(i, n)
		return hurt(f, y), splice(f.data, f.ends[y], f.ends[y+1], f.frame(x))
	})
	if other := frameBounds(s.fork[f.name]); slices.Equal(other, f.ends) && f.first+n > forked {
		add("splice another history", n*(n+1), func(b *bench, i int) (wish, []byte) {
			insert := i%2 == 1 // before what is there, or in its place
			i /= 2
			x, y := 0, 1 // every range
			for ; i > 0; i-- {
				if y++; y > n {
					x++
					y = x + 1
				}
			}
			x = max(x, forked-f.first) // before, both are one
			y = max(y, x+1)
			other, to := s.fork[f.name][f.ends[x]:f.ends[y]], f.ends[y]
			if insert {
				to = f.ends[x]
			}
			return hurt(f, x), splice(f.data, f.ends[x], to, other)
		})
	}
	add("inject a random record", 200, func(b *bench, i int) (wish, []byte) {
		at := i % (n + 1)
		p := random(b, len(f.frame(i%n)))
		if i%2 == 0 { // that looks like one
			copy(p, f.frame(min(at, n-1))[:44])
		}
		return within(f, at, n, hurt), splice(f.data, f.ends[at], f.ends[at], p)
	})
	return out
}

// within is hurt; behind the last record, what is there may be what a crash left.
func within(f *auditFile, at, n int, hurt func(*auditFile, int) wish) wish {
	if at == n {
		return wish{mayRefuse: true}
	}
	return hurt(f, at)
}
