package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport/crypto/durable"
	"sallyport/crypto/record"
)

// Record is an event with its number.
type Record struct {
	Seq uint64 `json:"seq"`
	Event
}

// DamageError says where the log stops being what was written.
type DamageError struct {
	Record uint64 // number of the first record that is bad or missing, or that nothing proves any more
	// Checkpoint is not 0 if it is this checkpoint that is bad or missing.
	Checkpoint uint64
	File       string
	Offset     int64
	Reason     string
}

func (e *DamageError) Error() string {
	if e.Checkpoint > 0 {
		return fmt.Sprintf("audit: checkpoint %d is bad, so nothing is proven from record %d on: %s", e.Checkpoint, e.Record, e.Reason)
	}
	if e.File == "" {
		return fmt.Sprintf("audit: record %d is bad: %s", e.Record, e.Reason)
	}
	return fmt.Sprintf("audit: record %d is bad: %s (%s at byte %d)", e.Record, e.Reason, e.File, e.Offset)
}

func (e *DamageError) Unwrap() error { return ErrDamaged }

// head is the sealed statement that a record was written.
type head struct {
	Seq  uint64    `json:"seq"`
	Hash hash      `json:"hash"`
	At   time.Time `json:"at"`
	// Checkpoint is the number of a checkpoint that is certainly there, and Sum its hash; 0 and zero before the first.
	Checkpoint uint64 `json:"checkpoint,omitempty"`
	Sum        hash   `json:"checkpoint_hash,omitzero"`
}

// meets says whether the checkpoint of the head is there.
func (h *head) meets(p *checkpoints) error {
	if h.Checkpoint == 0 {
		return nil
	}
	if n := uint64(len(p.list)); n < h.Checkpoint {
		return &DamageError{Checkpoint: n + 1, Record: p.last().Seq + 1, File: checkpointName, Reason: fmt.Sprintf("the list ends before it, and checkpoint %d was made", h.Checkpoint)}
	}
	if c := p.list[h.Checkpoint-1]; c.sum() != h.Sum {
		return &DamageError{Checkpoint: c.Number, Record: c.Seq, File: checkpointName, Reason: "it is not the one that the head names"}
	}
	return nil
}

const headName = "head"

func readHead(dir string, box *record.Box) (*head, error) {
	path := filepath.Join(dir, headName)
	sealed, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	h := new(head)
	plain, err := box.Open(nil, record.DomainAudit, []byte(headName), sealed)
	if err == nil {
		err = json.Unmarshal(plain, h)
	}
	if err != nil {
		return nil, &DamageError{File: headName, Reason: fmt.Sprintf("the head does not open: %v", err)}
	}
	return h, nil
}

func (l *Log) saveHead() error {
	h := head{Seq: l.seq, Hash: l.prev, At: l.o.Now().UTC().Round(0)}
	if l.last != nil && l.last.Number > 0 {
		h.Checkpoint, h.Sum = l.last.Number, l.last.sum()
	}
	plain, err := json.Marshal(h)
	if err != nil {
		panic("audit: internal error: " + err.Error())
	}
	sealed := l.o.Box.Seal(nil, record.DomainAudit, []byte(headName), plain)
	if err := durable.WriteFile(filepath.Join(l.o.Dir, headName), sealed, 0o600); err != nil {
		return fmt.Errorf("writing the head of the audit log: %w", err)
	}
	l.headSeq, l.headAt = l.seq, l.o.Now()
	return nil
}

// file is one file of the log.
type file struct {
	name  string
	first uint64
}

func fileName(first uint64) string { return fmt.Sprintf("%020d.log", first) }

func listFiles(dir string) ([]file, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("reading the audit log: %w", err)
	}
	var files []file
	for _, e := range entries {
		digits, ok := strings.CutSuffix(e.Name(), ".log")
		if first, err := strconv.ParseUint(digits, 10, 64); ok && err == nil && e.Name() == fileName(first) {
			files = append(files, file{e.Name(), first})
		}
	}
	slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.name, b.name) })
	return files, nil
}

// scan walks records in order and checks them.
type scan struct {
	box    *record.Box // nil: only the chain is checked, and fn is not called
	seq    uint64      // of the last good record
	prev   hash        // of the last good record
	any    bool        // prev is known
	head   *head       // to be met on the way; may be nil
	points *checkpoints
	fn     func(Record) error
}

// scanFrom begins at the first record that the last checkpoint says is kept.
func scanFrom(p *checkpoints, box *record.Box, h *head) *scan {
	c := p.last()
	return &scan{box: box, head: h, points: p, any: true, seq: c.First - 1, prev: c.Before}
}

