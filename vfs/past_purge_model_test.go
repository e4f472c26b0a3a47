package vfs

import (
	"errors"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sallyport/crypto/keyring"
)

// purgeModel is a pastModel whose history is destroyed meanwhile, by the clock and by choice, under holds that come and go.
type purgeModel struct {
	*pastModel
	held    []string
	horizon time.Time
	moments []moment
	refused int // moments that were looked at and refused
	shown   int // and shown, with everything that was there
}

// TestThePastIsWholeOrRefused makes a random history and destroys parts of it. Whatever the horizon is and whenever it is asked, an
// instant is as it was, or refused; and what is restored exactly is what was there.
func TestThePastIsWholeOrRefused(t *testing.T) {
	t.Parallel()
	ops := 600
	if n, err := strconv.Atoi(os.Getenv(historyEnv)); err == nil {
		ops = n
	}
	clock := newHandClock()
	m := &purgeModel{}
	o := Options{Now: clock.now, Holds: func(keyring.AccountID) ([]string, error) { return m.held, nil }}
	b := newBenchWith(t, o)
	m.pastModel = newPastModel(b, clock, uint64(ops)+1, o)
	m.horizon = clock.now()
	for i := range ops {
		m.step()
		m.tend()
		m.destroy()
		if i%5 == 4 {
			m.moments = append(m.moments, m.moment(i))
		}
		if i%20 == 19 {
			m.horizon = m.moments[m.rng.IntN(len(m.moments))].at // lowered and raised
			if m.rng.IntN(2) == 0 {
				m.horizon = time.Unix(0, 0) // for ever
			}
			for range 4 {
				m.check(m.moments[m.rng.IntN(len(m.moments))])
			}
			m.check(m.moments[len(m.moments)-1])
		}
		if t.Failed() {
			t.Fatalf("after %d operations", i)
		}
	}
	m.horizon = time.Unix(0, 0)
	for _, mo := range m.moments {
		m.check(mo)
	}
	b.verify()
	if m.shown == 0 || m.refused == 0 {
		t.Errorf("of %d instants %d were shown and %d refused", len(m.moments), m.shown, m.refused)
	}
	t.Logf("%d operations, %d instants: %d looks shown, %d refused", ops, len(m.moments), m.shown, m.refused)
}

// somewhen is an instant of the history, mostly an early one: retention keeps most.
func (m *purgeModel) somewhen() time.Time {
	if len(m.moments) == 0 {
		return m.clock.now()
	}
	n := len(m.moments)
	if m.rng.IntN(4) > 0 {
		n = n/2 + 1
	}
	return m.moments[m.rng.IntN(n)].at.Add(time.Duration(m.rng.IntN(3)-1) * time.Nanosecond)
}

func (m *purgeModel) destroy() {
	t, vol := m.b.t, m.b.vol
	was := must(vol.Whole(t.Context()))(t)
	what := m.rng.IntN(60)
	var before map[Superseded]bool
	if what < 2 {
		before = m.superseded()
	}
	switch what {
	case 0: // retention, a slice of it or all that is due
		must(vol.Purge(t.Context(), PurgeOptions{Before: m.somewhen(), Most: uint64(m.rng.IntN(3) * 20)}))(t)
	case 1: // by choice
		below := "/n" + strconv.Itoa(m.rng.IntN(9))
		p := must(vol.PlanPurgeBefore(t.Context(), m.somewhen(), func(s Superseded) bool { return strings.HasPrefix(s.Path, below) }))(t)
		ok(t, p.Execute(t.Context(), nil))
		if r := p.Result(); r.Names == p.Names { // else paths became others on the way, and something stays
			m.b.wantFreed(p, r)
		}
	case 2:
		if m.held = nil; m.rng.IntN(2) == 0 {
			m.held = []string{"/n" + strconv.Itoa(m.rng.IntN(9))}
		}
	}
	is := must(vol.Whole(t.Context()))(t)
	if is.Purged.Before(was.Purged) || is.Lacking.Before(was.Lacking) {
		t.Errorf("a mark went back: from %+v to %+v", was, is)
	}
	if before == nil {
		return
	}
	mark, after := is.Purged, m.superseded()
	if what == 1 {
		mark = is.Lacking
	}
	for s := range before {
		if !after[s] && s.At.After(mark) {
			t.Errorf("%+v is gone, the mark is %v", s, mark)
		}
	}
}

