package session

import (
	"path"

	"sallyport/policy"
)

// permsMemo keeps the answer for a whole directory: a listing asks for each of its entries.
type permsMemo struct {
	policy *policy.Effective
	dir    string // as asked
	at     string // canonical
	all    map[policy.Op]bool
}

// Perms are the rights of the account on a path now, for MLST's Perm fact: a set of policy.Op. The caller must not change it.
func (g *Guard) Perms(name string) map[policy.Op]bool {
	if h, err := g.past(name); h != nil || err != nil {
		if err != nil {
			return nil
		}
		return h.perms()
	}
	p, err := g.begin()
	if err != nil {
		return nil
	}
	dir, base := path.Split(clean(name))
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.perms.policy != p || g.perms.dir != dir {
		at := dir
		if !p.Uniform() {
			if at, err = g.view.Resolve(dir, true); err != nil {
				return nil
			}
		}
		g.perms = permsMemo{policy: p, dir: dir, at: at}
	}
	if p.Uniform() && base != policy.Reserved[1:] {
		if g.perms.all == nil {
			g.perms.all = permsOf(p, "/")
		}
		return g.perms.all
	}
	return permsOf(p, path.Join(g.perms.at, base))
}

func permsOf(p *policy.Effective, at string) map[policy.Op]bool {
	set := map[policy.Op]bool{}
	for op := policy.OpList; op <= policy.OpStat; op++ {
		if policy.Permit(p, op, at) == nil {
			set[op] = true
		}
	}
	return set
}

// Space is what statvfs and AVBL tell. Without quota, and if the host's space is not known, Free is 1 PiB.
type Space struct{ BytesTotal, BytesFree, FilesTotal, FilesFree uint64 }

const unknownSpace = 1 << 50

// Space tells what the account may still store.
func (g *Guard) Space() (Space, error) {
	p, err := g.begin()
	if err != nil {
		return Space{}, err
	}
	bytes, files, history := g.view.Usage()
	if p.Quota.CountHistory {
		bytes += history
	}
	total, free := uint64(unknownSpace)+bytes, uint64(unknownSpace)
	if fn := g.s.conn.m.o.HostSpace; fn != nil {
		if total, free, err = fn(); err != nil {
			return Space{}, err
		}
	}
	sp := Space{BytesTotal: total, BytesFree: free, FilesTotal: 1<<32 + files, FilesFree: 1 << 32}
	if q := uint64(p.Quota.Bytes); q > 0 {
		sp.BytesTotal, sp.BytesFree = q, min(free, q-min(q, bytes))
	}
	if q := uint64(p.Quota.Files); q > 0 {
		sp.FilesTotal, sp.FilesFree = q, q-min(q, files)
	}
	return sp, nil
}
