package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"sallyport/server/admin"
)

func (a *app) sealCommand() *cobra.Command {
	c := &cobra.Command{Use: "seal", Short: "Seal the running server now: sessions end at once, keys leave memory", Args: exactly(),
		Long: "End every session at once and have the server replace its process image, so that no key is left in\n" +
			"memory. It goes on answering, and refuses logins, until `sallyport unseal`. It does not unseal itself\n" +
			"before its next start, whatever kind of seal it has.",
		RunE: func(c *cobra.Command, _ []string) error {
			if err := a.confirm("Every session ends at once, and nobody can log in until the server is unsealed."); err != nil {
				return err
			}
			return a.call(c.Context(), shortCall, func(ctx context.Context, cl *admin.Client) error {
				if err := cl.Seal(ctx, a.change()); err != nil {
					return err
				}
				return a.untilSealed(ctx, cl)
			})
		}}
	return c
}

// untilSealed waits for the new process image; connections wait for it in the
// queue of the admin socket.
func (a *app) untilSealed(ctx context.Context, cl *admin.Client) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		st, err := cl.Status(ctx)
		if err == nil && st.State == "sealed" {
			a.say("sealed")
			return nil
		}
		if err != nil && explain(err).Code == admin.CodeUnreachable {
			return &admin.Error{Code: admin.CodeUnreachable, Message: "the server ended instead of sealing itself; its keys are gone with it", Hint: "see its log"}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (a *app) unsealCommand() *cobra.Command {
	return &cobra.Command{Use: "unseal", Short: "Unseal the running server", Args: exactly(),
		Long: "Give the server what it needs to get at its keys. With a key file, a key service or a helper it only\n" +
			"has to try.",
		RunE: func(c *cobra.Command, _ []string) error {
			return a.call(c.Context(), unsealTime, func(ctx context.Context, cl *admin.Client) error {
				st, err := cl.Unseal(ctx, admin.Unseal{})
				if err != nil {
					return err
				}
				return a.unsealed(st)
			})
		}}
}

// unsealTime is the standard time of unseal: Argon2id, a key service, and the opening of all that lies behind.
const unsealTime = 5 * time.Minute

// unsealed tells how far it is; a server that stays sealed is exit code 6.
func (a *app) unsealed(st admin.SealState) error {
	rows := [][]string{{"state", st.State}, {"seal", st.Kind}}
	if st.Need > 0 {
		rows = append(rows, []string{"shares", fmt.Sprintf("%d/%d", st.Have, st.Need)})
	}
	if err := a.show(view{value: st, names: []string{st.State}, rows: rows}); err != nil {
		return err
	}
	if st.State == "ready" {
		return nil
	}
	e := &admin.Error{Code: admin.CodeSealed, Message: "still sealed"}
	if st.Need > 0 {
		e.Message, e.Hint = fmt.Sprintf("still sealed: %d of %d shares are there", st.Have, st.Need), "the other holders run `sallyport unseal`, too"
	}
	return e
}
