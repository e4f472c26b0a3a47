package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"sallyport/crypto/keyring"
	"sallyport/server"
	"sallyport/server/admin"
	"sallyport/server/statecopy"
)

// backupState copies the whole state of the running server.
func (a *app) backupState() *cobra.Command {
	var to string
	var o statecopy.Options
	c := &cobra.Command{Use: "state", Short: "Copy the whole state of the running server, sealed, to a directory or a tar stream", Args: exactly(),
		Example: "  sallyport backup state --to /backup/sallyport\n  sallyport backup state --to - | ssh backup@other 'cat >sallyport.tar'",
		Long: "Copy keyring, seal parameters, policy, audit log, trees, blobs, host keys and the server's own certificate, as\n" +
			"they fit together, while the server goes on. Nothing leaves it in clear: the copy is worth what the seal is\n" +
			"worth. Into a directory, a later copy adds what is new and then takes the place of the one before; what was\n" +
			"written is read back and verified. --to - writes a tar archive to standard output. sallyport.yaml, the seal's\n" +
			"secret and certificates of your own are not in it: keep them elsewhere.",
		RunE: func(c *cobra.Command, _ []string) error {
			if to == "" {
				return usage("--to says where the copy goes", "a directory, or - for a tar archive on standard output")
			}
			return a.call(c.Context(), 0, func(ctx context.Context, cl *admin.Client) error { return a.copyState(ctx, cl, to, o) })
		}}
	c.Flags().StringVar(&to, "to", "", "`directory` of the copy, or - for a tar archive on standard output")
	c.Flags().BoolVar(&o.Deep, "deep", false, "read back and authenticate every byte of the copy, not only the ends of what is new")
	c.Flags().BoolVar(&o.Replace, "replace", false, "take the place of a copy that is of another server, or of a later state of this one")
	c.AddCommand(a.backupRestoreState())
	return c
}

func (a *app) copyState(ctx context.Context, cl *admin.Client, to string, o statecopy.Options) error {
	if to == "-" {
		source, err := cl.StateCopy(ctx, a.change())
		if err != nil {
			return err
		}
		defer source.Close()
		out, end := waiting(ctx, a.stdout)
		defer end()
		done, err := statecopy.Run(ctx, source, statecopy.NewStream(out), statecopy.Options{})
		if err != nil {
			return err
		}
		lost, err := source.Finish(ctx, done, "a stream")
		if err != nil {
			return err
		}
		a.say("copy %s: %d accounts, %d blobs, %d bytes of blobs", done.ID, done.Accounts, done.Copied, done.Written)
		return a.sayDamaged(lost)
	}
	place, err := filepath.Abs(to)
	if err != nil {
		return err
	}
	if err := asServersUser(cl.Socket(), place); err != nil {
		return err
	}
	dir, err := statecopy.OpenDir(place, true)
	if err != nil {
		return err
	}
	defer dir.Close()
	source, err := cl.StateCopy(ctx, a.change())
	if err != nil {
		return err
	}
	defer source.Close()
	done, err := statecopy.Run(ctx, source, dir, o)
	if noRoom(err) {
		return &admin.Error{Code: admin.CodeInternal, Message: err.Error(), Hint: "a copy that is in force there stays as it is; make room and copy again: that goes on with the blobs that came"}
	}
	if err != nil {
		return err
	}
	lost, err := source.Finish(ctx, done, place)
	if err != nil {
		return err
	}
	if err := dir.Clean(ctx); err != nil {
		return fmt.Errorf("the copy is in force; removing what only the one before needed: %w", err)
	}
	if err := a.show(copied(done, lost)); err != nil {
		return err
	}
	return a.sayDamaged(lost)
}

