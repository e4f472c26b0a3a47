package admin

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"sallyport/policy"
	"sallyport/policy/policydb"
	"sallyport/server/audit"
)

// applyTries is how often a change without a base is made again on the policy that another change left.
const applyTries = 5

// policyPlan says what a change would do, and changes nothing.
func (s *Server) policyPlan(ctx context.Context, _ Peer, r PolicyChange) (PolicyPlan, error) {
	current := s.o.Policy.Current()
	doc, err := s.draft(current, r)
	if err != nil {
		return PolicyPlan{}, err
	}
	return s.plan(ctx, current, doc)
}

// policyApply plans, asks the guards, and makes the change.
func (s *Server) policyApply(ctx context.Context, who Peer, r PolicyChange) (PolicyPlan, error) {
	for try := 1; ; try++ {
		current := s.o.Policy.Current()
		doc, err := s.draft(current, r)
		if err != nil {
			return PolicyPlan{}, err
		}
		plan, err := s.plan(ctx, current, doc)
		if err != nil {
			return PolicyPlan{}, err
		}
		if string(doc.Text()) == string(current.Document.Text()) && r.Rollback == nil {
			return plan, nil // nothing to change, and so nothing to record
		}
		if err := refuse(&plan, r); err != nil {
			return plan, err
		}
		rev, err := s.make(ctx, who, current, doc, r)
		if errors.Is(err, policydb.ErrConflict) && r.Base == 0 && try < applyTries {
			continue
		}
		if err != nil {
			return PolicyPlan{}, err
		}
		plan.Revision = rev.N
		if r.Confirm > 0 {
			plan.Until = rev.At.Add(r.Confirm)
		}
		return plan, s.record(ctx, who, audit.Event{Action: audit.PolicyApply, Revision: rev.N, Detail: join(s.summary(plan.Changes), r.Reason)})
	}
}

func (s *Server) make(ctx context.Context, who Peer, current *policy.Revision, doc *policy.Document, r PolicyChange) (*policy.Revision, error) {
	if r.Rollback != nil {
		return s.o.Policy.Rollback(ctx, *r.Rollback, current.N, who.String(), r.Reason)
	}
	return s.o.Policy.Apply(ctx, policydb.Change{Base: current.N, Text: doc.Text(), Document: doc, Who: who.String(), Why: r.Reason, Confirm: r.Confirm})
}

