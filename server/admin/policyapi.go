package admin

import (
	"time"

	"sallyport/policy"
)

// PolicyChange is a change of the policy as an operator asks for it. Exactly one of Text, Set, Preset and Rollback is given.
type PolicyChange struct {
	Change
	Base     uint64        `json:"base,omitempty"` // revision that it was made from; 0 = whatever is current
	Name     string        `json:"name,omitempty"` // file, for the positions of errors
	Text     string        `json:"text,omitempty"` // the whole document
	Set      []KeyValue    `json:"set,omitempty"`
	Preset   string        `json:"preset,omitempty"`
	Rollback *uint64       `json:"rollback,omitempty"` // revision whose document comes back
	Confirm  time.Duration `json:"confirm,omitempty"`  // goes back by itself unless confirmed within; 0 = stays
	Yes      bool          `json:"yes,omitempty"`      // also if tests fail, or nobody could log in any more
}

// PolicyPlan is what a change does, or did.
type PolicyPlan struct {
	Base      uint64              `json:"base"`
	Revision  uint64              `json:"revision,omitempty"` // that was made; 0 = only planned, or nothing to change
	Changes   []policy.Difference `json:"changes"`
	Looser    bool                `json:"looser"` // needs a reason
	Ends      []SessionEnd        `json:"ends"`   // sessions that do not outlive it
	LockedOut []LockedOut         `json:"locked_out"`
	Nobody    bool                `json:"nobody,omitempty"` // no account could log in any more
	Tests     []PolicyTest        `json:"tests"`
	Purges    []PolicyPurge       `json:"purges,omitempty"`
	Until     time.Time           `json:"until,omitzero"` // when it goes back by itself
	Document  string              `json:"document,omitempty"`
}

// SessionEnd is a live session that a policy would end.
type SessionEnd struct {
	Session Session `json:"session"`
	Code    string  `json:"code"`
	Rule    string  `json:"rule"`
	Origin  string  `json:"origin"`
}

// LockedOut is an account that can log in now and could not after a change, whatever its client does.
type LockedOut struct {
	Account string `json:"account"`
	Code    string `json:"code"`
	Rule    string `json:"rule"`
	Guarded bool   `json:"guarded,omitempty"` // listed in guard.never_lock_out
}

// PolicyPurge is what a shorter retention would destroy.
type PolicyPurge struct {
	Account  string    `json:"account"`
	Names    uint64    `json:"names"`
	Versions uint64    `json:"versions"`
	Bytes    uint64    `json:"bytes"`           // sizes of the versions, which share what is stored
	Stored   uint64    `json:"stored"`          // bytes that would not be stored any more
	Least    bool      `json:"least,omitempty"` // there is very much: so many of a part of it alone
	Oldest   time.Time `json:"oldest,omitzero"` // when it was replaced or deleted
	Newest   time.Time `json:"newest,omitzero"`
	Unknown  bool      `json:"unknown,omitempty"` // there was no time to count it, or the volume does not open
}

// PolicyTest is one entry of tests: with its result.
type PolicyTest struct {
	Test string `json:"test"`
	Line int    `json:"line"`
	OK   bool   `json:"ok"`
	Got  string `json:"got"`
}

// PolicyTests are all of them.
type PolicyTests struct {
	Revision uint64       `json:"revision"`
	Tests    []PolicyTest `json:"tests"`
}

// PolicyHistory asks for revisions older than Before (0 = the newest), or for one with its document.
type PolicyHistory struct {
	Before   uint64  `json:"before,omitempty"`
	Limit    int     `json:"limit,omitempty"`
	Revision *uint64 `json:"revision,omitempty"`
}

// PolicyRevision is one revision.
type PolicyRevision struct {
	Revision uint64              `json:"revision"`
	At       time.Time           `json:"at"`
	Who      string              `json:"who"`
	Why      string              `json:"why,omitempty"`
	Diff     []policy.Difference `json:"diff"`
	Pending  bool                `json:"pending,omitempty"` // waits for its confirmation
	Document string              `json:"document,omitempty"`
}

// PolicyRevisions, the newest first.
type PolicyRevisions struct {
	Revisions []PolicyRevision `json:"revisions"`
}

// PolicyConfirm keeps the revision that waits; no other, though it may be the one that waits by now.
type PolicyConfirm struct {
	Change
	Revision uint64 `json:"revision"`
}

// Confirmed is a change that stays.
type Confirmed struct {
	Revision uint64 `json:"revision"`
}

// PolicyExplain asks about a connection: a live session, a past audit event, or one that is thought up.
type PolicyExplain struct {
	Session string      `json:"session,omitempty"`
	Event   uint64      `json:"event,omitempty"`
	Account string      `json:"account,omitempty"`
	Case    policy.Case `json:"case,omitzero"` // for a session only Do counts
}

// Explanation of a decision, stage by stage.
type Explanation struct {
	Account  string        `json:"account"`
	Protocol string        `json:"protocol"`
	Revision uint64        `json:"revision"`
	Allowed  bool          `json:"allowed"`
	Stage    int           `json:"stage,omitempty"` // that refuses, 1 to 7
	Code     string        `json:"code,omitempty"`
	Client   string        `json:"client,omitempty"`  // what the client sees
	Meaning  string        `json:"meaning,omitempty"` // of the code
	Hint     string        `json:"hint,omitempty"`
	Stages   []StageReport `json:"stages"`
	Notes    []string      `json:"notes,omitempty"` // what counts beside the policy: disabled, no credential, banned
	// Now is the same question under the policy of now, if that is another one.
	Now *Explanation `json:"now,omitempty"`
}

// StageReport is what one stage says.
type StageReport struct {
	N      int    `json:"n"`
	Name   string `json:"name"`
	Text   string `json:"text"`
	OK     bool   `json:"ok"`
	Code   string `json:"code,omitempty"`
	Rule   string `json:"rule,omitempty"`
	Origin string `json:"origin,omitempty"`
}

// PolicyQuery asks for what holds for an account (Account set), or for what
// stands in the document at Key ("site.session.max", "accounts.acme"; all when
// both are empty).
type PolicyQuery struct {
	Account string `json:"account,omitempty"`
	Key     string `json:"key,omitempty"`
}

// Setting of the policy with where it comes from.
type Setting struct {
	Key    string `json:"key"`
	Value  string `json:"value"` // YAML
	Origin string `json:"origin,omitempty"`
}

// Policy is settings as of a revision.
type Policy struct {
	Revision uint64    `json:"revision"`
	Account  string    `json:"account,omitempty"`
	Settings []Setting `json:"settings"`
	Document string    `json:"document,omitempty"` // YAML, when the whole policy was asked for
}

// PolicySet changes settings of the document in one revision. Base 0 means
// "whatever is current"; another base that is not current is a conflict.
type PolicySet struct {
	Change
	Set     []KeyValue    `json:"set"`
	Base    uint64        `json:"base,omitempty"`
	Confirm time.Duration `json:"confirm,omitempty"` // as in PolicyChange
	Yes     bool          `json:"yes,omitempty"`
}

// KeyValue is one setting; the value is YAML, empty removes the setting.
type KeyValue struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Revision that a change made.
type Revision struct {
	Revision uint64 `json:"revision"`
}
