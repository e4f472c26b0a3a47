package server

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sallyport/crypto/keyring"
	"sallyport/policy/policydb"
	"sallyport/server/audit"
	"sallyport/server/session"
	"sallyport/server/statecopy"
	"sallyport/vfs"
)

// RestoreOptions of RestoreState and DrillState.
type RestoreOptions struct {
	From   string    // directory of a copy
	Stream io.Reader // or an archive of one
	// Temp is where a trial makes its directory; "" = beside the copy, where blobs can be linked, or, of an archive, where the system has
	// its temporary files.
	Temp string
	// Deep reads and authenticates every byte of every blob, and not only their ends.
	Deep bool
	// Damaged says what becomes of accounts that are not whole in the copy; statecopy.ErrIncomplete without it if there are any.
	Damaged statecopy.Choice
	// Seal is the seal of that state; it may ask people.
	Seal func(context.Context, *keyring.SealInfo) (keyring.Seal, error)
	Who  string // for the audit log
}

// Restored is what came of a restore, or of the trial of one.
type Restored struct {
	statecopy.Head
	Age      string            `json:"age"`
	Took     string            `json:"took"`
	Accounts []RestoredAccount `json:"verified"`
	Site     []string          `json:"findings"` // of what belongs to no account, or to none that is known
	Notes    []string          `json:"notes"`    // what to know beside
}

// RestoredAccount is one account of Restored.
type RestoredAccount struct {
	Account  string   `json:"account"`
	ID       string   `json:"id"`
	Files    uint64   `json:"files"`
	Bytes    uint64   `json:"bytes"` // live
	Versions uint64   `json:"versions"`
	Blobs    uint64   `json:"blobs"`
	Findings []string `json:"findings"`
}

// Findings counts them.
func (r *Restored) Findings() int {
	n := len(r.Site)
	for _, a := range r.Accounts {
		n += len(a.Findings)
	}
	return n
}

// RestoreState makes the state directory of c out of a copy, without a server. The directory must be absent, empty, or what an
// interrupted restore of the same copy left. Everything is checked, verified by opening it, and recorded.
func RestoreState(ctx context.Context, c *Config, o RestoreOptions) (*Restored, error) {
	began := time.Now()
	to := c.State.Dir
	if Initialised(to) {
		return nil, fmt.Errorf("%w: %s", ErrStateExists, to)
	}
	dir, err := openCopy(ctx, to, &o)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	release, err := keyring.LockState(to)
	if err != nil {
		return nil, err
	}
	defer release()
	r := &restorer{c: c, o: o, to: to}
	err = r.run(ctx, dir, statecopy.RestoreOptions{Move: o.Stream != nil})
	if r.keys != nil {
		defer r.keys.Close()
	}
	if err != nil {
		return nil, err
	}
	if err := r.record(ctx); err != nil {
		return nil, err
	}
	r.out.Took = time.Since(began).Round(time.Millisecond).String()
	return r.out, nil
}

// openCopy opens the copy, unpacked below the target if it is an archive, and prepares the target.
func openCopy(ctx context.Context, to string, o *RestoreOptions) (*statecopy.Dir, error) {
	if o.Stream == nil {
		dir, err := statecopy.OpenDir(o.From, false)
		if err != nil {
			return nil, err
		}
		copied, err := dir.Current()
		if err == nil {
			err = statecopy.Prepare(to, copied.ID)
		}
		if err != nil {
			return nil, errors.Join(err, dir.Close())
		}
		return dir, nil
	}
	if err := statecopy.Prepare(to, ""); err != nil {
		return nil, err
	}
	return statecopy.UnpackInto(ctx, o.Stream, to)
}

// openTrial opens the copy, unpacked if it is an archive, and makes the directory of a trial, which end removes.
func openTrial(ctx context.Context, o *RestoreOptions) (dir *statecopy.Dir, tmp string, end func() error, err error) {
	var ending []func() error
	end = func() (err error) {
		for _, one := range slices.Backward(ending) {
			err = errors.Join(err, one())
		}
		return err
	}
	if o.Stream == nil {
		if dir, err = statecopy.OpenDir(o.From, false); err != nil {
			return nil, "", nil, err
		}
		ending = append(ending, dir.Close)
		tmp, err = dir.Drill(o.Temp)
	} else {
		tmp, err = os.MkdirTemp(o.Temp, "sallyport-drill-")
	}
	if err == nil {
		ending = append(ending, func() error { return os.RemoveAll(tmp) })
		err = statecopy.Prepare(tmp, "")
	}
	if err == nil && o.Stream != nil {
		if dir, err = statecopy.UnpackInto(ctx, o.Stream, tmp); err == nil {
			ending = append(ending, dir.Close)
		}
	}
	if err != nil {
		return nil, "", nil, errors.Join(fmt.Errorf("preparing the trial: %w", err), end())
	}
	return dir, tmp, end, nil
}

