package audit

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"

	"sallyport/crypto/record"
)

// Action is what happened. The list is closed: readers may rely on it.
type Action string

const (
	Login          Action = "login"
	LoginRefused   Action = "login-refused"
	Logout         Action = "logout"
	ConnectRefused Action = "connect-refused"
	Ban            Action = "ban"
	Unban          Action = "unban"
	SessionKill    Action = "session-kill" // ended by the operator, a policy change or a limit

	Upload   Action = "upload"
	Download Action = "download"
	Mkdir    Action = "mkdir"
	Remove   Action = "remove"
	Rmdir    Action = "rmdir"
	Rename   Action = "rename"
	Symlink  Action = "symlink"
	SetAttr  Action = "setattr"
	Copy     Action = "copy"
	Truncate Action = "truncate"
	Restore  Action = "restore"
	Refused  Action = "refused" // a file operation
	Damage   Action = "damage"  // stored data failed its integrity check
	Repair   Action = "repair"  // of a volume, by the operator

	Purge   Action = "purge"   // superseded names and versions; count, bytes
	Hold    Action = "hold"    // path = what, version = its number
	Release Action = "release" // of a hold
	Clock   Action = "clock"   // the system's clock is believed no more, or again; result = trusted, ahead, behind, confirmed
	Ransom  Action = "ransom"  // a session overwrote and deleted very much

	AccountAdd     Action = "account-add"
	AccountRemove  Action = "account-remove"
	AccountEnable  Action = "account-enable"
	AccountDisable Action = "account-disable"
	AccountSet     Action = "account-set"
	Password       Action = "account-password"
	KeyAdd         Action = "account-key-add"
	KeyRemove      Action = "account-key-remove"
	SecondFactor   Action = "account-2fa"     // enabled, reset, or a recovery code was used
	AccountUnlock  Action = "account-unlock"  // failed logins forgotten
	AccountDestroy Action = "account-destroy" // key and files, with a new root; version = of the key
	AccountRekey   Action = "account-rekey"   // a new key; version = its version

	RootRotate Action = "root-rotate" // version = root epoch
	Shred      Action = "shred"       // what was purged; version = root epoch
	// RootDestroy is of what a seal destroyed; version = epoch of the old root, result = destroyed, given-up.
	RootDestroy Action = "root-destroy"

	TrustChange   Action = "trust-change" // an authority or a revocation came or went
	PolicyApply   Action = "policy-apply"
	PolicyConfirm Action = "policy-confirm"
	ServerStart   Action = "server-start"
	ServerStop    Action = "server-stop"
	Unseal        Action = "unseal"
	SealNow       Action = "seal"
	// UnsealRefused was noted while the server was sealed, and recorded at the next unsealing.
	UnsealRefused Action = "unseal-refused"
	UnsealShare   Action = "unseal-share" // one share was given; noted in the same way
	SealChange    Action = "seal-change"
	KitExport     Action = "recovery-export"
	KitRevoke     Action = "recovery-revoke"
	CertRotate    Action = "cert-rotate"
	HostRotate    Action = "hostkey-rotate"

	Expire Action = "audit-expire" // old records are gone by the policy of retention
	Lost   Action = "audit-lost"   // records that could not be written
	Export Action = "audit-export" // somebody took a copy of the log that can be read

	StateCopy    Action = "state-copy"    // of everything, sealed; result = begun, complete, incomplete, interrupted
	StateRestore Action = "state-restore" // this state came out of such a copy
	StateDrill   Action = "state-drill"   // the restore of one was tried; result = good, findings
)

