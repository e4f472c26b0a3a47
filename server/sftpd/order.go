package sftpd

// done is closed when a request has been answered.
type done = <-chan struct{}

// order keeps the requests of one handle, or those that name paths, in the
// sequence that draft-ietf-secsh-filexfer-02, section 6.1 promises, while reads
// overlap. It is touched only by the goroutine that reads packets: requests
// carry what they must wait for with them, so there is no lock and no queue.
type order struct {
	exclusive done   // the last request that nothing may overtake
	shared    []done // those since that may overlap each other
}

// waits returns what a request must wait for: shared requests for the last
// exclusive one, exclusive requests for everything.
func (o *order) waits(shared bool) []done {
	var w []done
	if o.exclusive != nil {
		if finished(o.exclusive) {
			o.exclusive = nil
		} else {
			w = append(w, o.exclusive)
		}
	}
	if !shared {
		o.shared = unfinished(o.shared)
		w = append(w, o.shared...)
	}
	return w
}

// add records a request that is under way.
func (o *order) add(shared bool, d done) {
	if shared {
		o.shared = append(unfinished(o.shared), d)
		return
	}
	o.exclusive, o.shared = d, nil
}

func finished(d done) bool {
	select {
	case <-d:
		return true
	default:
		return false
	}
}

// unfinished filters ds in place.
func unfinished(ds []done) []done {
	kept := ds[:0]
	for _, d := range ds {
		if !finished(d) {
			kept = append(kept, d)
		}
	}
	clear(ds[len(kept):])
	return kept
}
