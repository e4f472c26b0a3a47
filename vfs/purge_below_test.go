package vfs

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
)

// purgeBelow purges what is, or was, at and below a path, and returns what it took.
func (b *bench) purgeBelow(name string, before time.Time) PurgeReceipt {
	b.t.Helper()
	plan := must(b.vol.PlanPurgeBelow(b.t.Context(), name, before))(b.t)
	got := must(b.vol.Purge(b.t.Context(), PurgeOptions{Before: before, Below: name}))(b.t)
	if got.Names != plan.Names || got.Versions < plan.Versions || got.Bytes != plan.Bytes {
		b.t.Errorf("purging below %s took %d names, %d versions, %d bytes, planned were %d, %d, %d", name, got.Names, got.Versions, got.Bytes, plan.Names, plan.Versions, plan.Bytes)
	}
	b.wantFreed(plan, got)
	b.verify()
	return got
}

// TestAPurgeOfAPathTakesWhatIsAndWasThere, under each name that it had, and nothing else: what is current stays, and so does all other history.
func TestAPurgeOfAPathTakesWhatIsAndWasThere(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	ok(t, w.MkdirAll("/cv/old", 0o755))
	for _, name := range []string{"/cv/smith", "/cv/old/jones", "/cv2", "/other"} {
		put(t, w, name, noise(1, 100_000))
		put(t, w, name, noise(2, 50_000))
	}
	ok(t, w.Rename("/cv/smith", "/moved"))
	twice(t, w, "/moved")
	ok(t, w.Remove("/cv/old/jones"))

	b.purgeBelow("/cv/smith", endOfTime)
	b.wantBelow("/", "/cv/old/jones 0", "/cv/old/jones 1", "/cv2 1", "/other 1")
	wantContent(t, w, "/moved", noise(2, 100))

	if r := b.purgeBelow("/cv", endOfTime); r.Inodes != 1 {
		t.Errorf("purged %+v", r)
	}
	b.wantBelow("/", "/cv2 1", "/other 1")
	if r := b.purgeBelow("/never", endOfTime); r.Names+r.Versions != 0 {
		t.Errorf("purged %+v of what never was", r)
	}
	if b.vol.Stats().OpenHandles != 0 {
		t.Error("handles are left")
	}
	if w := must(b.vol.Whole(t.Context()))(t); w.Since().IsZero() || !w.Purged.IsZero() {
		t.Errorf("the past is whole as of %+v after a choice", w)
	}
}

// TestAPurgeOfAPathHeedsHoldsAndTime, and lets no purge of all believe that there is nothing before what it did not look at.
func TestAPurgeOfAPathHeedsHoldsAndTime(t *testing.T) {
	t.Parallel()
	b, paths := heldBench(t)
	w := b.view()
	ok(t, w.Mkdir("/d", 0o755))
	twice(t, w, "/first")
	twice(t, w, "/d/held")
	twice(t, w, "/d/early")
	middle := b.instant().Add(1)
	twice(t, w, "/d/late")
	paths.Store(&[]string{"/d/held"})
	plan := must(b.vol.PlanPurgeBelow(t.Context(), "/d", middle))(t)
	if plan.Kept != 1 || plan.Versions != 1 {
		t.Errorf("the plan takes %d versions and leaves %d", plan.Versions, plan.Kept)
	}
	b.purgeBelow("/d/held", endOfTime)
	b.purgeBelow("/d", middle)
	b.wantBelow("/", "/first 1", "/d/held 1*", "/d/late 1")

	no := errors.New("not any more")
	if _, err := b.vol.Purge(t.Context(), PurgeOptions{Before: endOfTime, Below: "/d/late", Still: func() error { return no }}); err != no {
		t.Errorf("got %v", err)
	}
	must(b.vol.Purge(t.Context(), PurgeOptions{Before: endOfTime}))(t)
	b.wantBelow("/", "/d/held 1*")
	paths.Store(&[]string{})
	b.purgeBelow("/", endOfTime)
	b.wantBelow("/")
}

