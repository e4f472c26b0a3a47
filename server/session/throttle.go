package session

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"sallyport/policy"
)

// Bounds of what is remembered about strangers; the oldest goes first.
const (
	maxAddresses = 1 << 16
	maxNames     = 1 << 16
	maxBans      = 1 << 16
	maxWrong     = 1 << 16
	maxFriends   = 1 << 14
	friendFor    = 24 * time.Hour
	noteEvery    = time.Minute
)

// throttle limits guessing. Failures cost tokens; a login that succeeds costs nothing, so a busy client is not held back.
type throttle struct {
	mu        sync.Mutex
	addresses *recent[netip.Addr, *addressState]
	names     *recent[string, *rate.Limiter]
	bans      *recent[netip.Addr, Ban]
	wrong     *recent[digest, struct{}]  // wrong passwords already counted
	friends   *recent[friend, time.Time] // who logged in from where lately
	codes     *recent[string, codeState] // accounts whose second factor is being guessed
}

// codeState limits guessing of codes by whoever has the first factor already. A code is one of a million and three are right
// at a time, so what bounds the guesses is time: after freeCodes wrong ones in a row each next one doubles the wait.
type codeState struct {
	wrong int
	until time.Time
}

const (
	freeCodes    = 5
	firstPenalty = 30 * time.Second
	mostPenalty  = time.Hour // so about 24 guesses a day: one chance in 14,000 a day for who has the first factor
)

type addressState struct {
	bucket   *rate.Limiter
	failures []time.Time // within ban_for, at most ban_after of them
	noted    time.Time   // last refusal in the audit log
	unnoted  uint64      // refusals since
}

type friend struct {
	addr    netip.Addr
	account string
}

// Ban of an address (IPv6: of a /64).
type Ban struct {
	Address  netip.Addr
	Until    time.Time
	Failures int
}

func newThrottle() *throttle {
	return &throttle{
		addresses: newRecent[netip.Addr, *addressState](maxAddresses), names: newRecent[string, *rate.Limiter](maxNames),
		bans: newRecent[netip.Addr, Ban](maxBans), wrong: newRecent[digest, struct{}](maxWrong), friends: newRecent[friend, time.Time](maxFriends),
		codes: newRecent[string, codeState](maxNames),
	}
}

func (t *throttle) address(a netip.Addr) *addressState {
	s, ok := t.addresses.get(a)
	if !ok {
		s = &addressState{}
		t.addresses.put(a, s)
	}
	return s
}

// tune brings a bucket to the rate in force; nil for no limit.
func tune(b *rate.Limiter, r policy.Rate, now time.Time) *rate.Limiter {
	if r.N == 0 {
		return nil
	}
	limit := rate.Every(r.Per / time.Duration(r.N))
	if b == nil {
		return rate.NewLimiter(limit, r.N)
	}
	if b.Limit() != limit || b.Burst() != r.N {
		b.SetLimitAt(now, limit)
		b.SetBurstAt(now, r.N)
	}
	return b
}

// allow says whether another attempt may be looked at. An address that logged in to the account lately is not held back by
// failures of others on that account: otherwise anybody could lock its owner out.
func (t *throttle) allow(a netip.Addr, account, method string, p *policy.Effective, now time.Time) *policy.Denial {
	t.mu.Lock()
	defer t.mu.Unlock()
	if b, ok := t.bans.get(a); ok && now.Before(b.Until) {
		return p.Deny(policy.CodeBanned, "login.ban_after")
	}
	s := t.address(a)
	if s.bucket = tune(s.bucket, p.Login.PerAddress, now); s.bucket != nil && s.bucket.TokensAt(now) < 1 {
		return p.Deny(policy.CodeAddressRate, "login.per_address")
	}
	if method != methodPassword {
		return nil // a key cannot be guessed
	}
	if until, ok := t.friends.get(friend{a, account}); ok && now.Before(until) {
		return nil
	}
	b, _ := t.names.get(account)
	if b = tune(b, p.Login.PerAccount, now); b == nil {
		return nil
	}
	t.names.put(account, b)
	if b.TokensAt(now) < 1 {
		return p.Deny(policy.CodeAccountRate, "login.per_account")
	}
	return nil
}

