package audit

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"sallyport/crypto/record"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func newBox(t testing.TB) *record.Box {
	t.Helper()
	box, err := record.NewBox(record.NewKey(), record.AccountID{}, 1)
	if err != nil {
		t.Fatal(err)
	}
	return box
}

func open(t testing.TB, o Options) *Log {
	t.Helper()
	l, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// signer is the key of the checkpoints of all tests here.
var (
	signer  = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	testKey = signer.Public().(ed25519.PublicKey)
)

func options(t testing.TB) Options {
	return Options{Signer: signer, KeyVersion: 1, Dir: filepath.Join(t.TempDir(), "audit"), Box: newBox(t), Now: func() time.Time { return noon }}
}

func event(n int) Event {
	return Event{Action: Upload, Account: ID{1, 2, 3}, Path: Text(fmt.Sprintf("/canary-%d", n)), Bytes: uint64(n), Result: "complete"}
}

// all returns every record of the log.
func all(t testing.TB, l *Log) []Record {
	t.Helper()
	var list []Record
	if err := l.Tail(t.Context(), -1, false, func(r Record) error { list = append(list, r); return nil }); err != nil {
		t.Fatal(err)
	}
	return list
}

func appendN(t testing.TB, l *Log, from, to int) {
	t.Helper()
	for i := from; i <= to; i++ {
		if err := l.Append(t.Context(), event(i)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAppendReopenVerify(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.MaxFile = 2000 // several files
	for round := range 3 {
		l := open(t, o)
		appendN(t, l, round*10+1, round*10+10)
		r, err := l.Verify()
		if err != nil || r.Records != uint64(round*10+10) {
			t.Fatalf("round %d: %+v, %v", round, r, err)
		}
		if got := l.Stats(); got.Records != r.Records || got.Queued != 0 {
			t.Errorf("round %d: stats %+v", round, got)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	l := open(t, o)
	list := all(t, l)
	if len(list) != 30 {
		t.Fatalf("%d records", len(list))
	}
	for i, r := range list {
		want := event(i + 1)
		want.Time = noon
		if r.Seq != uint64(i+1) || !reflect.DeepEqual(r.Event, want) {
			t.Errorf("record %d: %+v", i+1, r)
		}
	}
	files, err := listFiles(o.Dir)
	if err != nil || len(files) < 3 {
		t.Errorf("%d files, %v", len(files), err)
	}
	for _, f := range append(files, file{name: headName}) {
		raw, err := os.ReadFile(filepath.Join(o.Dir, f.name))
		if err != nil || bytes.Contains(raw, []byte("canary")) || bytes.Contains(raw, []byte("upload")) {
			t.Errorf("%s shows its content, %v", f.name, err)
		}
	}
}

func TestEventsKeepEveryByte(t *testing.T) {
	t.Parallel()
	e := Event{Time: noon, Action: Rename, Account: ID{9, 15: 1}, Session: "s", Remote: netip.MustParseAddrPort("[2001:db8::1]:22"), Path: "/a\xff\x00\n\u2028\"", To: "/ü", Origin: "x:1"}
	got, err := Decode(e.Encode())
	if err != nil || !reflect.DeepEqual(got, e) {
		t.Errorf("got %+v, %v", got, err)
	}
	var zero Event
	if b, err := json.Marshal(zero); err != nil || len(b) > 60 {
		t.Errorf("an empty event takes %s, %v", b, err)
	}
	for _, bad := range []string{`{"account":"12"}`, `{"account":"zz000000000000000000000000000000"}`, `{"path":{"b64":"*"}}`, `[]`} {
		if _, err := Decode([]byte(bad)); err == nil {
			t.Errorf("%s was read", bad)
		}
	}
	long := Event{Action: Login, Client: string(bytes.Repeat([]byte("ä"), 10_000)), Path: Text(bytes.Repeat([]byte("p"), 100_000))}
	if n := len(long.encode()); n > maxFrame/2 {
		t.Errorf("a long event takes %d bytes", n)
	}
}

func TestConcurrentAppendsShareFsyncs(t *testing.T) {
	t.Parallel()
	o := options(t)
	f := &faulty{held: make(chan struct{}, 1)}
	o.testOnlyFile = f.wrap
	l := open(t, o)
	f.hold = make(chan struct{})
	var wg sync.WaitGroup
	add := func(i int) {
		wg.Go(func() {
			if err := l.Append(t.Context(), event(i)); err != nil {
				t.Error(err)
			}
		})
	}
	const n = 200
	add(0)
	<-f.held // the writer has the first, and the disk is slow
	for i := 1; i < n; i++ {
		add(i)
	}
	for l.Stats().Queued != n-1 {
		runtime.Gosched()
	}
	close(f.hold)
	wg.Wait()
	if r, err := l.Verify(); err != nil || r.Records != n {
		t.Fatal(r, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.syncs != 2 {
		t.Errorf("%d fsyncs for %d records, one of them while the others came", f.syncs, n)
	}
}

// TestASecondCloseWaits: who closes a log removes its files, as likely as not.
func TestASecondCloseWaits(t *testing.T) {
	t.Parallel()
	o := options(t)
	f := &faulty{held: make(chan struct{}, 1)}
	o.testOnlyFile = f.wrap
	l := open(t, o)
	f.hold = make(chan struct{})
	if err := l.AppendAsync(event(1)); err != nil {
		t.Fatal(err)
	}
	first := make(chan error, 1)
	go func() { first <- l.Close() }()
	<-f.held // the first writes what was queued
	second := make(chan error, 1)
	go func() { second <- l.Close() }()
	for range 1000 {
		runtime.Gosched()
	}
	select {
	case err := <-second:
		t.Errorf("the second returned before the first: %v", err)
		second <- err
	default:
	}
	close(f.hold)
	if err := errors.Join(<-first, <-second); err != nil {
		t.Error(err)
	}
}

// faulty fails writes or fsyncs when told to.
type faulty struct {
	logFile
	mu        sync.Mutex
	syncs     int
	failWrite bool
	failSync  bool
	full      bool
	short     int
	hold      chan struct{} // writes wait for its end
	held      chan struct{} // and say so here
}

func (f *faulty) wrap(l logFile) logFile { f.logFile = l; return f }

func (f *faulty) Write(p []byte) (int, error) {
	if f.hold != nil {
		select {
		case f.held <- struct{}{}:
		default:
		}
		<-f.hold
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failWrite {
		n, _ := f.logFile.Write(p[:min(f.short, len(p))])
		return n, errors.New("no space left on device")
	}
	if f.full {
		n, _ := f.logFile.Write(p[:min(f.short, len(p))])
		return n, &os.PathError{Op: "write", Err: syscall.ENOSPC}
	}
	return f.logFile.Write(p)
}

func (f *faulty) setFull(full bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.full, f.short = full, 20
}

func (f *faulty) Sync() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.syncs++
	if f.failSync {
		return errors.New("input/output error")
	}
	return f.logFile.Sync()
}

func TestFailedWriteStopsTheLog(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"write", "sync"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			o := options(t)
			f := &faulty{}
			o.testOnlyFile = f.wrap
			l := open(t, o)
			appendN(t, l, 1, 3)
			f.mu.Lock()
			f.failWrite, f.failSync, f.short = kind == "write", kind == "sync", 20
			f.mu.Unlock()
			if err := l.Append(t.Context(), event(4)); !errors.Is(err, ErrReadOnly) {
				t.Fatalf("failed %s: %v", kind, err)
			}
			f.mu.Lock()
			f.failWrite, f.failSync = false, false
			f.mu.Unlock()
			if err := l.Append(t.Context(), event(5)); !errors.Is(err, ErrReadOnly) || !errors.Is(l.Err(), ErrReadOnly) {
				t.Errorf("afterwards: %v, Err %v", err, l.Err())
			}
			if err := l.AppendAsync(event(6)); !errors.Is(err, ErrReadOnly) {
				t.Errorf("queued afterwards: %v", err)
			}
			if err := l.Close(); !errors.Is(err, ErrReadOnly) {
				t.Errorf("close: %v", err)
			}
			o.testOnlyFile = nil
			l = open(t, o)
			appendN(t, l, 7, 7)
			if list := all(t, l); len(list) < 4 || list[len(list)-1].Path != "/canary-7" {
				t.Errorf("after reopening: %v", list)
			}
			if _, err := l.Verify(); err != nil {
				t.Error(err)
			}
		})
	}
}

// One account that fills the disk must not stop the server for ever: the log goes on when there is space, with what was queued
// meanwhile, and with nothing twice.
func TestFullDiskIsWaitedFor(t *testing.T) {
	t.Parallel()
	dir, box := t.TempDir(), newBox(t)
	synctest.Test(t, func(t *testing.T) {
		f := &faulty{}
		l, err := Open(Options{Dir: dir, Box: box, testOnlyFile: f.wrap})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		appendN(t, l, 1, 3)
		f.setFull(true)
		moved := event(4)
		moved.Origin = "volume:4"
		if err := l.Append(t.Context(), moved); !errors.Is(err, ErrFull) || !errors.Is(l.Err(), ErrFull) {
			t.Fatalf("full disk: %v, Err %v", err, l.Err())
		}
		if err := l.AppendAsync(event(5)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * retryFull)
		if !errors.Is(l.Err(), ErrFull) {
			t.Fatalf("still full: %v", l.Err())
		}
		f.setFull(false)
		time.Sleep(2 * retryFull)
		if err := l.Err(); err != nil {
			t.Fatalf("there is space again: %v", err)
		}
		for range 2 { // a volume hands out again what was refused, and once too often
			if err := l.Append(t.Context(), moved); err != nil {
				t.Fatal(err)
			}
		}
		appendN(t, l, 6, 6)
		var got []Text
		for _, r := range all(t, l) {
			got = append(got, r.Path)
		}
		if want := []Text{"/canary-1", "/canary-2", "/canary-3", "/canary-5", "/canary-4", "/canary-6"}; !reflect.DeepEqual(got, want) {
			t.Errorf("records %q, want %q", got, want)
		}
		if r, err := l.Verify(); err != nil || r.Records != 6 {
			t.Errorf("%+v, %v", r, err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if l, err = Open(Options{Dir: dir, Box: box}); err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if list := all(t, l); len(list) != 6 {
			t.Errorf("%d records after reopening", len(list))
		}
	})
}

func TestAsyncIsFlushedSoon(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, err := Open(Options{Dir: t.TempDir(), Box: newBox(t)})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		start := time.Now()
		seen := make(chan time.Duration, 2)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go l.Tail(ctx, 0, true, func(Record) error { seen <- time.Since(start); return nil })
		synctest.Wait()
		for i := range 2 {
			if err := l.AppendAsync(event(i)); err != nil {
				t.Fatal(err)
			}
		}
		if first := <-seen; first > flushAfter {
			t.Errorf("seen after %v", first)
		}
		<-seen
	})
}

// With the disk standing still the queue stops growing, and the caller waits; nothing is lost.
func TestQueueIsBounded(t *testing.T) {
	t.Parallel()
	dir, box := t.TempDir(), newBox(t)
	synctest.Test(t, func(t *testing.T) {
		f := &faulty{hold: make(chan struct{})}
		l, err := Open(Options{Dir: dir, Box: box, testOnlyFile: f.wrap})
		if err != nil {
			t.Fatal(err)
		}
		var accepted atomic.Int64
		go func() {
			for i := range 3 * maxQueued {
				if err := l.AppendAsync(event(i)); err != nil {
					t.Error(err)
				}
				accepted.Add(1)
			}
		}()
		synctest.Wait()
		if n := accepted.Load(); n != maxQueued {
			t.Errorf("%d records accepted", n)
		}
		close(f.hold)
		synctest.Wait()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	})
	if r, err := Verify(dir, box, testKey); err != nil || r.Records != 3*maxQueued {
		t.Fatal(r, err)
	}
}

func TestHandedOverTwice(t *testing.T) {
	t.Parallel()
	o := options(t)
	l := open(t, o)
	e := event(1)
	e.Origin = "session:1"
	if err := errors.Join(l.Append(t.Context(), e), l.Append(t.Context(), e)); err != nil {
		t.Fatal(err)
	}
	l.Close()
	l = open(t, o)
	if err := l.Append(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	if n := len(all(t, l)); n != 1 {
		t.Errorf("written %d times", n)
	}
}

func TestTail(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.MaxFile = 1500
	l := open(t, o)
	appendN(t, l, 1, 20)
	var seen []uint64
	next := 21
	err := l.Tail(t.Context(), 3, true, func(r Record) error {
		seen = append(seen, r.Seq)
		if next <= 40 { // each record read brings another, across rotations
			if err := l.Append(t.Context(), event(next)); err != nil {
				t.Error(err)
			}
			next++
			return nil
		}
		if r.Seq == 40 {
			return errDone
		}
		return nil
	})
	if !errors.Is(err, errDone) || len(seen) != 23 || seen[0] != 18 || seen[22] != 40 {
		t.Errorf("%v, %v", seen, err)
	}
	go l.Close()
	if err := l.Tail(t.Context(), 0, true, func(Record) error { return nil }); !errors.Is(err, ErrClosed) {
		t.Errorf("following a closed log: %v", err)
	}
}

var errDone = errors.New("done")

func BenchmarkAppend(b *testing.B) {
	l := open(b, options(b))
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := l.Append(context.Background(), event(1)); err != nil {
				b.Error(err)
			}
		}
	})
}

// One record is read without the others, whichever file it is in, and what is gone is said to be.
func TestReadFindsOneRecord(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.MaxFile = 4 << 10
	l := open(t, o)
	const n = 100
	for i := range n {
		if err := l.Append(t.Context(), event(i)); err != nil {
			t.Fatal(err)
		}
	}
	files, err := listFiles(o.Dir)
	if err != nil || len(files) < 3 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, want := range all(t, l) {
		got, err := l.Read(t.Context(), want.Seq)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("record %d: %+v, %v", want.Seq, got, err)
		}
	}
	last := l.Stats().Records
	for _, seq := range []uint64{0, last + 1, last + 1000} {
		if _, err := l.Read(t.Context(), seq); !errors.Is(err, ErrNoRecord) {
			t.Errorf("record %d: %v", seq, err)
		}
	}
	// The other files are not needed.
	for _, f := range files[:len(files)-1] {
		if err := os.Remove(filepath.Join(o.Dir, f.name)); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := l.Read(t.Context(), last); err != nil || r.Seq != last {
		t.Errorf("the last record, alone: %+v, %v", r, err)
	}
	if _, err := l.Read(t.Context(), 1); !errors.Is(err, ErrDamaged) {
		t.Errorf("a record whose file was taken away: %v", err)
	}
}

// What an operator writes as a reason is kept whole up to some pages, and a cut is seen to be one.
func TestLongDetailIsCutAndSaysSo(t *testing.T) {
	t.Parallel()
	l := open(t, options(t))
	whole, long := strings.Repeat("ö", maxDetail/2), strings.Repeat("ö", maxDetail)
	for _, d := range []string{whole, long} {
		if err := l.Append(t.Context(), Event{Action: PolicyApply, Detail: d}); err != nil {
			t.Fatal(err)
		}
	}
	list := all(t, l)
	if got := list[len(list)-2].Detail; got != whole {
		t.Errorf("a detail of %d bytes was changed to %d bytes", len(whole), len(got))
	}
	got := list[len(list)-1].Detail
	if !strings.HasSuffix(got, cutMark) || len(got) > maxDetail || !utf8.ValidString(got) || !strings.HasPrefix(long, strings.TrimSuffix(got, cutMark)) {
		t.Errorf("a detail of %d bytes became %d bytes that end with %q", len(long), len(got), got[max(0, len(got)-20):])
	}
}

// One record of a wrong year, long ago, must not be taken for the last time that is known: history would be judged by it.
func TestTheLastTimeIsThatOfTheLastRecord(t *testing.T) {
	t.Parallel()
	o := options(t)
	l := open(t, o)
	for i, at := range []time.Time{noon, noon.AddDate(10, 0, 0), noon.Add(time.Hour)} {
		e := event(i)
		e.Time = at
		if err := l.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	restored := Event{Time: noon.AddDate(20, 0, 0), Action: StateRestore}
	if err := l.Append(t.Context(), restored); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got := open(t, o).Last(); !got.Equal(noon.Add(time.Hour)) {
		t.Errorf("the last time is %v, want that of the last record of a server, %v", got, noon.Add(time.Hour))
	}
}
