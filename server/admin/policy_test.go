package admin

import (
	"context"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"sallyport/policy"
	"sallyport/policy/policydb"
	"sallyport/server/audit"
)

func TestPolicySetAndGet(t *testing.T) {
	t.Parallel()
	f := start(t)
	ctx := t.Context()
	_, err := f.AccountAdd(ctx, AccountAdd{Name: "john.doe", Protocols: []string{"sftp"}})
	check(t, err)
	rev, err := f.PolicySet(ctx, PolicySet{Set: []KeyValue{{"site.transport.tls_min", `"1.3"`}, {"accounts.john.doe.session.max", "4"}, {"session.idle", "10m"}}, Change: Change{Reason: "OPS-1"}})
	check(t, err)
	p, err := f.PolicyGet(ctx, PolicyQuery{Key: "accounts.john.doe.session.max"})
	check(t, err)
	if len(p.Settings) != 1 || p.Settings[0].Value != "4" || p.Revision != rev.Revision {
		t.Errorf("got %+v", p)
	}
	p, err = f.PolicyGet(ctx, PolicyQuery{Key: "site"})
	check(t, err)
	if len(p.Settings) != 2 || p.Settings[0].Key != "site.transport.tls_min" || p.Settings[1] != (Setting{Key: "site.session.idle", Value: "10m"}) {
		t.Errorf("site is %+v", p.Settings)
	}
	p, err = f.PolicyShow(ctx, PolicyQuery{Account: "john.doe"})
	check(t, err)
	i := slices.IndexFunc(p.Settings, func(s Setting) bool { return s.Key == "session.max" })
	if i < 0 || p.Settings[i].Value != "4" || !strings.HasPrefix(p.Settings[i].Origin, "account john.doe") {
		t.Errorf("effective session.max: %+v", p.Settings)
	}
	p, err = f.PolicyShow(ctx, PolicyQuery{})
	check(t, err)
	if !strings.Contains(p.Document, "john.doe:") {
		t.Errorf("document is %q", p.Document)
	}
	_, err = f.PolicySet(ctx, PolicySet{Set: []KeyValue{{"accounts.john.doe.session.max", ""}}, Base: rev.Revision, Change: Change{Reason: "OPS-2"}})
	check(t, err)
	p, err = f.PolicyGet(ctx, PolicyQuery{Key: "accounts.john.doe.session.max"})
	check(t, err)
	if p.Settings[0].Value != "16" || !strings.HasPrefix(p.Settings[0].Origin, "not set") {
		t.Errorf("after unset: %+v", p.Settings)
	}
	_, err = f.PolicySet(ctx, PolicySet{Set: []KeyValue{{"session.max", "5"}}, Base: rev.Revision})
	wantCode(t, err, CodeConflict)
	_, err = f.PolicySet(ctx, PolicySet{Set: []KeyValue{{"session.max", "many"}}})
	wantCode(t, err, CodeInvalid)
	_, err = f.PolicySet(ctx, PolicySet{Set: []KeyValue{{"session.maxx", "5"}}})
	wantCode(t, err, CodeInvalid)
	_, err = f.PolicySet(ctx, PolicySet{Set: []KeyValue{{"accounts.nobody.session.max", "5"}}})
	wantCode(t, err, CodeNotFound)
	_, err = f.PolicyGet(ctx, PolicyQuery{Key: "accounts.nobody"})
	wantCode(t, err, CodeNotFound)
	if r := f.policy.Current(); r.Who != "uid:"+itoa(os.Getuid()) {
		t.Errorf("revision by %q", r.Who)
	}
}

func itoa(n int) string { return strings.TrimPrefix(Peer{UID: uint32(n)}.String(), "uid:") }

func TestConcurrentChangesAllHappen(t *testing.T) {
	t.Parallel()
	f := start(t)
	base := f.policy.Current().N
	var wg sync.WaitGroup
	for _, key := range []string{"session.max", "quota.files", "password.history"} {
		wg.Go(func() {
			if _, err := f.PolicySet(context.Background(), PolicySet{Set: []KeyValue{{key, "9"}}}); err != nil {
				t.Errorf("%s: %v", key, err)
			}
		})
	}
	wg.Wait()
	r := f.policy.Current()
	for _, key := range []string{"session.max", "quota.files", "password.history"} {
		if v, _ := r.Document.Get(policy.Site, key); v != "9" {
			t.Errorf("%s = %q after concurrent changes, want 9", key, v)
		}
	}
	if r.N != base+3 {
		t.Errorf("revision %d, want %d", r.N, base+3)
	}
}

// never_lock_out counts what an account can log in with, and not what merely stands in its list of keys.
func TestGuardDoesNotCountKeysThatOpenNothing(t *testing.T) {
	t.Parallel()
	f := start(t)
	ctx := t.Context()
	_, err := f.AccountAdd(ctx, AccountAdd{Name: "alice", Protocols: []string{"sftp"}})
	check(t, err)
	check(t, f.policy.SetPassword(ctx, "alice", "kestrel-tulip-93", "test"))
	_, err = f.PolicySet(ctx, PolicySet{Set: []KeyValue{{"auth.sftp", "[publickey, password]"}, {"guard.never_lock_out", "[alice]"}}, Change: Change{Reason: "test"}})
	check(t, err)
	for what, line := range map[string]string{
		"an expired key": `expiry-time="20200101" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f`,
		"an authority":   `cert-authority ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4g`,
	} {
		k, err := policydb.ParseKey(line)
		check(t, err)
		added, err := f.policy.AddKey(ctx, "alice", k, "test")
		check(t, err)
		_, err = f.PolicySet(ctx, PolicySet{Set: []KeyValue{{"auth.sftp", "[publickey]"}}, Yes: true, Change: Change{Reason: what}})
		if e := wantCode(t, err, CodeRefused); e != nil && !strings.Contains(e.Message, "never_lock_out") {
			t.Errorf("%s: refused by something else: %v", what, e)
		}
		check(t, f.policy.RemoveKey(ctx, "alice", added.Fingerprint(), "test"))
	}
}

