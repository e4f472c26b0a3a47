package audit

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"

	"sallyport/crypto/durable"
)

const (
	checkpointMagic = "SPAUDCP1"
	checkpointSize  = 196
	checkpointBody  = checkpointSize - ed25519.SignatureSize
	checkpointLabel = "sallyport.audit.checkpoint.v1\x00"

	checkpointName     = "checkpoints"
	checkpointRecords  = 4096
	checkpointInterval = 10 * time.Minute
)

// Checkpoint is the signed statement that the log up to a record was what its hash says. Whoever has the public key can
// check it, and with it the chain of frames before it, without any secret.
type Checkpoint struct {
	Number  uint64 // from 1
	Time    time.Time
	Seq     uint64 // of the last record that it covers
	Hash    hash   // of that record's frame
	First   uint64 // number of the first record that is kept; what was before is gone by the policy of retention
	Before  hash   // of the frame before First; zero if First is 1
	Prev    hash   // of the checkpoint before, its signature included; zero in number 1
	Version uint32 // of the key
	sig     [ed25519.SignatureSize]byte
}

func (c *Checkpoint) encode() []byte {
	b := make([]byte, 0, checkpointSize)
	b = binary.BigEndian.AppendUint64(b, c.Number)
	b = binary.BigEndian.AppendUint64(b, uint64(c.Time.UnixNano()))
	b = binary.BigEndian.AppendUint64(b, c.Seq)
	b = append(b, c.Hash[:]...)
	b = binary.BigEndian.AppendUint64(b, c.First)
	b = append(b, c.Before[:]...)
	b = append(b, c.Prev[:]...)
	b = binary.BigEndian.AppendUint32(b, c.Version)
	return append(b, c.sig[:]...)
}

func decodeCheckpoint(b []byte) *Checkpoint {
	c := &Checkpoint{
		Number: binary.BigEndian.Uint64(b), Time: time.Unix(0, int64(binary.BigEndian.Uint64(b[8:]))).UTC(), Seq: binary.BigEndian.Uint64(b[16:]),
		First: binary.BigEndian.Uint64(b[56:]), Version: binary.BigEndian.Uint32(b[128:]),
	}
	copy(c.Hash[:], b[24:])
	copy(c.Before[:], b[64:])
	copy(c.Prev[:], b[96:])
	copy(c.sig[:], b[checkpointBody:])
	return c
}

func (c *Checkpoint) sum() hash { return sha256.Sum256(c.encode()) }

func (c *Checkpoint) sign(key crypto.Signer) error {
	sig, err := key.Sign(nil, append([]byte(checkpointLabel), c.encode()[:checkpointBody]...), crypto.Hash(0)) // Ed25519 needs no randomness
	if err == nil && len(sig) != len(c.sig) {
		err = fmt.Errorf("internal error: a signature of %d bytes", len(sig))
	}
	if err != nil {
		return fmt.Errorf("signing a checkpoint of the audit log: %w", err)
	}
	copy(c.sig[:], sig)
	return nil
}

func (c *Checkpoint) signedBy(key ed25519.PublicKey) bool {
	return len(key) == ed25519.PublicKeySize && ed25519.Verify(key, append([]byte(checkpointLabel), c.encode()[:checkpointBody]...), c.sig[:])
}

// checkpoints are those of a directory, chained and in order.
type checkpoints struct {
	list []*Checkpoint
	size int64 // of the file without an entry that is not complete; 0 = the file must be made anew
	at   int   // the next one that a scan meets
}

// last is never nil: before the first checkpoint everything is kept and nothing is signed.
func (p *checkpoints) last() *Checkpoint {
	if len(p.list) == 0 {
		return &Checkpoint{First: 1}
	}
	return p.list[len(p.list)-1]
}

// allKnown: every checkpoint that is there must be right.
const allKnown = math.MaxUint64

