package admin

import (
	"time"
)

// AuditTail asks for the last records, oldest first.
type AuditTail struct {
	Last    int  `json:"last,omitempty"`
	Resolve bool `json:"resolve,omitempty"` // names instead of account ids; needs the right
}

// AuditSearch asks for the records to which all applies that is set.
type AuditSearch struct {
	Account string    `json:"account,omitempty"` // id or name
	Action  string    `json:"action,omitempty"`
	Code    string    `json:"code,omitempty"`
	Addr    string    `json:"addr,omitempty"` // address or network
	Session string    `json:"session,omitempty"`
	Since   time.Time `json:"since,omitzero"`
	Until   time.Time `json:"until,omitzero"`
	Limit   int       `json:"limit,omitempty"` // 0 = all
	Resolve bool      `json:"resolve,omitempty"`
}

// AuditExport asks for the log in a form that proves itself.
type AuditExport struct {
	Change
	Format string    `json:"format"` // json, cef
	Since  time.Time `json:"since,omitzero"`
	Until  time.Time `json:"until,omitzero"`
}

// AuditLine of an export, without its newline.
type AuditLine struct {
	Line string `json:"line"`
}

// AuditKey checks checkpoints and exports.
type AuditKey struct {
	Version uint32 `json:"version"`
	Public  string `json:"public"` // PEM
}

// AuditRecord is one event. Account is an id, or a name where that was asked for. Fields vary by action.
type AuditRecord struct {
	Seq      uint64    `json:"seq"`
	Time     time.Time `json:"time"`
	Action   string    `json:"action"`
	Account  string    `json:"account,omitempty"`
	Session  string    `json:"session,omitempty"`
	Who      string    `json:"who,omitempty"` // operator
	Remote   string    `json:"remote,omitempty"`
	Protocol string    `json:"protocol,omitempty"`
	Client   string    `json:"client,omitempty"`
	Method   string    `json:"method,omitempty"`
	Path     string    `json:"path,omitempty"`
	To       string    `json:"to,omitempty"`
	Op       string    `json:"op,omitempty"`
	Bytes    uint64    `json:"bytes,omitempty"`
	Version  uint64    `json:"version,omitempty"`
	Revision uint64    `json:"revision,omitempty"`
	Count    uint64    `json:"count,omitempty"` // of like events that this one stands for; 0 = 1
	Result   string    `json:"result,omitempty"`
	Code     string    `json:"code,omitempty"`
	Detail   string    `json:"detail,omitempty"`
}

// AuditRecords in order.
type AuditRecords struct {
	Records []AuditRecord `json:"records"`
}

// Check is what a verification found. No findings means all is well.
type Check struct {
	Checked  map[string]uint64 `json:"checked"` // counts by kind: records, files, bytes …
	Findings []string          `json:"findings"`
}
