package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// amplification is what random 4 KiB writes into a large file left on the disk of Sallyport.
type amplification struct {
	data float64 // bytes of new blobs per byte that the client wrote
	meta float64 // bytes that tree.db has grown by per write
	disk float64 // bytes that the process gave to the disk, for whatever, per byte that the client wrote
}

// amplified is a workload that shows one of the figures.
func amplified(figure func(amplification) float64) func(context.Context, *job) (float64, error) {
	return func(ctx context.Context, j *job) (float64, error) {
		a, err := amplify(ctx, j)
		return figure(a), err
	}
}

// amplifyWrites is how many writes a run makes: 256 MiB.
const amplifyWrites = 1 << 16

// amplify writes blocks at random places of a file of the size given by -size through one SFTP handle, 16 at a time, and
// closes it. It is run once per round for its three figures.
func amplify(_ context.Context, j *job) (amplification, error) {
	if j.peer.state == "" {
		return amplification{}, fmt.Errorf("only sallyport can be asked")
	}
	if j.peer.amplified == nil {
		j.peer.amplified = map[int]amplification{}
	}
	if a, ok := j.peer.amplified[j.round]; ok {
		return a, nil
	}
	a, err := amplifyOnce(j)
	j.peer.amplified[j.round] = a
	return a, err
}

func amplifyOnce(j *job) (a amplification, err error) {
	s, err := dialSFTPClient(j)
	if err != nil {
		return a, err
	}
	defer s.close()
	name := fmt.Sprintf("%samplify-%d", j.peer.base, j.round)
	big, err := os.Open(j.in.big)
	if err != nil {
		return a, err
	}
	defer big.Close()
	f, err := s.Create(name)
	if err != nil {
		return a, err
	}
	if _, err := f.ReadFrom(big); err != nil {
		return a, err
	}
	if err := f.Close(); err != nil {
		return a, err
	}
	settle(j.peer)
	before, err := stored(j.peer)
	if err != nil {
		return a, err
	}
	if f, err = s.OpenFile(name, os.O_RDWR); err != nil {
		return a, err
	}
	const depth = 16
	err = perClient(depth, func(i int) error {
		r := rand.New(rand.NewPCG(uint64(j.round), uint64(i)))
		buf := make([]byte, 4096)
		for range amplifyWrites / depth {
			if _, err := f.WriteAt(buf, int64(r.IntN(j.sizeMiB<<20/4096))*4096); err != nil {
				return err
			}
		}
		return nil
	})
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return a, err
	}
	time.Sleep(time.Second) // the audit log follows within 50 ms
	after, err := stored(j.peer)
	const written = amplifyWrites * 4096
	return amplification{
		data: float64(after.blobs-before.blobs) / written, meta: float64(after.tree-before.tree) / amplifyWrites,
		disk: float64(after.disk-before.disk) / written,
	}, err
}

// storage is what lies on the disk below a state directory, and what the process has given to it so far, bytes.
type storage struct{ blobs, tree, disk int64 }

func stored(p *peer) (s storage, err error) {
	err = filepath.WalkDir(filepath.Join(p.state, "accounts"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if strings.HasPrefix(d.Name(), "tree-") {
			n, err := pagesInUse(path)
			s.tree += n
			return err
		}
		info, err := d.Info()
		if err == nil {
			s.blobs += info.Size()
		}
		return err
	})
	if err != nil {
		return s, err
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", p.cmd.Process.Pid))
	if err != nil {
		return s, err
	}
	for line := range strings.Lines(string(text)) {
		if _, err := fmt.Sscanf(line, "write_bytes: %d", &s.disk); err == nil {
			break
		}
	}
	return s, nil
}

// pagesInUse is the part of a bbolt file that has ever been used: the file itself is far longer. The newer of the two meta pages
// tells (docs/FORMAT.md "Metadata database").
func pagesInUse(path string) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	b := make([]byte, 8192)
	if _, err := f.ReadAt(b, 0); err != nil {
		return 0, err
	}
	var most uint64
	for _, at := range []int{16, 4096 + 16} {
		most = max(most, binary.NativeEndian.Uint64(b[at+40:]))
	}
	return int64(most) * 4096, nil
}