// noRoom says whether a disk is full, or this user's part of it.
func noRoom(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// copied is what a copy shows.
func copied(done *statecopy.Done, lost []admin.CopyDamaged) view {
	value := struct {
		*statecopy.Done
		Lost []admin.CopyDamaged `json:"damage,omitempty"`
	}{done, lost}
	return view{value: value, names: []string{done.ID}, rows: [][]string{
		{"copy", done.ID}, {"root epoch", fmt.Sprint(done.Epoch)}, {"accounts", fmt.Sprint(done.Accounts)}, {"audit records", fmt.Sprint(done.Records)},
		{"unchanged accounts", fmt.Sprint(done.Same)}, {"damaged accounts", fmt.Sprint(done.Damaged)},
		{"blobs", fmt.Sprintf("%d, %d bytes", done.Blobs, done.Bytes)}, {"new", fmt.Sprintf("%d, %d bytes", done.Copied, done.Written)},
		{"read back", fmt.Sprint(done.Checked)}, {"purged meanwhile", fmt.Sprint(done.Purged)}, {"mended in the copy", fmt.Sprint(done.Mended)},
		{"audit record", fmt.Sprint(done.Audit)},
	}}
}

// sayDamaged names what the server could not give, which makes the copy incomplete.
func (a *app) sayDamaged(lost []admin.CopyDamaged) error {
	if len(lost) == 0 {
		return nil
	}
	for _, d := range lost {
		for _, what := range d.What {
			a.say("damaged: %s: %s", d.Account, what)
		}
		last := d.Last.UTC().Format(time.RFC3339)
		switch {
		case d.Last.IsZero():
			a.say("damaged: %s: there is no whole copy of it here", d.Account)
		case d.Lacking > 0:
			a.say("damaged: %s: its last whole copy, of %s, is whole no more: %d blobs of it are missing here; what is left is kept beside", d.Account, last, d.Lacking)
		default:
			a.say("damaged: %s: its last whole copy, of %s, is kept beside", d.Account, last)
		}
		if !d.Newest.IsZero() {
			a.say("damaged: %s: what could be copied of it stays that of %s", d.Account, d.Newest.UTC().Format(time.RFC3339))
		}
	}
	return &admin.Error{Code: admin.CodeFindings, Message: fmt.Sprintf("the copy is in force, and incomplete: %d accounts are damaged at the server", len(lost)),
		Hint: "`sallyport vfs verify --account NAME` names the files, and with --repair mends what can be mended; then make the copy again"}
}

// backupRestoreState makes a state directory out of a copy.
func (a *app) backupRestoreState() *cobra.Command {
	var from, damaged string
	var deep bool
	var secret unsealFlags
	c := &cobra.Command{Use: "restore", Short: "Make a state directory out of a copy, on an empty machine", Args: exactly(),
		Example: "  sallyport backup state restore --from /backup/sallyport --state /var/lib/sallyport\n  sallyport backup state restore --from - --recovery kit.age --identity me.txt <sallyport.tar",
		Long: "Write the state of a copy into the state directory (--state, or that of the configuration), which must be absent\n" +
			"or empty, check every file against the signed manifest (of blobs the ends; --deep reads every byte, as\n" +
			"`backup drill` does), open everything and say what was found; exit 1 on findings. It takes what the seal\n" +
			"takes: the key file, key service or helper of the configuration, or a passphrase or shares, which are asked\n" +
			"for. An interrupted restore of the same copy goes on. If root restores into a directory of another user it\n" +
			"does so as that user. Never run a restored server beside the one that\n" +
			"the copy is of.",
		RunE: func(c *cobra.Command, _ []string) error {
			o := server.RestoreOptions{From: from, Deep: deep, Damaged: statecopy.Choice(damaged), Who: fmt.Sprintf("uid %d, offline", os.Getuid())}
			if damaged != "" && !slices.Contains([]statecopy.Choice{statecopy.Newest, statecopy.LastGood, statecopy.LeaveOut}, o.Damaged) {
				return usage(fmt.Sprintf("--damaged %q", damaged), "newest, last-good or leave-out")
			}
			l, err := server.LoadConfig(a.configSource())
			if err != nil {
				return err
			}
			if err := asOwner(l.Config.State.Dir); err != nil { // before the archive is read
				return err
			}
			end, err := a.copyFrom(c.Context(), &o, secret, "a directory, or - for a tar archive on standard input")
			if err != nil {
				return err
			}
			defer end()
			o.Seal = a.sealOf(l.Config, secret)
			r, err := server.RestoreState(c.Context(), l.Config, o)
			if err != nil {
				return err
			}
			err = a.showRestored(r, "the restored state")
			a.say("state in %s: `sallyport serve` starts from it; never beside the server that the copy is of", l.State.Dir)
			return err
		}}
	c.Flags().StringVar(&from, "from", "", "`directory` of the copy, or - for a tar archive on standard input")
	c.Flags().BoolVar(&deep, "deep", false, "read and authenticate every byte of every blob")
	c.Flags().StringVar(&damaged, "damaged", "", "accounts that were damaged when the copy was made: newest (what could be copied of them), last-good (their last whole copy) or leave-out")
	secret.register(c)
	return c
}

// copyFrom takes what --from says. The caller calls end.
func (a *app) copyFrom(ctx context.Context, o *server.RestoreOptions, secret unsealFlags, hint string) (end func(), err error) {
	end = func() {}
	switch {
	case o.From == "":
		return nil, usage("--from says where the copy is", hint)
	case o.From == "-" && secret.stdin:
		return nil, usage("the archive comes on standard input, so the secret cannot", "use --passphrase-fd")
	case o.From == "-":
		o.Stream, end = waiting(ctx, a.stdin)
	}
	return end, nil
}

// register adds the flags that say where a secret comes from.
func (o *unsealFlags) register(c *cobra.Command) {
	f := c.Flags()
	f.BoolVar(&o.stdin, "stdin", false, "read the passphrase, or all shares with blank lines between them, from standard input")
	f.IntVar(&o.fd, "passphrase-fd", -1, "read them from this open `descriptor`")
	f.StringVar(&o.recovery, "recovery", "", "recovery kit: a `file` of `seal export`, or what age made of it")
	f.StringVar(&o.identity, "identity", "", "private key (age or SSH, a `file`) that opens the recovery kit")
}

// sealOf asks for what the seal of a copy needs.
func (a *app) sealOf(c *server.Config, o unsealFlags) func(context.Context, *keyring.SealInfo) (keyring.Seal, error) {
	return func(ctx context.Context, info *keyring.SealInfo) (keyring.Seal, error) {
		switch {
		case o.recovery != "":
			kit, err := a.kitFrom(o)
			if err != nil {
				return nil, err
			}
			return info.Recovery([]byte(kit.Kit), []byte(kit.Identity))
		case info.Kind == keyring.KindPassphrase:
			pass, err := a.secretFrom(o, "Passphrase: ")
			if err != nil {
				return nil, err
			}
			return info.Passphrase([]byte(pass))
		case info.Kind == keyring.KindShares:
			return a.sharesOf(info, o)
		}
		return c.SealOfKind(ctx, info.Kind)
	}
}

// sharesOf asks for as many shares as it takes, one after the other, or reads them all at once.
func (a *app) sharesOf(info *keyring.SealInfo, o unsealFlags) (keyring.Seal, error) {
	all, err := info.NewCollector(keyring.CollectTime)
	if err != nil {
		return nil, err
	}
	for n := 1; ; n++ {
		text, err := a.shareFrom(o, fmt.Sprintf("Share %d of %d (set %x): ", n, info.K, info.Set[:]))
		if err != nil {
			return nil, err
		}
		for one := range strings.SplitSeq(string(text), "\n\n") {
			progress, err := all.Add([]byte(one))
			if err != nil {
				return nil, err
			}
			if progress.Complete() {
				return info.Shares(all)
			}
		}
		if o.stdin || o.fd >= 0 {
			return nil, &admin.Error{Code: admin.CodeSealed, Message: fmt.Sprintf("%d shares are needed, with a blank line between them", info.K)}
		}
	}
}

// showRestored prints what was found; findings are exit code 1.
func (a *app) showRestored(r *server.Restored, what string) error {
	v := view{value: r, header: []string{"ACCOUNT", "FILES", "BYTES", "VERSIONS", "BLOBS", "FINDINGS"}}
	for _, x := range r.Accounts {
		v.rows = append(v.rows, []string{x.Account, fmt.Sprint(x.Files), fmt.Sprint(x.Bytes), fmt.Sprint(x.Versions), fmt.Sprint(x.Blobs), fmt.Sprint(len(x.Findings))})
	}
	if err := a.show(v); err != nil {
		return err
	}
	for _, n := range r.Notes {
		a.say("note: %s", n)
	}
	for _, f := range r.Site {
		a.say("finding: %s", f)
	}
	for _, x := range r.Accounts {
		for _, f := range x.Findings {
			a.say("finding: %s: %s", x.Account, f)
		}
	}
	a.say("copy %s of %s (%s old), root epoch %d, %d audit records; took %s", r.ID, r.Made.UTC().Format(time.RFC3339), r.Age, r.Epoch, r.Records, r.Took)
	if n := r.Findings(); n > 0 {
		return &admin.Error{Code: admin.CodeFindings, Message: fmt.Sprintf("%s has %d findings", what, n), Hint: "make a new copy, or take an older one; the findings name what is affected"}
	}
	return nil
}

// copyFailed gives the errors of copies their codes.
func copyFailed(e *admin.Error, err error) bool {
	switch {
	case errors.Is(err, statecopy.ErrNoCopy):
		e.Code, e.Hint = admin.CodeNotFound, "make one with `sallyport backup state --to DIR`"
	case errors.Is(err, statecopy.ErrInUse):
		e.Code, e.Hint = admin.CodeConflict, "wait for its end"
	case errors.Is(err, statecopy.ErrOther):
		e.Code, e.Hint = admin.CodeRefused, "copy to another directory; or, if nobody will ever restore that copy, add --replace"
	case errors.Is(err, statecopy.ErrPlace):
		e.Code, e.Hint = admin.CodeRefused, "choose a directory on another disk, or on another machine"
	case errors.Is(err, statecopy.ErrNotEmpty):
		e.Code, e.Hint = admin.CodeRefused, "choose a directory of its own: what no copy names would be removed from it, and nothing is overwritten"
	case errors.Is(err, statecopy.ErrOtherRestore):
		e.Code, e.Hint = admin.CodeRefused, "remove that directory, or go on with the copy that it was begun from"
	case errors.Is(err, statecopy.ErrIncomplete):
		e.Code, e.Hint = admin.CodeFindings, "say what to restore of them: --damaged newest (what could be copied; files of which something was damaged cannot be read), last-good (their last whole copy, of the time given) or leave-out"
	case errors.Is(err, statecopy.ErrDamaged):
		e.Code, e.Hint = admin.CodeFindings, "make a new copy, or take an older one"
	case errors.Is(err, server.ErrRestoring):
		e.Code, e.Hint = admin.CodeRefused, "run `sallyport backup state restore` again with the same copy: it goes on; or remove the directory"
	case errors.Is(err, server.ErrStateExists):
		e.Code, e.Hint = admin.CodeRefused, "restore into another --state"
	default:
		return false
	}
	return true
}
