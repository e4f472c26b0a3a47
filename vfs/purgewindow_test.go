package vfs

import (
	"context"
	"slices"
	"strings"
	"testing"
)

// Of 700 files that were overwritten in turns each transaction takes whole files: what remains of a file would be read again by each that does
// not, and a million versions took hours.
func TestATransactionTakesTheOldVersionsOfAFileTogether(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.pile(700, 4)
	plan := must(b.vol.PlanPurge(t.Context(), all))(t)
	var receipts []PurgeReceipt
	ok(t, plan.Execute(t.Context(), func(r PurgeReceipt) []byte { receipts = append(receipts, r); return nil }))
	if r := plan.Result(); r.Versions != 2100 || r.Blobs != 2100 || len(receipts) != 5 {
		t.Errorf("purged %+v in %d transactions, want 2100 versions with a blob each in 5", r, len(receipts))
	}
	for i, r := range receipts {
		if !r.Oldest.Equal(plan.Oldest) || !r.Newest.Equal(plan.Newest) {
			t.Errorf("transaction %d took what was superseded from %v to %v, want from the first version of a file to the last, %v to %v",
				i, r.Oldest, r.Newest, plan.Oldest, plan.Newest)
		}
	}
	if left := b.items(); len(left) != 0 {
		t.Errorf("%d items are left", len(left))
	}
	b.discard() // the blobs of pile have no files
}

func TestWhatIsRenamedWhileAPurgeIsPacedStays(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	b.pile(2, 601)
	plan := must(b.vol.PlanPurge(t.Context(), func(s Superseded) bool { return !strings.HasPrefix(s.Path, "/kept") }))(t)
	if plan.Versions != 1200 {
		t.Fatalf("the plan has %d versions", plan.Versions)
	}
	paced := 0
	plan.Pace = func(context.Context, int) error {
		if paced++; paced == 1 { // 500 of f0 are gone
			ok(t, w.Rename("/f1", "/kept"))
		}
		return nil
	}
	ok(t, plan.Execute(t.Context(), nil))
	if r := plan.Result(); r.Versions != 600 || paced != 3 {
		t.Errorf("purged %d versions in %d transactions, want the 600 of the file that was not renamed", r.Versions, paced)
	}
	if left := b.items(); len(left) != 601 || !slices.Contains(left, "/f1 0") { // 600 versions, and the name that it had
		t.Errorf("%d items are left", len(left))
	}
	b.discard()
}
