package audit

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"

	"sallyport/crypto/record"
)

// Result of Verify.
type Result struct {
	Records uint64 `json:"records"` // number of the last one
	Files   int    `json:"files"`
	Head    uint64 `json:"head"` // number of the record that the head names
	Torn    int64  `json:"torn"` // bytes of a last record that was not written completely; the next start cuts them off
	// First is the number of the first record that is kept: those before it are gone by the policy of retention, and a
	// signed checkpoint says so.
	First       uint64 `json:"first"`
	Checkpoints uint64 `json:"checkpoints"`
	Signed      uint64 `json:"signed"` // number of the last record that a checkpoint covers
}

// Verify checks a log that no server has open. key is the public key of its checkpoints.
func Verify(dir string, box *record.Box, key ed25519.PublicKey) (*Result, error) {
	return verify(dir, box, key, 0)
}

// VerifyCopy checks a copy of a log without any secret: the chain of frames and the signatures of the checkpoints. What the
// records say stays sealed. Records behind the last checkpoint are chained and not signed. It cannot tell that a copy ends early.
func VerifyCopy(dir string, key ed25519.PublicKey) (*Result, error) { return verify(dir, nil, key, 0) }

// Verify checks every record that is durable by now.
func (l *Log) Verify() (*Result, error) {
	l.mu.Lock()
	last := l.durable
	l.mu.Unlock()
	if last == 0 {
		return &Result{First: 1}, nil
	}
	return verify(l.o.Dir, l.o.Box, l.publicKey(), last)
}

func (l *Log) publicKey() ed25519.PublicKey {
	if l.o.Signer == nil {
		return nil // verifies nothing
	}
	return l.o.Signer.Public().(ed25519.PublicKey)
}

// verify checks up to record last (0 = all; then nobody is writing).
func verify(dir string, box *record.Box, key ed25519.PublicKey, last uint64) (*Result, error) {
	h, known := &head{}, uint64(allKnown)
	var err error
	if box != nil {
		if h, err = readHead(dir, box); err != nil {
			return nil, notThere(err)
		}
		known = h.Checkpoint
	}
	points, err := readCheckpoints(dir, key, known)
	if err != nil {
		return nil, err
	}
	if err := h.meets(points); err != nil {
		return nil, err
	}
	files, err := listFiles(dir)
	if err != nil {
		return nil, err
	}
	files = points.kept(files)
	end := points.last()
	r := &Result{Files: len(files), Head: h.Seq, First: end.First, Checkpoints: end.Number, Signed: end.Seq}
	s := scanFrom(points, box, h)
	for i, f := range files {
		if last > 0 && f.first > last {
			break
		}
		t, err := s.file(dir, f, last)
		if err != nil {
			return r, err
		}
		if r.Records = s.seq; t != nil {
			if i < len(files)-1 {
				return r, &DamageError{Record: s.seq + 1, File: f.name, Offset: t.offset, Reason: "it is cut off"}
			}
			r.Torn = t.bytes
		}
	}
	return r, s.complete(max(h.Seq, last))
}

// complete says whether the log goes as far as it must.
func (s *scan) complete(want uint64) error {
	if s.seq < want {
		return &DamageError{Record: s.seq + 1, Reason: fmt.Sprintf("the log ends before it, and record %d was written", want)}
	}
	if c := s.points.last(); s.seq < c.Seq {
		return &DamageError{Record: s.seq + 1, Reason: fmt.Sprintf("the log ends before it, and checkpoint %d names record %d", c.Number, c.Seq)}
	}
	return nil
}

func notThere(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return &DamageError{File: headName, Reason: "the head is missing"}
	}
	return err
}
