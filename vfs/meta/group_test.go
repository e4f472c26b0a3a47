package meta

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"sync"
	"syscall"
	"testing"
)

// together runs the functions as members of one group: a first Update holds
// the lead until all of them wait. It returns their errors in order, panics as errors.
func (d *testDB) together(t *testing.T, fns ...func(tx *Tx) error) []error {
	t.Helper()
	errs := make([]error, len(fns))
	var wg sync.WaitGroup
	leading, release := make(chan struct{}), make(chan struct{})
	wg.Go(func() {
		held := errors.New("the lead was held")
		if err := d.Update(context.Background(), func(tx *Tx) error { close(leading); <-release; return held }); !errors.Is(err, held) {
			t.Error(err)
		}
	})
	<-leading
	for i, fn := range fns {
		wg.Go(func() {
			defer func() {
				if p := recover(); p != nil {
					errs[i] = p.(error)
				}
			}()
			errs[i] = d.Update(context.Background(), fn)
		})
		d.waitQueue(i + 1)
	}
	close(release)
	wg.Wait()
	return errs
}

// waitQueue waits until n members wait for the leader.
func (d *testDB) waitQueue(n int) {
	for {
		d.mu.Lock()
		waiting := len(d.queue)
		d.mu.Unlock()
		if waiting >= n {
			return
		}
		runtime.Gosched()
	}
}

func mkfile(name string) func(tx *Tx) error {
	return func(tx *Tx) error { _, err := addFile(tx, Root, name, 1); return err }
}

// names are the live names of the root directory.
func (d *testDB) names(t testing.TB) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	d.view(t, func(tx *Tx) error {
		_, err := tx.List(Root, nil, func(en Entry, _ *Node) bool { names[en.Name] = true; return true })
		return err
	})
	return names
}

func (d *testDB) clean(t testing.TB) {
	t.Helper()
	if err := d.Verify(context.Background(), func(f string) { t.Errorf("verify: %s", f) }); err != nil {
		t.Fatal(err)
	}
}

func TestGroupSharesOneTransaction(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	before := d.published.Load().head.generation
	instants := make([]int64, 4)
	var fns []func(*Tx) error
	for i := range instants {
		fns = append(fns, func(tx *Tx) error { instants[i] = tx.Instant(); return mkfile(fmt.Sprint(i))(tx) })
	}
	for _, err := range d.together(t, fns...) {
		if err != nil {
			t.Error(err)
		}
	}
	if n := d.published.Load().head.generation - before; n != 1 {
		t.Errorf("%d transactions for one group", n)
	}
	for i := range instants[1:] {
		if instants[i] >= instants[i+1] {
			t.Errorf("instants of members do not rise: %v", instants)
		}
	}
	if n := len(d.names(t)); n != 4 {
		t.Errorf("%d names", n)
	}
	d.clean(t)
}

func TestGroupIsolatesMembers(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	mine := errors.New("mine")
	errs := d.together(t,
		mkfile("a"),
		func(tx *Tx) error { return errors.Join(mkfile("failed")(tx), mkfile("also failed")(tx), mine) },
		func(tx *Tx) error {
			if err := mkfile("panicked")(tx); err != nil {
				return err
			}
			panic("by member")
		},
		func(tx *Tx) error { // sees the members before it, but not those that failed
			if _, err := tx.Lookup(Root, "a"); err != nil {
				return fmt.Errorf("a: %w", err)
			}
			for _, name := range []string{"failed", "panicked"} {
				if _, err := tx.Lookup(Root, name); !errors.Is(err, fs.ErrNotExist) {
					return fmt.Errorf("%s: %v", name, err)
				}
			}
			return tx.Unlink(Root, "a")
		},
		mkfile("b"),
	)
	var p *memberPanic
	if errs[0] != nil || !errors.Is(errs[1], mine) || !errors.As(errs[2], &p) || p.value != "by member" || errs[3] != nil || errs[4] != nil {
		t.Errorf("errors: %v", errs)
	}
	for range 2 {
		if names := d.names(t); len(names) != 1 || !names["b"] {
			t.Errorf("names: %v", names)
		}
		d.clean(t)
		d.reopen(t)
	}
}

func TestCanceledMemberDoesNotRun(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	ctx, cancel := context.WithCancel(context.Background())
	leading, release := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = d.Update(context.Background(), func(tx *Tx) error { close(leading); <-release; return nil })
	})
	<-leading
	done := make(chan error)
	go func() {
		done <- d.Update(ctx, func(tx *Tx) error { t.Error("ran"); return nil })
	}()
	d.waitQueue(1)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) { // though the leader still holds the lead
		t.Errorf("Update: %v", err)
	}
	close(release)
	wg.Wait()
}

