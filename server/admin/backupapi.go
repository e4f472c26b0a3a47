package admin

import (
	"time"

	"sallyport/vfs"
)

// HoldAsk puts a path of an account on hold; no path is the whole account. The reason is required.
type HoldAsk struct {
	Change
	Account string `json:"account"`
	Path    string `json:"path,omitempty"`
}

// HoldRef names a hold.
type HoldRef struct {
	Change
	Account string `json:"account"`
	Hold    uint64 `json:"hold"`
}

// Hold forbids to destroy what is, or was, at and below a path.
type Hold struct {
	Account string    `json:"account"`
	Hold    uint64    `json:"hold"` // number within the account
	Path    string    `json:"path"`
	Reason  string    `json:"reason"`
	Who     string    `json:"who"`
	At      time.Time `json:"at"`
	// Nothing says, of a new hold, that nothing is or was at its path: it may have been mistyped.
	Nothing bool `json:"nothing,omitempty"`
}

// Holds is a list.
type Holds struct {
	Holds []Hold `json:"holds"`
}

// HistoryAsk asks for what an account replaced and deleted, oldest first.
type HistoryAsk struct {
	Account string    `json:"account"`
	Path    string    `json:"path,omitempty"` // at or below; "" = everything
	Since   time.Time `json:"since,omitzero"`
	Until   time.Time `json:"until,omitzero"`
	Limit   int       `json:"limit,omitempty"` // 0 = 1000
	NoWho   bool      `json:"no_who,omitempty"`
}

// HistoryItem is a version that something took the place of, or (Version 0) a name that was removed, replaced or renamed away.
type HistoryItem struct {
	Path    string    `json:"path"`
	At      time.Time `json:"at"`                // when
	Version uint64    `json:"version,omitempty"` // of the file; 0 = a name
	Bytes   uint64    `json:"bytes"`
	Dir     bool      `json:"dir,omitempty"`
	Held    bool      `json:"held,omitempty"`
	Purged  time.Time `json:"purged,omitzero"` // when policy lets it go; absent = never
	// From the audit log, as far as it reaches: what was done, by which session.
	Action  string `json:"action,omitempty"`
	Session string `json:"session,omitempty"`
	Remote  string `json:"remote,omitempty"`
	To      string `json:"to,omitempty"` // of a rename
}

// HistoryItems is an answer; More says that the limit cut it off.
type HistoryItems struct {
	Account string        `json:"account"`
	Items   []HistoryItem `json:"items"`
	More    bool          `json:"more,omitempty"`
	PastWhole
}

// PastWhole says since when the past of a volume is whole. Neither time ever goes back; zero = nothing ever was destroyed.
type PastWhole struct {
	// WholeSince is the earliest instant of which nothing is missing that retention or `backup purge` destroyed: /.backups shows none before it.
	WholeSince time.Time `json:"whole_since,omitzero"`
	// ExactSince is the earliest instant of which nothing at all is missing, nor what was chosen to be destroyed or lost to damage: an exact
	// restore is possible from then on. Never before WholeSince.
	ExactSince time.Time `json:"exact_since,omitzero"`
}

func pastWhole(w vfs.Whole) PastWhole { return PastWhole{WholeSince: w.Purged, ExactSince: w.Since()} }

// PurgeAsk asks to destroy what was replaced or deleted: what policy lets go, or with Before all that was superseded before an instant, or with
// Path all that is, or ever was, at and below a path, as HistoryAsk finds it; with both, what was superseded before the instant of that.
type PurgeAsk struct {
	Change
	Account string    `json:"account,omitempty"` // "" = all; required with Before and Path
	Before  time.Time `json:"before,omitzero"`
	Path    string    `json:"path,omitempty"` // "" = everything
	DryRun  bool      `json:"dry_run,omitempty"`
}