// An authority of the site is no way in for an account until one of its certificates was seen to be.
func TestGuardCountsAuthoritiesOnlyForWhoCameInByThem(t *testing.T) {
	t.Parallel()
	f := start(t)
	ctx := t.Context()
	_, err := f.AccountAdd(ctx, AccountAdd{Name: "alice", Protocols: []string{"sftp"}})
	check(t, err)
	check(t, f.policy.SetPassword(ctx, "alice", "kestrel-tulip-93", "test"))
	authority, err := policydb.ParseAuthority("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f")
	check(t, err)
	check(t, f.policy.AddAuthority(ctx, authority, "test"))
	_, err = f.PolicySet(ctx, PolicySet{Set: []KeyValue{{"auth.sftp", "[certificate, password]"}, {"guard.never_lock_out", "[alice]"}}, Change: Change{Reason: "test"}})
	check(t, err)
	onlyCertificates := PolicySet{Set: []KeyValue{{"auth.sftp", "[certificate]"}}, Yes: true}
	_, err = f.PolicySet(ctx, onlyCertificates)
	if e := wantCode(t, err, CodeRefused); e != nil && !strings.Contains(e.Message, "never_lock_out") {
		t.Errorf("refused by something else: %v", e)
	}
	a, err := f.policy.Account("alice")
	check(t, err)
	check(t, f.policy.NoteCertificate(ctx, a, authority.Fingerprint()))
	_, err = f.PolicySet(ctx, onlyCertificates)
	check(t, err)
	// It never had a key; the certificate is its only way now.
	_, err = f.PolicySet(ctx, PolicySet{Set: []KeyValue{{"auth.sftp", "[publickey]"}}, Yes: true, Change: Change{Reason: "test"}})
	wantCode(t, err, CodeRefused)
	// A certificate that nobody has seen is lost, too, when there is nothing else.
	check(t, f.policy.RemoveAuthority(ctx, authority.Fingerprint()))
	other, err := policydb.ParseAuthority("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4g")
	check(t, err)
	check(t, f.policy.AddAuthority(ctx, other, "test"))
	_, err = f.PolicySet(ctx, PolicySet{Set: []KeyValue{{"auth.sftp", "[publickey]"}}, Yes: true, Change: Change{Reason: "test"}})
	wantCode(t, err, CodeRefused)
}

// An explanation says if the account has nothing to prove itself with, whatever stands in its list of keys.
func TestExplanationNotesCredentialsThatDoNotWork(t *testing.T) {
	t.Parallel()
	f := start(t)
	ctx := t.Context()
	_, err := f.AccountAdd(ctx, AccountAdd{Name: "alice", Protocols: []string{"sftp"}})
	check(t, err)
	notes := func(method string) string {
		x, err := f.PolicyExplain(ctx, PolicyExplain{Account: "alice", Case: policy.Case{Method: method}})
		check(t, err)
		return strings.Join(x.Notes, "; ")
	}
	add := func(line string) string {
		k, err := policydb.ParseKey(line)
		check(t, err)
		added, err := f.policy.AddKey(ctx, "alice", k, "test")
		check(t, err)
		return added.Fingerprint()
	}
	const none = "the account has no public key that works today"
	if got := notes("publickey"); got != none {
		t.Errorf("no key: %q", got)
	}
	add(`expiry-time="20200101" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f`)
	if got := notes("publickey"); got != none {
		t.Errorf("a key that has ended: %q", got)
	}
	key := add(`ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4g`)
	if got := notes("publickey"); got != "" {
		t.Errorf("a key: %q", got)
	}
	check(t, f.policy.Revoke(ctx, key, "test"))
	if got := notes("publickey"); got != none {
		t.Errorf("a key that is revoked: %q", got)
	}
	if got := notes("password"); got != "the account has no password that works today" {
		t.Errorf("no password: %q", got)
	}
}

// A record of a change says by its id whom it concerns.
func TestRecordOfAChangeNamesNobody(t *testing.T) {
	t.Parallel()
	f := start(t)
	ctx := t.Context()
	_, err := f.AccountAdd(ctx, AccountAdd{Name: "john.doe", Protocols: []string{"sftp"}})
	check(t, err)
	a, err := f.policy.Account("john.doe")
	check(t, err)
	_, err = f.PolicySet(ctx, PolicySet{Set: []KeyValue{{"accounts.john.doe.session.max", "4"}}, Change: Change{Reason: "OPS-1"}})
	check(t, err)
	f.mu.Lock()
	last := f.acts[len(f.acts)-1]
	f.mu.Unlock()
	if last.Action != audit.PolicyApply || strings.Contains(last.Detail, "john") || !strings.Contains(last.Detail, "accounts."+a.ID.String()+".session.max") {
		t.Errorf("%s: %s", last.Action, last.Detail)
	}
}
