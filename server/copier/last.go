package copier

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"sallyport/crypto/durable"
	"sallyport/crypto/record"
	"sallyport/server/audit"
)

// Last is what the server remembers of copies: nil = there was none that it knows of.
type Last struct {
	Copy  *LastCopy  `json:"copy,omitempty"`
	Drill *LastDrill `json:"drill,omitempty"`
}

// LastCopy is the last copy that came in force somewhere.
type LastCopy struct {
	At      time.Time `json:"at"` // its end
	ID      string    `json:"id"`
	Damaged uint64    `json:"damaged"` // accounts that are not whole in it
}

// LastDrill is the last trial of a restore that found nothing wrong.
type LastDrill struct {
	At   time.Time `json:"at"`
	ID   string    `json:"id"` // of the copy
	Made time.Time `json:"made"`
}

// lastFile lies in the state directory, sealed (docs/FORMAT.md "Last copy"). It is in no copy: a state that is restored from one
// has not been copied yet.
const lastFile = "last-copy"

// maxLast bounds the file, bytes.
const maxLast = 4 << 10

// Last is what is known of copies. Safe for concurrent use.
func (c *Copier) Last() Last {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

// readLast reads the file. One that does not open costs the knowledge, and no more.
func (c *Copier) readLast() error {
	f, err := os.Open(filepath.Join(c.o.Dir, lastFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	defer f.Close()
	sealed := make([]byte, maxLast)
	n, err := f.Read(sealed)
	if err != nil {
		return err
	}
	box, err := c.o.Keyring.Policy()
	if err != nil {
		return err
	}
	plain, err := box.Open(nil, record.DomainLastCopy, []byte(lastFile), sealed[:n])
	if err != nil {
		return err
	}
	return json.Unmarshal(plain, &c.last)
}

// remember changes what is known, durably.
func (c *Copier) remember(change func(*Last)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.last)
	plain, err := json.Marshal(c.last)
	if err != nil {
		return err
	}
	box, err := c.o.Keyring.Policy()
	if err != nil {
		return err
	}
	err = durable.WriteFile(filepath.Join(c.o.Dir, lastFile), box.Seal(nil, record.DomainLastCopy, []byte(lastFile), plain), 0o600)
	if err != nil {
		return fmt.Errorf("remembering when it was: %w", err)
	}
	return nil
}

// Drill is what came of the trial of a restore, in the words of who tried it.
type Drill struct {
	ID       string    // of the copy
	Made     time.Time // the copy was
	Findings int
	Deep     bool // every byte was read
}

// Drilled records that the restore of a copy was tried; the number of the record. One that found nothing is remembered.
func (c *Copier) Drilled(ctx context.Context, who string, d Drill) (uint64, error) {
	result, depth := "good", "every byte"
	if d.Findings > 0 {
		result = "findings"
	}
	if !d.Deep {
		depth = "the ends of blobs"
	}
	detail := fmt.Sprintf("copy %s of %s, %s read, %d findings", d.ID, d.Made.UTC().Format(time.RFC3339), depth, d.Findings)
	seq, err := c.o.Audit.AppendSeq(context.WithoutCancel(ctx), audit.Event{Action: audit.StateDrill, Who: who, Result: result, Count: max(1, uint64(d.Findings)), Detail: detail})
	if err != nil || d.Findings > 0 {
		return seq, err
	}
	return seq, c.remember(func(l *Last) { l.Drill = &LastDrill{At: c.o.Now(), ID: d.ID, Made: d.Made} })
}
