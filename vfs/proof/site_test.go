package proof

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/crypto/keyring"
	"sallyport/server/audit"
	"sallyport/vfs"
	"sallyport/vfs/meta"
)

// history is the marks up to some call: what was begun, what was acknowledged.
type history struct {
	begun, acked, failed, synced map[string]bool
	why                          map[string]string // of failures
	id                           keyring.AccountID
}

func historyOf(log []call) *history {
	h := &history{begun: map[string]bool{}, acked: map[string]bool{}, failed: map[string]bool{}, synced: map[string]bool{}, why: map[string]string{}}
	for _, c := range log {
		if c.kind != mark {
			continue
		}
		kind, what, _ := strings.Cut(strings.TrimSpace(c.name), " ")
		switch kind {
		case "begin":
			h.begun[what] = true
		case "ack":
			h.acked[what] = true
		case "synced":
			h.synced[what] = true
		case "fail":
			what, why, _ := strings.Cut(what, ": ")
			h.failed[what], h.why[what] = true, why
		case "id":
			if _, err := fmt.Sscanf(what, "%x", &[]byte{}); err == nil {
				h.id = parseID(what)
			}
		}
	}
	return h
}

func parseID(s string) (id keyring.AccountID) {
	var b []byte
	fmt.Sscanf(s, "%x", &b)
	copy(id[:], b)
	return id
}

// site is a state directory after a crash, and how its tests look at it.
type site struct {
	dir    string
	key    *keyring.KeyFile
	h      *history
	seed   uint64
	steps  int
	how    int
	policy []string // what policy.db says after none, the first … all of its changes
	strict bool     // what an fsync that failed may have left is not to be had: the fault was another
}

// examine opens everything as a server does that starts, and asks whether it keeps its promises.
func (s *site) examine() error {
	ctx := context.Background()
	ring, err := keyring.Open(ctx, s.dir, s.key)
	if err != nil {
		if s.h.acked["ring"] {
			return wrong("the keyring does not open: %v", err)
		}
		return nil // a site that was never said to be there
	}
	defer ring.Close()
	if ids := ring.Accounts(); s.h.acked["account"] && !slices.Contains(ids, s.h.id) && s.h.id != (keyring.AccountID{}) {
		return wrong("the account's key is lost")
	}
	if err := s.examinePolicy(ctx, ring); err != nil {
		return err
	}
	if err := s.examineAudit(ctx, ring); err != nil {
		return err
	}
	if s.h.id == (keyring.AccountID{}) {
		return nil
	}
	return s.examineVolume(ctx, ring)
}

func (s *site) examineAudit(ctx context.Context, ring *keyring.Keyring) error {
	if !s.h.begun["audit"] {
		return nil
	}
	log, err := openAudit(s.dir, ring)
	if err != nil {
		return wrong("the audit log does not open: %v", err)
	}
	defer log.Close()
	n := 0
	err = log.Tail(ctx, events+10, false, func(r audit.Record) error {
		if mark := fmt.Sprintf("audit %d", n); r.Event.Detail != event(n).Detail || !s.h.begun[mark] {
			return wrong("record %d of the audit log is %q, begun: %v", n, r.Event.Detail, s.h.begun[mark])
		}
		n++
		return nil
	})
	if err != nil {
		return wrong("the audit log: %w", err)
	}
	if mark := fmt.Sprintf("audit %d", n); s.h.acked[mark] {
		return wrong("record %d of the audit log was acknowledged and is lost", n)
	}
	signed := log.Stats().Signed
	for i := range events {
		if mark := fmt.Sprintf("sign %d", i); s.h.acked[mark] && signed < uint64(i+1) {
			return wrong("a checkpoint over %d records of the audit log was acknowledged, and %d are signed", i+1, signed)
		}
	}
	return nil
}

func (s *site) examineVolume(ctx context.Context, ring *keyring.Keyring) error {
	if err := s.keepHouse(ctx, ring, s.examineContent); err != nil {
		return err
	}
	waiting, err := s.noOrphans(ctx, ring)
	if err != nil || len(waiting) == 0 {
		return err
	}
	old := time.Now().Add(-grace) // to the system's clock, too
	for _, p := range waiting {
		if err := os.Chtimes(p, old, old); err != nil {
			return err
		}
	}
	if err := s.keepHouse(ctx, ring, func(context.Context, *vfs.FS) error { return nil }); err != nil {
		return err
	}
	if waiting, err = s.noOrphans(ctx, ring); err == nil && len(waiting) > 0 {
		err = wrong("%q were given a week, and are still there", waiting)
	}
	return err
}

