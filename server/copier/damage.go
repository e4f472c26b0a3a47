package copier

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"syscall"

	"sallyport/crypto/keyring"
	"sallyport/policy/policydb"
	"sallyport/server/statecopy"
	"sallyport/vfs"
)

// Have takes the manifest of the copy in force at the target. Only one that this server signed counts: what it names is what this
// server handed out, and verified, then. One that cannot be read is no error; everything is copied. statecopy.ErrOther if it is that of
// another server (one that was made anew after a loss, say), or of a later state of this one: the only copy of that may be lost.
func (l *Lease) Have(ctx context.Context, manifest io.Reader) error {
	ctx, end, err := l.use(ctx)
	if err != nil {
		return err
	}
	defer end()
	m, accounts, err := statecopy.ReadHoldings(manifest, l.known)
	if errors.Is(err, statecopy.ErrDamaged) || errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	if err != nil {
		return err
	}
	key, _, err := l.c.o.Keyring.AuditSigner()
	if err != nil {
		return err
	}
	if !m.SignedBy(key.Public().(ed25519.PublicKey)) {
		if len(accounts) == 0 { // and a manifest that the disk changed still names accounts of this server
			return fmt.Errorf("%w: this server did not sign it, and has none of its accounts", statecopy.ErrOther)
		}
		return nil
	}
	follows, err := l.follows(ctx, m.Log)
	if err == nil && !follows {
		err = fmt.Errorf("%w: its audit log, up to record %d, is not the beginning of this server's, which went back", statecopy.ErrOther, m.Records)
	}
	if err == nil {
		l.have = accounts
	}
	return err
}

// follows says whether the audit log of a copy, of which that is the last file, is the beginning of this server's. Called with mu held.
func (l *Lease) follows(ctx context.Context, e statecopy.Entry) (bool, error) {
	now, err := l.c.o.Audit.Image(ctx)
	if err != nil {
		return false, err
	}
	for i, x := range now.Files {
		name := statecopy.AuditFile(x.Name)
		if i == 0 && e.Name < name { // its retention removed that file
			return true, nil
		}
		if name != e.Name {
			continue
		}
		if x.Size < e.Size {
			return false, nil
		}
		file, err := l.c.o.Audit.OpenFile(x.Name)
		if err != nil {
			return false, err
		}
		here := statecopy.Entry{Name: e.Name, Size: e.Size}
		err = errors.Join(sum(ctx, file, &here), file.Close())
		return err == nil && here.Sum == e.Sum, err
	}
	return false, nil
}

// known says whether an account of a copy is one of this server's.
func (l *Lease) known(id keyring.AccountID) bool {
	_, err := l.c.o.Keyring.Age(id)
	return !errors.Is(err, keyring.ErrNoAccount)
}

// same says whether the target has an account's database as it is now. Called with mu held.
func (l *Lease) same(id keyring.AccountID, version uint32) bool {
	h := l.have[id].Whole
	if h == nil || h.Kept || h.Version != version {
		return false
	}
	now, err := l.c.o.Volumes.PeekCommit(id, version)
	return err == nil && now == h.Commit // a commit that was made a moment ago comes with the next copy
}

// Note takes what became of accounts at the target.
func (l *Lease) Note(ctx context.Context, notes []statecopy.Note) error {
	_, end, err := l.use(ctx)
	if err != nil {
		return err
	}
	defer end()
	for _, n := range notes {
		h := l.have[n.Account].Whole
		if n.Kept {
			if h == nil || h.Kept {
				return fmt.Errorf("%w: account %v was not there", ErrNoLease, n.Account)
			}
			l.forget(n.Account)
			l.copied[n.Account] = &part{tree: h.Tree, list: h.List, version: h.Version, commit: h.Commit, blobs: h.Blobs, bytes: h.Bytes}
		}
		if n.What != "" {
			l.damaged(n.Account, n.What)
		}
		l.retain(n.Account, n.Retained)
	}
	return nil
}

// retain notes what the target keeps of a damaged account. Called with mu held.
func (l *Lease) retain(id keyring.AccountID, r statecopy.Retained) {
	has := l.have[id]
	keeps := statecopy.Holding{}
	if r.Whole && has.Whole != nil {
		whole := *has.Whole
		whole.Lacking = r.Lacking
		keeps.Whole = &whole
	}
	if r.Newest {
		keeps.Newest = has.Newest
	}
	if keeps != (statecopy.Holding{}) {
		l.retained[id] = keeps
	}
}

// maxDamage bounds what is noted of one account.
const maxDamage = 128

// damaged notes what could not be copied. Called with mu held.
func (l *Lease) damaged(id keyring.AccountID, what string) {
	if len(l.damage[id]) < maxDamage {
		l.damage[id] = append(l.damage[id], what)
	}
}

// forget begins an account anew: what was said of it does not count any more. Called with mu held.
func (l *Lease) forget(id keyring.AccountID) {
	delete(l.copied, id)
	delete(l.damage, id)
	delete(l.retained, id)
	l.final.close()
	l.final = nil
}

