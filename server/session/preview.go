package session

import "sallyport/policy"

// Ending is a session that another policy would end.
type Ending struct {
	Info   Info
	Denial *policy.Denial
}

// WouldEnd tells which sessions Recheck would end if r were in force now. It asks as Recheck does and changes nothing.
func (m *Manager) WouldEnd(r *policy.Revision) []Ending {
	live, _ := m.table()
	now := m.o.Now()
	resolved := map[string]*policy.Effective{}
	var list []Ending
	for _, l := range live {
		p := resolved[l.s.name]
		if p == nil {
			p = r.Resolve(l.s.name)
			resolved[l.s.name] = p
		}
		if d := policy.Admit(p, l.s.facts(l.earlier), now); d != nil {
			list = append(list, Ending{l.s.info(), d})
		}
	}
	return list
}

// Facts of a live session as Recheck sees them now, and its account; false if there is no such session.
func (m *Manager) Facts(id string) (account string, f policy.Facts, ok bool) {
	live, _ := m.table()
	for _, l := range live {
		if l.s.conn.id == id {
			return l.s.name, l.s.facts(l.earlier), true
		}
	}
	return "", policy.Facts{}, false
}
