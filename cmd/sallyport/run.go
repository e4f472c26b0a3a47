package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"sallyport/server"
	"sallyport/server/admin"
)

// app is one invocation: its streams and its global flags.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer

	output  string
	config  string
	socket  string
	state   string
	reason  string
	yes     bool
	quiet   bool
	noColor bool
	timeout time.Duration
}

// run is the whole program: it returns the exit code (docs/OPERATIONS.md
// "Exit codes"). Data goes to stdout, talk to stderr.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	return a.fail(err)
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "sallyport",
		Short:         "Secure FTPS and SFTP server over an encrypted, versioned volume",
		SilenceErrors: true, SilenceUsage: true,
		Version:           version(), // for --version; `version` says more
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: false},
		Args:              cobra.ArbitraryArgs,
		PersistentPreRunE: func(c *cobra.Command, _ []string) error { return cmp.Or(a.checkGlobals(), missingFlags(c)) },
		RunE:              unknownOrHelp,
	}
	root.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return &admin.Error{Code: admin.CodeUsage, Message: flagError(err), Hint: "see `" + c.CommandPath() + " --help`"}
	})
	f := root.PersistentFlags()
	f.StringVarP(&a.output, "output", "o", "table", "output `format`: table, json, yaml or name")
	f.StringVar(&a.config, "config", "", "configuration `file` (default "+server.DefaultConfigFile+" if it exists)")
	f.StringVar(&a.socket, "socket", "", "admin socket of the server to talk to")
	f.StringVar(&a.state, "state", "", "state `directory`")
	f.StringVar(&a.reason, "reason", "", "why, recorded with the change")
	f.BoolVar(&a.yes, "yes", false, "do not ask")
	f.BoolVar(&a.quiet, "quiet", false, "say nothing on standard error but errors")
	f.BoolVar(&a.noColor, "no-color", false, "no colours (NO_COLOR is honoured too)")
	f.DurationVar(&a.timeout, "timeout", 0, "give up after this `time` (default 30s; checks and follows have none)")
	a.addCommands(root)
	return root
}

// addCommands puts the commands under headings: who reads the help for the first time looks for an errand, not for a letter.
func (a *app) addCommands(root *cobra.Command) {
	add := func(title string, subs ...*cobra.Command) {
		root.AddGroup(&cobra.Group{ID: title, Title: title + ":"})
		for _, c := range subs {
			c.GroupID = title
		}
		root.AddCommand(subs...)
	}
	add("The server", a.demoCommand(), a.initCommand(), a.serveCommand(), a.reloadCommand(), a.statusCommand(), a.doctorCommand(), a.configCommand())
	add("Who may do what", a.accountCommand(), a.groupCommand(), a.policyCommand(), a.caCommand(), a.sessionCommand(), a.banCommand(), a.auditCommand())
	add("Files and history", a.backupCommand(), a.vfsCommand())
	add("Keys", a.sealCommand(), a.unsealCommand(), a.hostkeyCommand(), a.certCommand())
	root.AddCommand(a.versionCommand())
	a.completions(root)
}

// group makes a command that only holds others.
func group(use, short string, subs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: cobra.ArbitraryArgs, RunE: unknownOrHelp}
	c.AddCommand(subs...)
	return c
}

// unknownOrHelp answers a word that is no command with the nearest one, and no
// word at all with the help text on stderr.
func unknownOrHelp(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		c.SetOut(c.ErrOrStderr())
		_ = c.Help() // a broken stderr cannot be reported
		return &admin.Error{Code: admin.CodeUsage, Message: "a command is missing", Hint: "see `" + c.CommandPath() + " --help`"}
	}
	e := &admin.Error{Code: admin.CodeUsage, Message: fmt.Sprintf("unknown command %q for %q", args[0], c.CommandPath()), Hint: "see `" + c.CommandPath() + " --help`"}
	suggest(c, args[0], e)
	return e
}

// suggest has the hint of e name the command of c that is nearest to word.
func suggest(c *cobra.Command, word string, e *admin.Error) {
	c.SuggestionsMinimumDistance = 2
	if near := c.SuggestionsFor(word); len(near) > 0 {
		e.Hint = "did you mean `" + c.CommandPath() + " " + near[0] + "`?"
	}
}

