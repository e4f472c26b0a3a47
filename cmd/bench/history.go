package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/sync/errgroup"
)

// historyFiles are overwritten in turns to make history, by so many sessions at once.
const (
	historyFiles    = 1000
	historySessions = 16
	historySmall    = 40 // files in a round
)

// store writes and removes files in one session.
type store interface {
	put(name string, content []byte) error
	remove(name string) error
	close() error
}

type sftpStore struct{ sftpSession }

func (s sftpStore) put(name string, content []byte) error {
	f, err := s.Create(name)
	if err != nil {
		return err
	}
	if _, err := f.Write(content); err != nil {
		return err
	}
	return f.Close()
}

func (s sftpStore) remove(name string) error { return s.Remove(name) }

type ftpsStore struct{ *ftpsSession }

func (s ftpsStore) put(name string, content []byte) error {
	return s.transfer("STOR "+name, func(data *tls.Conn) error {
		if _, err := data.Write(content); err != nil {
			return err
		}
		if err := data.CloseWrite(); err != nil {
			return err
		}
		_, err := io.Copy(io.Discard, data)
		return err
	})
}

func (s ftpsStore) remove(name string) error {
	_, err := s.cmd(250, "DELE "+name)
	return err
}

func openStore(ctx context.Context, p *peer, c *connection, protocol string) (store, error) {
	own := *p
	j := &job{peer: &own}
	if protocol == "ftps" {
		own.port = fmt.Sprint(c.FTPSPort)
		s, err := dialFTPS(ctx, j)
		if err != nil {
			return nil, err
		}
		return ftpsStore{s.(*ftpsSession)}, nil
	}
	own.port, own.key = fmt.Sprint(c.SFTPPort), c.KeyFile
	s, err := dialSFTPClient(j)
	return sftpStore{s}, err
}

// overheadOfHistory measures the server's CPU time for small files that are uploaded, overwritten and removed in turns, in an account with
// so many superseded versions and in one with the same files and none, each on a server of its own. Both are measured in each round,
// one after the other, and the median of the ratios counts.
func overheadOfHistory(ctx context.Context, args []string) error {
	var c config
	set := flag.NewFlagSet("history", flag.ExitOnError)
	set.StringVar(&c.sallyport, "sallyport", "bin/sallyport", "binary under test")
	set.StringVar(&c.dir, "dir", ".", "where to make a scratch directory, on the disk to be measured")
	set.IntVar(&c.rounds, "rounds", 41, "interleaved rounds of each protocol")
	versions := set.Int("versions", 100_000, "superseded versions")
	if err := set.Parse(args); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(c.dir, "bench-scratch-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	c.dir = dir
	var peers [2]*peer
	var conns [2]*connection
	for i, name := range []string{"with", "without"} {
		if peers[i], conns[i], err = startSallyport(c, name); err != nil {
			return err
		}
		defer peers[i].stop()
		peers[i].name = name
	}
	for i, times := range []int{1 + *versions/historyFiles, 1} {
		if err := pileHistory(ctx, peers[i], conns[i], times); err != nil {
			return fmt.Errorf("making history: %w", err)
		}
	}
	for _, protocol := range []string{"sftp", "ftps"} {
		if err := compareHistory(ctx, c, peers, conns, protocol); err != nil {
			return fmt.Errorf("%s: %w", protocol, err)
		}
	}
	return nil
}

// pileHistory writes each of the files so many times.
func pileHistory(ctx context.Context, p *peer, c *connection, times int) error {
	g, ctx := errgroup.WithContext(ctx)
	for n := range historySessions {
		g.Go(func() error {
			s, err := openStore(ctx, p, c, "sftp")
			if err != nil {
				return err
			}
			defer s.close()
			for t := range times {
				for f := n; f < historyFiles; f += historySessions {
					if err := ctx.Err(); err != nil {
						return err
					}
					if err := s.put(fmt.Sprintf("/f%d", f), bytes.Repeat([]byte{byte(t)}, 100)); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	return g.Wait()
}

func compareHistory(ctx context.Context, c config, peers [2]*peer, conns [2]*connection, protocol string) error {
	var stores [2]store
	for i := range peers {
		s, err := openStore(ctx, peers[i], conns[i], protocol)
		if err != nil {
			return err
		}
		defer s.close()
		stores[i] = s
	}
	var cpu [2][]float64
	for round := range c.rounds + 1 {
		for i := range 2 {
			which := (round + i) % 2
			before, err := peers[which].usage()
			if err != nil {
				return err
			}
			if err := smallFiles(stores[which]); err != nil {
				return err
			}
			after, err := peers[which].usage()
			if err != nil {
				return err
			}
			if round > 0 { // the first warms caches
				cpu[which] = append(cpu[which], (after.cpu-before.cpu)*1e6/(3*historySmall))
			}
		}
	}
	var ratios []float64
	for i := range cpu[0] {
		ratios = append(ratios, cpu[0][i]/cpu[1][i])
	}
	slices.Sort(ratios)
	fmt.Printf("%s: CPU time of the server for an operation: %.0f µs with history, %.0f µs without; ratio %.3f (quartiles %.3f, %.3f)\n", protocol,
		median(cpu[0]), median(cpu[1]), median(ratios), ratios[len(ratios)/4], ratios[3*len(ratios)/4])
	return nil
}

// smallFiles uploads files of 5,000 bytes, overwrites each with 4,000, and removes it.
func smallFiles(s store) error {
	for f := range historySmall {
		name := fmt.Sprintf("/live%d", f)
		if err := s.put(name, bytes.Repeat([]byte{1}, 5000)); err != nil {
			return err
		}
		if err := s.put(name, bytes.Repeat([]byte{2}, 4000)); err != nil {
			return err
		}
		if err := s.remove(name); err != nil {
			return err
		}
	}
	return nil
}