// Event is one record. It holds account ids, never names; what is zero is left out.
type Event struct {
	Time     time.Time      `json:"time"` // zero = now, when it is written
	Action   Action         `json:"action"`
	Account  ID             `json:"account,omitzero"`
	Session  string         `json:"session,omitempty"`
	Who      string         `json:"who,omitempty"` // operator
	Remote   netip.AddrPort `json:"remote,omitzero"`
	Protocol string         `json:"protocol,omitempty"`
	Client   string         `json:"client,omitempty"` // what the client calls itself
	Method   string         `json:"method,omitempty"`
	Path     Text           `json:"path,omitempty"`
	To       Text           `json:"to,omitempty"` // other end of a rename, target of a symlink
	Op       string         `json:"op,omitempty"` // of a refusal
	Bytes    uint64         `json:"bytes,omitempty"`
	Version  uint64         `json:"version,omitempty"`
	Revision uint64         `json:"revision,omitempty"` // of the policy
	Count    uint64         `json:"count,omitempty"`    // of like events that this one stands for; 0 = 1
	Result   string         `json:"result,omitempty"`   // complete, partial, interrupted, error
	Code     string         `json:"code,omitempty"`     // of a denial
	Detail   string         `json:"detail,omitempty"`
	// Origin is unique to an event that a volume's outbox or the notes of a sealed server hand over, so that one handed over
	// twice is written once.
	Origin string `json:"origin,omitempty"`
}

// ID is an account id as 32 hexadecimal digits.
type ID record.AccountID

// IsZero: no account.
func (id ID) IsZero() bool { return id == ID{} }

func (id ID) String() string { return hex.EncodeToString(id[:]) }

func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

func (id *ID) UnmarshalText(b []byte) error {
	if len(b) != 2*len(id) {
		return fmt.Errorf("audit: %q is not an account id", b)
	}
	_, err := hex.Decode(id[:], b)
	return err
}

// Text is a client's path: any bytes. In JSON it is a string if it is UTF-8, else {"b64": …}, so that nothing is changed.
type Text string

type binaryText struct {
	B64 []byte `json:"b64"`
}

func (t Text) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(t)) {
		return json.Marshal(string(t))
	}
	return json.Marshal(binaryText{[]byte(t)})
}

func (t *Text) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '{' {
		var v binaryText
		err := json.Unmarshal(b, &v)
		*t = Text(v.B64)
		return err
	}
	return json.Unmarshal(b, (*string)(t))
}

// Limits of the texts of an event, bytes. Paths are bounded by the volume; this is for what clients say of themselves.
const (
	maxText = 256
	maxPath = 4096
	// maxDetail leaves room for the reasons of operators and the settings that they changed. What is cut ends with cutMark.
	maxDetail = 4096
	cutMark   = " … (cut)"
)

// bound keeps a record far below the size of a frame.
func (e *Event) bound() {
	for _, s := range []*string{&e.Session, &e.Who, &e.Protocol, &e.Client, &e.Method, &e.Op, &e.Result, &e.Code, &e.Origin} {
		if len(*s) > maxText {
			*s = strings.ToValidUTF8((*s)[:maxText], "")
		}
	}
	if len(e.Detail) > maxDetail {
		e.Detail = strings.ToValidUTF8(e.Detail[:maxDetail-len(cutMark)], "") + cutMark
	}
	e.Path, e.To = e.Path[:min(len(e.Path), maxPath)], e.To[:min(len(e.To), maxPath)]
}

func (e *Event) encode() []byte {
	e.bound()
	e.Time = e.Time.UTC().Round(0)
	return e.Encode()
}

// Encode is the event as a volume's outbox carries it.
func (e Event) Encode() []byte {
	b, err := json.Marshal(e)
	if err != nil {
		panic("audit: internal error: " + err.Error())
	}
	return b
}

// Decode reads what Encode wrote.
func Decode(b []byte) (Event, error) {
	var e Event
	if err := json.Unmarshal(b, &e); err != nil {
		return e, fmt.Errorf("audit: reading an event: %w", err)
	}
	return e, nil
}

// origins remembers which events with an origin were written lately.
type origins struct {
	seen map[string]struct{}
	ring []string
	next int
}

func newOrigins() *origins { return &origins{seen: map[string]struct{}{}} }

func (o *origins) has(origin string) bool {
	_, ok := o.seen[origin]
	return ok
}

// add returns false if the origin was there already. The empty origin never is.
func (o *origins) add(origin string) bool {
	if origin == "" {
		return true
	}
	if _, ok := o.seen[origin]; ok {
		return false
	}
	o.seen[origin] = struct{}{}
	if len(o.ring) < maxOrigins {
		o.ring = append(o.ring, origin)
		return true
	}
	delete(o.seen, o.ring[o.next])
	o.ring[o.next] = origin
	o.next = (o.next + 1) % maxOrigins
	return true
}
