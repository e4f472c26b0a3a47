// Command gen makes filter.bin from word lists, one word a line ("#!comment" lines are left out), or from zxcvbn's
// frequency_lists.py, of which every quoted list is taken.
//
//	go run ./policy/breached/testdata/gen -o policy/breached/filter.bin FILE...
package main

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"sallyport/policy/breached"
)

func main() {
	out := flag.String("o", "filter.bin", "where to write")
	flag.Parse()
	if err := run(*out, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

// quotedList is a list as frequency_lists.py has it.
var quotedList = regexp.MustCompile(`"([^"\n]+,[^"\n]*)"`)

func run(out string, files []string) error {
	var words []string
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			return err
		}
		if strings.HasSuffix(f, ".py") {
			for _, m := range quotedList.FindAllStringSubmatch(string(data), -1) {
				words = append(words, strings.Split(m[1], ",")...)
			}
			continue
		}
		for l := range strings.Lines(string(data)) {
			if l = strings.TrimSpace(l); !strings.HasPrefix(l, "#!comment") {
				words = append(words, l)
			}
		}
	}
	for i := range words {
		words[i] = strings.ToLower(words[i])
	}
	slices.Sort(words)
	words = slices.DeleteFunc(slices.Compact(words), func(w string) bool { return len(w) < 4 })
	filter, err := breached.Build(words, 24)
	if err != nil {
		return err
	}
	fmt.Printf("%d words, %d bytes\n", len(words), len(filter))
	return os.WriteFile(out, filter, 0o644)
}
