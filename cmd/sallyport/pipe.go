package main

import (
	"context"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// pipeBuf is what can be written to a pipe that takes anything at all without waiting (PIPE_BUF in pipe(7)), bytes.
const pipeBuf = 4096

// pipe is standard input or output for an archive. Whoever is at its other end may do nothing for hours; an interrupt must end the wait, or
// what was begun would be left as it is by the second one, which kills.
type pipe struct {
	f    *os.File
	ctx  context.Context
	wake *os.File // hangs up when ctx ends
}

// waiting makes a pipe of what is a file; what is none (in tests) stays what it is. The caller calls end.
func waiting[T any](ctx context.Context, plain T) (over T, end func()) {
	f, ok := any(plain).(*os.File)
	if !ok {
		return plain, func() {}
	}
	r, w, err := os.Pipe()
	if err != nil { // then it cannot be interrupted
		return plain, func() {}
	}
	stop := context.AfterFunc(ctx, func() { w.Close() })
	p := &pipe{f: f, ctx: ctx, wake: r}
	over, ok = any(p).(T)
	if !ok {
		panic("sallyport: internal error: a pipe that is neither read nor written")
	}
	return over, func() {
		if stop() {
			w.Close()
		}
		r.Close()
	}
}

// wait returns when the file is ready, or ctx ended.
func (p *pipe) wait(events int16) error {
	fds := []unix.PollFd{{Fd: int32(p.f.Fd()), Events: events}, {Fd: int32(p.wake.Fd())}}
	for {
		_, err := unix.Poll(fds, -1)
		if p.ctx.Err() != nil {
			return context.Cause(p.ctx)
		}
		if err == nil {
			return nil
		}
		if err != unix.EINTR {
			return os.NewSyscallError("poll", err)
		}
	}
}

func (p *pipe) Read(b []byte) (int, error) {
	if err := p.wait(unix.POLLIN); err != nil {
		return 0, err
	}
	return p.f.Read(b)
}

func (p *pipe) Write(b []byte) (n int, err error) {
	for len(b) > 0 && err == nil {
		if err = p.wait(unix.POLLOUT); err == nil {
			var k int
			k, err = p.f.Write(b[:min(len(b), pipeBuf)])
			n, b = n+k, b[k:]
		}
	}
	return n, err
}

var _ io.ReadWriter = (*pipe)(nil)
