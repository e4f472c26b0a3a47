package audit

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"sallyport/crypto/record"
)

// Format of an export.
type Format string

// Formats of an export: one line for each record, and between them the checkpoints. Every line carries what proves it.
const (
	JSONLines Format = "json"
	CEF       Format = "cef" // ArcSight Common Event Format, version 0
)

// Evidence is what proves a record to somebody without the key of the log: the sealed frame, which is what the chain is
// made of, and the key that opens this one frame.
type Evidence struct {
	Seq   uint64
	Frame []byte
	Key   record.MessageKey
}

// open returns the plaintext of the frame.
func (e *Evidence) open() ([]byte, error) {
	return e.Key.Open(nil, record.AccountID{}, record.DomainAudit, e.Frame[4:4+headerSize], e.Frame[4+headerSize:])
}

// ExportOptions bound an export by time. It goes on to the checkpoint that covers its last record.
type ExportOptions struct {
	Format       Format
	Since, Until time.Time // zero = no bound
}

// PublicKey is the key of the checkpoints and its version; nil if there is none.
func (l *Log) PublicKey() (ed25519.PublicKey, uint32) { return l.publicKey(), l.o.KeyVersion }

// Sign makes a checkpoint of what is durable now, if it is not signed already.
func (l *Log) Sign(ctx context.Context) error { return l.ask(ctx, l.sign) }

// Export calls fn with the lines of an export. It signs first, so that all of it is covered. Memory does not grow with the log.
func (l *Log) Export(ctx context.Context, o ExportOptions, fn func(line []byte) error) error {
	if err := l.Sign(ctx); err != nil {
		return fmt.Errorf("signing what is exported: %w", err)
	}
	points, err := readCheckpoints(l.o.Dir, l.publicKey(), allKnown)
	if err != nil {
		return err
	}
	if err := fn(renderHeader(o.Format, l.publicKey(), l.o.KeyVersion)); err != nil {
		return err
	}
	r := &reader{dir: l.o.Dir, box: l.o.Box}
	defer r.close()
	at, begun := 0, false
	for seq := l.Stats().First; seq <= points.last().Seq; seq++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		rec, frame, err := r.readFrame(seq)
		if err != nil {
			return err
		}
		for ; at < len(points.list) && points.list[at].Seq < seq; at++ {
		}
		if begun = begun || !rec.Time.Before(o.Since); !begun {
			continue
		}
		key, err := l.o.Box.Disclose(frame[4+headerSize:])
		if err != nil {
			return err
		}
		e := &Evidence{seq, frame, key}
		plain, err := e.open()
		if err != nil {
			return err
		}
		line, err := renderRecord(o.Format, e, plain)
		if err != nil {
			return err
		}
		if err := fn(line); err != nil {
			return err
		}
		for ; at < len(points.list) && points.list[at].Seq == seq; at++ {
			if err := fn(renderCheckpoint(o.Format, points.list[at])); err != nil {
				return err
			}
			if !o.Until.IsZero() && points.list[at].Time.After(o.Until) {
				return nil
			}
		}
	}
	return nil
}

const exportFormat = "sallyport.audit.export.v1"

type headerLine struct {
	Format  string `json:"format"`
	Public  string `json:"public"` // Ed25519, base64
	Version uint32 `json:"version"`
}

// recordLine carries the plaintext as it was sealed, so that it can be compared byte by byte.
type recordLine struct {
	Seq   uint64          `json:"seq"`
	Event json.RawMessage `json:"event"`
	Hash  string          `json:"hash"`
	Frame string          `json:"frame"`
	Key   string          `json:"key"`
}

type checkpointLine struct {
	Checkpoint uint64    `json:"checkpoint"`
	Seq        uint64    `json:"seq"`
	Hash       string    `json:"hash"`
	Time       time.Time `json:"time"`
	First      uint64    `json:"first"`
	Signed     string    `json:"signed"` // the entry, base64
}

// b64 has no '=', which would have to be escaped in CEF.
var b64 = base64.RawURLEncoding

func renderHeader(f Format, key ed25519.PublicKey, version uint32) []byte {
	if f == CEF {
		return cefLine("export", "Audit export", 0, "spFormat", exportFormat, "spPublic", b64.EncodeToString(key), "spKeyVersion", fmt.Sprint(version))
	}
	return mustJSON(headerLine{exportFormat, b64.EncodeToString(key), version})
}

func renderCheckpoint(f Format, c *Checkpoint) []byte {
	if f == CEF {
		return cefLine("checkpoint", "Signed checkpoint", 0, "rt", fmt.Sprint(c.Time.UnixMilli()), "externalId", fmt.Sprint(c.Seq), "spCheckpoint", b64.EncodeToString(c.encode()))
	}
	return mustJSON(checkpointLine{c.Number, c.Seq, hex.EncodeToString(c.Hash[:]), c.Time, c.First, b64.EncodeToString(c.encode())})
}

func renderRecord(f Format, e *Evidence, plain []byte) ([]byte, error) {
	if f == CEF {
		return cefRecord(e, plain)
	}
	return mustJSON(recordLine{e.Seq, plain, e.hash(), b64.EncodeToString(e.Frame), b64.EncodeToString(e.Key[:])}), nil
}

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("audit: internal error: " + err.Error())
	}
	return b
}
