package main

import (
	"context"
	"fmt"
	"maps"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"sallyport/crypto/approved"
	"sallyport/server/admin"
)

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{Use: "status", Short: "Show the state of the running server", Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.call(c.Context(), shortCall, func(ctx context.Context, cl *admin.Client) error {
				s, err := cl.Status(ctx)
				if err != nil {
					return err
				}
				v := view{value: s, names: []string{s.State}, rows: [][]string{
					{"state", s.State}, {"version", s.Version}, {"pid", fmt.Sprint(s.PID)},
					{"up", time.Since(s.Started).Round(time.Second).String()},
					{"fips140", orDash(s.FIPS140)}, {"state directory", s.StateDir}, {"seal", s.Seal},
				}}
				if s.Sealed == nil { // without keys nobody knows
					v.rows = append(v.rows, []string{"policy revision", fmt.Sprint(s.Revision)}, []string{"accounts", fmt.Sprint(s.Accounts)}, []string{"sessions", fmt.Sprint(s.Sessions)})
				}
				v.rows = append(v.rows, sealedRows(s.Sealed)...)
				if c := s.Copies; c != nil {
					v.rows = append(v.rows, []string{"last copy", stampOr(c.Last, "never")}, []string{"last drill", stampOr(c.Drill, "never")})
				}
				for _, l := range s.Listeners {
					v.rows = append(v.rows, []string{"listener", l.Protocol + " " + l.Address})
				}
				for _, w := range s.Warnings {
					v.rows = append(v.rows, []string{"warning", w})
				}
				return a.show(v)
			})
		}}
}

func stampOr(t time.Time, text string) string {
	if t.IsZero() {
		return text
	}
	return stamp(t)
}

// sealedRows say why a server is sealed and what to do.
func sealedRows(s *admin.Sealed) [][]string {
	if s == nil {
		return nil
	}
	rows := [][]string{{"sealed since", stamp(s.Since)}, {"reason", orDash(s.Reason)}}
	if s.Hint != "" {
		rows = append(rows, []string{"hint", s.Hint})
	}
	if !s.Next.IsZero() {
		rows = append(rows, []string{"next attempt", stamp(s.Next)})
	}
	return rows
}

// version is what the build says: the module version, or the commit.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v, dirty := info.Main.Version, ""
	if v == "" {
		v = "(devel)"
	}
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision" && v == "(devel)" && len(s.Value) >= 12:
			v = s.Value[:12]
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "+changes"
		}
	}
	return v + dirty
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Show the version", Args: exactly(),
		RunE: func(*cobra.Command, []string) error {
			v := map[string]string{"version": version(), "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH, "fips140": approved.Mode()}
			return a.show(view{value: v, names: []string{v["version"]}, rows: [][]string{{"sallyport " + v["version"] + " " + v["go"] + " " + v["platform"] + " fips140: " + v["fips140"]}}})
		}}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
