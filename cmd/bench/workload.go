package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
)

// workload measures one thing on one peer and returns one figure.
type workload struct {
	name, unit string
	run        func(context.Context, *job) (float64, error)
	own        bool // of Sallyport alone: others have nothing to compare it with
}

// job is one run of a workload.
type job struct {
	config
	in    *inputs
	peer  *peer
	round int
}

// client is how a protocol's real command-line client moves files.
type client interface {
	put(ctx context.Context, j *job, pairs [][2]string) error // local, remote; one session
	get(ctx context.Context, j *job, pairs [][2]string) error // remote, local
	list(ctx context.Context, j *job, dir string) error
	mkdir(ctx context.Context, j *job, dir string) error
}

// dialer opens a logged-in session from inside this process.
type dialer func(ctx context.Context, j *job) (session, error)

type session interface {
	list(dir string) error
	close() error
}

const parallel = 8

func workloads(protocol string) []workload {
	cl, many, dial := client(sftpClient{}), client(sftpClient{}), dialer(dialSFTP)
	if protocol == "ftps" {
		cl, many, dial = curlClient{}, goFTPS{}, dialFTPS
	}
	w := []workload{
		{name: "upload 1 large file", unit: "CPU s/GiB", run: func(ctx context.Context, j *job) (float64, error) { return upload(ctx, j, cl, 1) }},
		{name: "download 1 large file", unit: "CPU s/GiB", run: func(ctx context.Context, j *job) (float64, error) { return download(ctx, j, cl, 1) }},
		{name: "8 parallel uploads", unit: "CPU s/GiB", run: func(ctx context.Context, j *job) (float64, error) { return upload(ctx, j, cl, parallel) }},
		{name: "8 parallel downloads", unit: "CPU s/GiB", run: func(ctx context.Context, j *job) (float64, error) { return download(ctx, j, cl, parallel) }},
		{name: "4 KiB files up, 1 session", unit: "files/s", run: func(ctx context.Context, j *job) (float64, error) { return smallUp(ctx, j, many, 1) }},
		{name: "4 KiB files down, 1 session", unit: "files/s", run: func(ctx context.Context, j *job) (float64, error) { return smallDown(ctx, j, many) }},
		{name: "4 KiB files up, 8 sessions", unit: "files/s", run: func(ctx context.Context, j *job) (float64, error) { return smallUp(ctx, j, many, parallel) }},
		{name: "connect+login+list, 8 workers", unit: "1/s", run: func(ctx context.Context, j *job) (float64, error) { return logins(ctx, j, dial) }},
		{name: "list 10,000 entries", unit: "ms", run: func(ctx context.Context, j *job) (float64, error) { return listing(ctx, j, many, dial, 10_000) }},
		{name: "list 100,000 entries", unit: "ms", run: func(ctx context.Context, j *job) (float64, error) { return listing(ctx, j, many, dial, 100_000) }},
		{name: "memory per idle session", unit: "KiB", run: func(ctx context.Context, j *job) (float64, error) { return idle(ctx, j, dial) }},
		{name: "memory per busy upload, 64 parallel", unit: "KiB", run: func(ctx context.Context, j *job) (float64, error) { return busy(ctx, j, cl) }},
	}
	if protocol == "sftp" {
		w = append(w,
			workload{name: "random read 4 KiB, depth 1", unit: "ops/s", run: func(ctx context.Context, j *job) (float64, error) { return randomIO(ctx, j, false, 1) }},
			workload{name: "random read 4 KiB, depth 16", unit: "ops/s", run: func(ctx context.Context, j *job) (float64, error) { return randomIO(ctx, j, false, 16) }},
			workload{name: "random write 4 KiB, depth 1", unit: "ops/s", run: func(ctx context.Context, j *job) (float64, error) { return randomIO(ctx, j, true, 1) }},
			workload{name: "random write 4 KiB, depth 16", unit: "ops/s", run: func(ctx context.Context, j *job) (float64, error) { return randomIO(ctx, j, true, 16) }},
			workload{name: "random write 4 KiB, blob bytes per byte written", unit: "1", own: true, run: amplified(func(a amplification) float64 { return a.data })},
			workload{name: "random write 4 KiB, tree.db bytes per write", unit: "B", own: true, run: amplified(func(a amplification) float64 { return a.meta })},
			workload{name: "random write 4 KiB, bytes to the disk per byte written", unit: "1", own: true, run: amplified(func(a amplification) float64 { return a.disk })},
		)
	}
	return w
}

// cpuPerGiB runs f and divides the server's CPU seconds by what was moved.
func cpuPerGiB(j *job, bytes int, f func() error) (float64, error) {
	before, err := j.peer.usage()
	if err != nil {
		return 0, err
	}
	if err := f(); err != nil {
		return 0, err
	}
	settle(j.peer)
	after, err := j.peer.usage()
	return (after.cpu - before.cpu) / (float64(bytes) / (1 << 30)), err
}

// settle waits until the peer has reaped its session processes and gone
// quiet, so that their CPU time is in the account.
func settle(p *peer) {
	last := -1.0
	for range 50 {
		time.Sleep(100 * time.Millisecond)
		u, err := p.usage()
		if err != nil || u.cpu == last {
			return
		}
		last = u.cpu
	}
}

func perClient(n int, f func(i int) error) error {
	var g errgroup.Group
	for i := range n {
		g.Go(func() error { return f(i) })
	}
	return g.Wait()
}

