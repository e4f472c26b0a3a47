package session

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"sync"
	"time"

	"sallyport/policy/policydb"
)

const (
	proofFor  = 5 * time.Minute
	maxProofs = 4096
)

// digest is a MAC under a key of this process that is never stored.
type digest [sha256.Size]byte

// proofs remembers passwords that were just verified, so that a client that opens many connections does not cost a hash
// each: as MACs under a random key, for minutes, never in clear. A changed password has another version, and so another MAC.
type proofs struct {
	key [32]byte

	mu   sync.Mutex
	seen *recent[digest, time.Time]
}

func newProofs() *proofs {
	p := &proofs{seen: newRecent[digest, time.Time](maxProofs)}
	rand.Read(p.key[:])
	return p
}

func (p *proofs) mac(parts ...[]byte) (d digest) {
	m := hmac.New(sha256.New, p.key[:])
	for _, b := range parts {
		m.Write(binary.BigEndian.AppendUint32(nil, uint32(len(b))))
		m.Write(b)
	}
	m.Sum(d[:0])
	return d
}

func (p *proofs) of(a *policydb.Account, secret Secret) digest {
	return p.mac([]byte("proof"), a.ID[:], binary.BigEndian.AppendUint64(nil, a.PasswordVersion), []byte(secret))
}

func (p *proofs) has(a *policydb.Account, secret Secret, now time.Time) bool {
	d := p.of(a, secret)
	p.mu.Lock()
	defer p.mu.Unlock()
	until, ok := p.seen.get(d)
	return ok && now.Before(until)
}

func (p *proofs) add(a *policydb.Account, secret Secret, now time.Time) {
	d := p.of(a, secret)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen.put(d, now.Add(proofFor))
}

// wrong identifies a wrong password of one address, to tell one that is tried again from guessing.
func (p *proofs) wrong(a netip.Addr, account string, secret Secret) digest {
	b := a.As16()
	return p.mac([]byte("wrong"), b[:], []byte(account), []byte(secret))
}
