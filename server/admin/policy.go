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

// policyShow is the whole document, or what holds for one account in the end.
func (s *Server) policyShow(_ context.Context, _ Peer, q PolicyQuery) (Policy, error) {
	r := s.o.Policy.Current()
	out := Policy{Revision: r.N, Account: q.Account, Settings: []Setting{}}
	if q.Account == "" {
		out.Document = string(r.Document.Text())
		return out, nil
	}
	if _, err := s.o.Policy.Account(q.Account); err != nil {
		return Policy{}, err
	}
	for _, row := range r.Resolve(q.Account).Rows() {
		origin := row.Origin
		if !row.Enforced {
			origin += "; stored, not enforced yet"
		}
		out.Settings = append(out.Settings, Setting{Key: row.Path, Value: row.Value, Origin: origin})
	}
	return out, nil
}

// policyGet is what the document says explicitly at a key or below a level.
func (s *Server) policyGet(_ context.Context, _ Peer, q PolicyQuery) (Policy, error) {
	r := s.o.Policy.Current()
	out := Policy{Revision: r.N, Settings: []Setting{}}
	levels := levelsOf(r.Document)
	if target, path, ok := splitKey(q.Key); ok {
		value, set := r.Document.Get(target, path)
		origin := string(target)
		if !set {
			setting := policy.Lookup(path)
			if setting == nil {
				return Policy{}, newError(CodeNotFound, q.Key+" is not set", "")
			}
			value, origin = setting.DefaultText(), "not set; the built-in value"
		}
		out.Settings = append(out.Settings, Setting{Key: q.Key, Value: value, Origin: origin})
		return out, nil
	}
	found := q.Key == ""
	for _, l := range levels {
		if q.Key != "" && q.Key != l.prefix {
			continue
		}
		found = true
		for _, path := range paths(l.target) {
			if value, ok := r.Document.Get(l.target, path); ok {
				out.Settings = append(out.Settings, Setting{Key: l.prefix + "." + path, Value: value})
			}
		}
	}
	if !found {
		return Policy{}, newError(CodeNotFound, fmt.Sprintf("the policy has no setting and no level %q", q.Key), "keys are site.SETTING, groups.NAME.SETTING or accounts.NAME.SETTING; `sallyport policy show` has the document")
	}
	return out, nil
}

// level is a place of the document and how keys name it.
type level struct {
	prefix string
	target policy.Target
}

func levelsOf(d *policy.Document) []level {
	out := []level{{"site", policy.Site}}
	for _, g := range d.Groups() {
		out = append(out, level{"groups." + g, policy.GroupTarget(g)})
	}
	for _, a := range d.Accounts() {
		out = append(out, level{"accounts." + a, policy.AccountTarget(a)})
	}
	return out
}

// paths of settings that can stand at a target.
func paths(t policy.Target) []string {
	var out []string
	if strings.HasPrefix(string(t), "account ") {
		out = append(out, "groups")
	}
	for _, s := range policy.Settings() {
		out = append(out, s.Path)
	}
	return out
}

// splitKey reads "site.session.max", "groups.partners.paths",
// "accounts.john.doe.session.max" (names may hold dots), or a bare setting,
// which is the site's.
func splitKey(key string) (policy.Target, string, bool) {
	if policy.Lookup(key) != nil {
		return policy.Site, key, true
	}
	kind, rest, _ := strings.Cut(key, ".")
	if kind == "site" {
		return policy.Site, rest, policy.Lookup(rest) != nil
	}
	var target func(string) policy.Target
	switch kind {
	case "groups", "group":
		target = policy.GroupTarget
	case "accounts", "account":
		target = policy.AccountTarget
	default:
		return "", "", false
	}
	longest := ""
	for _, path := range paths(target("x")) {
		if strings.HasSuffix(rest, "."+path) && len(path) > len(longest) {
			longest = path
		}
	}
	name := strings.TrimSuffix(rest, "."+longest)
	return target(name), longest, longest != "" && policy.ValidName(name)
}

// applyTries is how often a change without a base is made again on the policy that another change left.
const applyTries = 5

func (s *Server) policySet(ctx context.Context, who Peer, r PolicySet) (Revision, error) {
	for try := 1; ; try++ {
		current := s.o.Policy.Current()
		if r.Base != 0 && r.Base != current.N {
			return Revision{}, fmt.Errorf("%w: it is at revision %d, not %d", policydb.ErrConflict, current.N, r.Base)
		}
		doc, err := s.edit(current.Document, r.Set)
		if err != nil {
			return Revision{}, err
		}
		rev, err := s.o.Policy.Apply(ctx, policydb.Change{Base: current.N, Text: doc.Text(), Who: who.String(), Why: r.Reason})
		if errors.Is(err, policydb.ErrConflict) && r.Base == 0 && try < applyTries {
			continue
		}
		if err != nil {
			return Revision{}, err
		}
		var keys []string
		for _, kv := range r.Set {
			keys = append(keys, kv.Key)
		}
		return Revision{rev.N}, s.record(ctx, who, audit.Event{Action: audit.PolicyApply, Revision: rev.N, Detail: join(strings.Join(keys, ", "), r.Reason)})
	}
}

// edit makes the document in which every pair is set, or unset where the value
// is empty. Rules for an account that does not exist are refused: they are a
// typing mistake, or would be waiting for somebody else of that name.
func (s *Server) edit(d *policy.Document, set []KeyValue) (*policy.Document, error) {
	for _, kv := range set {
		target, path, ok := splitKey(kv.Key)
		if !ok {
			return nil, newError(CodeInvalid, fmt.Sprintf("there is no setting %q", kv.Key), "keys are site.SETTING, groups.NAME.SETTING or accounts.NAME.SETTING; `sallyport policy show --account NAME` lists the settings")
		}
		if name, ok := strings.CutPrefix(string(target), "account "); ok && !d.Mentions(name) {
			if _, err := s.o.Policy.Account(name); err != nil {
				return nil, err
			}
		}
		var err error
		if strings.TrimSpace(kv.Value) == "" {
			d, err = d.Unset(target, path)
		} else {
			d, err = d.Set(target, path, kv.Value)
		}
		if err != nil {
			return nil, err
		}
	}
	return d, nil
}
