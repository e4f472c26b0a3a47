package sftpd

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"path"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/semaphore"
)

// filter stands between one SSH channel and pkg/sftp's RequestServer.
//
// pkg/sftp answers the requests that only name things: INIT, REALPATH,
// READLINK, SYMLINK, REMOVE, RMDIR and RENAME. The filter answers the rest
// itself, each for a reason:
//
//   - OPEN, CLOSE, READ, WRITE, FSTAT, FSETSTAT, OPENDIR, READDIR: the library
//     knows an open file by its path, so a renamed file could not be asked
//     about; it answers strictly in order and closes in the worker that serves
//     everything else, so that a commit would hold up all reads; it bounds
//     neither handles nor memory.
//   - STAT, LSTAT, SETSTAT, MKDIR: it drops access times and the mode of a new
//     directory, and hands malformed attributes to the handler as nil.
//   - EXTENDED: it knows three extensions of fourteen.
//
// Requests on one handle keep their order while reads overlap; requests that
// name paths keep theirs and wait for earlier writes (order.go). Memory in
// flight is bounded by a weighted semaphore, beyond which packets are not read.
type filter struct {
	// ctx ends with the channel. It is a field because requests outlive the
	// call that read them.
	ctx    context.Context
	cancel context.CancelFunc

	in      *bufio.Reader
	out     replies
	end     func(why string) // closes the channel, so that reading ends
	tree    tree
	account string
	touch   func()
	report  reporter
	pool    *bufferPool
	handles handles
	library *library

	// Owned by the goroutine that reads packets.
	names     order
	mutations []done // requests by handle under way that change a file

	memory   *semaphore.Weighted
	scanning chan struct{} // one place: whole files are read for the connection one at a time
	requests sync.WaitGroup
	busy     atomic.Int64 // requests read and not yet answered
	draining atomic.Bool
	broken   atomic.Bool // a handler panicked
	modern   atomic.Bool // the client asked for limits, so it takes long packets
}

var errEnded = errors.New("sftpd: session ended by the server")

const (
	// memoryInFlight bounds the data of requests under way in one channel, in
	// bytes: as much as the SSH window lets a client send ahead.
	memoryInFlight = 2 << 20
	// requestCost is counted for a request beside its data, in bytes. With
	// memoryInFlight it bounds the goroutines of a channel to 128.
	requestCost = 16 << 10
)

// filterOptions are what one channel needs of its connection.
type filterOptions struct {
	channel io.ReadWriter
	end     func(why string)
	guest   guest
	pool    *bufferPool
	budget  *atomic.Int64
	// scanning has room for one and is shared by the channels of a connection;
	// nil means one of its own.
	scanning chan struct{}
	log      *slog.Logger
}

func newFilter(ctx context.Context, o filterOptions) *filter {
	ctx, cancel := context.WithCancel(ctx)
	f := &filter{
		ctx: ctx, cancel: cancel,
		in:      bufio.NewReaderSize(o.channel, 4<<10),
		out:     replies{w: o.channel},
		end:     o.end,
		tree:    o.guest.tree(),
		account: o.guest.Account(),
		touch:   o.guest.Touch,
		report:  reporter{o.log},
		pool:    o.pool,
		handles: handles{budget: o.budget},
		memory:  semaphore.NewWeighted(memoryInFlight),
	}
	if f.scanning = o.scanning; f.scanning == nil {
		f.scanning = make(chan struct{}, 1)
	}
	f.library = newLibrary(f)
	return f
}

// serve answers requests until the client ends, breaks the protocol, or the
// channel is closed. On return nothing of the channel is under way any more,
// and files that were still open have been closed as interrupted.
func (f *filter) serve() error {
	defer f.cleanup()
	if err := f.init(); err != nil {
		return err
	}
	for {
		buf, err := readFrame(f.in, f.pool)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if f.ctx.Err() != nil {
			f.pool.put(buf)
			return errEnded // cut: nothing more is served, whatever still comes in
		}
		f.touch()
		if err := f.dispatch(buf); err != nil {
			return err
		}
	}
}

// init has pkg/sftp answer INIT, and tells our extensions in its place.
func (f *filter) init() error {
	buf, err := readFrame(f.in, f.pool)
	if err != nil {
		return err
	}
	defer f.pool.put(buf)
	if buf.b[0] != fxpInit {
		return errMalformed
	}
	reply, err := f.library.do(buf.b)
	if err != nil {
		return err
	}
	r := fields{b: reply[4:]}
	if typ, version := r.byte(), r.uint32(); typ != fxpVersion || version != 3 {
		return errors.New("sftpd: internal error: pkg/sftp speaks another version")
	}
	return f.out.send(versionPacket())
}

