package admin

import (
	"encoding/hex"
	"time"

	"sallyport/crypto/keyring"
	"sallyport/vfs/blob"
)

// CopyBegun is the first line of the answer to backup/state/begin. The copy lives as long as that answer is not closed.
type CopyBegun struct {
	Lease string `json:"lease"`
}

// CopyRef names a copy under way.
type CopyRef struct {
	Lease string `json:"lease"`
}

// CopyNext are accounts that have to be copied; none = everything fits together.
type CopyNext struct {
	Accounts []CopyTodo `json:"accounts"`
}

// CopyTodo is an account by its id. Same: the manifest given to backup/state/have names what the server has.
type CopyTodo struct {
	ID   string `json:"id"`
	Same bool   `json:"same,omitempty"`
}

// CopyNotes tell what became of accounts at the target.
type CopyNotes struct {
	Lease string     `json:"lease"`
	Notes []CopyNote `json:"notes"`
}

// CopyNote is a statecopy.Note.
type CopyNote struct {
	Account  string       `json:"account"`
	Kept     bool         `json:"kept,omitempty"`
	Retained CopyRetained `json:"retained,omitzero"`
	What     string       `json:"what,omitempty"`
}

// CopyRetained is a statecopy.Retained.
type CopyRetained struct {
	Whole   bool   `json:"whole,omitempty"`
	Lacking uint64 `json:"lacking,omitempty"`
	Newest  bool   `json:"newest,omitempty"`
}

// CopyAsk asks for an account, for blobs of it, or for a file.
type CopyAsk struct {
	Lease   string   `json:"lease"`
	Account string   `json:"account,omitempty"`
	Blobs   []string `json:"blobs,omitempty"` // at most 256
	File    string   `json:"file,omitempty"`
}

const maxCopyBlobs = 256 // of one request

// CopyFinish says that the copy is whole at its place.
type CopyFinish struct {
	Lease string `json:"lease"`
	Blobs uint64 `json:"blobs"` // new ones
	Place string `json:"place"`
}

// CopyFinished has the number of the record in the audit log.
type CopyFinished struct {
	Audit   uint64        `json:"audit"`
	Damaged []CopyDamaged `json:"damaged,omitempty"` // what is not whole in the copy
}

// CopyDrilled tells that the restore of a copy was tried.
type CopyDrilled struct {
	ID       string    `json:"id"`
	Made     time.Time `json:"made"`
	Findings int       `json:"findings"`
	Deep     bool      `json:"deep"`
}

// CopyDamaged is an account of which something could not be copied.
type CopyDamaged struct {
	Account string    `json:"account"` // its name, or its id if nobody has it
	ID      string    `json:"id"`
	Last    time.Time `json:"last_good,omitzero"`        // when the copy was made of which its last whole state is kept
	Lacking uint64    `json:"last_good_lacks,omitempty"` // blobs that are missing in that
	Newest  time.Time `json:"newest,omitzero"`           // when the copy was made that its newest tree is of; zero = this one, or there is none
	What    []string  `json:"what"`
}

func parseAccount(text string) (keyring.AccountID, error) {
	id, err := blob.ParseID(text)
	if err != nil {
		return keyring.AccountID{}, newError(CodeInvalid, "that is no account id", "")
	}
	return keyring.AccountID(id), nil
}

// hexID is an account id as it travels.
func hexID(id keyring.AccountID) string { return hex.EncodeToString(id[:]) }
