package copier

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"sallyport/crypto/keyring"
	"sallyport/server/audit"
	"sallyport/server/statecopy"
	"sallyport/vfs"
	"sallyport/vfs/blob"
)

// Lease is one copy under way. Its calls wait for each other; what they return is read before the next call.
type Lease struct {
	Token string

	c           *Copier
	id          string
	who, reason string
	began       time.Time
	ctx         context.Context // ends with the lease
	cancel      context.CancelCauseFunc
	timer       *time.Timer
	bytes       atomic.Uint64 // handed out
	once        sync.Once

	mu       sync.Mutex // guards what follows: one call at a time
	rounds   int
	copied   map[keyring.AccountID]*part
	have     map[keyring.AccountID]statecopy.Holding // what the target has of an earlier copy
	damage   map[keyring.AccountID][]string          // what could not be copied
	retained map[keyring.AccountID]statecopy.Holding // what the target keeps of damaged accounts
	now      keyring.AccountID                       // the account that is being copied
	volume   *vfs.VolumeCopy                         // of it; nil = none
	list     *os.File                                // of its blobs
	final    *final                                  // what Next found to fit together; nil before
	checking *keyring.AccountID                      // whose volume was opened for Check alone
	done     bool                                    // Finish was called
}

// Context ends with the lease.
func (l *Lease) Context() context.Context { return l.ctx }

// use begins a call: it shows that the owner is alive. The call ends with its own context, and with the lease.
func (l *Lease) use(ctx context.Context) (both context.Context, end func(), err error) {
	l.mu.Lock()
	if err := context.Cause(l.ctx); err != nil {
		l.mu.Unlock()
		return nil, nil, err
	}
	l.timer.Stop() // the server itself may need long
	both, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(l.ctx, func() { cancel(context.Cause(l.ctx)) })
	return both, func() { stop(); cancel(nil); l.Alive(); l.mu.Unlock() }, nil
}

// Alive shows that the owner is: bytes move.
func (l *Lease) Alive() {
	if l.ctx.Err() == nil {
		l.timer.Reset(l.c.o.Idle)
	}
}

// Part is what an account's copy begins with.
type Part struct {
	Version  uint32
	TreeSize int64
	ListSize int64
	// Read hands out the database and then the list of blobs; to the end, or the account was not copied.
	Read io.Reader
}

// Account begins the copy of one account and ends that of the one before. The blobs of the list stay until then.
// statecopy.ErrGone if there is no such account any more.
func (l *Lease) Account(ctx context.Context, id keyring.AccountID) (*Part, error) {
	ctx, end, err := l.use(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	if err := l.drop(); err != nil {
		return nil, err
	}
	l.forget(id)
	p := &part{}
	if l.list, err = l.c.temp(); err != nil {
		return nil, err
	}
	list := l.list
	w, err := statecopy.NewList(list)
	if err == nil {
		l.volume, err = l.c.o.Volumes.CopyVolume(ctx, id, func(f vfs.BlobFile) error {
			p.blobs++
			p.bytes += uint64(f.Size)
			return w.Add(statecopy.Blob(f))
		})
	}
	if err == nil {
		err = w.Flush()
	}
	var size int64
	if err == nil {
		size, err = list.Seek(0, io.SeekCurrent)
	}
	if err != nil {
		return nil, errors.Join(l.notCopied(ctx, id, err), l.drop())
	}
	l.now, p.version, p.commit = id, l.volume.Version, l.volume.Commit
	p.tree = statecopy.Entry{Name: statecopy.TreeFile(id, p.version), Size: l.volume.Size}
	p.list = statecopy.Entry{Name: statecopy.ListFile(id), Size: size}
	return &Part{Version: p.version, TreeSize: p.tree.Size, ListSize: size, Read: io.MultiReader(
		l.counted(io.NewSectionReader(l.volume.Tree, 0, p.tree.Size), &p.tree, nil),
		l.counted(io.NewSectionReader(list, 0, size), &p.list, func() { l.took(id, p) }),
	)}, nil
}

// took notes that all of an account's database was handed out.
func (l *Lease) took(id keyring.AccountID, p *part) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.copied[id] = p
}

// counted reads to the end of a file, sets its sum, and calls whole then.
func (l *Lease) counted(r io.Reader, e *statecopy.Entry, whole func()) io.Reader {
	sum := sha256.New()
	return &counter{r: r, take: func(p []byte) { l.bytes.Add(uint64(len(p))); sum.Write(p) }, left: e.Size, end: func() {
		sum.Sum(e.Sum[:0])
		if whole != nil {
			whole()
		}
	}}
}

// counter tells what passes through.
type counter struct {
	r    io.Reader
	take func([]byte)
	left int64
	end  func()
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.take(p[:n])
	if c.left -= int64(n); c.left == 0 && c.end != nil {
		end := c.end
		c.end = nil
		end()
	}
	return n, err
}

// drop ends the copy of an account. Called with mu held.
func (l *Lease) drop() (err error) {
	if l.volume != nil {
		err = l.volume.Close()
		l.volume = nil
	}
	if l.list != nil { // whoever still reads it is told that it is closed
		err = errors.Join(err, l.list.Close())
		l.list = nil
	}
	return err
}