// fail counts a failed login; it returns the ban that it brought, if any. The same wrong password again costs tokens (it
// costs us a hash) but does not count toward a ban: that is a client with an old password, not somebody guessing.
func (t *throttle) fail(a netip.Addr, account string, wrong digest, p *policy.Effective, now time.Time) *Ban {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.address(a)
	if s.bucket = tune(s.bucket, p.Login.PerAddress, now); s.bucket != nil {
		s.bucket.AllowN(now, 1)
	}
	if wrong != (digest{}) {
		if b, ok := t.names.get(account); ok {
			b.AllowN(now, 1)
		}
		if _, again := t.wrong.get(wrong); again {
			return nil
		}
		t.wrong.put(wrong, struct{}{})
	}
	after := p.Login.BanAfter
	if after == 0 || slices.ContainsFunc(p.Login.NeverBan, func(n netip.Prefix) bool { return overlaps(n, a) }) {
		return nil
	}
	s.failures = slices.DeleteFunc(s.failures, func(at time.Time) bool { return now.Sub(at) >= p.Login.BanFor })
	if s.failures = append(s.failures, now); len(s.failures) < after {
		return nil
	}
	b := Ban{Address: a, Until: now.Add(p.Login.BanFor), Failures: len(s.failures)}
	s.failures = nil
	t.bans.put(a, b)
	return &b
}

// allowCode says whether a code of an account may be looked at.
func (t *throttle) allowCode(account string, now time.Time) *policy.Denial {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s, ok := t.codes.get(account); ok && now.Before(s.until) {
		return policy.Deny(policy.CodeCodeRate, "wrong codes in a row", "built-in")
	}
	return nil
}

func (t *throttle) wrongCode(account string, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s, _ := t.codes.get(account)
	s.wrong++
	if over := s.wrong - freeCodes; over >= 0 {
		s.until = now.Add(min(firstPenalty<<min(over, 10), mostPenalty))
	}
	t.codes.put(account, s)
}

func (t *throttle) rightCode(account string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.codes.remove(account)
}

// overlaps: an IPv6 address stands for its /64 here.
func overlaps(n netip.Prefix, a netip.Addr) bool {
	if a.Is6() {
		return n.Overlaps(netip.PrefixFrom(a, 64))
	}
	return n.Contains(a)
}

// succeed remembers who logged in from where.
func (t *throttle) succeed(a netip.Addr, account string, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.friends.put(friend{a, account}, now.Add(friendFor))
}

func (t *throttle) banned(a netip.Addr, now time.Time) *policy.Denial {
	t.mu.Lock()
	defer t.mu.Unlock()
	b, ok := t.bans.get(a)
	if !ok {
		return nil
	}
	if !now.Before(b.Until) {
		t.bans.remove(a)
		return nil
	}
	return policy.Deny(policy.CodeBanned, "banned until "+b.Until.UTC().Format(time.DateTime), "login.ban_after")
}

// note says how many refusals of an address an audit record stands for now; 0 = none is due. Refusals come as fast as a
// stranger can send, so they are recorded once a minute and address.
func (t *throttle) note(a netip.Addr, now time.Time) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.address(a)
	s.unnoted++
	if !s.noted.IsZero() && now.Sub(s.noted) < noteEvery {
		return 0
	}
	n := s.unnoted
	s.noted, s.unnoted = now, 0
	return n
}

func (t *throttle) list(now time.Time) []Ban {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []Ban
	for _, b := range t.bans.all() {
		if now.Before(b.Until) {
			out = append(out, b)
		}
	}
	slices.SortFunc(out, func(x, y Ban) int { return cmp.Or(x.Until.Compare(y.Until), x.Address.Compare(y.Address)) })
	return out
}

func (t *throttle) unban(a netip.Addr) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s, ok := t.addresses.get(a); ok {
		s.failures = nil
	}
	return t.bans.remove(a)
}

// Bans are those in force, the first to end first.
func (m *Manager) Bans() []Ban { return m.throttle.list(m.o.Now()) }

// unlock forgets the failures of an account.
func (t *throttle) unlock(account string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.names.remove(account)
	t.codes.remove(account)
}

// Unlock lets an account's logins be looked at again at once, whatever failed before.
func (m *Manager) Unlock(account string) { m.throttle.unlock(account) }

// Unban lifts the ban of an address; false if there is none.
func (m *Manager) Unban(a netip.Addr) bool { return m.throttle.unban(limitBy(a)) }
