package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/crypto/keyring"
	"sallyport/server/admin"
	"sallyport/server/statecopy"
)

// complete is how cobra asks for the words that may stand in a place, each with a tab and what it means.
type complete = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective)

func words(list ...string) complete {
	return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return list, cobra.ShellCompDirectiveNoFileComp
	}
}

// completions says for flags of whatever command what may follow, and for commands that begin with the NAME of an account, which
// there are. A flag that takes something else under the same name is none of these.
func (a *app) completions(root *cobra.Command) {
	kinds := words(keyring.KindKeyFile+"\ta file outside the state directory, or a systemd credential", keyring.KindPassphrase+"\tsomebody who knows it",
		keyring.KindShares+"\tany K of N people", keyring.KindTransit+"\ta Vault or OpenBao", keyring.KindHelper+"\ta program: HSM, TPM, cloud")
	values := map[string]complete{
		"init --seal": kinds, "rotate --to": kinds,
		"restore --damaged": words(string(statecopy.Newest)+"\twhat could be copied of them", string(statecopy.LastGood)+"\ttheir last whole copy", string(statecopy.LeaveOut)+"\tnothing of them"),
		"--output":          words("table", "json", "yaml", "name"),
		"--account":         a.completeAccount,
	}
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		for place, fn := range values {
			command, flag, _ := strings.Cut(place, "--")
			if f := c.Flags().Lookup(flag); f == nil && c.PersistentFlags().Lookup(flag) == nil || command != "" && strings.TrimSpace(command) != c.Name() {
				continue
			}
			_ = c.RegisterFlagCompletionFunc(flag, fn) // the flag exists
		}
		if c.HasParent() && c.Parent().Name() == "account" && strings.Contains(c.Use, " NAME") && c.Name() != "add" && c.ValidArgsFunction == nil {
			c.ValidArgsFunction = func(c *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
				if len(args) > 0 {
					return nil, cobra.ShellCompDirectiveNoFileComp
				}
				return a.completeAccount(c, args, word)
			}
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root)
}

// completeAccount are the accounts of the running server; nothing where none answers at once.
func (a *app) completeAccount(c *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
	var out []string
	ctx, cancel := context.WithTimeout(c.Context(), time.Second)
	defer cancel()
	_ = a.call(ctx, time.Second, func(ctx context.Context, cl *admin.Client) error { // a shell cannot show why not
		list, err := cl.AccountList(ctx)
		for _, x := range list.Accounts {
			if strings.HasPrefix(x.Name, word) {
				out = append(out, x.Name)
			}
		}
		return err
	})
	return out, cobra.ShellCompDirectiveNoFileComp
}