// Blob opens a blob of the account that is being copied. fs.ErrNotExist if there is none: an open one on which nothing relied.
func (l *Lease) Blob(ctx context.Context, account keyring.AccountID, id blob.ID) (size int64, r io.ReadCloser, err error) {
	ctx, end, err := l.use(ctx)
	if err != nil {
		return 0, nil, err
	}
	defer end()
	if l.volume == nil || l.now != account {
		return 0, nil, fmt.Errorf("%w: account %v is not being copied", ErrNoLease, account)
	}
	b, err := l.volume.Open(ctx, id)
	if err != nil {
		if _, gone := l.c.o.Keyring.Age(account); errors.Is(gone, keyring.ErrNoAccount) {
			return 0, nil, statecopy.ErrGone
		}
		if atSource(err) {
			err = fmt.Errorf("%w: %w", statecopy.ErrAtSource, err)
		}
		return 0, nil, err
	}
	// One that grows is good up to here; a reader that went on to the end could read more than was announced.
	body := &failing{io.NewSectionReader(b, 0, b.Size())}
	return b.Size(), &passing{Reader: &counter{r: body, take: func(p []byte) { l.bytes.Add(uint64(len(p))) }, left: -1}, Closer: b}, nil
}

type passing struct {
	io.Reader
	io.Closer
}

// Check authenticates segments of a blob as the copy has them (vfs.Volume.CheckBlob).
func (l *Lease) Check(ctx context.Context, account keyring.AccountID, id blob.ID, header, sealed []byte, first uint64, final bool) error {
	ctx, end, err := l.use(ctx)
	if err != nil {
		return err
	}
	defer end()
	if l.checking == nil || *l.checking != account {
		l.restChecked()
		if l.c.o.Volumes.Resting(account) {
			l.checking = &account
		}
	}
	v, err := l.c.o.Volumes.Volume(ctx, account)
	if err != nil {
		return err
	}
	return v.CheckBlob(ctx, id, header, sealed, first, final)
}

// restChecked closes a volume that only Check opened: nobody else may want it. Called with mu held.
func (l *Lease) restChecked() {
	if l.checking != nil {
		l.c.o.Volumes.Rest(*l.checking)
		l.checking = nil
	}
}

// Result is what the owner says of a copy that is whole at its place.
type Result struct {
	Accounts, Blobs uint64 // copied; blobs that were there already are not counted
	Bytes           uint64
	Place           string // where it is, in the owner's words
}

// Finish records that the copy is in force; the number of the record, and what is not whole in it.
func (l *Lease) Finish(ctx context.Context, r Result) (uint64, []statecopy.Damage, error) {
	ctx, end, err := l.use(ctx)
	if err != nil {
		return 0, nil, err
	}
	defer end()
	if l.final == nil {
		return 0, nil, fmt.Errorf("%w: it does not fit together yet", ErrNoLease)
	}
	result, detail := "complete", fmt.Sprintf("copy %s, root epoch %d, %d accounts, %d new blobs, to %s", l.id, l.final.head.Epoch, l.final.head.Accounts, r.Blobs, r.Place)
	if ids := l.damagedIDs(); len(ids) > 0 {
		result, detail = "incomplete", join(detail, fmt.Sprintf("%d accounts are damaged: %s", len(ids), shortList(ids)))
	}
	seq, err := l.c.o.Audit.AppendSeq(context.WithoutCancel(ctx), audit.Event{
		Action: audit.StateCopy, Who: l.who, Result: result, Bytes: l.bytes.Load(), Count: max(1, l.final.head.Accounts), Detail: join(detail, l.reason),
	})
	l.done = err == nil
	if err == nil {
		last := &LastCopy{At: l.c.o.Now(), ID: l.id, Damaged: l.final.head.Damaged}
		err = l.c.remember(func(all *Last) { all.Copy = last })
	}
	return seq, l.allDamage(), err
}

// End ends the lease. One that was not finished is recorded as interrupted, with what was handed out. It may be called twice.
func (l *Lease) End() (err error) {
	l.once.Do(func() {
		cause := context.Cause(l.ctx)
		err = l.release()
		if l.done {
			return
		}
		detail := join("copy "+l.id, l.reason)
		if errors.Is(cause, ErrNoLease) {
			detail = join(detail, cause.Error())
		}
		err = errors.Join(err, l.c.o.Audit.Append(context.Background(), audit.Event{
			Action: audit.StateCopy, Who: l.who, Result: "interrupted", Bytes: l.bytes.Load(), Detail: detail,
		}))
	})
	return err
}

// release gives everything back.
func (l *Lease) release() error {
	l.cancel(ErrNoLease)
	l.timer.Stop()
	l.mu.Lock()
	err := l.drop()
	l.restChecked()
	l.final.close()
	l.mu.Unlock()
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	if l.c.lease == l {
		l.c.lease = nil
	}
	return err
}

// temp makes a file without a name.
func (c *Copier) temp() (*os.File, error) {
	f, err := os.CreateTemp(c.o.Dir, tempName+".tmp-")
	if err != nil {
		return nil, fmt.Errorf("preparing a copy: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(fmt.Errorf("preparing a copy: %w", err), f.Close())
	}
	return f, nil
}

// tempPath is a name for a file that somebody else makes.
func (c *Copier) tempPath() string { return filepath.Join(c.o.Dir, tempName+".tmp-policy") }
