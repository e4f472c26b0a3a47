package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"sallyport/server"
)

func (a *app) configCommand() *cobra.Command {
	check := &cobra.Command{Use: "check [FILE]", Short: "Check a configuration file; exit 8 names file:line:col", Args: atMostOne("FILE"),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 1 {
				a.config = args[0]
			}
			l, err := server.LoadConfig(a.configSource())
			if err != nil {
				return err
			}
			if l.File == "" {
				a.say("no configuration file: the defaults are in force, and they are valid")
			} else {
				a.say("%s is valid", l.File)
			}
			return nil
		}}
	var origin bool
	show := &cobra.Command{Use: "show", Short: "Show every setting of the process in force", Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			l, err := server.LoadConfig(a.configSource())
			if err != nil {
				return err
			}
			if !origin && (a.output == "yaml" || a.output == "json") {
				return a.show(view{value: l.Config})
			}
			v := view{value: l.Settings(), header: []string{"KEY", "VALUE"}}
			if origin {
				v.header = append(v.header, "ORIGIN")
			}
			for _, s := range l.Settings() {
				value := text(textual(s.Value))
				if value == "null" { // a list that nobody has set
					value = ""
				}
				row := []string{s.Key, orDash(value)}
				if origin {
					row = append(row, s.Origin)
				}
				v.rows = append(v.rows, row)
			}
			return a.show(v)
		}}
	show.Flags().BoolVar(&origin, "origin", false, "tell where each value came from")
	return group("config", "The process configuration sallyport.yaml", check, show)
}

// textual turns a value with a text form into it (10s rather than nanoseconds).
func textual(v any) any {
	if s, ok := v.(fmt.Stringer); ok {
		return s.String()
	}
	return v
}