// cleanup ends what is under way. Requests that were read are answered or at
// least carried out: a CLOSE that arrived before the connection broke commits.
func (f *filter) cleanup() {
	f.cancel()
	f.requests.Wait()
	f.library.close()
	for _, h := range f.handles.drain() {
		_ = f.guarded("close", func() error {
			defer f.handles.release(h.places())
			return h.interrupt()
		})
	}
}

// drain ends the channel as soon as nothing is open and nothing under way.
func (f *filter) drain() {
	f.draining.Store(true)
	f.endIfIdle()
}

func (f *filter) endIfIdle() {
	if f.draining.Load() && f.busy.Load() == 0 && f.handles.count() == 0 {
		f.stop(shuttingDown)
	}
}

// stop ends the channel from the server's side.
func (f *filter) stop(why string) {
	f.cancel()
	f.end(why)
}

// request is one packet on its way to an answer.
type request struct {
	id   uint32
	op   string
	buf  *buffer
	cost int64 // bytes in flight beside requestCost
	// run does it. Without an own reply through answer, the result is sent as
	// a status.
	run      func(r *request) error
	order    *order // nil: nothing to wait for
	shared   bool   // may overlap its like
	changes  bool   // changes a file by handle
	pace     pace
	answered bool
}

// pace is how long a request may take.
type pace int

const (
	quick pace = iota
	slow       // may wait for the disk: never in the way of other handles
	long       // as long as the file is: never in the way of anything
)

// start runs r in place when nothing could want to overtake it, which spares
// two goroutine switches, or else beside the reading of packets.
func (f *filter) start(r *request) {
	f.busy.Add(1)
	if r.order == nil { // refused already
		f.answer(r)
		return
	}
	waits := r.order.waits(r.shared)
	if r.order == &f.names {
		f.mutations = unfinished(f.mutations)
		waits = append(waits, f.mutations...)
	}
	if len(waits) == 0 && f.inPlace(r) {
		f.answer(r)
		return
	}
	cost := min(requestCost+r.cost, memoryInFlight)
	// Never fails: what holds the memory is finite, and a CLOSE that was read
	// must be carried out even while the channel is ending.
	_ = f.memory.Acquire(context.Background(), cost)
	finished := make(chan struct{})
	r.order.add(r.shared, finished)
	if r.changes {
		f.mutations = append(unfinished(f.mutations), finished)
	}
	// The goroutine ends when r is answered; cleanup waits for it.
	f.requests.Go(func() {
		defer f.memory.Release(cost)
		defer close(finished)
		for _, w := range waits {
			<-w
		}
		f.answer(r)
	})
}

func (f *filter) inPlace(r *request) bool {
	switch r.pace {
	case long:
		return false
	case slow:
		return f.busy.Load() == 1 && f.handles.count() == 0 && f.in.Buffered() == 0
	}
	// A read that is alone gains nothing from a goroutine of its own.
	return !r.shared || f.in.Buffered() == 0
}

func (f *filter) answer(r *request) {
	s := f.guarded(r.op, func() error { return r.run(r) })
	f.pool.put(r.buf)
	if !r.answered {
		var small [128]byte
		_ = f.out.send(statusPacket(small[:0], r.id, s))
	}
	f.busy.Add(-1)
	if f.broken.Load() {
		f.stop("the server ended the session after an internal error")
	}
	f.endIfIdle()
}

// reply answers r with something else than a status.
func (f *filter) reply(r *request, p packet) error {
	r.answered = true
	return f.out.send(p)
}

// guarded runs fn and survives its panic: one broken request ends its own
// session, once it has been answered, and no other.
func (f *filter) guarded(op string, fn func() error) (s *status) {
	defer func() {
		if v := recover(); v != nil {
			f.broken.Store(true)
			s = f.report.panicked(op, v)
		}
	}()
	return f.report.status(op, fn())
}

// replies writes whole packets, one at a time.
type replies struct {
	mu sync.Mutex
	w  io.Writer
}

// send writes p in one piece: a second write would be a second SSH packet. An
// error means that the channel is gone, which the reading side learns too.
func (o *replies) send(p packet) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, err := o.w.Write(p.frame())
	return err
}

// clean makes p absolute and resolves "." and ".." by their letters, before
// symbolic links: what pkg/sftp does to the paths that it handles, so that one
// name means one file in every request.
func clean(p string) string { return path.Clean("/" + p) }
