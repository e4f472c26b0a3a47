package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"sallyport/crypto/durable"
	"sallyport/crypto/shamir"
	"sallyport/server/admin"
)

// shareFlags say how many shares there are, and to whom they go.
type shareFlags struct {
	count      string
	recipients []string
	out        string
}

func (o *shareFlags) register(f *pflag.FlagSet) {
	f.StringVar(&o.count, "shares", "2-of-3", "`K-of-N`: any K of N shares unseal")
	f.StringArrayVar(&o.recipients, "recipient", nil, "encrypt one share to this age recipient or SSH public key (`KEY`, or @FILE); once for each share")
	f.StringVar(&o.out, "out", "", "write each share to a file of its own in this `directory`, instead of printing it")
}

// parse reads the flags, and makes the directory: whoever cannot get the shares must learn it before there are any.
func (o *shareFlags) parse() (threshold, n int, to []string, err error) {
	if threshold, n, err = parseThreshold(o.count); err != nil {
		return 0, 0, nil, err
	}
	if to, err = recipients(o.recipients); err != nil {
		return 0, 0, nil, err
	}
	if o.out != "" {
		if err = os.MkdirAll(o.out, 0o700); err != nil {
			return 0, 0, nil, &admin.Error{Code: admin.CodeInvalid, Message: fmt.Sprintf("--out: %v", err), Hint: "name a directory that you may write to"}
		}
	}
	return threshold, n, to, nil
}

// parseThreshold reads "2-of-3".
func parseThreshold(s string) (k, n int, err error) {
	left, right, ok := strings.Cut(s, "-of-")
	k, err1 := strconv.Atoi(left)
	n, err2 := strconv.Atoi(right)
	if !ok || err1 != nil || err2 != nil {
		return 0, 0, usage(fmt.Sprintf("%q is not K-of-N", s), "write it as 2-of-3")
	}
	if err := shamir.CheckThreshold(k, n); err != nil {
		return 0, 0, usage(err.Error(), "")
	}
	return k, n, nil
}

// handOut prints the shares, once, or writes each to a file.
func (a *app) handOut(set admin.SealPrepared, dir string) error {
	if dir == "" && a.output != "table" {
		return a.show(view{value: set})
	}
	for _, s := range set.Shares {
		if dir != "" {
			name := filepath.Join(dir, fmt.Sprintf("share-%s-%d", set.Set, s.Number))
			if err := durable.WriteFile(name, []byte(s.Text+"\n"), 0o600); err != nil {
				return err
			}
			a.say("wrote %s%s", name, forWhom(s))
			continue
		}
		if _, err := fmt.Fprintf(a.stdout, "share %d of %d (any %d unseal), set %s%s\n%s\n\n", s.Number, len(set.Shares), set.Threshold, set.Set, forWhom(s), string(s.Text)); err != nil {
			return err
		}
	}
	a.say("These shares are shown once and kept nowhere. Give each to another person; keep them off this host.")
	return nil
}

// forWhom names who can decrypt a share.
func forWhom(s admin.Share) string {
	if s.Recipient == "" {
		return ""
	}
	return ", for " + s.Recipient
}