// superseded is all history. Holds come and go, and sizes of names with them: they tell nothing of what an item is.
func (m *purgeModel) superseded() map[Superseded]bool {
	all := map[Superseded]bool{}
	ok(m.b.t, m.b.vol.Superseded(m.b.t.Context(), time.Time{}, m.clock.now().Add(time.Hour), func(s Superseded) error {
		all[Superseded{Inode: s.Inode, Version: s.Version, At: s.At}] = true
		return nil
	}))
	return all
}

// check looks at an instant as a client does, within a horizon, and as an operator does.
func (m *purgeModel) check(mo moment) {
	t := m.b.t
	t.Helper()
	whole := must(m.b.vol.Whole(t.Context()))(t)
	p := m.w.History(func() time.Time { return m.horizon }).At(mo.at)
	_, err := p.Lstat("/")
	var not *NotWhole
	switch {
	case mo.at.Before(m.horizon):
		if !errors.Is(err, ErrNotKept) {
			t.Errorf("before the horizon: %v", err)
		}
	case mo.at.Before(whole.Purged):
		if m.refused++; !errors.As(err, &not) || !not.Since.Equal(whole.Purged) || !errors.Is(err, ErrNotKept) {
			t.Errorf("purged up to %v, %v looked at: %v", whole.Purged, mo.at, err)
		}
	case mo.at.Before(whole.Lacking): // shown, without what was chosen
		m.notWrong(p, mo)
	default:
		m.shown++
		sameTree(t, lookBack(t, p, "/"), mo.tree, false)
	}

	plan, err := m.w.History(nil).PlanRestore(t.Context(), RestoreAsk{At: mo.at, From: "/", Exact: true})
	since := whole.Since()
	switch {
	case mo.at.Before(since):
		if not = nil; !errors.As(err, &not) || !not.Since.Equal(since) || not.Chosen == mo.at.Before(whole.Purged) {
			t.Errorf("an exact restore of %v, whole since %v: %v", mo.at, since, err)
		}
		if plan, err = m.w.History(nil).PlanRestore(t.Context(), RestoreAsk{At: mo.at, From: "/"}); err == nil && !plan.Lacks.Equal(since) {
			t.Errorf("a restore of %v says that it lacks something before %v, want %v", mo.at, plan.Lacks, since)
		}
	case err != nil || !plan.Lacks.IsZero():
		t.Errorf("an exact restore of %v, whole since %v: %v, %+v", mo.at, since, err, plan)
	case m.rng.IntN(8) == 0:
		m.restoreAndBack(mo, plan)
	}
}

// notWrong: what is shown is what was there, as far as it is there.
func (m *purgeModel) notWrong(p *Past, mo moment) {
	t := m.b.t
	if _, err := p.Lstat("/"); err != nil {
		if !errors.Is(err, ErrPurged) { // of the root itself something was chosen
			t.Errorf("looking at %v: %v", mo.at, err)
		}
		return
	}
	for name, was := range mo.tree {
		i, err := p.Lstat(name)
		if err == nil && !i.IsDir() && (i.Size() != was.size || !i.ModTime().Equal(was.mtime) || i.Mode() != was.mode) {
			t.Errorf("%s as of %v is %+v, want %+v", name, mo.at, seeInfo(i), was)
		} else if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s as of %v: %v", name, mo.at, err)
		}
	}
}

// restoreAndBack restores exactly, and goes on from what was there before.
func (m *purgeModel) restoreAndBack(mo moment, plan *RestorePlan) {
	t, w, b := m.b.t, m.w, m.b
	before, at := b.look(w, "/"), b.instant()
	m.clock.advance(time.Duration(1+m.rng.IntN(3000)) * time.Millisecond)
	ok(t, plan.Execute(t.Context()))
	sameTree(t, b.look(w, "/"), mo.tree, false)
	undo := must(w.History(nil).PlanRestore(t.Context(), RestoreAsk{At: at, From: "/", Exact: true}))(t)
	ok(t, undo.Execute(t.Context()))
	now := b.look(w, "/")
	sameTree(t, now, before, false)
	if !slices.Equal(slices.Sorted(maps.Keys(now)), slices.Sorted(maps.Keys(m.tree))) {
		t.Errorf("the model does not go on from where it was")
	}
}
