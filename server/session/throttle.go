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
	nets      *recent[netip.Prefix, *rate.Limiter]
	bans      *recent[netip.Addr, Ban]
	ordered   []Ban                          // by the operator, of networks
	wrong     *recent[digest, struct{}]      // wrong passwords already counted
	friends   *recent[friend, *rate.Limiter] // who logged in from where lately
	known     *recent[netip.Addr, time.Time] // until when an address counts as one that somebody logged in from
	codes     *recent[string, codeState]     // accounts whose second factor is being guessed
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
	streak   int         // failures since the last success, or since a pause of streakFor
	last     time.Time   // failure
	failures []time.Time // within ban_for, at most ban_after of them
	noted    time.Time   // last refusal in the audit log
	unnoted  uint64      // refusals since
}

type friend struct {
	addr    netip.Addr
	account string
}

// Ban of an address (IPv6: of a /64), or, by the operator, of a network.
type Ban struct {
	Address  netip.Addr
	Network  netip.Prefix // of the operator's bans; Address is its first one then
	Until    time.Time
	Failures int
}

func newThrottle() *throttle {
	return &throttle{
		addresses: newRecent[netip.Addr, *addressState](maxAddresses), names: newRecent[string, *rate.Limiter](maxNames),
		bans: newRecent[netip.Addr, Ban](maxBans), wrong: newRecent[digest, struct{}](maxWrong), friends: newRecent[friend, *rate.Limiter](maxFriends),
		nets: newRecent[netip.Prefix, *rate.Limiter](maxAddresses), known: newRecent[netip.Addr, time.Time](maxFriends),
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

// network of an address, for limits: what one provider or one site usually has.
func network(a netip.Addr) netip.Prefix {
	bits := 24
	if a.Is6() {
		bits = 48
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// isFriend says whether an account logged in from an address lately. Its owner is then not held back by what others at that
// address, or at that account, do: anybody could lock the owner out otherwise. Called with mu held.
func (t *throttle) isFriend(a netip.Addr, account string, now time.Time) bool {
	until, ok := t.known.get(a)
	if !ok || !now.Before(until) {
		return false
	}
	_, ok = t.friends.get(friend{a, account})
	return ok
}

// allow says whether another attempt may be looked at. A friend has a budget of its own.
func (t *throttle) allow(a netip.Addr, account, method string, p *policy.Effective, now time.Time) *policy.Denial {
	t.mu.Lock()
	defer t.mu.Unlock()
	if d := t.orderedBan(a, now); d != nil {
		return d
	}
	if t.isFriend(a, account, now) {
		b, _ := t.friends.get(friend{a, account})
		if b = tune(b, p.Login.PerAccount, now); b != nil && b.TokensAt(now) < 1 && method == methodPassword {
			return p.Deny(policy.CodeAccountRate, "login.per_account")
		}
		t.friends.put(friend{a, account}, b)
		return nil
	}
	if b, ok := t.bans.get(a); ok && now.Before(b.Until) {
		return p.Deny(policy.CodeBanned, "login.ban_after")
	}
	s := t.address(a)
	if s.bucket = tune(s.bucket, p.Login.PerAddress, now); s.bucket != nil && s.bucket.TokensAt(now) < 1 {
		return p.Deny(policy.CodeAddressRate, "login.per_address")
	}
	if b, ok := t.nets.get(network(a)); ok {
		if b = tune(b, p.Login.PerNetwork, now); b != nil && b.TokensAt(now) < 1 {
			return p.Deny(policy.CodeNetworkRate, "login.per_network")
		}
	}
	if method != methodPassword {
		return nil // a key cannot be guessed
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

const (
	streakFor = 10 * time.Minute
	mostDelay = 16 * time.Second
)

// delay is how long the answer to the failure just counted waits.
func (t *throttle) delay(a netip.Addr, p *policy.Effective) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.address(a)
	if s.streak < 2 || p.Login.Delay == 0 {
		return 0
	}
	return min(p.Login.Delay<<min(s.streak-2, 10), mostDelay)
}

// fail counts a failed login; it returns the ban that it brought, if any. The same wrong password again costs tokens (it
// costs us a hash) but does not count toward a ban: that is a client with an old password, not somebody guessing.
func (t *throttle) fail(a netip.Addr, account string, wrong digest, p *policy.Effective, now time.Time) *Ban {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.address(a)
	if now.Sub(s.last) >= streakFor {
		s.streak = 0
	}
	s.streak++
	s.last = now
	if s.bucket = tune(s.bucket, p.Login.PerAddress, now); s.bucket != nil {
		s.bucket.AllowN(now, 1)
	}
	net, _ := t.nets.get(network(a))
	if net = tune(net, p.Login.PerNetwork, now); net != nil {
		net.AllowN(now, 1)
		t.nets.put(network(a), net)
	}
	if wrong != (digest{}) {
		if b, _ := t.friends.get(friend{a, account}); b != nil {
			b.AllowN(now, 1)
		} else if b, ok := t.names.get(account); ok {
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
	t.friends.remove(friend{a, account}) // whose own wrong passwords brought it is not spared
	return &b
}

// allowCode says whether a code of an account would be looked at.
func (t *throttle) allowCode(account string, now time.Time) *policy.Denial {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.codeDenial(account, now)
}

// codeDenial is called with mu held.
func (t *throttle) codeDenial(account string, now time.Time) *policy.Denial {
	if s, ok := t.codes.get(account); ok && now.Before(s.until) {
		return policy.Deny(policy.CodeCodeRate, "wrong codes in a row", "built-in")
	}
	return nil
}

// takeCode allows one code to be looked at, and counts it as wrong until rightCode or returnCode says otherwise: of many that come
// at once on many connections no more may pass than one after the other.
func (t *throttle) takeCode(account string, now time.Time) *policy.Denial {
	t.mu.Lock()
	defer t.mu.Unlock()
	if d := t.codeDenial(account, now); d != nil {
		return d
	}
	s, _ := t.codes.get(account)
	s.wrong++
	if over := s.wrong - freeCodes; over >= 0 {
		s.until = now.Add(min(firstPenalty<<min(over, 10), mostPenalty))
	}
	t.codes.put(account, s)
	return nil
}

// returnCode takes back the count of a code that was not wrong, and not right either.
func (t *throttle) returnCode(account string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s, ok := t.codes.get(account); ok && s.wrong > 0 {
		t.codes.put(account, codeState{wrong: s.wrong - 1})
	}
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
	f := friend{a, account}
	b, _ := t.friends.get(f)
	t.friends.put(f, b)
	t.known.put(a, now.Add(friendFor))
	t.address(a).streak = 0
}

// banned is asked at connect. An address that somebody logged in from lately may connect: what it is banned from are the other
// accounts, and allow says so.
func (t *throttle) banned(a netip.Addr, now time.Time) *policy.Denial {
	t.mu.Lock()
	defer t.mu.Unlock()
	if d := t.orderedBan(a, now); d != nil {
		return d
	}
	b, ok := t.bans.get(a)
	if !ok {
		return nil
	}
	if !now.Before(b.Until) {
		t.bans.remove(a)
		return nil
	}
	if until, ok := t.known.get(a); ok && now.Before(until) {
		return nil
	}
	return banDenial(b, "login.ban_after")
}

func banDenial(b Ban, origin string) *policy.Denial {
	return policy.Deny(policy.CodeBanned, "banned until "+b.Until.UTC().Format(time.DateTime), origin)
}

// orderedBan is the operator's, which spares nobody. Called with mu held.
func (t *throttle) orderedBan(a netip.Addr, now time.Time) *policy.Denial {
	for _, b := range t.ordered {
		if overlaps(b.Network, a) && now.Before(b.Until) {
			return banDenial(b, "operator")
		}
	}
	return nil
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
	for _, b := range t.ordered {
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
		s.failures, s.streak = nil, 0
	}
	return t.bans.remove(a)
}

// Bans are those in force, the first to end first.
func (m *Manager) Bans() []Ban { return m.throttle.list(m.o.Now()) }

// order bans a network by the operator's word; a ban of the same network is replaced.
func (t *throttle) order(n netip.Prefix, until, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ordered = slices.DeleteFunc(t.ordered, func(b Ban) bool { return b.Network == n || !now.Before(b.Until) })
	t.ordered = append(t.ordered, Ban{Address: n.Addr(), Network: n, Until: until})
}

func (t *throttle) unorder(n netip.Prefix) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := len(t.ordered)
	t.ordered = slices.DeleteFunc(t.ordered, func(b Ban) bool { return b.Network == n })
	return len(t.ordered) < before
}

// Ban keeps a network out until then, and ends every connection and session from it. It is kept in memory; deny_from of the policy
// is for good.
func (m *Manager) Ban(n netip.Prefix, until time.Time, who, why string) {
	m.throttle.order(n.Masked(), until, m.o.Now())
	d := policy.Deny(policy.CodeBanned, "banned until "+until.UTC().Format(time.DateTime), "operator")
	for _, c := range m.snapshot() {
		if overlaps(n, c.addr) {
			c.end(d, who, why)
		}
	}
}

// unlock forgets the failures of an account.
func (t *throttle) unlock(account string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.names.remove(account)
	t.codes.remove(account)
}

// Unlock lets an account's logins be looked at again at once, whatever failed before.
func (m *Manager) Unlock(account string) { m.throttle.unlock(account) }

// Unban lifts the ban of an address, and the operator's of a network; false if there is none.
func (m *Manager) Unban(n netip.Prefix) bool {
	lifted := m.throttle.unorder(n.Masked())
	return n.IsSingleIP() && m.throttle.unban(limitBy(n.Addr())) || lifted
}
