package vfs

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sallyport/crypto/keyring"
	"sallyport/crypto/record"
	"sallyport/vfs/blob"
	"sallyport/vfs/blob/blobdir"
	"sallyport/vfs/content"
	"sallyport/vfs/extent"
	"sallyport/vfs/meta"
)

// damagedMark stands in the name of a database that a repair has put aside: tree-<v>.db.damaged-<time>.
const damagedMark = ".damaged-"

// Lost is one thing that cannot be brought back. What names nothing; Path is for the operator's terminal only, never for
// logs or audit.
type Lost struct {
	Inode uint64 `json:"inode,omitempty"`
	Path  string `json:"path,omitempty"`
	What  string `json:"what"`
}

// Repair is the plan of a repair, or its result.
type Repair struct {
	// ID names exactly this plan: executing takes it, and refuses if the volume has changed meanwhile.
	ID string `json:"id"`
	// Damage is what is wrong with the database; if empty the database stays as it is, unless there is something to fall back to.
	Damage     []string `json:"damage"`
	Suspicious []string `json:"suspicious"` // authentic, and yet perhaps not the newest
	Lost       []Lost   `json:"lost"`
	Fallbacks  []Lost   `json:"fallbacks"` // files whose newest whole version becomes current again
	Rebuild    bool     `json:"rebuild"`
	Done       bool     `json:"done"`
	Kept       string   `json:"kept,omitempty"` // name of the damaged database, beside the new one
}

// RepairOptions of Repair.
type RepairOptions struct {
	// Fallback makes the newest whole version current again where the current one is damaged.
	Fallback bool
	// Plan is the ID of the plan to be executed; "" only plans.
	Plan string
}

// ErrPlanChanged means that the volume is not as it was when the plan was made.
var ErrPlanChanged = errors.New("vfs: the volume is not as it was when the plan was made")

// Repair reads everything of a volume that can be read, damaged or not, and says what a repair would bring back and what is lost;
// with the ID of such a plan it executes it. The volume must not be in use (ErrBusy), and is refused to others
// meanwhile. It never invents bytes: what is damaged stays an error, until it is uploaded anew or falls back to an older version.
//
// The new database is written whole under another name and synced, the damaged one gets its second name, and then the
// new one takes its place: after a crash one of the two is there, whole.
func (f *FS) Repair(ctx context.Context, id keyring.AccountID, o RepairOptions) (*Repair, error) {
	if _, err := f.o.Keyring.Age(id); err != nil { // before anything remembers such a volume
		return nil, fmt.Errorf("vfs: repairing volume %s: %w", id, err)
	}
	f.mu.Lock()
	v := f.volumes[id]
	if v == nil && !f.closed {
		v = newVolume(f, id)
		f.volumes[id] = v
	}
	f.mu.Unlock()
	if v == nil {
		return nil, fmt.Errorf("vfs: repairing volume %s: %w", id, fs.ErrClosed)
	}
	var r *Repair
	err := v.alone(func() error {
		keys, err := f.o.Keyring.Account(id) // no earlier: while nobody can open the volume nobody can give it another key
		if err != nil {
			return err
		}
		r, err = f.repair(ctx, id, keys, o)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("vfs: repairing volume %s: %w", id, withoutDir(err, f.o.Dir))
	}
	return r, nil
}

// withoutDir takes the host's path out of a text for the operator.
func withoutDir(err error, dir string) error {
	return &trimmed{strings.ReplaceAll(err.Error(), dir+string(filepath.Separator), ""), err}
}

type trimmed struct {
	text string
	err  error
}

func (t *trimmed) Error() string { return t.text }
func (t *trimmed) Unwrap() error { return t.err }

// alone runs fn while nobody has the volume open and nobody can open it; ErrBusy if it is in use.
func (v *Volume) alone(fn func() error) error {
	v.mu.Lock()
	for v.turning != nil {
		turned := v.turning
		v.mu.Unlock()
		<-turned
		v.mu.Lock()
	}
	if v.gone {
		v.mu.Unlock()
		return fs.ErrClosed
	}
	if v.refs > 0 || len(v.views) > 0 || v.repairing {
		v.mu.Unlock()
		return ErrBusy
	}
	v.repairing = true
	if v.core != nil {
		_ = v.turn() // what is wrong with the file shows below
	} else {
		v.mu.Unlock()
	}
	err := fn()
	v.losses.forget() // what is mended may have another history
	v.mu.Lock()
	v.repairing, v.refusal = false, nil
	v.mu.Unlock()
	return err
}

func (f *FS) repair(ctx context.Context, id keyring.AccountID, keys *record.AccountKeys, o RepairOptions) (*Repair, error) {
	dir := f.dir(id)
	tree := filepath.Join(dir, treeName(keys.Version()))
	s, err := meta.Dig(ctx, tree, keys, f.o.Now)
	if err != nil {
		return nil, err
	}
	r := &Repair{Damage: s.Damage, Suspicious: s.Suspicious, Lost: []Lost{}, Fallbacks: []Lost{}}
	for _, l := range s.Losses {
		r.Lost = append(r.Lost, lostOf(l))
	}
	if err := f.inspect(ctx, id, keys, s, r, o.Fallback); err != nil {
		return nil, err
	}
	r.Rebuild = len(r.Damage) > 0 || len(r.Fallbacks) > 0
	if r.ID, err = planID(tree, r); err != nil {
		return nil, err
	}
	switch {
	case o.Plan == "" || !r.Rebuild:
		return r, nil
	case o.Plan != r.ID:
		return nil, ErrPlanChanged
	}
	if r.Kept, err = replaceTree(ctx, tree, s, keys, f.o.Now); err != nil {
		return nil, err
	}
	r.Done = true
	return r, nil
}

func lostOf(l meta.Loss) Lost { return Lost{uint64(l.Inode), l.Path, l.What} }

// planID binds a plan to the file that it was made for, whatever the clock said.
func planID(tree string, r *Repair) (string, error) {
	info, err := os.Stat(tree)
	if err != nil {
		return "", err
	}
	text, err := json.Marshal([]any{r.Damage, r.Suspicious, len(r.Lost), r.Fallbacks, info.Size(), info.ModTime().UnixNano()})
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8]), err
}

