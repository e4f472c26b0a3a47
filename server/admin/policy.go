package admin

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"sallyport/policy"
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
		out.Settings = append(out.Settings, Setting{Key: row.Path, Value: row.Value, Origin: row.Origin})
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
			if path == "lock" || path == "limits" {
				return out, nil
			}
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
	out := []string{"lock", "limits"}
	if strings.HasPrefix(string(t), "account ") {
		out = []string{"groups"}
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
	if slices.Contains(paths(policy.Site), key) {
		return policy.Site, key, true
	}
	kind, rest, _ := strings.Cut(key, ".")
	if kind == "site" {
		return policy.Site, rest, slices.Contains(paths(policy.Site), rest)
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