// notCopied says why an account could not be copied: because it is gone, or nobody's, or will be asked for again, or damaged.
func (l *Lease) notCopied(ctx context.Context, id keyring.AccountID, err error) error {
	age, gone := l.c.o.Keyring.Age(id)
	if errors.Is(gone, keyring.ErrNoAccount) {
		return statecopy.ErrGone
	}
	_, unknown := l.c.o.Policy.AccountByID(id)
	if errors.Is(err, fs.ErrNotExist) && errors.Is(unknown, policydb.ErrNoAccount) {
		l.copied[id] = &part{absent: true}
		return statecopy.ErrGone
	}
	if errors.Is(err, vfs.ErrBusy) { // it got another key in between: Next names it again
		return statecopy.ErrGone
	}
	if ctx.Err() != nil || !atSource(err) {
		return err
	}
	l.c.o.Log.Error("an account cannot be copied", "account", id, "error", err)
	l.copied[id] = &part{version: age.Version, broken: true}
	l.damaged(id, strings.TrimPrefix(strings.TrimPrefix(err.Error(), fmt.Sprintf("vfs: copying volume %s: ", id)), "vfs: "))
	return fmt.Errorf("%w: %w", statecopy.ErrAtSource, err)
}

// atSource says whether an error means that something of one account cannot be read here; what else fails stops the copy.
func atSource(err error) bool {
	for _, one := range []error{
		vfs.ErrIntegrity, vfs.ErrRepairing, keyring.ErrDamaged, fs.ErrNotExist, errors.ErrUnsupported, syscall.EIO, syscall.EUCLEAN, syscall.EBADMSG, fs.ErrPermission,
	} {
		if errors.Is(err, one) {
			return true
		}
	}
	return false
}

// failing has what cannot be read of a blob say so.
type failing struct{ r io.Reader }

func (f *failing) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("%w: %w", statecopy.ErrAtSource, err)
	}
	return n, err
}

// damagedIDs are the accounts of which something could not be copied, in ascending order. Called with mu held.
func (l *Lease) damagedIDs() (ids []keyring.AccountID) {
	for id := range l.damage {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b keyring.AccountID) int { return slices.Compare(a[:], b[:]) })
	return ids
}

func shortList(ids []keyring.AccountID) (text string) {
	for i, id := range ids {
		if i == 10 {
			return text + " and others"
		}
		if i > 0 {
			text += ", "
		}
		text += id.String()
	}
	return text
}

// count sums up what was handed out, and lists the files of accounts.
func (l *Lease) count(f *final) (files []statecopy.Entry) {
	f.head.Damaged = uint64(len(l.damage))
	for _, p := range l.copied {
		switch {
		case p.absent:
			f.head.Accounts--
		case !p.broken:
			f.head.Blobs += p.blobs
			f.head.Bytes += p.bytes
			files = append(files, p.tree, p.list)
		}
	}
	for id := range l.retained {
		keeps := l.keeps(id)
		if h := keeps.Whole; h != nil {
			tree, list := h.Tree, h.List
			tree.Name, list.Name = statecopy.Kept(id, h.Version)
			files = append(files, tree, list)
		}
		if h := keeps.Newest; h != nil {
			files = append(files, h.Tree, h.List)
		}
	}
	return files
}

// keeps is what the target keeps of a damaged account and is of use: under a key that the account has no more, nothing is; and what could be
// copied of it before is not if it could be now.
func (l *Lease) keeps(id keyring.AccountID) (keeps statecopy.Holding) {
	p := l.copied[id]
	if p == nil || len(l.damage[id]) == 0 {
		return keeps
	}
	has := l.retained[id]
	if h := has.Whole; h != nil && h.Version == p.version {
		keeps.Whole = h
	}
	if h := has.Newest; h != nil && h.Version == p.version && p.broken {
		keeps.Newest = h
	}
	return keeps
}

// allDamage is what could not be copied, in order of accounts. Called with mu held.
func (l *Lease) allDamage() (list []statecopy.Damage) {
	for _, id := range l.damagedIDs() {
		d := statecopy.Damage{Account: id}
		keeps := l.keeps(id)
		if h := keeps.Whole; h != nil {
			d.Last, d.Lacking = h.Made, h.Lacking
		}
		if h := keeps.Newest; h != nil {
			d.Newest = h.Made
		}
		for _, d.What = range l.damage[id] {
			list = append(list, d)
		}
	}
	return list
}

// describe writes what the manifest says of accounts, damaged ones first.
func (l *Lease) describe(m *statecopy.ManifestWriter) error {
	for _, d := range l.allDamage() {
		if err := m.Damage(d); err != nil {
			return err
		}
	}
	whole := make([]keyring.AccountID, 0, len(l.copied))
	for id, p := range l.copied {
		if !p.absent && !p.broken && len(l.damage[id]) == 0 {
			whole = append(whole, id)
		}
	}
	slices.SortFunc(whole, func(a, b keyring.AccountID) int { return slices.Compare(a[:], b[:]) })
	for _, id := range whole {
		p := l.copied[id]
		if err := m.Account(statecopy.Account{ID: id, Commit: p.commit, Blobs: p.blobs, Bytes: p.bytes}); err != nil {
			return err
		}
	}
	return nil
}
