package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"sallyport/server/admin"
)

// sealRotate rotates keys; with --to it changes the seal and no key.
func (a *app) sealRotate() *cobra.Command {
	var accounts bool
	var only []string
	var o sealChangeFlags
	c := &cobra.Command{Use: "rotate", Short: "Put a new root key in force, and new keys of accounts; with --to, change the seal", Args: exactly(),
		Example: "  sallyport seal rotate\n  sallyport seal rotate --accounts --reason 'yearly'\n" +
			"  sallyport seal rotate --to shares --shares 2-of-3\n  sallyport seal rotate --to keyfile    # seal.key_file of sallyport.yaml names the new one",
		Long: "Put a new root key in force; every account key is wrapped anew under it. With --accounts all accounts\n" +
			"get new keys and compact databases first; with --account only those do, and the root stays. Everything\n" +
			"stays in use meanwhile. A key file or passphrase goes on opening old copies of the disk: replace it, too.\n\n" +
			"With --to, seal the root key by another kind of seal, or by another secret of the same kind: keyfile,\n" +
			"passphrase, shares, transit, helper. Files and keys stay as they are; nothing is unreadable meanwhile.",
		RunE: func(c *cobra.Command, _ []string) error {
			if o.to != "" {
				if accounts || len(only) > 0 {
					return usage("--to changes the seal and no key of an account", "run `seal rotate` again without it")
				}
				return a.changeSeal(c.Context(), &o)
			}
			return a.call(c.Context(), 0, func(ctx context.Context, cl *admin.Client) error {
				r, err := cl.SealRotate(ctx, admin.SealRotate{Change: a.change(), Accounts: accounts, Only: only})
				if err != nil {
					return err
				}
				return a.showRotated(r)
			})
		}}
	f := c.Flags()
	f.BoolVar(&accounts, "accounts", false, "new keys of all accounts, too")
	f.StringSliceVar(&only, "account", nil, "new keys of these `accounts` only")
	f.StringVar(&o.to, "to", "", "`kind` of the new seal")
	o.shares.register(f)
	f.BoolVar(&o.secret.stdin, "stdin", false, "read the new passphrase from standard input")
	f.IntVar(&o.secret.fd, "passphrase-fd", -1, "read the new passphrase from this open `descriptor`")
	registerMemory(f, &o.memory)
	return c
}

func (a *app) vfsCompact() *cobra.Command {
	var account string
	c := &cobra.Command{Use: "compact", Short: "Give accounts compact databases under new keys", Args: exactly(),
		Example: "  sallyport vfs compact --account acme",
		RunE: func(c *cobra.Command, _ []string) error {
			return a.call(c.Context(), 0, func(ctx context.Context, cl *admin.Client) error {
				r, err := cl.VolumeCompact(ctx, admin.ShredAsk{Change: a.change(), Account: account})
				if err != nil {
					return err
				}
				return a.showRotated(r)
			})
		}}
	c.Flags().StringVar(&account, "account", "", "only this `account`")
	return c
}

// showRotated prints what has a new key; an account that could not get one is a finding.
func (a *app) showRotated(r admin.KeysRotated) error {
	root := fmt.Sprintf("epoch %d, as before", r.Epoch)
	switch {
	case r.Destroyed:
		root = fmt.Sprintf("epoch %d; the seal has destroyed the old root", r.Epoch)
	case r.NewRoot:
		root = fmt.Sprintf("epoch %d, new", r.Epoch)
	}
	rows := [][]string{{"root", root}}
	if r.Bytes > 0 {
		rows = append(rows, []string{"shredded", fmt.Sprintf("%d purged bytes", r.Bytes)})
	}
	failed := 0
	for _, x := range r.Accounts {
		name := x.Account
		if name == "" {
			name = x.ID
		}
		if x.Error != "" {
			failed++
			rows = append(rows, []string{"account " + name, "not done: " + x.Error})
			continue
		}
		rows = append(rows, []string{"account " + name, fmt.Sprintf("key version %d", x.Version)})
	}
	if r.Pending != "" {
		rows = append(rows, []string{"pending", r.Pending})
	}
	if r.Audit > 0 {
		rows = append(rows, []string{"audit record", fmt.Sprint(r.Audit)})
	}
	if err := a.show(view{value: r, names: []string{fmt.Sprint(r.Epoch)}, rows: rows}); err != nil {
		return err
	}
	if failed > 0 {
		return &admin.Error{Code: admin.CodeFindings, Message: fmt.Sprintf("%d accounts could not get a new key", failed), Hint: "the others have theirs; the server's log says why"}
	}
	return nil
}

// destroyAccount removes an account for good and prints the receipt.
func (a *app) destroyAccount(ctx context.Context, name string) error {
	if err := a.confirm("This destroys account %s, its key, all its files and their history. There is no way back.", name); err != nil {
		return err
	}
	return a.call(ctx, 0, func(ctx context.Context, cl *admin.Client) error {
		r, err := cl.AccountDestroy(ctx, admin.AccountRef{Change: a.change(), Name: name})
		if err != nil {
			return err
		}
		rows := [][]string{
			{"account", r.ID}, {"key version", fmt.Sprint(r.Version)}, {"root epoch", fmt.Sprint(r.Epoch)},
			{"audit record", fmt.Sprint(r.Audit)}, {"time", r.At.UTC().Format("2006-01-02T15:04:05Z")},
		}
		switch {
		case r.Pending != "":
			rows = append(rows, []string{"pending", r.Pending})
		case r.OldRoot:
			rows = append(rows, []string{"old root", "destroyed by the seal"})
		default:
			rows = append(rows, []string{"old root", "this seal cannot destroy it: replace its secret, and destroy the old one with every copy of it"})
		}
		return a.show(view{value: r, names: []string{r.ID}, rows: rows})
	})
}
