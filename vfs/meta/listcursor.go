package meta

// listCursor is where a listing goes on.
type listCursor struct {
	legs []listLeg // over the live entries: one for each key of the account that they were walked under

	past  bool  // the live entries are done
	until int64 // the instant at which the last past entries ended that were seen
	marks []leg // how far those of that instant were: one for each key
}

// listLeg is a walk over the live entries under one key.
type listLeg struct {
	version uint32
	passes  []pass // in order of their tokens
}

// pass says that the live entries up to a token, after those of the pass
// before, were walked when the given instant was the volume's last.
type pass struct {
	last    token
	instant int64
}

// token of the live entry to go on after, nil = the start.
func (l *listLeg) token() []byte {
	if len(l.passes) == 0 {
		return nil
	}
	return l.passes[len(l.passes)-1].last[:]
}

// walked notes a pass up to the token last, nil = to the end.
func (l *listLeg) walked(last []byte, instant int64) {
	p := pass{instant: instant}
	if last == nil {
		for i := range p.last {
			p.last[i] = 0xff
		}
	} else {
		p.last = token(last)
	}
	if n := len(l.passes); n > 0 && l.passes[n-1].instant == instant {
		l.passes = l.passes[:n-1] // nothing was committed in between: one pass
	}
	l.passes = append(l.passes, p)
}

// passOver is the pass that walked a token, nil if none came to it.
func (l *listLeg) passOver(tok string) *pass {
	for i := range l.passes {
		if tok <= string(l.passes[i].last[:]) {
			return &l.passes[i]
		}
	}
	return nil
}

// mark notes how far the past entries were seen.
func (c *listCursor) mark(version uint32, until int64, last token) {
	if until != c.until {
		c.until, c.marks = until, nil
	}
	if n := len(c.marks); n > 0 && c.marks[n-1].version == version {
		c.marks = c.marks[:n-1]
	}
	c.marks = append(c.marks, leg{version, last})
}

func (c *listCursor) encode() []byte {
	var e encoder
	e.u32(uint32(len(c.legs)))
	for _, l := range c.legs {
		e.u32(l.version)
		e.u32(uint32(len(l.passes)))
		for _, p := range l.passes {
			e.raw(p.last[:])
			e.i64(p.instant)
		}
	}
	e.bool(c.past)
	e.i64(c.until)
	e.u32(uint32(len(c.marks)))
	for _, m := range c.marks {
		e.u32(m.version)
		e.raw(m.last[:])
	}
	return e.b
}

func decodeListCursor(b []byte) (*listCursor, error) {
	c := &listCursor{}
	if len(b) == 0 {
		return c, nil
	}
	d := decoder{b: b}
	for range d.count(8) {
		l := listLeg{version: d.u32()}
		for range d.count(tokenSize + 8) {
			var p pass
			copy(p.last[:], d.take(tokenSize))
			p.instant = d.instant()
			l.passes = append(l.passes, p)
		}
		c.legs = append(c.legs, l)
	}
	c.past = d.bool()
	c.until = d.instant()
	for range d.count(4 + tokenSize) {
		m := leg{version: d.u32()}
		copy(m.last[:], d.take(tokenSize))
		c.marks = append(c.marks, m)
	}
	if d.end() != nil || len(c.legs) == 0 || !c.past && (c.until != 0 || len(c.marks) > 0) {
		return nil, invalid("cursor")
	}
	return c, nil
}