// TestFailedCommit fails a commit without and with effect on the file.
func TestFailedCommit(t *testing.T) {
	t.Parallel()
	for _, applied := range []bool{false, true} {
		t.Run(fmt.Sprintf("applied=%v", applied), func(t *testing.T) {
			t.Parallel()
			d := newDB(t)
			d.update(t, mkfile("before"))
			broken := errors.New("the disk says no")
			calls := 0
			d.commit = func(commit func() error) error {
				calls++
				if applied {
					if err := commit(); err != nil {
						t.Error(err)
					}
				}
				return broken
			}
			for i, err := range d.together(t, mkfile("a"), mkfile("b"), func(*Tx) error { return nil }) {
				if !errors.Is(err, ErrReadOnly) || !errors.Is(err, broken) {
					t.Errorf("member %d: %v", i, err)
				}
			}
			if err := d.Update(context.Background(), mkfile("c")); !errors.Is(err, ErrReadOnly) {
				t.Errorf("after: %v", err)
			}
			if calls != 1 {
				t.Errorf("%d commits, want no second try", calls)
			}
			want := 1
			if applied {
				want = 3
			}
			if n := len(d.names(t)); n != want { // reads go on
				t.Errorf("%d names, want %d", n, want)
			}
			d.reopen(t)
			if n := len(d.names(t)); n != want {
				t.Errorf("%d names after reopening, want %d", n, want)
			}
			d.update(t, mkfile("d"))
			d.clean(t)
		})
	}
}

// TestFullDisk: pages that could not be written belong to nobody yet, so writes may go on.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	d.update(t, mkfile("before"))
	d.names(t) // into the caches
	whole := d.commit
	d.commit = func(func() error) error { return &fs.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC} }
	if err := d.Update(context.Background(), mkfile("a")); !errors.Is(err, syscall.ENOSPC) || errors.Is(err, ErrReadOnly) {
		t.Errorf("Update: %v", err)
	}
	d.commit = whole
	d.update(t, mkfile("b"))
	d.update(t, func(tx *Tx) error { return tx.Unlink(Root, "before") })
	if names := d.names(t); len(names) != 1 || !names["b"] {
		t.Errorf("names: %v", names)
	}
	d.clean(t)
	d.reopen(t)
	d.clean(t)
}

func TestGoexitInMember(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	done := make(chan struct{})
	leading, release := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		_ = d.Update(context.Background(), func(tx *Tx) error {
			close(leading)
			<-release
			runtime.Goexit()
			return nil
		})
	}()
	<-leading
	other := make(chan error)
	go func() { other <- d.Update(context.Background(), mkfile("a")) }()
	d.waitQueue(1)
	close(release)
	<-done
	if err := <-other; err != nil {
		t.Errorf("the next group: %v", err)
	}
	d.clean(t)
}

func TestClosed(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"Update": d.Update(context.Background(), mkfile("a")), "View": d.View(func(*Tx) error { return nil }), "Close": d.Close(),
	} {
		if !errors.Is(err, ErrClosed) || !errors.Is(err, fs.ErrClosed) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestConcurrent has writers and readers at once; readers see whole transactions.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	d := newDB(t)
	var writers, readers sync.WaitGroup
	stop := make(chan struct{})
	for w := range 4 {
		writers.Go(func() {
			for i := range 50 {
				a, b := fmt.Sprintf("a%d.%d", w, i), fmt.Sprintf("b%d.%d", w, i)
				err := d.Update(context.Background(), func(tx *Tx) error {
					if i > 0 {
						if err := errors.Join(tx.Unlink(Root, fmt.Sprintf("a%d.%d", w, i-1)), tx.Unlink(Root, fmt.Sprintf("b%d.%d", w, i-1))); err != nil {
							return err
						}
					}
					return errors.Join(mkfile(a)(tx), mkfile(b)(tx))
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				n := 0
				err := d.View(func(tx *Tx) error {
					_, err := tx.List(Root, nil, func(en Entry, node *Node) bool {
						if node.Parent != Root {
							t.Errorf("%s is listed but its inode says %d", en.Name, node.Parent)
						}
						n++
						return true
					})
					if root, _ := tx.Node(Root); root != nil && root.Children != uint64(n) {
						t.Errorf("%d entries, the directory says %d", n, root.Children)
					}
					if s := tx.Stats(); s.Files != uint64(n) {
						t.Errorf("%d entries, the head says %d", n, s.Files)
					}
					return err
				})
				if err != nil || n%2 != 0 || n > 8 {
					t.Errorf("%d entries, %v", n, err)
				}
			}
		})
	}
	writers.Wait()
	close(stop)
	readers.Wait()
	d.clean(t)
}