// kept leaves out files whose records are gone by the policy of retention: a crash came between saying so and doing it.
func (p *checkpoints) kept(files []file) []file {
	return slices.DeleteFunc(slices.Clone(files), func(f file) bool { return f.first < p.last().First })
}

// torn is how a file ends before its last frame is complete.
type torn struct {
	offset int64 // end of the last good record
	bytes  int64 // after it
}

// file checks one file up to record last (0 = all). An incomplete end is returned, not judged.
func (s *scan) file(dir string, f file, last uint64) (*torn, error) {
	data, err := os.ReadFile(filepath.Join(dir, f.name))
	if err != nil {
		return nil, fmt.Errorf("reading the audit log: %w", err)
	}
	if s.any && f.first != s.seq+1 {
		return nil, &DamageError{Record: s.seq + 1, File: f.name, Reason: "records are missing before this file"}
	}
	s.seq = f.first - 1
	if len(data) < len(magic) && strings.HasPrefix(magic, string(data)) || zero(data) {
		return &torn{0, int64(len(data))}, nil
	}
	if !bytes.HasPrefix(data, []byte(magic)) {
		if len(data) >= len(magic) && bytes.HasPrefix(data, []byte(magic[:len(magic)-1])) {
			return nil, &DamageError{Record: f.first, File: f.name, Reason: fmt.Sprintf("format %q is unknown to this program", data[:len(magic)])}
		}
		return nil, &DamageError{Record: f.first, File: f.name, Reason: "it is not an audit file"}
	}
	at := len(magic)
	for at < len(data) && (last == 0 || s.seq < last) {
		n, err := s.frame(data[at:])
		if errors.Is(err, errTorn) {
			return &torn{int64(at), int64(len(data) - at)}, nil
		}
		var d *DamageError
		if errors.As(err, &d) && unwritten(data, at) {
			return &torn{int64(at), int64(len(data) - at)}, nil
		}
		if d != nil {
			d.Record, d.File, d.Offset = s.seq+1, f.name, int64(at)
		}
		if err != nil {
			return nil, err
		}
		at += n
	}
	return nil, nil
}

func zero(data []byte) bool { return len(bytes.Trim(data, "\x00")) == 0 }

// sector is what disks write whole, bytes.
const sector = 512

// unwritten says whether the frame at that offset lacks a sector, or its part of one: after a power loss a file may have grown by a
// write of which only some sectors have come. Nothing from there on was acknowledged; who could fake that could as well cut the file.
func unwritten(data []byte, at int) bool {
	end := min(len(data), at+sector)
	if n := int(binary.BigEndian.Uint32(data[at:])); n >= headerSize && n <= maxFrame {
		end = min(len(data), at+4+n)
	}
	for at < end {
		next := min(end, at+sector-at%sector)
		if zero(data[at:next]) {
			return true
		}
		at = next
	}
	return false
}

var errTorn = errors.New("audit: the last record is not complete")

// frame checks the record at the start of data and returns its length.
func (s *scan) frame(data []byte) (int, error) {
	if len(data) < 4 || zero(data) {
		return 0, errTorn
	}
	n := int(binary.BigEndian.Uint32(data))
	if n < headerSize || n > maxFrame {
		return 0, &DamageError{Reason: "its length is impossible"}
	}
	if len(data) < 4+n {
		return 0, errTorn
	}
	frame := data[:4+n]
	place := frame[4 : 4+headerSize]
	if binary.BigEndian.Uint64(place) != s.seq+1 {
		return 0, &DamageError{Reason: fmt.Sprintf("record %d stands in its place", binary.BigEndian.Uint64(place))}
	}
	if s.any && !bytes.Equal(place[8:], s.prev[:]) {
		return 0, &DamageError{Reason: "the chain is broken"}
	}
	var e Event
	if s.box != nil {
		plain, err := s.box.Open(nil, record.DomainAudit, place, frame[4+headerSize:])
		if err != nil {
			return 0, &DamageError{Reason: "it does not authenticate"}
		}
		if e, err = Decode(plain); err != nil {
			return 0, &DamageError{Reason: "it is not an event"}
		}
	}
	sum := sha256.Sum256(frame)
	if s.head != nil && s.head.Seq == s.seq+1 && s.head.Hash != sum {
		return 0, &DamageError{Reason: "it is not the record that the head names"}
	}
	if s.points != nil {
		if err := s.points.meet(s.seq+1, sum); err != nil {
			return 0, err
		}
	}
	s.seq, s.prev, s.any = s.seq+1, sum, true
	if s.fn != nil && s.box != nil {
		if err := s.fn(Record{s.seq, e}); err != nil {
			return 0, err
		}
	}
	return len(frame), nil
}
