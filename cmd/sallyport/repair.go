package main

import (
	"context"
	"fmt"

	"sallyport/server"
	"sallyport/server/admin"
	"sallyport/vfs"
)

// repairer is the server that runs, or the state directory itself.
type repairer struct {
	accounts func(context.Context) ([]string, error)
	check    func(ctx context.Context, account string) (admin.Check, error)
	repair   func(context.Context, admin.VolumeRepair) (vfs.Repair, error)
}

// repaired is what is shown of one account.
type repaired struct {
	Account string `json:"account"`
	vfs.Repair
}

// repair plans, asks and executes, account by account. It fails with exit code 1 if something is lost.
func (a *app) repair(ctx context.Context, offline bool, account string, fallback bool) error {
	if !offline {
		err := a.call(ctx, 0, func(ctx context.Context, cl *admin.Client) error {
			return a.repairWith(ctx, repairer{
				accounts: func(ctx context.Context) ([]string, error) {
					list, err := cl.AccountList(ctx)
					var names []string
					for _, x := range list.Accounts {
						names = append(names, x.Name)
					}
					return names, err
				},
				check: func(ctx context.Context, name string) (admin.Check, error) {
					return cl.VolumeVerify(ctx, admin.VolumeRef{Account: name})
				},
				repair: cl.VolumeRepair,
			}, account, fallback)
		})
		if err == nil || explain(err).Code != admin.CodeUnreachable {
			return err
		}
	}
	l, err := server.LoadConfig(a.configSource())
	if err != nil {
		return err
	}
	if err := asOwner(l.Config.State.Dir); err != nil {
		return err
	}
	if !offline {
		a.say("no server is running: working on the state directory itself")
	}
	return a.repairWith(ctx, repairer{
		accounts: func(ctx context.Context) ([]string, error) { return server.AccountsOffline(ctx, l.Config) },
		check: func(ctx context.Context, name string) (admin.Check, error) {
			return server.VerifyOffline(ctx, l.Config, name)
		},
		repair: func(ctx context.Context, r admin.VolumeRepair) (vfs.Repair, error) {
			return server.RepairOffline(ctx, l.Config, r)
		},
	}, account, fallback)
}

func (a *app) repairWith(ctx context.Context, r repairer, account string, fallback bool) error {
	names := []string{account}
	if account == "" {
		var err error
		if names, err = r.accounts(ctx); err != nil {
			return err
		}
	}
	lost, damaged := 0, 0
	for _, name := range names {
		if account == "" { // nobody's sessions end who has nothing to be repaired
			c, err := r.check(ctx, name)
			if err != nil {
				return err
			}
			if len(c.Findings) == 0 {
				continue
			}
		}
		damaged++
		n, err := a.repairOne(ctx, r, name, fallback)
		if err != nil {
			return err
		}
		lost += n
	}
	switch {
	case damaged == 0:
		a.say("nothing is damaged")
	case lost > 0:
		return &admin.Error{Code: admin.CodeFindings, Message: fmt.Sprintf("%d losses, listed above", lost), Hint: "upload those files anew, or add --fallback to make older versions current"}
	}
	return nil
}

// repairOne returns how much is lost.
func (a *app) repairOne(ctx context.Context, r repairer, name string, fallback bool) (lost int, err error) {
	req := admin.VolumeRepair{Change: a.change(), Account: name, Fallback: fallback}
	plan, err := r.repair(ctx, req)
	if err != nil {
		return 0, err
	}
	if err := a.showRepair(repaired{name, plan}); err != nil || !plan.Rebuild {
		return len(plan.Lost), err
	}
	if err := a.confirm("The database of %s is rebuilt from what is listed above; the damaged one is kept.", name); err != nil {
		return 0, err
	}
	req.Plan = plan.ID
	done, err := r.repair(ctx, req)
	if err != nil {
		return 0, err
	}
	a.say("%s: repaired; the damaged database is kept as %s", name, done.Kept)
	return max(0, len(done.Lost)-len(done.Fallbacks)), nil
}

func (a *app) showRepair(r repaired) error {
	v := view{value: r, header: []string{"ACCOUNT", "WHAT", "INODE", "PATH", ""}}
	row := func(what, inode, path, text string) {
		v.rows = append(v.rows, []string{r.Account, what, inode, path, text})
	}
	for _, d := range r.Damage {
		row("damage", "-", "-", d)
	}
	for _, s := range r.Suspicious {
		row("suspicious", "-", "-", s)
	}
	for what, list := range map[string][]vfs.Lost{"lost": r.Lost, "fallback": r.Fallbacks} {
		for _, l := range list {
			row(what, fmt.Sprint(l.Inode), orDash(l.Path), l.What)
		}
	}
	v.empty = r.Account + ": nothing is damaged"
	return a.show(v)
}
