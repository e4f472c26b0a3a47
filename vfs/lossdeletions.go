package vfs

import "math"

// deletions are rows of names that went after a little work. A file that was overwritten within the minute before a tree was deleted belongs to the
// same row of losses, so the instant before that row lacks what the file became; these have one of their own, just before the first name went.
// It must not lie in the middle of what somebody wants undone. So it is given only where nothing but a few files' bytes were lost in the minute
// before, there was a pause after them, and the names then went without one. Up to nine files that an attack begins with, before such a pause, are
// taken for work; the instant before the whole row is offered beside this one.
type deletions struct {
	rows []lossRow

	over  [lossLeast]int64 // instants of the last files that lost bytes, in a ring
	overs int
	name  lossRow // names that went, of late, without a pause
	alone bool    // it has an instant of its own, if it becomes long enough
	some  bool    // there was a name
}

// overwritten takes the instant at which a file lost bytes.
func (d *deletions) overwritten(at int64) {
	d.over[d.overs%lossLeast] = at
	d.overs++
	d.alone = false
}

// gone takes the instant at which a name went.
func (d *deletions) gone(at int64) {
	if pause := at - d.name.last; !d.some || pause > int64(lossPause) {
		d.alone = (!d.some || pause > int64(lossWindow)) && d.afterWork(at)
		d.name, d.some = lossRow{first: at}, true
	}
	d.name.last = at
	d.name.count++
	switch k := len(d.rows) - 1; {
	case !d.alone || d.name.count < lossLeast:
	case k >= 0 && d.rows[k].first == d.name.first:
		d.rows[k] = d.name
	default:
		if len(d.rows) >= lossKept {
			d.rows = withoutSmallest(d.rows)
		}
		d.rows = append(d.rows, d.name)
	}
}

// afterWork tells whether few files lost bytes in the minute before at, and none just before it.
func (d *deletions) afterWork(at int64) bool {
	last, tenth := int64(math.MinInt64/2), int64(math.MinInt64/2)
	if d.overs > 0 {
		last = d.over[(d.overs-1)%lossLeast]
	}
	if d.overs >= lossLeast {
		tenth = d.over[d.overs%lossLeast]
	}
	return at-last > int64(lossPause) && at-last <= int64(lossWindow) && at-tenth > int64(lossWindow)
}
