package audit

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// ExportResult of VerifyExport.
type ExportResult struct {
	First   uint64 `json:"first"` // number of the first record
	Last    uint64 `json:"last"`
	Signed  uint64 `json:"signed"`  // number of the last record that a checkpoint covers
	Removed uint64 `json:"removed"` // records that were gone by the policy of retention when the last checkpoint was made
	Points  uint64 `json:"checkpoints"`
}

// maxLine of an export, bytes: a frame in base64, its event, and more.
const maxLine = 4 * maxFrame

// VerifyExport checks an export with nothing but the public key: every line says what was sealed, every frame follows the one
// before, and signed checkpoints name them. *DamageError with the number of the first record that is bad, missing or not
// signed. It cannot tell that an export ends early at a checkpoint; compare Last with what another export says.
func VerifyExport(r io.Reader, key ed25519.PublicKey) (*ExportResult, error) {
	v := &exportVerifier{key: key, result: &ExportResult{}}
	in := bufio.NewReaderSize(r, maxLine)
	for n := 1; ; n++ {
		line, err := in.ReadSlice('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			break
		}
		whole := err == nil
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull) {
			return v.result, fmt.Errorf("reading the export: %w", err)
		}
		if !whole {
			return v.result, v.bad("line %d is cut off or too long", n)
		}
		if err := v.line(n, line[:len(line)-1]); err != nil {
			return v.result, err
		}
	}
	if v.result.Signed < v.result.Last || v.result.Last == 0 {
		return v.result, &DamageError{Record: v.result.Signed + 1, Reason: "no checkpoint covers it: the export is cut off"}
	}
	return v.result, nil
}

type exportVerifier struct {
	key     ed25519.PublicKey
	format  Format
	version uint32 // of the key, as the first line has it
	seq     uint64 // of the last record
	prev    hash
	point   *Checkpoint
	result  *ExportResult
}

func (v *exportVerifier) bad(format string, args ...any) error {
	return &DamageError{Record: v.seq + 1, Reason: fmt.Sprintf(format, args...)}
}

func (v *exportVerifier) line(n int, line []byte) error {
	if n == 1 {
		return v.header(line)
	}
	e, c, err := parseLine(v.format, line)
	switch {
	case err != nil:
		return v.bad("line %d does not parse", n)
	case c != nil:
		return v.checkpoint(n, line, c)
	default:
		return v.record(n, line, e)
	}
}

func (v *exportVerifier) header(line []byte) error {
	v.format = JSONLines
	if bytes.HasPrefix(line, []byte("CEF:")) {
		v.format = CEF
	}
	version := &v.version
	if v.format == CEF {
		if _, err := fmt.Sscan(cefField(string(line), "spKeyVersion"), version); err != nil {
			return v.bad("the first line is not that of an export")
		}
	} else {
		var h headerLine
		if err := json.Unmarshal(line, &h); err != nil {
			return v.bad("the first line is not that of an export")
		}
		*version = h.Version
	}
	if !bytes.Equal(line, renderHeader(v.format, v.key, *version)) {
		return v.bad("the first line does not name this key")
	}
	return nil
}

// parseLine finds the evidence in a line. What it says in words is compared with that, and never believed.
func parseLine(f Format, line []byte) (*Evidence, *Checkpoint, error) {
	var frame, key, signed string
	if f == CEF {
		s := string(line)
		frame, key, signed = cefField(s, "spFrame"), cefField(s, "spKey"), cefField(s, "spCheckpoint")
		if strings.HasPrefix(s, "CEF:0|Sallyport|Sallyport|1|checkpoint|") {
			frame = ""
		} else {
			signed = ""
		}
	} else {
		var l struct{ Frame, Key, Signed string }
		if err := json.Unmarshal(line, &l); err != nil {
			return nil, nil, err
		}
		frame, key, signed = l.Frame, l.Key, l.Signed
	}
	if signed != "" {
		b, err := b64.DecodeString(signed)
		if err != nil || len(b) != checkpointSize {
			return nil, nil, errors.New("not a checkpoint")
		}
		return nil, decodeCheckpoint(b), nil
	}
	e := new(Evidence)
	k, err := b64.DecodeString(key)
	if err != nil || len(k) != len(e.Key) {
		return nil, nil, errors.New("not a key")
	}
	copy(e.Key[:], k)
	if e.Frame, err = b64.DecodeString(frame); err != nil || len(e.Frame) < 4+headerSize || int(binary.BigEndian.Uint32(e.Frame)) != len(e.Frame)-4 {
		return nil, nil, errors.New("not a frame")
	}
	e.Seq = binary.BigEndian.Uint64(e.Frame[4:])
	return e, nil, nil
}

func (v *exportVerifier) record(n int, line []byte, e *Evidence) error {
	if v.seq == 0 {
		if e.Seq == 0 {
			return v.bad("line %d has no number", n)
		}
		v.seq, v.prev, v.result.First = e.Seq-1, hash(e.Frame[12:4+headerSize]), e.Seq
		v.result.Signed = v.seq
	}
	if e.Seq != v.seq+1 {
		return v.bad("record %d stands in its place (line %d)", e.Seq, n)
	}
	if v.prev != hash(e.Frame[12:4+headerSize]) {
		return v.bad("the chain is broken (line %d)", n)
	}
	plain, err := e.open()
	if err != nil {
		return v.bad("it does not authenticate (line %d)", n)
	}
	want, err := renderRecord(v.format, e, plain)
	if err != nil || !bytes.Equal(line, want) {
		return v.bad("line %d does not say what was recorded", n)
	}
	v.seq, v.prev = e.Seq, sha256.Sum256(e.Frame)
	v.result.Last = v.seq
	return nil
}

// checkpoint: what it covers is proven, so anything wrong with it leaves unproven what came after the one before.
func (v *exportVerifier) checkpoint(n int, line []byte, c *Checkpoint) error {
	unproven := func(reason string) error {
		return &DamageError{Record: v.result.Signed + 1, Reason: fmt.Sprintf("the checkpoint in line %d %s", n, reason)}
	}
	switch {
	case !c.signedBy(v.key) || c.Version != v.version:
		return unproven("is not signed by this key")
	case !bytes.Equal(line, renderCheckpoint(v.format, c)):
		return unproven("does not say what was signed")
	case c.Seq != v.seq || c.Hash != v.prev:
		return unproven(fmt.Sprintf("names another record %d", c.Seq))
	case v.point != nil && (c.Number != v.point.Number+1 || c.Prev != v.point.sum()):
		return unproven("does not follow the one before")
	}
	v.point, v.result.Signed, v.result.Points, v.result.Removed = c, c.Seq, v.result.Points+1, c.First-1
	return nil
}
