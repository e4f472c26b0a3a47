package vfs

import "context"

// keep holds off the removal of the volume's blobs until the same number of letGo, and waits for a removal under way. What
// is given up meanwhile stays on the disk, and in the list of what is to be unlinked. The account's destruction is not held off.
func (v *Volume) keep(ctx context.Context) error {
	v.mu.Lock()
	v.keeping++ // no removal begins from here on
	for v.removing > 0 {
		turn := v.removed
		v.mu.Unlock()
		select {
		case <-turn:
		case <-ctx.Done():
			v.letGo()
			return ctx.Err()
		}
		v.mu.Lock()
	}
	v.mu.Unlock()
	return nil
}

// letGo says whether something waits to be removed since: then removeDoomed is to be called.
func (v *Volume) letGo() (waits bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.keeping--; v.keeping > 0 || !v.kept {
		return false
	}
	v.kept = false
	return true
}

// removes runs fn, which removes blobs, unless they are kept. What fn removes must have been read inside it: what was given
// up after keep began is in what keep was begun for.
func (v *Volume) removes(fn func() error) (done bool, err error) {
	v.mu.Lock()
	if v.keeping > 0 {
		v.mu.Unlock()
		return false, nil
	}
	if v.removing++; v.removing == 1 {
		v.removed = make(chan struct{})
	}
	v.mu.Unlock()
	defer func() {
		v.mu.Lock()
		defer v.mu.Unlock()
		if v.removing--; v.removing == 0 {
			close(v.removed)
		}
	}()
	return true, fn()
}

// waits remembers that something is to be removed when nobody keeps it any more.
func (v *Volume) waits() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.kept = v.keeping > 0
}