// readCheckpoints checks the chain, and the signature of the last one, which covers all before it. known is the number that
// the head names: one more may stand behind it, which a power loss made incomplete.
func readCheckpoints(dir string, key ed25519.PublicKey, known uint64) (*checkpoints, error) {
	data, err := os.ReadFile(filepath.Join(dir, checkpointName))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("reading the checkpoints of the audit log: %w", err)
	}
	p := new(checkpoints)
	if len(data) < len(checkpointMagic) || zero(data) {
		return p, nil // not there, or its making was cut short: the head tells whether that may be
	}
	if !bytes.HasPrefix(data, []byte(checkpointMagic)) {
		return nil, badCheckpoint(p.last(), fmt.Sprintf("format %q is unknown to this program", data[:len(checkpointMagic)]))
	}
	p.size = int64(len(checkpointMagic))
	var prev hash
	for rest := data[p.size:]; len(rest) >= checkpointSize; rest = rest[checkpointSize:] {
		c, last := decodeCheckpoint(rest), p.last()
		if c.Number != last.Number+1 || c.Prev != prev || c.Seq < last.Seq || c.First < last.First || c.First > c.Seq+1 {
			if last.Number >= known && len(rest) < 2*checkpointSize {
				break
			}
			return nil, badCheckpoint(last, "it does not follow the one before")
		}
		prev = c.sum()
		p.list, p.size = append(p.list, c), p.size+checkpointSize
	}
	if n := len(p.list); n > 0 && !p.list[n-1].signedBy(key) {
		good := n - 1 // say which is the first bad one, not the last
		for i, c := range p.list {
			if !c.signedBy(key) {
				good = i
				break
			}
		}
		p.list = p.list[:good]
		if good == n-1 && uint64(good) >= known {
			p.size -= checkpointSize
			return p, nil
		}
		return nil, badCheckpoint(p.last(), "its signature is not that of the key")
	}
	return p, nil
}

// badCheckpoint: what the one after good said is unproven, from the first record on that good does not cover.
func badCheckpoint(good *Checkpoint, reason string) error {
	return &DamageError{Checkpoint: good.Number + 1, Record: good.Seq + 1, File: checkpointName, Reason: reason}
}

// meet compares a record with the checkpoints that name it.
func (p *checkpoints) meet(seq uint64, sum hash) error {
	for ; p.at < len(p.list) && p.list[p.at].Seq <= seq; p.at++ {
		if c := p.list[p.at]; c.Seq == seq && c.Hash != sum {
			return &DamageError{Reason: fmt.Sprintf("it is not the record that checkpoint %d names", c.Number)}
		}
	}
	return nil
}

// openCheckpoints makes the file ready for the next one.
func (l *Log) openCheckpoints(p *checkpoints) error {
	l.last, l.lastAt = p.last(), l.o.Now()
	if l.o.Signer == nil {
		return nil
	}
	f, err := os.OpenFile(filepath.Join(l.o.Dir, checkpointName), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("opening the checkpoints of the audit log: %w", err)
	}
	err = f.Truncate(p.size)
	if err == nil && p.size == 0 {
		_, err = f.WriteString(checkpointMagic)
		p.size = int64(len(checkpointMagic))
	}
	if err = errors.Join(err, f.Sync(), durable.SyncDir(l.o.Dir)); err != nil {
		f.Close()
		return fmt.Errorf("opening the checkpoints of the audit log: %w", err)
	}
	l.points, l.pointsSize = f, p.size
	return nil
}

// checkpoint signs what is durable, unless that is signed already, and names it in the head. Its record must be durable first.
func (l *Log) checkpoint() error {
	if l.o.Signer == nil || l.seq == l.last.Seq && l.first == l.last.First {
		return nil
	}
	c := &Checkpoint{
		Number: l.last.Number + 1, Time: l.o.Now().UTC().Round(0), Seq: l.seq, Hash: l.prev, First: l.first, Before: l.before, Version: l.o.KeyVersion,
	}
	if l.last.Number > 0 {
		c.Prev = l.last.sum()
	}
	if err := c.sign(l.o.Signer); err != nil {
		return err
	}
	if _, err := l.points.Write(c.encode()); err != nil {
		if cut := l.points.Truncate(l.pointsSize); cut != nil {
			return fmt.Errorf("taking back a checkpoint that did not fit the disk: %w", cut)
		}
		return full(fmt.Errorf("writing a checkpoint of the audit log: %w", err))
	}
	if err := l.points.Sync(); err != nil {
		return fmt.Errorf("syncing a checkpoint of the audit log: %w", err)
	}
	l.last, l.lastAt, l.pointsSize = c, l.o.Now(), l.pointsSize+checkpointSize
	return full(l.saveHead())
}
