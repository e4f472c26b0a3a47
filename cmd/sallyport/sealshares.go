package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"

	"golang.org/x/term"

	"sallyport/server/admin"
)

// changeToShares makes a set of shares, hands them out, and has the server seal
// by them only when somebody has confirmed to have them. Until then, and if this
// program, the server or the machine ends in between, the old seal is in force.
func (a *app) changeToShares(ctx context.Context, o *sealChangeFlags, r admin.SealChange) error {
	if err := a.canAsk(); err != nil {
		return err
	}
	var err error
	if r.Threshold, r.Shares, r.Recipients, err = o.shares.parse(); err != nil {
		return err
	}
	var set admin.SealPrepared
	err = a.call(ctx, unsealTime, func(ctx context.Context, cl *admin.Client) (err error) {
		set, err = cl.SealPrepare(ctx, r)
		return err
	})
	if err != nil {
		return err
	}
	if err = a.handOut(set, o.shares.out); err == nil {
		err = a.confirmShares(set, len(r.Recipients) > 0)
	}
	if err != nil {
		a.say("the seal is as it was before: destroy the shares of set %s", set.Set)
		return err
	}
	return a.call(ctx, unsealTime, func(ctx context.Context, cl *admin.Client) error {
		out, err := cl.SealConfirm(ctx, admin.SealConfirm{Change: r.Change, Set: set.Set})
		if err != nil {
			a.say("keep the shares of set %s and the old secret until `sallyport seal status` has told which of them is in force", set.Set)
			return err
		}
		a.say("sealed by %s from now on; %s", out.Kind, out.Old)
		return nil
	})
}

// canAsk refuses early what could not be confirmed later.
func (a *app) canAsk() error {
	if f, ok := a.stdin.(*os.File); a.yes || ok && term.IsTerminal(int(f.Fd())) {
		return nil
	}
	return &admin.Error{Code: admin.CodeRefused, Message: "not confirmed: the new shares replace the old secret", Hint: "run it on a terminal, or add --yes, with which it is taken as read that what it prints or writes is kept"}
}

// confirmShares has one group of one share typed back, which shows that somebody
// can read them. Of shares that are encrypted nobody here can read one.
func (a *app) confirmShares(set admin.SealPrepared, encrypted bool) error {
	if a.yes {
		return nil
	}
	if encrypted {
		return a.confirm("Set %s replaces the old secret. Do you have all %d shares?", set.Set, len(set.Shares))
	}
	share := set.Shares[rand.IntN(len(set.Shares))]
	return askGroup(a.stdin, a.stderr, share, rand.IntN(len(strings.Fields(string(share.Text)))))
}

// askGroup asks for the group of that index, three times at most.
func askGroup(in io.Reader, out io.Writer, share admin.Share, group int) error {
	want := strings.Fields(string(share.Text))[group]
	lines := bufio.NewReader(io.LimitReader(in, 4096))
	for range 3 {
		fmt.Fprintf(out, "When the shares are in safe hands, type group %d of share %d (five characters): ", group+1, share.Number)
		line, err := lines.ReadString('\n')
		if strings.EqualFold(strings.TrimSpace(line), want) {
			return nil
		}
		if err != nil {
			break
		}
	}
	return &admin.Error{Code: admin.CodeTimeout, Message: "not confirmed", Hint: "run the command again: it makes another set"}
}
