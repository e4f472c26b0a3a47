package server

import (
	"io"
	"log/slog"
)

// NewLog makes the diagnostic log: text for people at a terminal, JSON for
// machines. The level can be changed while running.
func NewLog(w io.Writer, terminal bool, format string, level *slog.LevelVar) *slog.Logger {
	o := &slog.HandlerOptions{Level: level}
	if format == "text" || format == "auto" && terminal {
		return slog.New(slog.NewTextHandler(w, o))
	}
	return slog.New(slog.NewJSONHandler(w, o))
}

// logLevel reads a level that the configuration check has accepted.
func logLevel(name string) slog.Level {
	var l slog.Level
	if l.UnmarshalText([]byte(name)) != nil {
		return slog.LevelInfo
	}
	return l
}