// replaceTree writes what was salvaged and puts it in the place of the damaged database, which stays beside it.
func replaceTree(ctx context.Context, tree string, s *meta.Salvage, keys *record.AccountKeys, now func() time.Time) (kept string, err error) {
	making := tree + unfinished
	if err := os.Remove(making); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if err := s.Write(ctx, making); err != nil {
		return "", errors.Join(err, os.Remove(making))
	}
	db, err := meta.Open(ctx, making, keys, meta.Options{Now: now}) // nothing is put in place that does not open
	if err == nil {
		err = db.Close()
	}
	if err != nil {
		return "", errors.Join(err, os.Remove(making))
	}
	kept = tree + damagedMark + now().UTC().Format("20060102T150405Z")
	for n, first := 2, kept; ; n++ {
		if err = os.Link(tree, kept); !errors.Is(err, fs.ErrExist) {
			break
		}
		kept = fmt.Sprintf("%s.%d", first, n)
	}
	for _, step := range []func() error{
		func() error { return err },
		func() error { return syncDir(filepath.Dir(tree)) },
		func() error { return os.Rename(making, tree) },
		func() error { return syncDir(filepath.Dir(tree)) },
	} {
		if err := step(); err != nil {
			return "", err
		}
	}
	return filepath.Base(kept), nil
}

// inspect reads every segment of every blob and says which bytes of which files are damaged.
func (f *FS) inspect(ctx context.Context, id keyring.AccountID, keys *record.AccountKeys, s *meta.Salvage, r *Repair, fallback bool) error {
	files, err := blobdir.Open(filepath.Join(f.dir(id), "blobs"))
	if err != nil {
		return err
	}
	defer files.Close()
	known := map[blob.ID]*meta.BlobKey{}
	s.Blobs(func(b *meta.BlobKey) { known[b.ID] = b })
	store := &content.Store{Blobs: files, Keys: salvagedKeys{known, keys}, Account: id, Budget: f.budget}
	holes := map[extent.BlobRef][]stretch{} // of each reference, plaintext that cannot be read
	s.Files(func(sf *meta.SalvagedFile) {
		if err != nil {
			return
		}
		whole := uint64(0)
		damaged := false
		for _, v := range sf.Versions {
			var bad []stretch
			if bad, err = damagedRanges(ctx, store, &v.Layout, holes); err != nil {
				return
			}
			switch {
			case len(bad) == 0 && v.State != meta.Interrupted:
				whole = v.N
			case len(bad) == 0:
			case v.N == sf.Current:
				damaged = true
				r.Lost = append(r.Lost, Lost{uint64(sf.Inode), sf.Path, "current version " + fmt.Sprint(v.N) + ": " + spansText(bad, v.Size)})
			default:
				r.Lost = append(r.Lost, Lost{uint64(sf.Inode), sf.Path, "version " + fmt.Sprint(v.N) + " in history: " + spansText(bad, v.Size)})
			}
		}
		if damaged && fallback && whole != 0 {
			r.Fallbacks = append(r.Fallbacks, Lost{uint64(sf.Inode), sf.Path, fmt.Sprintf("version %d becomes current again", whole)})
			err = s.Fallback(sf.Inode, whole)
		}
	})
	if err != nil || len(r.Damage) == 0 {
		return err
	}
	return rescueUnended(ctx, store, s, r)
}