// TestAPurgeOfAPathLeavesWhatCameLater into a directory that had the path once: it never was there. What was there is found wherever it went, also
// if it came back.
func TestAPurgeOfAPathLeavesWhatCameLater(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	ok(t, w.MkdirAll("/cv/sub", 0o755))
	ok(t, w.Mkdir("/old", 0o755))
	for _, name := range []string{"/cv/f", "/cv/back", "/cv/gone", "/cv/sub/g", "/cv/sub/h", "/old/o", "/swap"} {
		twice(t, w, name)
	}
	ok(t, w.Rename("/cv/back", "/back"))
	ok(t, w.Rename("/cv", "/archive"))
	ok(t, w.Rename("/back", "/archive/back"))
	for _, name := range []string{"/archive/new", "/archive/was", "/archive/left", "/archive/sub/n", "/archive/f"} {
		twice(t, w, name)
	}
	ok(t, w.Remove("/archive/was"))
	ok(t, w.Remove("/archive/gone"))
	ok(t, w.Rename("/archive/left", "/left"))
	ok(t, w.Rename("/archive/sub/g", "/g"))
	ok(t, w.Rename("/old", "/archive/old"))
	ok(t, w.Mkdir("/cv", 0o755))
	ok(t, w.Rename("/swap", "/cv/swap"))
	ok(t, w.Rename("/cv/swap", "/swap"))

	b.purgeBelow("/cv", endOfTime)
	b.wantBelow("/", "/archive/left 0", "/left 1", "/archive/new 1", "/archive/was 0", "/archive/was 1", "/archive/sub/n 1", "/old 0", "/archive/old/o 1")
	wantContent(t, w, "/archive/sub/h", noise(2, 100))
}

// TestAPurgeOfAPathGoesOnAfterItsEnd: what tells that the rest was there goes last.
func TestAPurgeOfAPathGoesOnAfterItsEnd(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	ok(t, w.Mkdir("/cv", 0o755))
	const files = 2*purgeBatch + 100
	many(t, files, func(i int) { put(t, w, fmt.Sprint("/cv/", i), noise(uint64(i), 10)) })
	twice(t, w, "/cv/moved")
	ok(t, w.Rename("/cv/moved", "/moved"))
	twice(t, w, "/moved")
	ok(t, w.Rename("/cv", "/archive"))
	many(t, files, func(i int) { ok(t, w.Remove(fmt.Sprint("/archive/", i))) })
	stop := errors.New("the operator went away")
	for range 10 {
		_, err := b.vol.Purge(t.Context(), PurgeOptions{Before: endOfTime, Below: "/cv", Pace: func(context.Context, int) error { return stop }})
		if err == nil {
			break
		}
		if err != stop {
			t.Fatal(err)
		}
	}
	b.wantBelow("/")
}

// TestAPurgeOfAPathThatIsCutOffEverywhereTakesAll: what moved out of a directory that had moved out of the path itself is known by the
// name of that directory alone. In whatever order they moved, who goes on after each single item finds the rest.
func TestAPurgeOfAPathThatIsCutOffEverywhereTakesAll(t *testing.T) {
	t.Parallel()
	moves := [][2]string{{"/p/a", "/x"}, {"b", "/y"}, {"c", "/z"}, {"f", "/file"}} // each out of the one before
	for _, order := range [][]int{{0, 1, 2, 3}, {3, 2, 1, 0}, {0, 2, 1, 3}, {1, 0, 3, 2}, {2, 0, 3, 1}, {0, 3, 2, 1}} {
		b := newBench(t)
		w := b.view()
		ok(t, w.MkdirAll("/p/a/b/c", 0o755))
		put(t, w, "/p/a/b/c/f", noise(1, 10_000))
		put(t, w, "/p/a/b/c/f", noise(2, 10_000))
		at := func(i int) string { // where it is now
			path := moves[0][0]
			for k := range i + 1 {
				if k > 0 {
					path += "/" + moves[k][0]
				}
				if _, err := w.Lstat(moves[k][1]); err == nil {
					path = moves[k][1]
				}
			}
			return path
		}
		for _, i := range order {
			ok(t, w.Rename(at(i), moves[i][1]))
			ok(t, w.Rename(moves[i][1], moves[i][1]+"2")) // and on
			ok(t, w.Rename(moves[i][1]+"2", moves[i][1]))
		}
		plan := must(b.vol.PlanPurgeBelow(t.Context(), "/p", endOfTime))(t)
		var got PurgeReceipt
		for range 1000 {
			p := must(b.vol.PlanPurgeBelow(t.Context(), "/p", endOfTime))(t)
			if p.Names+p.Versions == 0 {
				break
			}
			p.most = 1
			ok(t, p.Execute(t.Context(), nil))
			r := p.Result()
			if r.Names+r.Versions == 0 {
				t.Fatalf("%v: nothing goes of %d names and %d versions", order, p.Names, p.Versions)
			}
			got.add(&r)
		}
		if got.Names != plan.Names || got.Versions != plan.Versions || plan.Names < 12 {
			t.Errorf("%v: item by item %d names and %d versions, in one go it would have been %d and %d", order, got.Names, got.Versions, plan.Names, plan.Versions)
		}
		b.verify()
	}
}
