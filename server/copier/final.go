package copier

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"sallyport/crypto/keyring"
	"sallyport/crypto/record"
	"sallyport/server/audit"
	"sallyport/server/statecopy"
)

// maxRounds is how often something may have to be copied again because keys were rotated meanwhile.
const maxRounds = 16

// mostNext bounds one answer of Next, accounts.
const mostNext = 10_000

// final is a set of files that fit together.
type final struct {
	head     statecopy.Head
	policy   *os.File
	small    map[string][]byte // seal.json, keyring, the head of the audit log, identity
	audit    *audit.Image
	manifest *os.File
	size     int64 // of manifest
}

func (f *final) close() {
	if f == nil {
		return
	}
	for _, file := range []*os.File{f.policy, f.manifest} {
		if file != nil {
			file.Close() // read-only by now, and without a name
		}
	}
}

// Next takes keyring and policy of one instant and returns accounts that have to be copied, or copied again, before the
// databases that were handed out are those. None: everything fits, and File gives the rest, the signed manifest last.
func (l *Lease) Next(ctx context.Context) ([]statecopy.Todo, error) {
	ctx, end, err := l.use(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	if l.rounds++; l.rounds > maxRounds+len(l.copied)/mostNext {
		return nil, ErrUnsteady
	}
	l.final.close()
	l.final = nil
	f := &final{}
	image, known, err := l.capture(ctx, f)
	if err != nil {
		f.close()
		return nil, err
	}
	var again []statecopy.Todo
	named := map[keyring.AccountID]bool{}
	for _, a := range image.Accounts {
		named[a.ID] = true
		if p := l.copied[a.ID]; (p == nil || !p.fits(a.Version, known[a.ID])) && len(again) < mostNext {
			if err := ctx.Err(); err != nil {
				f.close()
				return nil, context.Cause(ctx)
			}
			again = append(again, statecopy.Todo{ID: a.ID, Same: l.same(a.ID, a.Version)})
		}
	}
	if len(again) > 0 {
		f.close()
		return again, nil
	}
	for id := range l.copied { // destroyed meanwhile
		if !named[id] {
			l.forget(id)
		}
	}
	err = errors.Join(l.drop(), l.compose(ctx, f, image))
	if err == nil {
		err = context.Cause(l.ctx) // the end of the lease reaches ctx in a goroutine, a little later
	}
	if err != nil {
		f.close()
		return nil, err
	}
	l.final = f
	return nil, nil
}

// fits says whether what was handed out is what the keyring names. An account that was nobody's may have become somebody's.
func (p *part) fits(version uint32, known bool) bool {
	return p.version == version && !p.absent || p.absent && !known
}

// capture takes the policy and then the keyring, so that the keyring has the key of every account that the policy knows,
// unless one was removed in between; then it tries again.
func (l *Lease) capture(ctx context.Context, f *final) (image *keyring.Image, known map[keyring.AccountID]bool, err error) {
	for range maxRounds {
		ids, err := l.capturePolicy(ctx, f)
		if err != nil {
			return nil, nil, err
		}
		if image, err = l.c.o.Keyring.Image(); err != nil {
			return nil, nil, err
		}
		known = make(map[keyring.AccountID]bool, len(ids))
		for _, id := range ids {
			known[id] = true
		}
		keys := 0
		for _, a := range image.Accounts {
			if known[a.ID] {
				keys++
			}
		}
		if keys == len(ids) {
			f.small = map[string][]byte{statecopy.SealFile: image.Seal, statecopy.RingFile: image.Ring}
			return image, known, nil
		}
		f.policy.Close()
		f.policy = nil
	}
	return nil, nil, ErrUnsteady
}

func (l *Lease) capturePolicy(ctx context.Context, f *final) ([]keyring.AccountID, error) {
	path := l.c.tempPath()
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	ids, err := l.c.o.Policy.CopyTo(ctx, path)
	if err != nil {
		return nil, err
	}
	defer os.Remove(path)
	f.policy, err = os.Open(path)
	return ids, err
}

// compose writes and signs the manifest. The audit log is taken last, so that it has every event that a volume has handed over.
func (l *Lease) compose(ctx context.Context, f *final, image *keyring.Image) error {
	o := &l.c.o
	var err error
	if f.audit, err = o.Audit.Image(ctx); err != nil {
		return err
	}
	if _, err := o.Audit.Verify(); err != nil {
		return err
	}
	f.small[statecopy.AuditHead] = f.audit.Head
	if err := l.identity(f); err != nil {
		return err
	}
	if o.Pending != nil {
		data, err := o.Pending()
		if err != nil {
			return fmt.Errorf("copying what waits for the audit log: %w", err)
		}
		if data != nil {
			f.small[statecopy.Pending] = data
		}
	}
	if o.Clock != nil { // what a confirmation remembers: without it a restored server would take history for older than it is
		if data := o.Clock(); data != nil {
			f.small[statecopy.Clock] = data
		}
	}
	info, err := o.Keyring.SealInfo()
	if err != nil {
		return err
	}
	f.head = statecopy.Head{
		ID: l.id, Made: o.Now(), Program: o.Program, Seal: info.Kind, Epoch: image.Epoch, Records: f.audit.Last, Accounts: uint64(len(l.copied)),
	}
	files := l.count(f)
	more, err := l.sums(ctx, f)
	if err != nil {
		return err
	}
	files = append(files, more...)
	slices.SortFunc(files, func(a, b statecopy.Entry) int { return cmp.Compare(a.Name, b.Name) })
	return l.sign(f, files)
}

func (l *Lease) sign(f *final, files []statecopy.Entry) (err error) {
	if f.manifest, err = l.c.temp(); err != nil {
		return err
	}
	out := bufio.NewWriter(f.manifest)
	m, err := statecopy.NewManifest(out, &f.head)
	if err == nil {
		err = l.describe(m)
	}
	if err != nil {
		return err
	}
	for _, e := range files {
		if err := m.Add(e); err != nil {
			return err
		}
	}
	key, _, err := l.c.o.Keyring.AuditSigner()
	if err != nil {
		return err
	}
	if err := errors.Join(m.Sign(key), out.Flush()); err != nil {
		return err
	}
	f.size, err = f.manifest.Seek(0, io.SeekCurrent)
	return err
}

// identity seals host keys and the server's own certificate: in the state directory they are in clear, because a sealed server
// must be able to say who it is, and outside of it they must not be.
func (l *Lease) identity(f *final) error {
	if l.c.o.Identity == nil {
		return nil
	}
	files, err := l.c.o.Identity()
	if err != nil {
		return fmt.Errorf("copying what the server shows to strangers: %w", err)
	}
	box, err := l.c.o.Keyring.Policy()
	if err != nil {
		return err
	}
	for name, data := range files {
		path := statecopy.IdentityFile(name)
		f.small[path] = box.Seal(nil, record.DomainIdentity, []byte(path), data)
		clear(data)
	}
	return nil
}

// sums reads what is neither of an account nor in memory.
func (l *Lease) sums(ctx context.Context, f *final) (files []statecopy.Entry, err error) {
	for name, data := range f.small {
		files = append(files, statecopy.Entry{Name: name, Size: int64(len(data)), Sum: sha256.Sum256(data)})
	}
	info, err := f.policy.Stat()
	if err != nil {
		return nil, err
	}
	e := statecopy.Entry{Name: statecopy.PolicyFile, Size: info.Size()}
	if err := sum(ctx, f.policy, &e); err != nil {
		return nil, err
	}
	files = append(files, e)
	for _, x := range f.audit.Files {
		e := statecopy.Entry{Name: statecopy.AuditFile(x.Name), Size: x.Size}
		file, err := l.c.o.Audit.OpenFile(x.Name)
		if err != nil {
			return nil, err
		}
		if err := errors.Join(sum(ctx, file, &e), file.Close()); err != nil {
			return nil, err
		}
		files = append(files, e)
		l.Alive()
	}
	return files, nil
}

// sum hashes the first Size bytes of a file.
func sum(ctx context.Context, r io.ReaderAt, e *statecopy.Entry) error {
	h := sha256.New()
	n, err := io.Copy(h, io.NewSectionReader(r, 0, e.Size))
	if err == nil && n != e.Size {
		err = fmt.Errorf("%s has %d bytes and not %d: %w", e.Name, n, e.Size, io.ErrUnexpectedEOF)
	}
	h.Sum(e.Sum[:0])
	return errors.Join(err, ctx.Err())
}

// ManifestFile is the name under which File gives the manifest.
const ManifestFile = "manifest"

// File opens one of the files that belong to no account, of those that fit together.
func (l *Lease) File(ctx context.Context, name string) (size int64, r io.ReadCloser, err error) {
	_, end, err := l.use(ctx)
	if err != nil {
		return 0, nil, err
	}
	defer end()
	f := l.final
	if f == nil {
		return 0, nil, fmt.Errorf("%w: it does not fit together yet", ErrNoLease)
	}
	give := func(size int64, r io.ReaderAt, c io.Closer) (int64, io.ReadCloser, error) {
		body := &counter{r: io.NewSectionReader(r, 0, size), take: func(p []byte) { l.bytes.Add(uint64(len(p))) }, left: -1}
		return size, &passing{Reader: body, Closer: c}, nil
	}
	if data, ok := f.small[name]; ok {
		return give(int64(len(data)), bytes.NewReader(data), io.NopCloser(nil))
	}
	switch {
	case name == ManifestFile:
		return give(f.size, f.manifest, io.NopCloser(nil))
	case name == statecopy.PolicyFile:
		info, err := f.policy.Stat()
		if err != nil {
			return 0, nil, err
		}
		return give(info.Size(), f.policy, io.NopCloser(nil))
	case strings.HasPrefix(name, "audit/"):
		for _, x := range f.audit.Files {
			if statecopy.AuditFile(x.Name) != name {
				continue
			}
			file, err := l.c.o.Audit.OpenFile(x.Name)
			if err != nil {
				return 0, nil, err
			}
			return give(x.Size, file, file)
		}
	}
	return 0, nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}