// summary of a change for the audit log, which bounds its length, and knows accounts by their ids.
func (s *Server) summary(list []policy.Difference) string {
	var keys []string
	for _, d := range list[:min(len(list), 6)] {
		keys = append(keys, strings.TrimSpace(string(d.Mark)+" "+s.unnamed(d.Key)))
	}
	if more := len(list) - len(keys); more > 0 {
		keys = append(keys, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(keys, ", ")
}

// unnamed is a key of the policy with the id of an account in the place of its name.
func (s *Server) unnamed(key string) string {
	rest, ok := strings.CutPrefix(key, "accounts.")
	if !ok {
		return key
	}
	name := nameIn(rest, policy.AccountTarget)
	id := "removed"
	if a, err := s.o.Policy.Account(name); err == nil {
		id = a.ID.String()
	}
	return "accounts." + id + strings.TrimPrefix(rest, name)
}

// draft is the document that a change asks for.
func (s *Server) draft(current *policy.Revision, r PolicyChange) (*policy.Document, error) {
	if r.Base != 0 && r.Base != current.N {
		return nil, fmt.Errorf("%w: it is at revision %d, not %d", policydb.ErrConflict, current.N, r.Base)
	}
	given := 0
	for _, is := range []bool{r.Text != "", r.Set != nil, r.Preset != "", r.Rollback != nil} {
		if is {
			given++
		}
	}
	if given != 1 || r.Confirm < 0 || r.Confirm > 0 && r.Rollback != nil {
		return nil, newError(CodeUsage, "give one of a document, settings, a preset, or a revision to go back to", "")
	}
	switch {
	case r.Set != nil:
		return s.edit(current.Document, r.Set)
	case r.Rollback != nil:
		old, err := s.o.Policy.Revision(*r.Rollback)
		if err != nil {
			return nil, err
		}
		return old.Document, nil
	case r.Preset != "":
		p := policy.FindPreset(r.Preset)
		if p == nil {
			return nil, newError(CodeNotFound, fmt.Sprintf("there is no preset %q", r.Preset), "`sallyport policy preset` lists them")
		}
		return current.Document.Edit(p.Edits...)
	}
	name := r.Name
	if name == "" {
		name = policy.DefaultName
	}
	doc, err := policy.Parse(name, []byte(r.Text))
	if err != nil {
		return nil, err
	}
	return doc, s.known(current.Document, doc)
}

// known refuses rules for accounts that do not exist: they are a typing mistake, or would wait for somebody else of that
// name. What the policy says already stays.
func (s *Server) known(old, doc *policy.Document) error {
	for _, name := range doc.Accounts() {
		if old.Mentions(name) {
			continue
		}
		if _, err := s.o.Policy.Account(name); errors.Is(err, policydb.ErrNoAccount) {
			return newError(CodeNotFound, fmt.Sprintf("the document has rules for %s, and there is no such account", name), "make it first with `sallyport account add`, or correct the name")
		} else if err != nil {
			return err
		}
	}
	return nil
}

// edit makes the document in which every pair is set, or unset where the value
// is empty. Rules for an account that does not exist are refused.
func (s *Server) edit(d *policy.Document, set []KeyValue) (*policy.Document, error) {
	var edits []policy.Edit
	for _, kv := range set {
		target, path, ok := splitKey(kv.Key)
		if name, isGroup := strings.CutPrefix(kv.Key, "groups."); isGroup && !ok && policy.ValidName(name) {
			target, path, ok = policy.GroupTarget(name), "", kv.Value == "" || kv.Value == "{}"
		}
		if !ok {
			return nil, newError(CodeInvalid, fmt.Sprintf("there is no setting %q", kv.Key), "keys are site.SETTING, groups.NAME.SETTING or accounts.NAME.SETTING; `sallyport policy show --account NAME` lists the settings")
		}
		if name, ok := strings.CutPrefix(string(target), "account "); ok && !d.Mentions(name) {
			if _, err := s.o.Policy.Account(name); err != nil {
				return nil, err
			}
		}
		edits = append(edits, policy.Edit{Target: target, Path: path, Value: kv.Value})
	}
	doc, err := d.Edit(edits...)
	var parse *policy.ParseError
	if err != nil && !errors.As(err, &parse) {
		return nil, newError(CodeInvalid, err.Error(), "")
	}
	return doc, err
}

// refuse asks the guards of a change.
func refuse(plan *PolicyPlan, r PolicyChange) error {
	if plan.Looser && strings.TrimSpace(r.Reason) == "" {
		return newError(CodeRefused, "the change loosens "+looserKeys(plan.Changes)+", and that needs a reason", "add --reason 'why'; tightening needs none")
	}
	for _, l := range plan.LockedOut {
		if l.Guarded {
			return newError(CodeRefused, fmt.Sprintf("the change would lock out %s (%s by %s), which guard.never_lock_out protects", l.Account, l.Code, l.Rule),
				"leave the account a way in, or take it out of guard.never_lock_out first")
		}
	}
	if r.Yes {
		return nil
	}
	if plan.Nobody {
		return newError(CodeRefused, fmt.Sprintf("after this change no account could log in any more; %s by %s of account %s is one of the reasons", plan.LockedOut[0].Code, plan.LockedOut[0].Rule, plan.LockedOut[0].Account),
			"`sallyport policy plan` shows who is locked out and why; --yes makes the change all the same")
	}
	for _, t := range plan.Tests {
		if !t.OK {
			return newError(CodeRefused, fmt.Sprintf("a test of the policy fails: line %d, %s: got %s", t.Line, t.Test, t.Got), "correct the policy or the test; --yes makes the change all the same")
		}
	}
	return nil
}

func looserKeys(list []policy.Difference) string {
	var keys []string
	for _, d := range list {
		if d.Mark == policy.Looser {
			keys = append(keys, d.Key)
		}
	}
	if len(keys) > 3 {
		keys = append(keys[:3], fmt.Sprintf("and %d more", len(keys)-3))
	}
	return strings.Join(keys, ", ")
}

// policySet is policyApply for settings, with the short answer.
func (s *Server) policySet(ctx context.Context, who Peer, r PolicySet) (Revision, error) {
	set := r.Set
	if set == nil {
		set = []KeyValue{}
	}
	plan, err := s.policyApply(ctx, who, PolicyChange{Change: r.Change, Set: set, Base: r.Base, Yes: r.Yes, Confirm: r.Confirm})
	if plan.Revision == 0 {
		plan.Revision = plan.Base
	}
	return Revision{plan.Revision}, err
}

// policyConfirm keeps a change that would go back by itself.
func (s *Server) policyConfirm(ctx context.Context, who Peer, r PolicyConfirm) (Confirmed, error) {
	p, err := s.o.Policy.Confirm(ctx, r.Revision)
	if err != nil {
		return Confirmed{}, err
	}
	return Confirmed{p.Revision}, s.record(ctx, who, audit.Event{Action: audit.PolicyConfirm, Revision: p.Revision, Detail: r.Reason})
}

// wentBack records an automatic rollback: nobody is there to be told.
func (s *Server) wentBack(r *policy.Revision) {
	s.o.Log.Warn("a policy change was not confirmed in time and was taken back", "revision", r.N, "why", r.Why)
	e := audit.Event{Action: audit.PolicyApply, Revision: r.N, Who: r.Who, Detail: r.Why}
	if err := s.o.Record(context.Background(), e); err != nil {
		s.o.Log.Error("an automatic rollback is not in the audit log", "revision", r.N, "error", err)
	}
}
