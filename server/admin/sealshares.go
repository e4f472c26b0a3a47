package admin

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"sallyport/crypto/escrow"
	"sallyport/crypto/keyring"
	"sallyport/crypto/shamir"
)

// preparedTime is how long a set of shares waits to be confirmed.
const preparedTime = 15 * time.Minute

// preparedSeal is a seal by shares that were handed out and that nobody has
// confirmed to have. The seal in force stays in force until then, whatever
// becomes of the client, the server or the machine.
type preparedSeal struct {
	mu    sync.Mutex // guards what follows
	seal  keyring.Seal
	set   string
	what  string // for the audit log
	timer *time.Timer
}

// put replaces what was prepared before.
func (p *preparedSeal) put(seal keyring.Seal, set, what string) (until time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop()
	p.seal, p.set, p.what = seal, set, what
	// The timer's function ends by itself and waits for nobody, so it needs no owner.
	p.timer = time.AfterFunc(preparedTime, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.set == set {
			p.drop()
		}
	})
	return time.Now().Add(preparedTime)
}

// take gives the seal of that set away; nil if it is not there.
func (p *preparedSeal) take(set string) (seal keyring.Seal, what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.set != set {
		return nil, ""
	}
	seal, what = p.seal, p.what
	p.seal = nil // so that drop leaves it to the caller
	p.drop()
	return seal, what
}

func (p *preparedSeal) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop()
}

// drop is forget with mu held.
func (p *preparedSeal) drop() {
	if p.timer != nil {
		p.timer.Stop()
	}
	if f, ok := p.seal.(keyring.Forgetter); ok {
		f.Forget()
	}
	p.seal, p.set, p.what, p.timer = nil, "", "", nil
}

// sealPrepare makes the shares of a new set and changes nothing. The shares of
// the answer are kept nowhere.
func (s *Server) sealPrepare(_ context.Context, _ Peer, r SealChange) (SealPrepared, error) {
	if r.To != keyring.KindShares {
		return SealPrepared{}, newError(CodeUsage, "only a seal by shares is prepared", "")
	}
	to, out, err := NewShares(r.Threshold, r.Shares, r.Recipients)
	if err != nil {
		return SealPrepared{}, err
	}
	out.Until = s.next.put(to, out.Set, fmt.Sprintf("%d of %d shares of set %s", r.Threshold, r.Shares, out.Set))
	return out, nil
}

// sealConfirm puts a prepared set in force. If it is in force already the answer
// to an earlier call got lost.
func (s *Server) sealConfirm(ctx context.Context, who Peer, r SealConfirm) (SealChanged, error) {
	out := SealChanged{Kind: keyring.KindShares, Set: r.Set}
	to, what := s.next.take(r.Set)
	if to != nil {
		return s.reseal(ctx, who, to, out, what, r.Reason)
	}
	now, err := s.o.Keyring.SealInfo()
	if err != nil {
		return SealChanged{}, err
	}
	if now.Kind == keyring.KindShares && hex.EncodeToString(now.Set[:]) == r.Set {
		out.Old = "it is in force already"
		return out, nil
	}
	return SealChanged{}, newError(CodeConflict, fmt.Sprintf("no set %s waits to be confirmed; the %s seal is in force as before", r.Set, now.Kind),
		fmt.Sprintf("destroy the shares of this set and make new ones: a set waits for %v, and not beyond a restart", preparedTime))
}

// NewShares splits a new secret: threshold of n shares open the seal. They are encrypted each to its recipient (an age recipient or
// SSH public key), if there are any. An *Error says what is wrong with what was asked for. The recipients are read before anything is
// made: a mistake in the last one must not leave a set half handed out.
func NewShares(threshold, n int, to []string) (keyring.Seal, SealPrepared, error) {
	out := SealPrepared{Threshold: threshold}
	if len(to) > 0 && len(to) != n {
		return nil, out, newError(CodeUsage, fmt.Sprintf("%d recipients for %d shares", len(to), n), "give one recipient for each share, or none")
	}
	recipients := make([]*escrow.Recipient, len(to))
	for i, text := range to {
		var err error
		if recipients[i], err = escrow.ParseRecipient(text); err != nil {
			hint := "give an age recipient (age1…) or an SSH public key, or @FILE with one"
			if errors.Is(err, escrow.ErrNotFIPS) {
				hint = "leave --recipient out: the shares are printed then, or written to files with --out"
			}
			return nil, out, newError(CodeInvalid, fmt.Sprintf("recipient %q: %v", text, err), hint)
		}
	}
	seal, shares, err := keyring.NewShares(threshold, n)
	if err != nil {
		return nil, out, newError(CodeUsage, err.Error(), "for example 2-of-3")
	}
	out.Set = hex.EncodeToString(shares[0].Set[:])
	for i := range shares {
		one, err := shareText(&shares[i], recipients, i)
		shares[i].Wipe()
		if err != nil {
			seal.(keyring.Forgetter).Forget()
			return nil, out, err
		}
		out.Shares = append(out.Shares, one)
	}
	return seal, out, nil
}

func shareText(share *shamir.Share, recipients []*escrow.Recipient, i int) (Share, error) {
	text := share.Text()
	defer clear(text)
	one := Share{Number: i + 1, Text: Secret(text)}
	if len(recipients) == 0 {
		return one, nil
	}
	sealed, err := escrow.Encrypt(recipients[i], append(text, '\n'))
	if err != nil {
		return one, err
	}
	one.Recipient, one.Text = recipients[i].String(), Secret(sealed)
	return one, nil
}
