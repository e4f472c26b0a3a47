package admin

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"sallyport/crypto/escrow"
	"sallyport/crypto/keyring"
	"sallyport/crypto/shamir"
	"sallyport/server/audit"
)

// sealChange seals the root key anew. Data and keys stay; the shares of the
// answer are kept nowhere.
func (s *Server) sealChange(ctx context.Context, who Peer, r SealChange) (SealChanged, error) {
	before, err := s.o.Keyring.SealInfo()
	if err != nil {
		return SealChanged{}, err
	}
	to, out, err := s.newSeal(ctx, r)
	if err != nil {
		return SealChanged{}, err
	}
	err = s.o.Keyring.Reseal(ctx, to)
	switch {
	case err == nil:
		out.Old = fmt.Sprintf("the old %s seal opens older copies of %s still: rotate the root key", before.Kind, "seal.json")
	case errors.Is(err, keyring.ErrOldRoot):
		out.Old = err.Error()
	case errors.Is(err, keyring.ErrUnsure):
		// The next start may need the new secret: it must not get lost with the error.
		out.Old = "the disk did not confirm the new seal.json: keep the secrets of BOTH seals, look after the disk, and change the seal again (" + err.Error() + ")"
	default:
		return SealChanged{}, err
	}
	e := audit.Event{Action: audit.SealChange, Detail: join(before.Kind+" to "+describeSeal(out, r), r.Reason)}
	if err := s.record(ctx, who, e); err != nil && len(out.Shares) == 0 {
		return SealChanged{}, err
	} else if err != nil { // the shares are nowhere else, and nothing opens without them from now on
		out.Old += "; " + err.Error()
	}
	return out, nil
}

func describeSeal(out SealChanged, r SealChange) string {
	if out.Kind != keyring.KindShares {
		return out.Kind
	}
	return fmt.Sprintf("%d of %d shares of set %s", r.Threshold, r.Shares, out.Set)
}

func (s *Server) newSeal(ctx context.Context, r SealChange) (keyring.Seal, SealChanged, error) {
	out := SealChanged{Kind: r.To}
	switch r.To {
	case keyring.KindPassphrase:
		pass := []byte(r.Passphrase)
		defer clear(pass)
		to, err := keyring.NewPassphrase(pass, keyring.DefaultArgon2)
		return to, out, err
	case keyring.KindShares:
		return newShares(r, out)
	default:
		to, err := s.o.SealOf(ctx, r.To)
		return to, out, err
	}
}

// newShares splits a new secret. The recipients are read before anything is
// made: a mistake in the last one must not leave a set half handed out.
func newShares(r SealChange, out SealChanged) (keyring.Seal, SealChanged, error) {
	if len(r.Recipients) > 0 && len(r.Recipients) != r.Shares {
		return nil, out, newError(CodeUsage, fmt.Sprintf("%d recipients for %d shares", len(r.Recipients), r.Shares), "give one recipient for each share, or none")
	}
	recipients := make([]*escrow.Recipient, len(r.Recipients))
	for i, text := range r.Recipients {
		var err error
		if recipients[i], err = escrow.ParseRecipient(text); err != nil {
			return nil, out, err
		}
	}
	to, shares, err := keyring.NewShares(r.Threshold, r.Shares)
	if err != nil {
		return nil, out, newError(CodeUsage, err.Error(), "for example --threshold 2 --shares 3")
	}
	out.Set = hex.EncodeToString(shares[0].Set[:])
	for i := range shares {
		one, err := shareText(&shares[i], recipients, i)
		shares[i].Wipe()
		if err != nil {
			return nil, out, err
		}
		out.Shares = append(out.Shares, one)
	}
	return to, out, nil
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

func (s *Server) kitExport(ctx context.Context, who Peer, r KitExport) (Kit, error) {
	id, text, err := s.o.Keyring.ExportRecovery(ctx, r.Recipient, time.Now())
	if err != nil {
		return Kit{}, err
	}
	return Kit{ID: id, Text: string(text)}, s.record(ctx, who, audit.Event{Action: audit.KitExport, Detail: join(id, r.Reason)})
}

func (s *Server) kitRevoke(ctx context.Context, who Peer, r KitRef) (Empty, error) {
	if err := s.o.Keyring.RevokeRecovery(ctx, r.ID); err != nil {
		return Empty{}, err
	}
	return Empty{}, s.record(ctx, who, audit.Event{Action: audit.KitRevoke, Detail: join(r.ID, r.Reason)})
}
