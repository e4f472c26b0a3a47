package admin

import (
	"fmt"
	"testing"
	"time"

	"sallyport/vfs"
)

// TestARestoreHoldsNamesForEachTransaction, and for no longer: not while it tells its client how far it is, nor for a dry run.
func TestARestoreHoldsNamesForEachTransaction(t *testing.T) {
	t.Parallel()
	f := start(t)
	_, err := f.AccountAdd(t.Context(), AccountAdd{Name: "alice"})
	check(t, err)
	a, err := f.policy.Account("alice")
	check(t, err)
	v, err := f.volumes.Volume(t.Context(), a.ID)
	check(t, err)
	w := v.View(vfs.ViewOptions{})
	check(t, w.Mkdir("/d", 0))
	for i := range 300 {
		check(t, w.Symlink("x", fmt.Sprintf("/d/%d", i)))
	}
	ask := RestoreAsk{Account: "alice", At: time.Now(), Change: Change{Reason: "test"}, DryRun: true}
	check(t, w.RemoveAll("/d"))
	check(t, w.Close())
	free := func(r Restored) error {
		if !f.names.TryLock() {
			t.Error("names are held while the client is told")
			return nil
		}
		f.names.Unlock()
		return nil
	}
	check(t, f.BackupRestore(t.Context(), ask, free))
	if len(f.holds) != 0 {
		t.Errorf("a dry run held names %d times", len(f.holds))
	}
	ask.DryRun = false
	check(t, f.BackupRestore(t.Context(), ask, free))
	if len(f.holds) < 4 || f.holds[0] != a.ID { // the directory, what was in it, and its times
		t.Errorf("names were held %d times", len(f.holds))
	}
	free(Restored{})
}