// DrillState tries the restore of a copy in a directory beside it or elsewhere, which is removed at the end, and changes nothing
// anywhere: it destroys no root at the seal, and runs no upkeep.
func DrillState(ctx context.Context, c *Config, o RestoreOptions) (out *Restored, err error) {
	began := time.Now()
	dir, tmp, end, err := openTrial(ctx, &o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, end()) }()
	trial := *c
	trial.State.Dir, trial.HostKeys.Dir = tmp, ""
	trial.TLS.Certificates = nil
	o.Damaged = statecopy.Newest
	r := &restorer{c: &trial, o: o, to: tmp, trial: true}
	err = r.run(ctx, dir, statecopy.RestoreOptions{Link: o.Stream == nil, Move: o.Stream != nil})
	if r.keys != nil {
		defer r.keys.Close()
	}
	if err != nil {
		return nil, err
	}
	r.out.Took = time.Since(began).Round(time.Millisecond).String()
	return r.out, nil
}

type restorer struct {
	c    *Config
	o    RestoreOptions
	to   string
	keys *keyring.Keyring
	out  *Restored
	// trial: the directory lies beside the copy, which may be anywhere, so nothing may be written there in clear.
	trial bool
}

func (r *restorer) run(ctx context.Context, dir *statecopy.Dir, how statecopy.RestoreOptions) error {
	copied, err := dir.Current()
	if err != nil {
		return err
	}
	r.out = &Restored{Head: copied.Head, Age: time.Since(copied.Made).Round(time.Second).String(), Accounts: []RestoredAccount{}, Site: []string{}, Notes: []string{}}
	if err := r.unseal(ctx, copied); err != nil {
		return err
	}
	if copied.Damaged > 0 && r.o.Damaged == "" {
		return incomplete(copied.Manifest)
	}
	found := r.lacking(copied.Manifest)
	how.Damaged = r.o.Damaged
	how.Report = func(finding string) { found = append(found, finding) }
	how.Identity = r.identity
	if err := copied.Restore(ctx, r.to, how); err != nil {
		return fmt.Errorf("restoring: %w", err)
	}
	return r.verify(ctx, found)
}

// mostNamed is how many damaged accounts a refusal names.
const mostNamed = 20

// incomplete says what a copy lacks, by ids: the names are sealed in it.
func incomplete(m *statecopy.Manifest) error {
	var b strings.Builder
	last, n := statecopy.AccountID{}, 0
	for _, d := range m.Damage {
		if d.Account != last {
			n++
		}
		if last = d.Account; n > mostNamed {
			continue
		}
		fmt.Fprintf(&b, "\n  account %x: %s; %s", d.Account[:], d.What, lastGood(d))
	}
	return fmt.Errorf("%w: %d accounts were damaged at the server when it was made:%s", statecopy.ErrIncomplete, n, b.String())
}

func lastGood(d statecopy.Damage) (text string) {
	switch last := d.Last.UTC().Format(time.RFC3339); {
	case d.Last.IsZero():
		text = "no whole copy of it is kept"
	case d.Lacking > 0:
		text = fmt.Sprintf("of its last whole copy, of %s, %d blobs are missing", last, d.Lacking)
	default:
		text = "its last whole copy is of " + last
	}
	return text + olderTree(d)
}

// olderTree says that what could be copied of an account is of an earlier copy.
func olderTree(d statecopy.Damage) string {
	if d.Newest.IsZero() {
		return ""
	}
	return ", and what could be copied of it is of " + d.Newest.UTC().Format(time.RFC3339)
}

// lacking are the findings that the copy itself tells of.
func (r *restorer) lacking(m *statecopy.Manifest) (found []string) {
	for _, d := range m.Damage {
		did := "what could be copied of it is restored"
		if !d.Newest.IsZero() {
			did = "what could be copied of it on " + d.Newest.UTC().Format(time.RFC3339) + " is restored"
		}
		switch {
		case r.o.Damaged == statecopy.LastGood && !d.Last.IsZero():
			did = "its last whole copy, of " + d.Last.UTC().Format(time.RFC3339) + ", is restored: what came since is not in it"
			if d.Lacking > 0 {
				did += fmt.Sprintf(", nor are %d blobs that the disk of the copy had lost", d.Lacking)
			}
		case r.o.Damaged == statecopy.LastGood:
			did = "it is left out: no whole copy of it is kept"
		case r.o.Damaged == statecopy.LeaveOut:
			did = "it is left out, as asked"
		}
		found = append(found, fmt.Sprintf("account %x was damaged at the server when the copy was made: %s; %s", d.Account[:], d.What, did))
	}
	return found
}

// unseal opens the keys of the copy where they lie, and checks that this server, and nobody else, made the copy.
func (r *restorer) unseal(ctx context.Context, copied *statecopy.Copy) error {
	where, err := copied.Keys(ctx)
	if err != nil {
		return err
	}
	if err := r.open(ctx, where); err != nil {
		return err
	}
	signer, _, err := r.keys.AuditSigner()
	if err != nil {
		return err
	}
	if !copied.SignedBy(signer.Public().(ed25519.PublicKey)) {
		return fmt.Errorf("%w: the manifest was changed, or is of another server: its signature is not that of the keys in the copy", statecopy.ErrDamaged)
	}
	return nil
}

