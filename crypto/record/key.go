package record

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// AccountID is the random 128-bit identity of one account. It alone appears
// on disk, in audit records and in metrics; names live in a sealed table.
type AccountID [16]byte

// String is 32 hexadecimal digits, as in the account's directory name.
func (id AccountID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText writes what String does.
func (id AccountID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads what MarshalText wrote, and nothing else, so that one
// account has one name.
func (id *AccountID) UnmarshalText(text []byte) error {
	var read AccountID
	if len(text) != 2*len(read) {
		return fmt.Errorf("record: account id of %d digits", len(text))
	}
	if _, err := hex.Decode(read[:], text); err != nil {
		return fmt.Errorf("record: account id: %w", err)
	}
	if read.String() != string(text) {
		return errors.New("record: account id not in lower case")
	}
	*id = read
	return nil
}

// Key is 32 secret random bytes. However it is printed, logged or marshalled,
// it reads "[redacted]".
type Key [32]byte

// NewKey draws a random key.
func NewKey() *Key {
	var k Key
	rand.Read(k[:]) // never fails: crypto/rand ends the process instead
	return &k
}

const redacted = "[redacted]"

func (Key) String() string               { return redacted }
func (Key) GoString() string             { return redacted }
func (Key) Format(s fmt.State, _ rune)   { io.WriteString(s, redacted) }
func (Key) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (Key) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// What holds keys does not print either.

func (*Box) Format(s fmt.State, _ rune)         { io.WriteString(s, redacted) }
func (*Set) Format(s fmt.State, _ rune)         { io.WriteString(s, redacted) }
func (*KEK) Format(s fmt.State, _ rune)         { io.WriteString(s, redacted) }
func (*Names) Format(s fmt.State, _ rune)       { io.WriteString(s, redacted) }
func (*AccountKeys) Format(s fmt.State, _ rune) { io.WriteString(s, redacted) }
