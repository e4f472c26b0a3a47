package keyring

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"sallyport/crypto/record"
	"sallyport/crypto/shamir"
)

const wrongShares = "these shares do not open it: at least one is wrong, or was made for something else"

// sharesParams is what a shares seal keeps in seal.json.
type sharesParams struct {
	keyPair
	Set string `json:"set"` // 8 hexadecimal digits
	K   int    `json:"k"`
	N   int    `json:"n"`
}

func (p *sharesParams) valid() error {
	if raw, err := hex.DecodeString(p.Set); err != nil || len(raw) != len(shamir.SetID{}) || hex.EncodeToString(raw) != p.Set {
		return errors.New("the set of shares is not named as it should be")
	}
	return errors.Join(p.keyPair.valid(), shamir.CheckThreshold(p.K, p.N))
}

// set is the id of the set; p is valid.
func (p *sharesParams) set() (id shamir.SetID) {
	raw, _ := hex.DecodeString(p.Set)
	copy(id[:], raw)
	return id
}

// NewShares makes a seal that any k of n people open, and their shares. Nothing
// keeps the shares: the caller hands them out and wipes them.
func NewShares(k, n int) (Seal, []shamir.Share, error) {
	secret := record.NewKey()
	defer clear(secret[:])
	shares, err := shamir.Split((*[shamir.SecretSize]byte)(secret), k, n)
	if err != nil {
		return nil, nil, err
	}
	p := &sharesParams{Set: hex.EncodeToString(shares[0].Set[:]), K: k, N: n}
	if p.keyPair, err = newKeyPair(KindShares, secret); err != nil {
		return nil, nil, err
	}
	s, err := p.seal(secret[:])
	if err != nil {
		return nil, nil, err
	}
	return s, shares, nil
}

// Shares is the seal of this seal.json, to be opened by the shares that were
// collected. The collector forgets them. ErrTooFew if some are missing.
func (i *SealInfo) Shares(c *Collector) (Seal, error) {
	p := new(sharesParams)
	if err := i.params(KindShares, p); err != nil {
		return nil, err
	}
	if c.set != p.set() {
		c.Reset()
		return nil, fmt.Errorf("%w: %s has changed since the first share; begin again", ErrWrongKey, sealName)
	}
	secret, err := c.combine()
	if err != nil {
		return nil, err
	}
	defer clear(secret[:])
	return p.seal(secret[:])
}

func (p *sharesParams) seal(secret []byte) (Seal, error) {
	memory, free, err := lockedSecret(secret)
	if err != nil {
		return nil, err
	}
	return &peopleSeal{
		kind: KindShares, raw: encodeParams(p), pair: p.keyPair, wrong: wrongShares, forget: free,
		secret: func(context.Context) (*record.Key, error) { key := record.Key(memory); return &key, nil },
	}, nil
}