// open opens the keys. A copy has one root (docs/FORMAT.md "State copy"); beside a second one, which anybody could have put
// there, opening would destroy at the seal what wraps the older, before the manifest is known to be authentic.
func (r *restorer) open(ctx context.Context, where string) error {
	info, err := keyring.ReadSeal(where)
	if err != nil {
		return err
	}
	if len(info.Epochs) != 1 {
		return fmt.Errorf("%w: its seal.json has %d roots and not one", statecopy.ErrDamaged, len(info.Epochs))
	}
	seal, err := r.o.Seal(ctx, info)
	if err != nil {
		return err
	}
	if r.keys, err = keyring.Open(ctx, where, seal); err != nil {
		return fmt.Errorf("opening the copy: %w", err)
	}
	return nil
}

// identity puts what says who the server is in its place; a trial looks whether it opens.
func (r *restorer) identity(name string, sealed []byte) error {
	if r.trial {
		data, err := openIdentity(r.keys, name, sealed)
		clear(data)
		return err
	}
	note, err := r.c.restoreIdentity(r.keys, name, sealed)
	if note != "" {
		r.out.Notes = append(r.out.Notes, note)
	}
	return err
}

// verify opens everything that was restored. found is what the restore itself found damaged.
func (r *restorer) verify(ctx context.Context, found []string) error {
	box, err := r.keys.Policy()
	if err != nil {
		return err
	}
	names, err := r.keys.Names()
	if err != nil {
		return err
	}
	db, err := policydb.Open(ctx, policydb.Options{Path: filepath.Join(r.to, policyFile), Box: box, Token: r.keys.PolicyToken, Names: names, NameToken: r.keys.NameToken})
	if err != nil {
		return policyError(r.c, err)
	}
	defer db.Close()
	if err := r.verifyAudit(); err != nil {
		return err
	}
	volumes, err := vfs.Open(ctx, vfs.Options{Dir: filepath.Join(r.to, "accounts"), Keyring: r.keys, Recovered: session.Recovered})
	if err != nil {
		return fmt.Errorf("opening the volumes: %w", err)
	}
	accounts, err := db.Accounts()
	if err != nil {
		return errors.Join(err, volumes.Close())
	}
	for _, a := range accounts {
		one := RestoredAccount{Account: a.Name, ID: a.ID.String(), Findings: []string{}}
		found = takeFindings(found, &one)
		if err := r.volume(ctx, volumes, a.ID, &one); err != nil {
			return errors.Join(err, volumes.Close())
		}
		r.out.Accounts = append(r.out.Accounts, one)
	}
	r.out.Site = append(r.out.Site, found...)
	return volumes.Close()
}

// takeFindings moves the findings that name the account to it.
func takeFindings(found []string, a *RestoredAccount) (rest []string) {
	for _, f := range found {
		if strings.Contains(f, a.ID) {
			a.Findings = append(a.Findings, f)
		} else {
			rest = append(rest, f)
		}
	}
	return rest
}

func (r *restorer) verifyAudit() error {
	box, err := r.keys.Audit()
	if err != nil {
		return err
	}
	signer, _, err := r.keys.AuditSigner()
	if err != nil {
		return err
	}
	result, err := audit.Verify(filepath.Join(r.to, auditDir), box, signer.Public().(ed25519.PublicKey))
	if err == nil && result.Records != r.out.Records {
		err = fmt.Errorf("it ends with record %d, and the copy was made at %d", result.Records, r.out.Records)
	}
	if err != nil {
		r.out.Site = append(r.out.Site, "audit log: "+err.Error())
	}
	return nil
}

// maxFindings bounds what is told of one account.
const maxFindings = 1000

func (r *restorer) volume(ctx context.Context, volumes *vfs.FS, id keyring.AccountID, a *RestoredAccount) error {
	more := 0
	report := func(finding string) {
		if len(a.Findings) >= maxFindings {
			more++
			return
		}
		a.Findings = append(a.Findings, finding)
	}
	v, err := volumes.Volume(ctx, id)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		report("does not open: " + err.Error())
		return nil
	}
	verify := v.VerifyEnds
	if r.o.Deep {
		verify = v.Verify
	}
	res, err := verify(ctx, report)
	if err != nil {
		return err
	}
	st := v.Stats()
	a.Files, a.Bytes, a.Versions, a.Blobs = st.Files, st.LiveBytes, res.Versions, res.Blobs
	if more > 0 {
		a.Findings = append(a.Findings, fmt.Sprintf("and %d more", more))
	}
	return nil
}

// record notes in the restored log where this state comes from.
func (r *restorer) record(ctx context.Context) error {
	p := &parts{log: slog.New(slog.DiscardHandler), keyring: r.keys}
	if err := p.openAudit(r.c); err != nil {
		return err
	}
	detail := fmt.Sprintf("copy %s of %s, root epoch %d, %d findings", r.out.ID, r.out.Made.UTC().Format(time.RFC3339), r.out.Epoch, r.out.Findings())
	err := p.audit.Append(context.WithoutCancel(ctx), audit.Event{Action: audit.StateRestore, Who: r.o.Who, Count: max(1, r.out.Head.Accounts), Detail: detail})
	return errors.Join(err, p.audit.Close())
}