// exactly, atMost and atLeast check the number of arguments as usage errors.
func exactly(names ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) == len(names) {
			return nil
		}
		return argsError(c, names)
	}
}

func atLeast(names ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) >= len(names) {
			return nil
		}
		return argsError(c, names)
	}
}

func atMostOne(name string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) <= 1 {
			return nil
		}
		return argsError(c, []string{"[" + name + "]"})
	}
}

func argsError(c *cobra.Command, names []string) error {
	want := "no arguments"
	if len(names) > 0 {
		want = strings.Join(names, " ")
	}
	e := &admin.Error{Code: admin.CodeUsage, Message: fmt.Sprintf("%s takes %s", c.CommandPath(), want), Hint: "see `" + c.CommandPath() + " --help`"}
	if len(names) == 0 && c.HasAvailableSubCommands() { // a word too much may be one of its commands
		suggest(c, c.Flags().Arg(0), e)
	}
	return e
}

func (a *app) checkGlobals() error {
	switch a.output {
	case "table", "json", "yaml", "name":
	default:
		return usage(fmt.Sprintf("--output %q is not one of table, json, yaml, name", a.output), "")
	}
	if a.state != "" {
		abs, err := filepath.Abs(a.state)
		if err != nil {
			return fmt.Errorf("--state: %w", err)
		}
		a.state = abs
	}
	return nil
}

// missingFlags comes before cobra's own check, whose error is one of the program and not of its user.
func missingFlags(c *cobra.Command) error {
	var missing []string
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if required := f.Annotations[cobra.BashCompOneRequiredFlag]; len(required) > 0 && required[0] == "true" && !f.Changed {
			missing = append(missing, "--"+f.Name)
		}
	})
	if len(missing) == 0 {
		return nil
	}
	return usage(c.CommandPath()+" needs "+strings.Join(missing, " and "), "see `"+c.CommandPath()+" --help`")
}

// flagError takes the words of a parser of numbers out of an error about a flag.
func flagError(err error) string {
	text := err.Error()
	if before, after, found := strings.Cut(text, "strconv."); found {
		if _, why, ok := strings.Cut(after, "\": "); ok {
			if why == "invalid syntax" {
				why = "not a number"
			}
			return before + why
		}
	}
	return text
}

func usage(message, hint string) error {
	return &admin.Error{Code: admin.CodeUsage, Message: message, Hint: hint}
}

// configSource is where this invocation's configuration comes from.
func (a *app) configSource() server.Source {
	s := server.Source{File: a.config, Environ: os.Environ(), Flags: map[string]string{}, FlagNames: map[string]string{
		"state.dir": "--state", "admin.socket": "--socket", "listeners": "--sftp, --ftps, --ftps-implicit", "passive.ports": "--passive-ports",
	}}
	if s.File == "" {
		s.File = os.Getenv("SALLYPORT_CONFIG")
	}
	if a.state != "" {
		s.Flags["state.dir"] = a.state
	}
	if a.socket != "" {
		s.Flags["admin.socket"] = a.socket
	}
	return s
}

// client finds the admin socket: --socket, else that of --state, else that of
// the configuration.
func (a *app) client() (*admin.Client, error) {
	if a.socket != "" {
		return admin.NewClient(a.socket), nil
	}
	l, err := server.LoadConfig(a.configSource())
	if err != nil {
		return nil, err
	}
	return admin.NewClient(l.AdminSocket()), nil
}

// call runs fn with a client under --timeout, or under standard if none was given (0 = none).
func (a *app) call(ctx context.Context, standard time.Duration, fn func(context.Context, *admin.Client) error) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	limit := a.timeout
	if limit == 0 {
		limit = standard
	}
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	return fn(ctx, c)
}

// shortCall is the standard time of operations that should take milliseconds.
const shortCall = 30 * time.Second

func (a *app) change() admin.Change { return admin.Change{Reason: a.reason} }

// say talks to the person at the terminal.
func (a *app) say(format string, args ...any) {
	if !a.quiet {
		fmt.Fprintf(a.stderr, format+"\n", args...)
	}
}

var errInterrupted = errors.New("interrupted")