// PurgedAccount is what was destroyed of one account, or would be.
type PurgedAccount struct {
	Account  string    `json:"account"`
	Names    uint64    `json:"names"`
	Versions uint64    `json:"versions"`
	Bytes    uint64    `json:"bytes"`           // sizes of the versions, which share what is stored
	Stored   uint64    `json:"stored"`          // bytes that are not stored any more, or would not be
	Least    bool      `json:"least,omitempty"` // of a dry run of very much: so many of its oldest part alone
	Stays    uint64    `json:"stays"`           // items of that age that are on hold; only of a dry run, and of a path
	Busy     uint64    `json:"busy,omitempty"`  // items that stay until somebody has finished writing
	Oldest   time.Time `json:"oldest,omitzero"`
	Newest   time.Time `json:"newest,omitzero"`
	Note     string    `json:"note,omitempty"` // why something stays that is old by its date
	Error    string    `json:"error,omitempty"`
	Done     bool      `json:"done"` // false: it goes on
}

// Clock is the time that history is kept by, and what the server makes of the system's.
type Clock struct {
	Status  string        `json:"status"` // trusted, ahead, behind
	Now     time.Time     `json:"now"`    // by which history is kept
	System  time.Time     `json:"system"` // by the system's clock
	Offset  time.Duration `json:"offset"` // of the system's, nanoseconds
	Since   time.Time     `json:"since,omitzero"`
	Slowed  bool          `json:"slowed,omitempty"`  // the server's time runs at half speed until the system's has caught up
	Damaged bool          `json:"damaged,omitempty"` // a record of the last known time could not be read, and nobody has said that the clock is right since
	// Unread is what is the matter with the record while it is in its place (unreadable, damaged, newer), Cause why.
	Unread string `json:"unread,omitempty"`
	Cause  string `json:"cause,omitempty"`
	// Known is since when the ages of what was replaced and deleted are known: what is older counts as of then, and is kept as long from then on.
	Known time.Time `json:"known,omitzero"`
	// Unwritten: it is believed again, and not followed because that cannot be written.
	Unwritten bool `json:"unwritten,omitempty"`
	// Unproven is how much was believed because the system's clock said so, and not made up for by time that was counted, nanoseconds;
	// MaxOff how much that may be.
	Unproven time.Duration `json:"unproven"`
	MaxOff   time.Duration `json:"max_off"`
	Advice   string        `json:"advice,omitempty"`
}

// ClockConfirm says that the clock at Offset, as Clock told it, is right. It passes no other: the clock can be set while somebody thinks.
type ClockConfirm struct {
	Change
	Offset time.Duration `json:"offset"`
}

// ClockForget says that what was replaced and deleted before Known, as Clock told it, is as old as its date says.
type ClockForget struct {
	Change
	Known time.Time `json:"known"`
}

// RestoreAsk asks to bring back a tree of an account as it was. Nothing is overwritten: what is there goes to history, so that
// restoring the instant before undoes a restore.
type RestoreAsk struct {
	Change
	Account string    `json:"account"`
	Path    string    `json:"path,omitempty"` // by its name of then; "" = everything
	At      time.Time `json:"at"`
	To      string    `json:"to,omitempty"`    // where to; "" = where it was
	Exact   bool      `json:"exact,omitempty"` // what is there now and was not then is removed; otherwise it stays
	DryRun  bool      `json:"dry_run,omitempty"`
	Items   int       `json:"items,omitempty"` // with DryRun: at most so many names of what would change
}

// Restored is what was restored so far, or would be.
type Restored struct {
	Totals vfs.RestoreTotals `json:"totals"`
	Item   *RestoredItem     `json:"item,omitempty"` // a name that would change, or cannot be changed
	Done   bool              `json:"done"`           // false: it goes on
	Error  *Error            `json:"error,omitempty"`
	// Lacks: something of that time may be missing, because it was destroyed; nothing is from this instant on. Zero = it is whole.
	Lacks time.Time `json:"lacks,omitzero"`
}

// RestoredItem is one name.
type RestoredItem struct {
	Action string `json:"action"`
	Path   string `json:"path"`
	From   string `json:"from,omitempty"` // its path of then
	Dir    bool   `json:"dir,omitempty"`
	Bytes  uint64 `json:"bytes"`
}
