package statecopy

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"sallyport/vfs/blob"
)

// Account is what a manifest says of an account that is whole in the copy.
type Account struct {
	ID AccountID
	// Commit names the commit of the database that was copied. As long as the server has the same one, there is nothing to copy.
	Commit [sha256.Size]byte
	Blobs  uint64
	Bytes  uint64 // of the blobs' files
}

// Damage is something of an account that could not be copied, because the server itself has it no more as it was written.
type Damage struct {
	Account AccountID `json:"-"`
	// Last is when the copy was made of which the account's last whole state is kept; zero = none is.
	Last time.Time `json:"last_good,omitzero"`
	// Lacking are blobs of that state that the disk of the copy has lost.
	Lacking uint64 `json:"last_good_lacks,omitempty"`
	// Newest is when the copy was made that the newest tree is of, if that is an earlier one: nothing could be copied for this one.
	Newest time.Time `json:"newest,omitzero"`
	// What is damaged, without names: blobs by their ids.
	What string `json:"what"`
}

const (
	maxDamage = 100_000 // lines of a manifest
	maxWhat   = 240     // bytes
)

func (d *Damage) line() string {
	last := "-"
	if !d.Last.IsZero() {
		last = d.Last.UTC().Format(time.RFC3339Nano)
	}
	if d.Lacking > 0 {
		last += fmt.Sprintf(",lacking=%d", d.Lacking)
	}
	if !d.Newest.IsZero() {
		last += ",newest=" + d.Newest.UTC().Format(time.RFC3339Nano)
	}
	return fmt.Sprintf("damage %x %s %s", d.Account[:], last, printable(d.What))
}

// printable makes a text fit the line of a manifest.
func printable(text string) string {
	b := []byte(text[:min(len(text), maxWhat)])
	for i, c := range b {
		if c < ' ' || c > '~' {
			b[i] = '?'
		}
	}
	if text = strings.TrimSpace(string(b)); text == "" {
		text = "?"
	}
	return text
}

func parseDamage(text string) (d Damage, err error) {
	id, rest, _ := strings.Cut(text, " ")
	states, what, _ := strings.Cut(rest, " ")
	account, err := blob.ParseID(id)
	d.Account, d.What = AccountID(account), what
	if err == nil {
		err = d.parseStates(strings.Split(states, ","))
	}
	if err != nil || what == "" || d.line() != "damage "+text {
		return Damage{}, damaged("a line of the manifest cannot be read")
	}
	return d, nil
}

// parseStates reads what a copy has of the account; that they are in order and none twice, the line shows that is written of them.
func (d *Damage) parseStates(parts []string) (err error) {
	if parts[0] != "-" {
		d.Last, err = time.Parse(time.RFC3339Nano, parts[0])
	}
	for _, part := range parts[1:] {
		name, value, _ := strings.Cut(part, "=")
		switch {
		case err != nil:
		case name == "lacking":
			d.Lacking, err = strconv.ParseUint(value, 10, 64)
		case name == "newest":
			d.Newest, err = time.Parse(time.RFC3339Nano, value)
		default:
			err = errors.ErrUnsupported
		}
	}
	return err
}

func parseAccount(text string) (a Account, err error) {
	parts := strings.Split(text, " ")
	if len(parts) != 4 || !idPattern.MatchString(parts[0]) || !sumPattern.MatchString(parts[1]) {
		return a, damaged("a line of the manifest cannot be read")
	}
	id, err := blob.ParseID(parts[0])
	if err == nil {
		_, err = hex.Decode(a.Commit[:], []byte(parts[1]))
	}
	if err == nil {
		a.Blobs, err = strconv.ParseUint(parts[2], 10, 64)
	}
	if err == nil {
		a.Bytes, err = strconv.ParseUint(parts[3], 10, 64)
	}
	if err != nil {
		return a, damaged("a line of the manifest cannot be read")
	}
	a.ID = AccountID(id)
	return a, nil
}

// DamagedAccounts are the accounts that are not whole, in ascending order, each once.
func (m *Manifest) DamagedAccounts() (ids []AccountID) {
	for _, d := range m.Damage { // in order
		if n := len(ids); n == 0 || ids[n-1] != d.Account {
			ids = append(ids, d.Account)
		}
	}
	return ids
}

// isDamaged says whether an account is not whole.
func (m *Manifest) isDamaged(id AccountID) bool {
	_, found := slices.BinarySearchFunc(m.Damage, id, func(d Damage, id AccountID) int { return slices.Compare(d.Account[:], id[:]) })
	return found
}
