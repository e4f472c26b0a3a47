package meta

import (
	"sallyport/crypto/record"
)

// maxEvent is the longest audit event, bytes.
const maxEvent = 1 << 20

// Emit puts an audit event into the outbox, in this transaction: neither can
// be without the other. Its number rises by one and is never given twice, so a consumer
// that has seen (account, number) can drop an event that comes again after a crash.
func (tx *Tx) Emit(event []byte) error {
	if len(event) > maxEvent {
		return invalid("audit event of more than 1 MiB")
	}
	tx.head.lastSeq++
	e := encoder{make([]byte, 0, 4+len(event))}
	e.bytes(event)
	tx.put(record.DomainOutbox, seqKey(tx.head.lastSeq), e.b, nil)
	return nil
}

func decodeEvent(b []byte) ([]byte, error) {
	d := decoder{b: b}
	event := d.bytes(maxEvent)
	return event, d.end()
}

// Outbox calls fn with the events in order of their numbers, without those
// that AckLater has taken note of, until fn returns false. fn owns the event.
func (tx *Tx) Outbox(fn func(seq uint64, event []byte) bool) error {
	for f := range tx.scan(record.DomainOutbox, nil, seqKey(tx.db.owner.acked.Load()+1)) {
		plain, err := tx.openFound(record.DomainOutbox, f)
		if err != nil {
			return err
		}
		event, err := decodeEvent(plain)
		if err != nil || len(f.key) != 8 {
			return broken(record.DomainOutbox, errMalformed)
		}
		if !fn(be64(f.key), event) {
			return nil
		}
	}
	return nil
}

// Ack removes the events up to and including the given number.
func (tx *Tx) Ack(upTo uint64) error {
	for f := range tx.scan(record.DomainOutbox, nil, nil) {
		if len(f.key) != 8 {
			return broken(record.DomainOutbox, errMalformed)
		}
		if be64(f.key) > upTo {
			return nil
		}
		tx.remove(record.DomainOutbox, f.key)
	}
	return nil
}

// AckLater takes note that the events up to the given number have reached the
// chain. Outbox does not deliver them again; they are removed with the next group that
// commits anything, or at Close. After a crash before that they are delivered
// again. It costs nothing, where Ack in an Update of its own costs an fsync.
//
// Nothing but tests calls it so far: vfs.Volume.Drain acknowledges each batch with Ack, in a transaction of its own.
func (db *DB) AckLater(upTo uint64) {
	if p := db.newest.Load().published.Load(); p != nil {
		upTo = min(upTo, p.head.lastSeq) // never an event that is yet to come
	}
	for {
		old := db.acked.Load()
		if old >= upTo || db.acked.CompareAndSwap(old, upTo) {
			return
		}
	}
}
