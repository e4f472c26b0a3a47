package admin

import (
	"time"
)

// VolumeRef names the volumes of an account, or all.
type VolumeRef struct {
	Account string `json:"account,omitempty"`
}

// ScrubStatus is what the verification in the background has done since the start of the server.
type ScrubStatus struct {
	Interval string    `json:"interval"` // between two rounds; 0s = none
	Rate     int64     `json:"rate"`     // bytes per second; 0 = no limit
	Running  bool      `json:"running"`
	Began    time.Time `json:"began,omitzero"` // the last round
	Ended    time.Time `json:"ended,omitzero"` // the last whole one
	Rounds   uint64    `json:"rounds"`
	Volumes  uint64    `json:"volumes"` // verified, in all rounds
	Bytes    uint64    `json:"bytes"`
	Findings uint64    `json:"findings"`
	Damaged  uint64    `json:"damaged"` // volumes with findings, in the last round
}

// VolumeRepair asks for the plan of a repair, or, with the ID of a plan, for its execution. The sessions of the account end.
type VolumeRepair struct {
	Change
	Account string `json:"account"`
	// Fallback makes the newest whole version of a file current where the current one is damaged.
	Fallback bool   `json:"fallback,omitempty"`
	Plan     string `json:"plan,omitempty"`
}

// VolumeStat of one account, bytes unless said.
type VolumeStat struct {
	Account      string `json:"account"`
	LiveBytes    uint64 `json:"live_bytes"`
	HistoryBytes uint64 `json:"history_bytes"`
	DoomedBytes  uint64 `json:"doomed_bytes"`
	// AwaitingShred is purged, and readable by who has an old copy of the database and the account's key of now.
	AwaitingShred uint64 `json:"awaiting_shred"`
	Held          bool   `json:"held,omitempty"` // something of the account is on hold
	Files         uint64 `json:"files"`
	Dirs          uint64 `json:"dirs"`
	Versions      uint64 `json:"versions"`
	Blobs         uint64 `json:"blobs"`
	Damaged       uint64 `json:"damaged"`
	PastWhole
	Error string `json:"error,omitempty"` // why the volume does not open; the counts are then 0
}

// VolumeStats is sorted by account.
type VolumeStats struct {
	Volumes []VolumeStat `json:"volumes"`
}
