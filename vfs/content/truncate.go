package content

// Truncate sets the size. What lies beyond is gone: growing again shows zero bytes.
func (d *Draft) Truncate(size int64) error {
	if err := checkRange(size, 0); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.enter(); err != nil {
		return err
	}
	defer d.leave()
	to := uint64(size)
	if to == d.size {
		return nil
	}
	d.changed = true
	shrinks := to < d.size
	d.size = to
	if !shrinks {
		return nil
	}
	d.window.truncate(to, d.freeChunk)
	d.m.Truncate(to)
	if d.window.empty() {
		d.next = to
	}
	return d.leaveLine(to)
}

// leaveLine makes sure that recovery after a crash does not bring truncated bytes back.
func (d *Draft) leaveLine(size uint64) error {
	logged := d.logged()<<segmentShift + uint64(d.fill)
	if logged == 0 || d.linearFrom+logged <= size {
		return nil
	}
	d.broken = true
	for d.busy {
		d.changes.Wait()
	}
	if d.err == nil && d.log != nil {
		d.withLog(func() error { return d.log.scatter(d.ctx) })
	}
	return d.err
}

// truncate drops dirty bytes from size on; free takes emptied chunks.
func (w *window) truncate(size uint64, free func(*chunk)) {
	kept := w.chunks[:0]
	for _, c := range w.chunks {
		if at := int64(size) - w.start(c); at < segmentPlain {
			c.clean(int(max(at, 0)), segmentPlain)
		}
		if len(c.dirty) > 0 {
			kept = append(kept, c)
		} else {
			free(c)
		}
	}
	clear(w.chunks[len(kept):])
	w.chunks = kept
}
