// Command bench measures the whole server with real clients, side by side in
// one run with the bare protocol libraries and with the peers that are
// installed (OpenSSH, vsftpd). It prints ratios: absolute figures of shared
// machines do not travel. See docs/PERFORMANCE.md.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"strings"
)

type config struct {
	sallyport string // path of the binary under test
	dir       string // scratch space on the disk to be measured
	sizeMiB   int
	files     int
	rounds    int
	alone     bool
	only      *regexp.Regexp
}

func main() {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "bare-ftps":
			fail(serveBareFTPS(os.Args[2:]))
			return
		case "bare-sftp":
			fail(serveBareSFTP(os.Args[2:]))
			return
		case "history":
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
			defer stop()
			fail(overheadOfHistory(ctx, os.Args[2:]))
			return
		}
	}
	var c config
	flag.StringVar(&c.sallyport, "sallyport", "bin/sallyport", "binary under test")
	flag.StringVar(&c.dir, "dir", "", "scratch directory (default: a new one below the current directory)")
	flag.IntVar(&c.sizeMiB, "size", 256, "size of the large file, MiB")
	flag.IntVar(&c.files, "files", 2000, "number of 4 KiB files in one session")
	flag.IntVar(&c.rounds, "rounds", 3, "interleaved rounds; the median counts")
	flag.BoolVar(&c.alone, "alone", false, "measure sallyport without its peers")
	only := flag.String("only", "", "regular expression over \"protocol/workload\"")
	flag.Parse()
	c.only = regexp.MustCompile(*only)

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	fail(run(ctx, c))
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench: error:", err)
		os.Exit(1)
	}
}

// run measures every workload of a protocol on all its peers in turn, round
// by round, so that a drift of the machine's speed hits all of them.
func run(ctx context.Context, c config) error {
	if c.dir == "" {
		d, err := os.MkdirTemp(".", "bench-scratch-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(d)
		c.dir = d
	}
	in, err := makeInputs(c)
	if err != nil {
		return err
	}
	for _, suite := range []struct {
		protocol string
		start    func(context.Context, config) ([]*peer, error)
	}{{"sftp", sftpPeers}, {"ftps", ftpsPeers}} {
		var wanted []workload
		for _, w := range workloads(suite.protocol) {
			if c.only.MatchString(suite.protocol + "/" + w.name) {
				wanted = append(wanted, w)
			}
		}
		if len(wanted) == 0 {
			continue
		}
		peers, err := suite.start(ctx, c)
		if err != nil {
			return fmt.Errorf("starting %s peers: %w", suite.protocol, err)
		}
		err = measure(ctx, c, in, suite.protocol, wanted, peers)
		for _, p := range peers {
			p.stop()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func measure(ctx context.Context, c config, in *inputs, protocol string, wanted []workload, peers []*peer) error {
	fmt.Printf("\n## %s, %d rounds interleaved, medians; ratio = sallyport / peer\n\n", strings.ToUpper(protocol), c.rounds)
	fmt.Printf("| workload | unit |")
	for _, p := range peers {
		fmt.Printf(" %s |", p.name)
	}
	for _, p := range peers[1:] {
		fmt.Printf(" ratio to %s |", p.name)
	}
	fmt.Printf("\n|---|---|%s\n", strings.Repeat("---|", 2*len(peers)-1))
	for _, w := range wanted {
		samples := make([][]float64, len(peers))
		for round := range c.rounds {
			for i := range peers {
				if w.own && i > 0 {
					break
				}
				// Who comes first changes from round to round.
				k := (i + round) % len(peers)
				if w.own {
					k = 0
				}
				v, err := w.run(ctx, &job{config: c, in: in, peer: peers[k], round: round})
				if err != nil {
					return fmt.Errorf("%s/%s on %s: %w", protocol, w.name, peers[k].name, err)
				}
				samples[k] = append(samples[k], v)
			}
		}
		fmt.Printf("| %s | %s |", w.name, w.unit)
		for i := range peers {
			fmt.Printf(" %s |", human(median(samples[i])))
		}
		for i := range peers[1:] {
			fmt.Printf(" %.2f |", medianRatio(samples[0], samples[i+1]))
		}
		fmt.Println()
	}
	return nil
}