// rescueUnended makes fragments of small files whose versions are lost, and of whose keys nothing is found but what an earlier commit said.
func rescueUnended(ctx context.Context, store *content.Store, s *meta.Salvage, r *Repair) error {
	var ids []blob.ID
	s.Unended(func(b *meta.BlobKey) { ids = append(ids, b.ID) })
	for _, id := range ids {
		bytes, whole, err := store.Whole(ctx, id)
		if ctx.Err() != nil || err != nil && !broken(err) {
			return cmp.Or(ctx.Err(), err)
		}
		if whole && bytes > 0 {
			r.Lost = append(r.Lost, lostOf(s.Rescue(id, bytes)))
		}
	}
	return nil
}

// salvagedKeys are the data keys of a volume that is not open.
type salvagedKeys struct {
	known map[blob.ID]*meta.BlobKey
	keys  *record.AccountKeys
}

func (k salvagedKeys) Key(_ context.Context, id blob.ID) (*record.Key, error) {
	b := k.known[id]
	if b == nil {
		return nil, content.ErrIntegrity
	}
	return k.keys.DataKey(id, b.Wrapped)
}

func (salvagedKeys) New(context.Context, uint64, bool) (blob.ID, *record.Key, error) {
	panic("vfs: internal error: a repair writes no blob")
}

func (salvagedKeys) Scatter(context.Context, blob.ID) error {
	panic("vfs: internal error: a repair writes no blob")
}

// stretch is bytes [from, to).
type stretch struct{ from, to uint64 }

// damagedRanges are the bytes of a file that cannot be read. The error is of the storage, or of ctx.
func damagedRanges(ctx context.Context, store *content.Store, l *extent.Layout, holes map[extent.BlobRef][]stretch) (bad []stretch, err error) {
	for _, ref := range l.Blobs {
		if _, ok := holes[ref]; !ok {
			if holes[ref], err = unreadable(ctx, store, ref); err != nil {
				return nil, err
			}
		}
	}
	for _, e := range l.Extents {
		if e.Blob == extent.Inline {
			continue
		}
		for _, h := range holes[l.Blobs[e.Blob]] {
			from, to := max(h.from, e.BlobOff), min(h.to, e.BlobOff+e.Len)
			if from >= to {
				continue
			}
			at := stretch{e.Off + from - e.BlobOff, e.Off + to - e.BlobOff}
			if n := len(bad); n > 0 && bad[n-1].to == at.from {
				bad[n-1].to = at.to
			} else {
				bad = append(bad, at)
			}
		}
	}
	return bad, nil
}

// unreadable reads one blob segment by segment.
func unreadable(ctx context.Context, store *content.Store, ref extent.BlobRef) (bad []stretch, err error) {
	l := &extent.Layout{Size: ref.Bytes, Blobs: []extent.BlobRef{ref}}
	if ref.Bytes > 0 {
		l.Extents = []extent.Extent{{Len: ref.Bytes}}
	}
	everything := []stretch{{0, max(ref.Bytes, 1)}}
	rd, err := store.Open(ctx, l)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil && broken(err):
		return everything, nil
	case err != nil:
		return nil, err
	}
	defer rd.Close()
	buf := make([]byte, extent.SegmentPlain)
	for at := uint64(0); at < ref.Bytes; at += extent.SegmentPlain {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n := min(uint64(len(buf)), ref.Bytes-at)
		if _, err := rd.ReadAt(buf[:n], int64(at)); err != nil && err != io.EOF {
			if !broken(err) {
				return nil, err
			}
			bad = append(bad, stretch{at, at + n})
		}
	}
	return bad, nil
}

// broken says whether an error of reading a blob means damage; a disk that cannot read is damage too, to a repair.
func broken(err error) bool {
	return errors.Is(err, content.ErrIntegrity) || errors.Is(err, record.ErrAuth) || errors.Is(err, fs.ErrNotExist) || errors.Is(public(err), ErrIO)
}

func spansText(bad []stretch, size uint64) string {
	const most = 8
	var out []string
	total := uint64(0)
	for _, s := range bad {
		total += s.to - s.from
		if len(out) < most {
			out = append(out, fmt.Sprintf("%d-%d", s.from, s.to-1))
		}
	}
	if len(bad) > most {
		out = append(out, fmt.Sprintf("and %d ranges more", len(bad)-most))
	}
	return fmt.Sprintf("%d of %d bytes are damaged: %s; reading them stays an error", min(total, size), size, strings.Join(out, ", "))
}
