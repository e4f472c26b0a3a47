package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"sallyport/server"
	"sallyport/server/admin"
)

func (a *app) serveCommand() *cobra.Command {
	return &cobra.Command{Use: "serve", Short: "Run the server in the foreground", Args: exactly(),
		Long: "Run the server until SIGTERM or SIGINT; then it takes no new connections, lets transfers under way\n" +
			"finish (shutdown.drain) and stops. A second SIGINT stops at once. SIGHUP reloads.",
		RunE: func(c *cobra.Command, _ []string) error {
			source := a.configSource()
			l, err := server.LoadConfig(source)
			if err != nil {
				return err
			}
			return a.serve(c.Context(), source, l, nil, func(_ context.Context, s admin.Status) error {
				a.say("ready: admin socket %s", l.AdminSocket())
				for _, ln := range s.Listeners {
					a.say("ready: %s on %s", ln.Protocol, ln.Address)
				}
				return nil
			})
		}}
}

func (a *app) reloadCommand() *cobra.Command {
	return &cobra.Command{Use: "reload", Short: "Have the running server read its configuration, certificates and host keys again", Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.call(c.Context(), shortCall, func(ctx context.Context, cl *admin.Client) error {
				if err := cl.Reload(ctx); err != nil {
					return err
				}
				a.say("reloaded")
				return nil
			})
		}}
}

// serve runs a server of l; it calls locked when the state directory is its own and ready when it serves. With locked it
// is a demo, which ends when it cannot be unsealed.
func (a *app) serve(ctx context.Context, source server.Source, l *server.Loaded, locked func() error, ready func(context.Context, admin.Status) error) error {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	f, ok := a.stderr.(*os.File)
	return server.Run(ctx, server.Options{
		Config: l, Source: source, Version: version(), Stderr: a.stderr, Terminal: ok && term.IsTerminal(int(f.Fd())),
		Hangup: hangup, MustUnseal: locked != nil, Locked: locked, Ready: ready,
	})
}
