package server

import (
	"fmt"
	"strings"
)

// ConfigError is one thing wrong with the configuration, with the place where
// it stands.
type ConfigError struct {
	File      string // empty for the environment and flags
	Line, Col int    // 1-based; 0 = unknown
	Key       string // dotted path, e.g. "log.level"; may be empty
	Message   string
	Hint      string
}

func (e *ConfigError) Error() string {
	var b strings.Builder
	if e.File != "" {
		b.WriteString(e.File)
		if e.Line > 0 {
			fmt.Fprintf(&b, ":%d:%d", e.Line, e.Col)
		}
		b.WriteString(": ")
	}
	if e.Key != "" {
		b.WriteString(e.Key + ": ")
	}
	b.WriteString(e.Message)
	return b.String()
}

// ConfigErrors are all things wrong, in file order as far as known.
type ConfigErrors []*ConfigError

func (e ConfigErrors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Hint is the first hint given.
func (e ConfigErrors) Hint() string {
	for _, one := range e {
		if one.Hint != "" {
			return one.Hint
		}
	}
	return ""
}
