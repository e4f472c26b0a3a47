package content

// Held is what the draft's buffers count in the budget, bytes.
func (d *Draft) Held() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.held
}

// Relieve writes out what the draft buffers, down to a tail of less than one
// segment, so that other drafts find room in the budget. What came out of order
// loses its chance to be put in order. An error shows at the draft's next call.
func (d *Draft) Relieve() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.enter() != nil {
		return
	}
	defer d.leave()
	d.drain()
	d.flush(d.ctx, 1)
}
