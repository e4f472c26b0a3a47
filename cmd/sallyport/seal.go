package main

import (
	"context"
	"errors"
	"io/fs"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"sallyport/server/admin"
)

func (a *app) sealCommand() *cobra.Command {
	c := &cobra.Command{Use: "seal", Short: "Seal the running server now; rotate keys, change the seal, make recovery kits", Args: exactly(),
		Example: "  sallyport seal --reason 'disk is being replaced'\n  sallyport seal status",
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
	c.AddCommand(a.sealStatus(), a.sealRotate(), a.sealShares(), a.sealExport(), a.sealRevoke(), a.sealFinish())
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
		// A connection that the old image had taken breaks when it goes; where nobody listens there is no new one.
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
			return &admin.Error{Code: admin.CodeUnreachable, Message: "the server ended instead of sealing itself; its keys are gone with it", Hint: "see its log"}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
