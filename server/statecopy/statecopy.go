// Package statecopy is the form of a copy of a whole state elsewhere (docs/FORMAT.md "State copy"): in a directory, where
// the next copy adds what is new, or as a tar stream. It writes copies out of what a Source gives, and reads them for a
// restore. It holds no key: everything in a copy is sealed, and what authenticates it comes from the Source or, for a
// restore, as function values.
//
// A directory has one copy in force, which its manifest names, and while the next one is made the parts of that:
//
//	manifest                          of the copy in force; its rename is the commit point
//	lock                              flock of who writes here
//	meta-<id>/                        what belongs to one copy: keyring, databases, lists of blobs, blobs that were open
//	meta-<id>/kept/<account>/         the last whole database of an account that is damaged at the server, and its list
//	blobs/<account>/<2 hex>/<30 hex>  sealed blobs, which never change, of all copies
//	audit/<20 digits>.log             files of the audit log, which only grow, of all copies
//	meta-<id>/audit/<20 digits>.log   those of a copy that took the place of one of something else, until they are at their place
//	meta-<id>/blobs/…                 its blobs that the other one has, too, and not the same, until they are at their place
package statecopy

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"sallyport/crypto/record"
	"sallyport/vfs/blob"
)

// AccountID names an account.
type AccountID = record.AccountID

var (
	// ErrDamaged: the copy is not what was written: torn, changed, or of parts of different copies.
	ErrDamaged = errors.New("damaged copy")
	// ErrNoCopy: there is no complete copy at that place.
	ErrNoCopy = errors.New("no complete copy")
	// ErrInUse: another process writes to the directory, or tries a restore from it.
	ErrInUse = errors.New("the copy is in use")
	// ErrNotEmpty: the target holds something already.
	ErrNotEmpty = errors.New("not empty")
	// ErrGone: the account was destroyed while it was copied.
	ErrGone = errors.New("the account is gone")
	// ErrAtSource: the server cannot read it any more as it was written, so it cannot be copied. It is no damage of the copy.
	ErrAtSource = errors.New("damaged at the server")
	// ErrOther: the copy in force at the target is of another server, or of a state that is no ancestor of the one to be copied.
	ErrOther = errors.New("the copy there is of another state")
	// ErrPlace: a copy does not belong there.
	ErrPlace = errors.New("no place for a copy")
	// ErrIncomplete: accounts were damaged at the server when the copy was made, and nobody said what to restore of them.
	ErrIncomplete = errors.New("incomplete copy")
)

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrDamaged, fmt.Sprintf(format, args...))
}

// Names of the parts of a copy, relative to its beginning. They are also the names in the state directory, but for the
// lists of blobs and for what the server shows to strangers.
const (
	SealFile   = "seal.json"
	RingFile   = "keyring"
	PolicyFile = "policy.db"
	AuditHead  = "audit/head"
	Pending    = "audit-pending"
	Clock      = "clock"

	manifestName = "manifest"
	auditDir     = "audit/"
	identityDir  = "identity/"
	accountsDir  = "accounts/"
	keptDir      = "kept/"
	blobsDir     = "blobs/"
	listName     = "blobs.list"
)

// TreeFile is the name of an account's database.
func TreeFile(id AccountID, version uint32) string {
	return fmt.Sprintf("%s%x/tree-%d.db", accountsDir, id[:], version)
}

// ListFile is the name of the list of an account's blobs.
func ListFile(id AccountID) string { return fmt.Sprintf("%s%x/%s", accountsDir, id[:], listName) }

// kept is the name that a file of an account has while it is kept of an earlier copy.
func kept(name string) string { return keptDir + strings.TrimPrefix(name, accountsDir) }

// Kept are the names that database and list of an account have in a copy in which they are kept of an earlier one.
func Kept(id AccountID, version uint32) (tree, list string) {
	return kept(TreeFile(id, version)), kept(ListFile(id))
}

// AuditFile is the name of a file of the audit log.
func AuditFile(name string) string { return auditDir + name }

// IdentityFile is the name of a file that says who the server is.
func IdentityFile(name string) string { return identityDir + name }

var fileNames = regexp.MustCompile(`^(seal\.json|keyring|policy\.db|audit-pending|clock|audit/(head|checkpoints|[0-9]{20}\.log)|identity/[a-z0-9_]{1,40}(\.[a-z]{1,8})?|(accounts|kept)/[0-9a-f]{32}/(tree-[0-9]{1,10}\.db|blobs\.list))$`)

// isLog says whether a file is one of the records of the audit log, which only grow.
func isLog(name string) bool {
	return strings.HasPrefix(name, auditDir) && strings.HasSuffix(name, ".log")
}

// accountDir is the directory of an account below accountsDir or keptDir.
func accountDir(dir string, id AccountID) string { return fmt.Sprintf("%s%x", dir, id[:]) }

// accountOf is the account that a file belongs to; ok is false for those of the site, and what is kept of an account.
func accountOf(name string) (id AccountID, ok bool) {
	return ownerOf(name, accountsDir)
}

// keptOf is the account of which a file is kept.
func keptOf(name string) (id AccountID, ok bool) { return ownerOf(name, keptDir) }

func ownerOf(name, dir string) (id AccountID, ok bool) {
	rest, ok := strings.CutPrefix(name, dir)
	if !ok || len(rest) < 32 {
		return id, false
	}
	b, err := blob.ParseID(rest[:32])
	return AccountID(b), err == nil
}

func blobPath(account AccountID, id blob.ID) string {
	s := id.String()
	return fmt.Sprintf("blobs/%x/%s/%s", account[:], s[:2], s[2:])
}
