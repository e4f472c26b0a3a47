package admin

import "time"

// Sealed says why a server is sealed, and what to do.
type Sealed struct {
	Since  time.Time `json:"since"`
	Reason string    `json:"reason,omitempty"`
	Hint   string    `json:"hint,omitempty"`
	Next   time.Time `json:"next,omitzero"` // when the server tries again by itself
}

// SealState is what has to be given to unseal a server.
type SealState struct {
	State  string `json:"state"` // as of Status
	Kind   string `json:"kind"`  // keyfile, passphrase, shares, transit, helper
	Reason string `json:"reason,omitempty"`
	Label  string `json:"label,omitempty"` // of transit and helper: where the key is
	Have   int    `json:"have,omitempty"`  // shares given so far
	Need   int    `json:"need,omitempty"`  // shares needed; 0 for other kinds
	Set    string `json:"set,omitempty"`   // of shares
	Note   string `json:"note,omitempty"`  // for the person who just gave something
}

// Unseal is what one person gives: one of the secrets, or none where the server
// finds the key by itself.
type Unseal struct {
	Passphrase Secret `json:"passphrase,omitempty"`
	Share      Secret `json:"share,omitempty"`
	Forget     bool   `json:"forget,omitempty"` // the shares given so far
	// Kit is a recovery kit; Identity opens it if it is encrypted.
	Kit      Secret `json:"kit,omitempty"`
	Identity Secret `json:"identity,omitempty"`
}

// SealChange seals the root key in another way, or by another secret. Shares are
// prepared and confirmed, because an answer that gets lost must not take the only
// shares with it.
type SealChange struct {
	Change
	To         string `json:"to"` // as SealState.Kind
	Passphrase Secret `json:"passphrase,omitempty"`
	Memory     uint32 `json:"memory,omitempty"`    // MiB that each try of it takes; 0 = the usual
	Threshold  int    `json:"threshold,omitempty"` // of shares
	Shares     int    `json:"shares,omitempty"`
	// Recipients, one for each share, are age recipients or SSH public keys.
	Recipients []string `json:"recipients,omitempty"`
}

// SealPrepared has the shares of a new set, once and never again. Nothing is
// sealed by them before SealConfirm.
type SealPrepared struct {
	Set       string    `json:"set"`
	Threshold int       `json:"threshold"` // so many of Shares unseal
	Shares    []Share   `json:"shares"`
	Until     time.Time `json:"until,omitzero"` // the set is forgotten then
}

// SealConfirm says that the shares of a prepared set are in safe hands, and
// puts the set in force. It may be repeated.
type SealConfirm struct {
	Change
	Set string `json:"set"`
}

// SealChanged says what seals the root key now.
type SealChanged struct {
	Kind  string `json:"kind"`
	Where string `json:"where,omitempty"` // the key file
	Set   string `json:"set,omitempty"`   // of shares
	// Old is what still opens older copies of seal.json.
	Old string `json:"old"`
}

// SealFinish asks for the destruction of what an earlier change of root or seal had to leave.
type SealFinish struct {
	Change
	// GiveUp forgets what a former seal has to destroy, which is lost or out of reach for ever.
	GiveUp bool `json:"give_up,omitempty"`
}

// SealFinished says that nothing waits any more, or what was given up.
type SealFinished struct {
	GivenUp string `json:"given_up,omitempty"` // kind and label
}

// Share of a set, readable or encrypted to a recipient.
type Share struct {
	Number    int    `json:"number"`
	Recipient string `json:"recipient,omitempty"`
	Text      Secret `json:"text"`
}

// KitExport makes a recovery kit for a recipient.
type KitExport struct {
	Change
	Recipient string `json:"recipient"`
}

// KitRef names a recovery kit.
type KitRef struct {
	Change
	ID string `json:"id"`
}

// Kit is a recovery kit, encrypted to its recipient.
type Kit struct {
	ID   string `json:"id"`
	Text string `json:"text"`
}
