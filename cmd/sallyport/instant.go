package main

import (
	"fmt"
	"time"

	"sallyport/server/admin"
)

// instant reads a time as people write it: RFC 3339, a date or a time of day in local time, the name of an instant below /.backups, or
// how long ago. "" is the zero time.
func instant(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil {
		return time.Now().Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T1504Z", "2006-01-02T150405Z"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	for _, layout := range []string{"2006-01-02", "2006-01-02 15:04", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02T15:04:05"} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, &admin.Error{Code: admin.CodeUsage, Message: fmt.Sprintf("%q is neither a time nor a duration", text),
		Hint: "write 2026-01-31T12:00:00Z, 2026-01-31, \"2026-01-31 12:00\", or 90m for 90 minutes ago"}
}
