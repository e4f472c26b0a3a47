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
	Record uint64 // number of the first record that is bad or missing
	File   string
	Offset int64
	Reason string
}

func (e *DamageError) Error() string {
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
	plain, err := json.Marshal(head{Seq: l.seq, Hash: l.prev, At: l.o.Now().UTC().Round(0)})
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
	box  *record.Box
	seq  uint64 // of the last good record
	prev hash   // of the last good record
	any  bool   // prev is known
	head *head  // to be met on the way
	fn   func(Record) error
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
	plain, err := s.box.Open(nil, record.DomainAudit, place, frame[4+headerSize:])
	if err != nil {
		return 0, &DamageError{Reason: "it does not authenticate"}
	}
	e, err := Decode(plain)
	if err != nil {
		return 0, &DamageError{Reason: "it is not an event"}
	}
	sum := sha256.Sum256(frame)
	if s.head != nil && s.head.Seq == s.seq+1 && s.head.Hash != sum {
		return 0, &DamageError{Reason: "it is not the record that the head names"}
	}
	s.seq, s.prev, s.any = s.seq+1, sum, true
	if s.fn != nil {
		if err := s.fn(Record{s.seq, e}); err != nil {
			return 0, err
		}
	}
	return len(frame), nil
}

// Result of Verify.
type Result struct {
	Records uint64 `json:"records"`
	Files   int    `json:"files"`
	Head    uint64 `json:"head"` // number of the record that the head names
	Torn    int64  `json:"torn"` // bytes of a last record that was not written completely; the next start cuts them off
}

// Verify checks a log that no server has open.
func Verify(dir string, box *record.Box) (*Result, error) { return verify(dir, box, 0) }

// Verify checks every record that is durable by now.
func (l *Log) Verify() (*Result, error) {
	l.mu.Lock()
	last := l.durable
	l.mu.Unlock()
	if last == 0 {
		return &Result{}, nil
	}
	return verify(l.o.Dir, l.o.Box, last)
}

func verify(dir string, box *record.Box, last uint64) (*Result, error) {
	h, err := readHead(dir, box)
	if err != nil {
		return nil, notThere(err)
	}
	files, err := listFiles(dir)
	if err != nil {
		return nil, err
	}
	s := &scan{box: box, any: true, head: h}
	r := &Result{Files: len(files), Head: h.Seq}
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
	if want := max(h.Seq, last); s.seq < want {
		return r, &DamageError{Record: s.seq + 1, File: "", Reason: fmt.Sprintf("the log ends before it, and record %d was written", want)}
	}
	return r, nil
}

func notThere(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return &DamageError{File: headName, Reason: "the head is missing"}
	}
	return err
}