// keepHouse does something with the volumes, and then the housekeeping of a time when every grace is over.
func (s *site) keepHouse(ctx context.Context, ring *keyring.Keyring, do func(context.Context, *vfs.FS) error) error {
	var later atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
	f, err := vfs.Open(ctx, vfs.Options{Dir: filepath.Join(s.dir, "accounts"), Keyring: ring, IdleClose: -1, Now: now})
	if err != nil {
		return wrong("the volumes do not open: %v", err)
	}
	err = do(ctx, f)
	later.Store(int64(grace))
	if v, verr := f.Volume(ctx, s.h.id); err == nil && verr == nil {
		if _, err = v.Tidy(ctx, vfs.TidyOptions{Wait: -1}); err != nil {
			err = wrong("housekeeping: %v", err)
		}
	}
	return errors.Join(err, f.Close())
}

// marksReach compares the marks in the head with what the events of purges say, which are from the transactions that destroyed it: no crash parts them.
func marksReach(tx *meta.Tx) error {
	var late error
	s := tx.Stats()
	return errors.Join(tx.Outbox(func(_ uint64, event []byte) bool {
		var chosen, purged int64
		_, _ = fmt.Sscanf(string(event), chosenEvent, &chosen) // most events are others
		_, _ = fmt.Sscanf(string(event), purgedEvent, &purged)
		if chosen > s.LackingTo || purged > s.PurgedTo {
			late = wrong("%q, but the marks are %d for what was chosen and %d by the clock", event, s.LackingTo, s.PurgedTo)
		}
		return late == nil
	}), late)
}

// grace is longer than any that a blob is given which nobody knows.
const grace = 8 * 24 * time.Hour

// noOrphans compares the blobs on the disk with the records, after housekeeping when every grace is over: each blob has a key
// record, each key record a version that relies on it, and nothing waits to be unlinked. waiting are the files of small uploads that the
// crash kept from their commit, and that are not old.
func (s *site) noOrphans(ctx context.Context, ring *keyring.Keyring) (waiting []string, err error) {
	keys, err := ring.Account(s.h.id)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(s.dir, "accounts", hex.EncodeToString(s.h.id[:]))
	tree := filepath.Join(dir, fmt.Sprintf("tree-%d.db", keys.Version()))
	db, err := meta.Open(ctx, tree, keys, meta.Options{Now: time.Now})
	if err != nil {
		return nil, wrong("after housekeeping: %v", err)
	}
	defer db.Close()
	known, used, spare := map[string]bool{}, map[string]bool{}, map[string]bool{}
	err = db.View(func(tx *meta.Tx) error {
		var doomed error
		return errors.Join(marksReach(tx), tx.Doomed(func(id [16]byte) bool { doomed = wrong("blob %x is still to be unlinked", id); return false }), doomed, tx.Blobs(func(b *meta.BlobKey) bool {
			known[blobPath(b.ID)] = true
			spare[blobPath(b.ID)] = b.State == meta.BlobOpen && b.Dir == 0 && b.Inode == 0
			return true
		}),
			tx.VersionsFrom(0, 0, func(l meta.Located) bool {
				for _, ref := range l.Blobs {
					used[blobPath(ref.ID)] = true
				}
				return true
			}))
	})
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if e.Name() != "blobs" && e.Name() != filepath.Base(tree) {
			return nil, wrong("%s is left over", e.Name())
		}
	}
	err = filepath.WalkDir(filepath.Join(dir, "blobs"), func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		if rel, err := filepath.Rel(dir, p); err != nil || !known[rel] {
			return wrong("%s has no key record and is still there: %v", rel, err)
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for name := range known {
		info, err := os.Stat(filepath.Join(dir, name))
		switch {
		case used[name]:
		case spare[name] && err == nil && time.Since(info.ModTime()) < grace/2:
			waiting = append(waiting, filepath.Join(dir, name))
		default:
			return nil, wrong("no version relies on %s, and its key is still there", name)
		}
	}
	return waiting, nil
}

func (s *site) examineContent(ctx context.Context, f *vfs.FS) (err error) {
	v, err := f.Volume(ctx, s.h.id)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !s.h.acked["volume"]:
		if err := f.Create(ctx, s.h.id); err != nil {
			return wrong("a volume whose creation was cut off cannot be made: %v", err)
		}
		return nil
	case err != nil:
		return wrong("the volume does not open: %v", err)
	}
	w := v.View(vfs.ViewOptions{Writer: "oracle"})
	defer func() { err = errors.Join(err, w.Close()) }()
	for k := range workers {
		if err := s.examineWorker(w, k); err != nil {
			return err
		}
	}
	if s.h.acked["epilogue"] || s.h.acked["epilogue hit"] {
		if err := read(w, "/epilogue", epilogue, s.how); err != nil {
			return wrong("/epilogue: %v", err)
		}
	}
	var findings []string
	if _, err := v.Verify(ctx, func(f string) { findings = append(findings, f) }); err != nil || len(findings) > 0 {
		return wrong("verify: %v, %q", err, findings)
	}
	return s.resume(w)
}

