package admin

import (
	"context"
	"strings"
	"time"

	"sallyport/policy"
	"sallyport/policy/policydb"
)

// plan says what a document does in the place of the current one.
func (s *Server) plan(ctx context.Context, current *policy.Revision, doc *policy.Document) (PolicyPlan, error) {
	now := time.Now()
	next := &policy.Revision{N: current.N + 1, Document: doc}
	p := PolicyPlan{Base: current.N, Changes: policy.Diff(current.Document, doc), Ends: []SessionEnd{}, LockedOut: []LockedOut{}}
	if p.Changes == nil {
		p.Changes = []policy.Difference{}
	}
	p.Looser = policy.IsLooser(p.Changes)
	p.Tests = describeTests(policy.RunTests(doc, next.N, now))
	if s.o.WouldEnd != nil {
		p.Ends = append(p.Ends, s.o.WouldEnd(next)...)
	}
	if err := s.locked(&p, current, next, now); err != nil {
		return PolicyPlan{}, err
	}
	if s.o.WouldPurge != nil {
		var err error
		if p.Purges, err = s.o.WouldPurge(ctx, next); err != nil {
			return PolicyPlan{}, err
		}
	}
	return p, nil
}

// locked finds the accounts that could log in and could not any more. Only those are looked at that the change reaches; of
// the others one that can log in is enough to know that somebody can.
func (s *Server) locked(p *PolicyPlan, current, next *policy.Revision, now time.Time) error {
	if len(p.Changes) == 0 {
		return nil
	}
	accounts, err := s.o.Policy.Accounts()
	if err != nil {
		return err
	}
	guarded := map[string]bool{}
	for _, name := range next.Resolve("").NeverLockOut {
		guarded[name] = true
	}
	for _, name := range current.Resolve("").NeverLockOut { // a change must not unguard whom it locks out
		guarded[name] = true
	}
	reached := reachedBy(p.Changes, current.Document, next.Document)
	before, after := 0, 0
	for _, a := range accounts {
		if !a.Enabled {
			continue
		}
		far := !reached(a.Name)
		if far && after > 0 {
			continue
		}
		had, has := current.Resolve(a.Name), next.Resolve(a.Name)
		means := s.o.Policy.Means(a, now)
		seen := means.Seen()
		could, lost := policy.Locked(had, seen, now) == nil, (*policy.Denial)(nil)
		if could {
			before++
			if lost = policy.Locked(has, seen, now); lost == nil {
				after++
			}
		}
		// What nobody has seen work opens no door for those counts; but who may have had it loses it, too.
		if !could && len(seen.Doors) < len(means.Doors) && policy.Locked(had, means, now) == nil {
			lost = policy.Locked(has, means, now)
		}
		if lost != nil {
			p.LockedOut = append(p.LockedOut, LockedOut{a.Name, lost.Code, lost.Rule, guarded[a.Name]})
		}
	}
	p.Nobody = before > 0 && after == 0
	return nil
}

// reachedBy says which accounts some differences can concern.
func reachedBy(list []policy.Difference, docs ...*policy.Document) func(string) bool {
	all, names, groups := false, map[string]bool{}, map[string]bool{}
	for _, d := range list {
		kind, rest, _ := strings.Cut(d.Key, ".")
		switch kind {
		case "tests":
		case "accounts":
			names[nameIn(rest, policy.AccountTarget)] = true
		case "groups":
			groups[nameIn(rest, policy.GroupTarget)] = true
		default:
			all = true
		}
	}
	return func(account string) bool {
		if all || names[account] {
			return true
		}
		for _, d := range docs {
			for _, g := range d.GroupsOf(account) {
				if groups[g] {
					return true
				}
			}
		}
		return false
	}
}

// nameIn takes the name from NAME or NAME.SETTING; names may hold dots.
func nameIn(rest string, target func(string) policy.Target) string {
	longest := ""
	for _, path := range append(paths(target("x")), "lock", "limits", "groups") {
		if strings.HasSuffix(rest, "."+path) && len(path) > len(longest) {
			longest = path
		}
	}
	return strings.TrimSuffix(rest, "."+longest)
}

func describeTests(list []policy.Result) []PolicyTest {
	out := []PolicyTest{}
	for _, r := range list {
		out = append(out, PolicyTest{r.Test.Text(), r.Test.Pos.Line, r.OK, r.Got()})
	}
	return out
}

// policyTest runs the tests: of the policy in force.
func (s *Server) policyTest(context.Context, Peer, Empty) (PolicyTests, error) {
	r := s.o.Policy.Current()
	return PolicyTests{r.N, describeTests(policy.RunTests(r.Document, r.N, time.Now()))}, nil
}

// warnOfTests at the start: a test may fail because a date has passed.
func (s *Server) warnOfTests() {
	r := s.o.Policy.Current()
	for _, t := range describeTests(policy.RunTests(r.Document, r.N, time.Now())) {
		if !t.OK {
			s.o.Log.Warn("a test of the policy fails", "line", t.Line, "test", t.Test, "got", t.Got, "revision", r.N)
		}
	}
}

// historyLimit is how many revisions one answer holds unless asked otherwise, and at most.
const historyLimit, historyMax = 20, 1000

func (s *Server) policyHistory(_ context.Context, _ Peer, q PolicyHistory) (PolicyRevisions, error) {
	pending, err := s.o.Policy.Pending()
	if err != nil {
		return PolicyRevisions{}, err
	}
	limit := q.Limit
	if limit <= 0 {
		limit = historyLimit
	}
	before := q.Before
	if q.Revision != nil {
		if before, limit = *q.Revision+1, 1; *q.Revision == 0 {
			return PolicyRevisions{[]PolicyRevision{{Who: "built-in", Diff: []policy.Difference{}, Document: string(policy.Default().Text())}}}, nil
		}
	}
	list, err := s.o.Policy.History(before, min(limit, historyMax))
	if err != nil {
		return PolicyRevisions{}, err
	}
	out := PolicyRevisions{[]PolicyRevision{}}
	for _, e := range list {
		x := PolicyRevision{Revision: e.N, At: e.At, Who: e.Who, Why: e.Why, Diff: append([]policy.Difference{}, e.Diff...), Pending: pending != nil && pending.Revision == e.N}
		if q.Revision != nil {
			if e.N != *q.Revision {
				return PolicyRevisions{}, policydb.ErrNoRevision
			}
			r, err := s.o.Policy.Revision(e.N)
			if err != nil {
				return PolicyRevisions{}, err
			}
			x.Document = string(r.Document.Text())
		}
		out.Revisions = append(out.Revisions, x)
	}
	return out, nil
}
