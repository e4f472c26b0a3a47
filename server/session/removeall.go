package session

import (
	"sallyport/policy"
)

// RemoveAll removes a tree; everything in it needs the right, which is asked before it begins and again with each transaction, for the
// paths and by the policy of then. Only for that long are names held, so that others who rename do not wait for all of it.
func (g *Guard) RemoveAll(name string) error {
	var tree string
	err := g.do(policy.OpDelete, name, still, func(p *policy.Effective, at string) error {
		if d := policy.PermitTree(p, policy.OpDelete, clean(at)); d != nil {
			return g.s.denied(d, policy.OpDelete, at)
		}
		tree = at
		return nil
	})
	if err != nil {
		return err
	}
	var p *policy.Effective // of the transaction
	enter := func() func() {
		p = g.s.Policy()
		if p.Uniform() {
			return func() {}
		}
		g.s.account.names.RLock()
		return g.s.account.names.RUnlock
	}
	return g.damage(g.view.RemoveAllJudged(tree, enter, func(paths []string) error {
		if _, err := g.begin(); err != nil { // what takes long ends with its session
			return err
		}
		for _, at := range paths {
			if d := policy.Permit(p, policy.OpDelete, clean(at)); d != nil {
				return g.s.denied(d, policy.OpDelete, at)
			}
		}
		if d := g.s.suspended(p); d != nil {
			return g.s.denied(d, policy.OpDelete, tree)
		}
		if g.testOnlyUsing != nil {
			g.testOnlyUsing()
		}
		return nil
	}), tree)
}