// examineWorker compares what lies in a worker's directory with what its script says.
func (s *site) examineWorker(w *vfs.View, k int) error {
	dir := fmt.Sprintf("/w%d", k)
	if _, err := w.Lstat(dir); errors.Is(err, fs.ErrNotExist) && !s.h.acked["mkdir "+dir] {
		return nil
	} else if err != nil {
		return wrong("%s: %v", dir, err)
	}
	allowed := []tree{{}}
	what := "nothing begun"
	for i, st := range script(dir, s.seed+uint64(k)*1000, s.steps) {
		name := fmt.Sprintf("step %d %d", k, i)
		if !s.h.begun[name] {
			break
		}
		switch {
		case s.h.acked[name]:
			allowed, what = []tree{st.after}, "after "+st.what
		case s.h.synced[name]:
			allowed, what = st.synced, "after the sync in "+st.what
		default:
			allowed, what = st.during, "during "+st.what
			if s.strict && s.h.failed[name] {
				allowed, what = st.during[:len(st.during)-1], "after failed "+st.what
			}
		}
	}
	var errs []error
	for _, t := range allowed {
		_, err := t.checkBelow(w, dir, s.how, tolerance{})
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return fmt.Errorf("%s, worker %d: %w", what, k, errors.Join(errs...))
}

// again opens the volume once more: what recovery did must hold, too.
func (s *site) again() error {
	ctx := context.Background()
	s.h.failed = nil
	ring, err := keyring.Open(ctx, s.dir, s.key)
	if err != nil || s.h.id == (keyring.AccountID{}) {
		return nil
	}
	defer ring.Close()
	f, err := vfs.Open(ctx, vfs.Options{Dir: filepath.Join(s.dir, "accounts"), Keyring: ring, IdleClose: -1})
	if err != nil {
		return wrong("second opening: %v", err)
	}
	defer f.Close()
	v, err := f.Volume(ctx, s.h.id)
	if err != nil {
		return wrong("second opening: %v", err)
	}
	var findings []string
	if _, err := v.Verify(ctx, func(f string) { findings = append(findings, f) }); err != nil || len(findings) > 0 {
		return wrong("second opening: verify: %v, %q", err, findings)
	}
	return nil
}

// resume completes every partial upload, as a client does that comes back.
func (s *site) resume(w *vfs.View) error {
	for k := range workers {
		dir := fmt.Sprintf("/w%d", k)
		for i, st := range script(dir, s.seed+uint64(k)*1000, s.steps) {
			name := fmt.Sprintf("step %d %d", k, i)
			if !s.h.begun[name] || s.h.acked[name] {
				continue
			}
			for path, n := range st.during[min(1, len(st.during)-1)] {
				info, err := w.Lstat(path)
				if !n.loose || err != nil || !info.(*vfs.Info).Partial() {
					continue
				}
				f, err := open(w, path, os.O_WRONLY|os.O_APPEND)
				if err != nil {
					return wrong("%s cannot be resumed: %v", path, err)
				}
				if err := closing(f, writeAll(f, n.content[info.Size():])); err != nil {
					return wrong("resuming %s: %v", path, err)
				}
				if err := read(w, path, n.content, s.how); err != nil {
					return wrong("%s after it was resumed: %v", path, err)
				}
			}
		}
	}
	return nil
}

// newSite is an empty directory for a child, with its key file outside.
func newSite(t testing.TB) (root string, key *keyring.KeyFile) {
	t.Helper()
	root = filepath.Join(scratch(t), "site")
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	key, err := keyring.NewKeyFile(keyPath(root))
	if err != nil {
		t.Fatal(err)
	}
	return root, key
}
