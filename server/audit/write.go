package audit

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"sallyport/crypto/record"
)

// write makes a batch durable.
func (l *Log) write(batch []*item) error {
	if l.size >= l.o.MaxFile || l.aged() {
		if err := full(l.rotate()); err != nil && !errors.Is(err, ErrFull) {
			return err
		} // else the old file goes on, in what is reserved behind its end
	}
	seq, prev := l.seq, l.prev
	var buf []byte
	origins := map[string]bool{}
	for _, it := range batch {
		if o := it.event.Origin; o != "" {
			if l.origins.has(o) || origins[o] {
				continue // handed over again after a crash
			}
			origins[o] = true
		}
		if it.event.Time.IsZero() {
			it.event.Time = l.o.Now()
		}
		if l.begun.IsZero() {
			l.begun = it.event.Time
		}
		start := len(buf)
		buf = l.frame(buf, it.event.encode())
		it.seq = l.seq
		l.prev = sha256.Sum256(buf[start:])
	}
	if len(buf) == 0 {
		return nil
	}
	if _, err := l.file.Write(buf); err != nil {
		err = full(fmt.Errorf("writing the audit log: %w", err))
		if errors.Is(err, ErrFull) {
			// No fsync has failed, so what is durable is known; the part of a record behind it must go.
			if cut := l.file.Truncate(l.size); cut != nil {
				return fmt.Errorf("taking back what did not fit the disk: %w", cut)
			}
			l.reserved = 0 // it was used up, and the rest went with the cut
			l.seq, l.prev = seq, prev
		}
		return err
	}
	if err := l.file.Sync(); err != nil {
		return fmt.Errorf("syncing the audit log: %w", err)
	}
	for _, it := range batch {
		l.origins.add(it.event.Origin)
	}
	l.size += int64(len(buf))
	l.topUp()
	l.mu.Lock()
	l.durable = l.seq
	close(l.changed)
	l.changed = make(chan struct{})
	l.mu.Unlock()
	err := l.checkpointIfDue()
	if err == nil && (l.seq-l.headSeq >= headRecords || l.o.Now().Sub(l.headAt) >= headInterval) {
		err = full(l.saveHead())
	}
	if errors.Is(err, ErrFull) {
		return nil // the old head stays: it names a record that is certainly there; and what is not signed is signed later
	}
	return err
}

// frame appends the next record to buf.
func (l *Log) frame(buf, plain []byte) []byte {
	l.seq++
	var place [headerSize]byte
	binary.BigEndian.PutUint64(place[:], l.seq)
	copy(place[8:], l.prev[:])
	start := len(buf)
	buf = append(buf, 0, 0, 0, 0)
	buf = append(buf, place[:]...)
	buf = l.o.Box.Seal(buf, record.DomainAudit, place[:], plain)
	binary.BigEndian.PutUint32(buf[start:], uint32(len(buf)-start-4))
	return buf
}
