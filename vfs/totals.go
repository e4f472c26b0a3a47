package vfs

import "errors"

// Totals are of all volumes together, since Open of the FS or as of now. Unlike
// Volume.Stats they open nothing and wait for nothing, so that they can be asked often.
type Totals struct {
	Volumes     int    // open now
	Handles     uint64 // open now
	Drafts      uint64 // uploads under way now
	DirtyBytes  int64  // of uploads, not yet on disk
	CachedBytes int64  // decrypted, in memory
	Refused     int    // volumes that did not open for damage when they were last asked for
	Damaged     uint64 // reads and opens that met ErrIntegrity, since Open

	Folded, Repacked uint64 // files, since Open
	Swept            uint64 // key records that nothing relied on, since Open
	Copied           uint64 // bytes, by folding and repacking, since Open
	Purged           uint64 // names and versions, since Open
}

// Totals is a snapshot.
func (f *FS) Totals() Totals {
	t := Totals{
		Damaged: f.damaged.Load(), Folded: f.folded.Load(), Repacked: f.repacked.Load(), Swept: f.swept.Load(),
		Copied: f.copied.Load(), Purged: f.purged.Load(),
	}
	t.DirtyBytes, t.CachedBytes = f.budget.Used()
	f.mu.Lock()
	volumes := make([]*Volume, 0, len(f.volumes))
	for _, v := range f.volumes {
		volumes = append(volumes, v)
	}
	f.mu.Unlock()
	for _, v := range volumes {
		v.mu.Lock()
		c := v.core
		if v.refusal != nil && errors.Is(v.refusal, ErrIntegrity) {
			t.Refused++
		}
		v.mu.Unlock()
		if c != nil {
			t.Volumes++
			t.Handles += uint64(c.handles.Load())
			t.Drafts += uint64(c.drafts.Load())
		}
	}
	return t
}
