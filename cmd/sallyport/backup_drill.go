package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/spf13/cobra"

	"sallyport/server"
	"sallyport/server/admin"
)

// tellDrilled has a running server remember the trial, so that it can warn when the last one is long ago.
func (a *app) tellDrilled(ctx context.Context, r *server.Restored, deep bool) {
	err := a.call(ctx, shortCall, func(ctx context.Context, cl *admin.Client) error {
		return cl.Drilled(ctx, admin.CopyDrilled{ID: r.ID, Made: r.Made, Findings: r.Findings(), Deep: deep})
	})
	if err != nil {
		a.say("note: no running server will remember this drill: %v", err)
	}
}

// backupDrill tries a restore.
func (a *app) backupDrill() *cobra.Command {
	var from, temp string
	var quick bool
	var secret unsealFlags
	c := &cobra.Command{Use: "drill", Short: "Try the restore of a copy and say what came of it; exit 1 on findings", Args: exactly(),
		Example: "  sallyport backup drill --from /backup/sallyport\n  sallyport backup drill --from - --temp /scratch <sallyport.tar",
		Long: "Restore the copy into a directory beside it (mode 0700, removed at the end; blobs are linked, not copied, where\n" +
			"the file system can), open it with the seal's secret, read and authenticate every byte, and report each\n" +
			"account, the age of the copy and the time it took. Nothing else changes, also not at a key service. --temp\n" +
			"makes that directory elsewhere, if nothing can be written beside the copy: all of it must fit there. --from -\n" +
			"reads a tar archive, and unpacks it there or in $TMPDIR.",
		RunE: func(c *cobra.Command, _ []string) error {
			o := server.RestoreOptions{From: from, Deep: !quick, Temp: temp, Who: fmt.Sprintf("uid %d, offline", os.Getuid())}
			end, err := a.copyFrom(c.Context(), &o, secret, "the directory of `sallyport backup state --to`, or - for a tar archive on standard input")
			if err != nil {
				return err
			}
			defer end()
			l, err := server.LoadConfig(a.configSource())
			if err != nil {
				return err
			}
			o.Seal = a.sealOf(l.Config, secret)
			r, err := server.DrillState(c.Context(), l.Config, o)
			if noRoom(err) || errors.Is(err, syscall.EROFS) {
				return &admin.Error{Code: admin.CodeInternal, Message: err.Error(), Hint: "--temp DIR tries it in another directory, which needs room for all of the copy; the copy is as it was"}
			}
			if err != nil {
				return err
			}
			a.tellDrilled(c.Context(), r, !quick)
			return a.showRestored(r, "the copy")
		}}
	c.Flags().StringVar(&from, "from", "", "`directory` of the copy, or - for a tar archive on standard input")
	c.Flags().StringVar(&temp, "temp", "", "try it in a new directory in this `directory`, and not beside the copy")
	c.Flags().BoolVar(&quick, "quick", false, "read the ends of blobs only")
	secret.register(c)
	return c
}
