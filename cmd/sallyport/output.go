package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/goccy/go-yaml"
	"golang.org/x/term"
)

// view is one answer in every form that -o knows.
type view struct {
	value  any // json, yaml
	header []string
	rows   [][]string
	names  []string // -o name; the first column if nil
	empty  string   // said on stderr when there are no rows
}

func (a *app) show(v view) error {
	switch a.output {
	case "json":
		enc := json.NewEncoder(a.stdout)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		return enc.Encode(v.value)
	case "yaml":
		return a.showYAML(v.value)
	case "name":
		names := v.names
		if names == nil {
			for _, r := range v.rows {
				names = append(names, r[0])
			}
		}
		for _, n := range names {
			if _, err := fmt.Fprintln(a.stdout, clean(n, false)); err != nil {
				return err
			}
		}
		return nil
	}
	if len(v.rows) == 0 && v.empty != "" {
		a.say("%s", v.empty)
		return nil
	}
	return table(a.stdout, v.header, v.rows)
}

// showYAML goes through JSON so that both have the same keys.
func (a *app) showYAML(value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	out, err := yaml.JSONToYAML(data)
	if err != nil {
		return err
	}
	_, err = a.stdout.Write(out)
	return err
}

func table(w io.Writer, header []string, rows [][]string) error {
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	if len(header) > 0 {
		fmt.Fprintln(tw, strings.Join(header, "\t"))
	}
	for _, r := range rows {
		cells := make([]string, len(r))
		for i, c := range r {
			cells[i] = clean(c, false)
		}
		fmt.Fprintln(tw, strings.TrimRight(strings.Join(cells, "\t"), " \t"))
	}
	return tw.Flush()
}

// clean makes text from clients (paths, idents, names) harmless for a terminal:
// control characters and invalid UTF-8 are shown as escapes, never sent.
func clean(s string, lines bool) string {
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == '\n' && lines:
			b.WriteRune(r)
		case r == unicode.ReplacementChar && !strings.HasPrefix(s[i:], string(unicode.ReplacementChar)):
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case !unicode.IsPrint(r):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// colored wraps s in an ANSI colour when standard error is a terminal that wants it.
func (a *app) colored(code, s string) string {
	f, ok := a.stderr.(*os.File)
	if a.noColor || os.Getenv("NO_COLOR") != "" || !ok || !term.IsTerminal(int(f.Fd())) {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// stamp is a time for people: local, to the second.
func stamp(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

// sinceStamp is stamp for a time since when something is so: the full second after it, of which it is true.
func sinceStamp(t time.Time) string { return stamp(t.Add(time.Second - 1).Truncate(time.Second)) }

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
