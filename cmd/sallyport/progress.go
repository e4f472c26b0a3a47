package main

import (
	"fmt"
	"os"

	"golang.org/x/term"
)

// progress is one line on a terminal that says how far something is; nothing elsewhere.
type progress struct {
	to   *os.File // nil = nowhere
	used bool
}

func (a *app) progress() *progress {
	f, ok := a.stderr.(*os.File)
	if a.quiet || !ok || !term.IsTerminal(int(f.Fd())) {
		return &progress{}
	}
	return &progress{to: f}
}

// show replaces the line.
func (p *progress) show(format string, args ...any) {
	if p.to == nil {
		return
	}
	p.used = true
	fmt.Fprintf(p.to, "\r\x1b[K%s", clean(fmt.Sprintf(format, args...), false))
}

// end clears it.
func (p *progress) end() {
	if p.used {
		fmt.Fprint(p.to, "\r\x1b[K")
	}
}
