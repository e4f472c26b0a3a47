package vfs

import (
	"context"

	"sallyport/vfs/meta"
)

// Stats of a volume, bytes unless said.
type Stats struct {
	LiveBytes, HistoryBytes, DoomedBytes   uint64
	AwaitingShred                          uint64 // purged since the account's key was changed last
	Files, Dirs, Versions, Blobs, Damaged  uint64
	OpenHandles, OpenDrafts, PendingOutbox uint64
}

// Stats are zero for a volume that cannot be opened.
func (v *Volume) Stats() Stats {
	var s Stats
	ctx := context.Background()
	_ = v.do(ctx, func(c *core) error {
		var doomed [][16]byte
		spare := uint64(c.spares.count()) // before: what is spare by now has its record
		err := c.db.View(func(tx *meta.Tx) error {
			m := tx.Stats()
			s.LiveBytes, s.HistoryBytes, s.AwaitingShred = m.LiveBytes, m.HistoryBytes, m.AwaitingShred
			s.Files, s.Dirs, s.Versions, s.Blobs = m.Files, m.Dirs, m.Versions, m.Blobs-min(spare, m.Blobs) // one may be given up meanwhile
			if err := tx.Outbox(func(uint64, []byte) bool { s.PendingOutbox++; return true }); err != nil {
				return err
			}
			return tx.Doomed(func(id [16]byte) bool { doomed = append(doomed, id); return true })
		})
		for _, id := range doomed {
			if r, err := c.blobs.Open(ctx, id); err == nil {
				s.DoomedBytes += uint64(r.Size())
				r.Close()
			}
		}
		s.Damaged = c.damaged.Load()
		s.OpenHandles, s.OpenDrafts = uint64(c.handles.Load()), uint64(c.drafts.Load())
		return err
	})
	return s
}