// bigSize is the size of one large file; parallel runs divide the volume so that they move about as much.
func upload(ctx context.Context, j *job, cl client, n int) (float64, error) {
	return cpuPerGiB(j, n*j.sizeMiB<<20, func() error {
		return perClient(n, func(i int) error {
			return cl.put(ctx, j, [][2]string{{j.in.big, fmt.Sprintf("%sup%d", j.peer.base, i)}})
		})
	})
}

func download(ctx context.Context, j *job, cl client, n int) (float64, error) {
	remote := j.peer.base + "down"
	if !j.peer.warm["down"] {
		if err := cl.put(ctx, j, [][2]string{{j.in.big, remote}}); err != nil {
			return 0, err
		}
		settle(j.peer)
		j.peer.warm["down"] = true
	}
	return cpuPerGiB(j, n*j.sizeMiB<<20, func() error {
		return perClient(n, func(int) error { return cl.get(ctx, j, [][2]string{{remote, "/dev/null"}}) })
	})
}

func smallPairs(j *job, dir string) [][2]string {
	var pairs [][2]string
	for _, f := range j.in.small {
		pairs = append(pairs, [2]string{f, dir + "/" + filepath.Base(f)})
	}
	return pairs
}

func smallUp(ctx context.Context, j *job, cl client, n int) (float64, error) {
	var dirs []string
	for i := range n {
		dir := fmt.Sprintf("%ssmall-%d-%d-%d", j.peer.base, j.round, n, i)
		if err := cl.mkdir(ctx, j, dir); err != nil {
			return 0, err
		}
		dirs = append(dirs, dir)
	}
	start := time.Now()
	err := perClient(n, func(i int) error {
		pairs := smallPairs(j, dirs[i])
		return cl.put(ctx, j, pairs[:len(pairs)/n])
	})
	return float64(j.files/n*n) / time.Since(start).Seconds(), err
}

func smallDown(ctx context.Context, j *job, cl client) (float64, error) {
	dir := j.peer.base + "smalldown"
	if !j.peer.warm[dir] {
		if err := cl.mkdir(ctx, j, dir); err != nil {
			return 0, err
		}
		if err := cl.put(ctx, j, smallPairs(j, dir)); err != nil {
			return 0, err
		}
		j.peer.warm[dir] = true
	}
	var pairs [][2]string
	for _, p := range smallPairs(j, dir) {
		pairs = append(pairs, [2]string{p[1], "/dev/null"})
	}
	start := time.Now()
	err := cl.get(ctx, j, pairs)
	return float64(len(pairs)) / time.Since(start).Seconds(), err
}

func logins(ctx context.Context, j *job, dial dialer) (float64, error) {
	const each = 15
	start := time.Now()
	err := perClient(parallel, func(int) error {
		for range each {
			s, err := dial(ctx, j)
			if err != nil {
				return err
			}
			if err := s.list(j.peer.base); err != nil {
				return err
			}
			if err := s.close(); err != nil {
				return err
			}
		}
		return nil
	})
	return parallel * each / time.Since(start).Seconds(), err
}

func listing(ctx context.Context, j *job, cl client, dial dialer, n int) (float64, error) {
	dir := fmt.Sprintf("%smany-%d", j.peer.base, n)
	if !j.peer.warm[dir] {
		if err := cl.mkdir(ctx, j, dir); err != nil {
			return 0, err
		}
		var pairs [][2]string
		for i := range n {
			pairs = append(pairs, [2]string{j.in.small[0], fmt.Sprintf("%s/entry-%06d", dir, i)})
		}
		const sessions = 16
		err := perClient(sessions, func(i int) error { return cl.put(ctx, j, pairs[i*n/sessions:(i+1)*n/sessions]) })
		if err != nil {
			return 0, err
		}
		j.peer.warm[dir] = true
	}
	s, err := dial(ctx, j)
	if err != nil {
		return 0, err
	}
	defer s.close()
	start := time.Now()
	err = s.list(dir)
	return float64(time.Since(start).Microseconds()) / 1000, err
}

// idle is the growth of the server's resident memory per logged-in session.
func idle(ctx context.Context, j *job, dial dialer) (float64, error) {
	const n = 64
	settle(j.peer)
	before, err := j.peer.usage()
	if err != nil {
		return 0, err
	}
	var open []session
	defer func() {
		for _, s := range open {
			_ = s.close()
		}
	}()
	for range n {
		s, err := dial(ctx, j)
		if err != nil {
			return 0, err
		}
		open = append(open, s)
	}
	settle(j.peer)
	after, err := j.peer.usage()
	return float64(after.memKiB-before.memKiB) / n, err
}

// busy samples the peak growth of resident memory while 64 clients upload.
func busy(ctx context.Context, j *job, cl client) (float64, error) {
	const n = 64
	before, err := j.peer.usage()
	if err != nil {
		return 0, err
	}
	done := make(chan error, 1)
	go func() { // ends with the uploads
		done <- perClient(n, func(i int) error {
			return cl.put(ctx, j, [][2]string{{j.in.big, fmt.Sprintf("%sbusy%d", j.peer.base, i)}})
		})
	}()
	peak := before.memKiB
	for {
		select {
		case err := <-done:
			return float64(peak-before.memKiB) / n, err
		case <-time.After(50 * time.Millisecond):
			if u, err := j.peer.usage(); err == nil {
				peak = max(peak, u.memKiB)
			}
		}
	}
}
