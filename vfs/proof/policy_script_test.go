package proof

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/crypto/keyring"
	"sallyport/crypto/record"
	"sallyport/policy/policydb"
)

// dawn is the clock of the child's policy.db: nothing that waits for its confirmation runs out of time before the script says so.
var dawn = time.Date(2026, 1, 1, 6, 0, 0, 0, time.UTC)

// policyWork is a policy.db in use.
type policyWork struct {
	o    policydb.Options
	db   *policydb.DB
	at   time.Time
	code string // a recovery code of account0
}

func policyOptions(root string, ring *keyring.Keyring) (policydb.Options, error) {
	box, err := ring.Policy()
	if err != nil {
		return policydb.Options{}, err
	}
	names, err := ring.Names()
	return policydb.Options{Path: filepath.Join(root, "policy.db"), Box: box, Token: ring.PolicyToken, Names: names, NameToken: ring.NameToken, PasswordCost: 4}, err
}

// openPolicy opens it at a time.
func openPolicy(ctx context.Context, root string, ring *keyring.Keyring, at time.Time) (*policyWork, error) {
	o, err := policyOptions(root, ring)
	if err != nil {
		return nil, err
	}
	p := &policyWork{o: o, at: at}
	return p, p.open(ctx)
}

func (p *policyWork) open(ctx context.Context) (err error) {
	p.o.Now = func() time.Time { return p.at }
	p.db, err = policydb.Open(ctx, p.o)
	return err
}

// later closes it and opens it again after a time.
func (p *policyWork) later(ctx context.Context, d time.Duration) error {
	if err := p.db.Close(); err != nil {
		return err
	}
	p.at = p.at.Add(d)
	return p.open(ctx)
}

// policyStep is one change that is acknowledged as a whole.
type policyStep struct {
	what string
	run  func(ctx context.Context, p *policyWork) error
}

// policyScript changes everything that policy.db keeps.
func policyScript() []policyStep {
	const who = "child"
	apply := func(max int, confirm time.Duration) func(context.Context, *policyWork) error {
		return func(ctx context.Context, p *policyWork) error {
			text := fmt.Appendf(p.db.Current().Document.Text(), "# revision after %d\n", p.db.Current().N)
			if p.db.Current().N == 0 {
				text = []byte("version: 1\n")
			}
			text = append(text, fmt.Sprintf("# %d %s\n", max, strings.Repeat("remark ", 400*max))...) // more than a page
			_, err := p.db.Apply(ctx, policydb.Change{Base: p.db.Current().N, Text: text, Who: who, Why: fmt.Sprint(max), Confirm: confirm})
			return err
		}
	}
	var all []policyStep
	add := func(what string, run func(context.Context, *policyWork) error) {
		all = append(all, policyStep{what, run})
	}
	for i := range 3 {
		add(fmt.Sprintf("create account%d", i), func(ctx context.Context, p *policyWork) error {
			a := policydb.NewAccount{Name: fmt.Sprintf("account%d", i), ID: record.AccountID{byte(i + 1)}, Who: who}
			if i == 1 {
				a.Grants = map[string]string{"protocols": "[sftp]"}
			}
			_, err := p.db.CreateAccount(ctx, a)
			return err
		})
	}
	add("apply", apply(1, 0))
	add("password", func(ctx context.Context, p *policyWork) error {
		return p.db.SetPassword(ctx, "account0", passwords[0], who)
	})
	for i := range 2 {
		add(fmt.Sprintf("key %d", i), func(ctx context.Context, p *policyWork) error {
			_, err := p.db.AddKey(ctx, "account1", policydb.PublicKey{Blob: sshKey(byte(i)), Comment: fmt.Sprint("key ", i)}, who)
			return err
		})
	}
	add("apply until confirmed", apply(2, time.Hour))
	add("confirm", func(ctx context.Context, p *policyWork) error {
		_, err := p.db.Confirm(ctx, p.db.Current().N)
		return err
	})
	add("apply until confirmed", apply(3, time.Hour))
	add("roll back", func(ctx context.Context, p *policyWork) error {
		_, err := p.db.Rollback(ctx, 1, p.db.Current().N, who, "back")
		return err
	})
	add("disable", func(ctx context.Context, p *policyWork) error { return p.db.SetEnabled(ctx, "account2", false, who) })
	add("second factor", func(ctx context.Context, p *policyWork) error {
		e, err := p.db.EnableSecond(ctx, "account0", "site", who)
		if err == nil {
			p.code = e.Recovery[3]
		}
		return err
	})
	add("use a code", func(ctx context.Context, p *policyWork) error {
		_, _, err := p.db.UseCode(ctx, "account0", p.code)
		return err
	})
	add("another password", func(ctx context.Context, p *policyWork) error {
		return p.db.SetPassword(ctx, "account0", passwords[1], who)
	})
	add("take a key away", func(ctx context.Context, p *policyWork) error {
		return p.db.RemoveKey(ctx, "account1", (&policydb.PublicKey{Blob: sshKey(0)}).Fingerprint(), who)
	})
	add("revoke", func(ctx context.Context, p *policyWork) error { return p.db.Revoke(ctx, "serial:42", who) })
	add("remove an account", func(ctx context.Context, p *policyWork) error {
		_, err := p.db.RemoveAccount(ctx, "account1", who)
		return err
	})
	add("apply until confirmed", apply(1, time.Hour))
	// A restart after its time: opening rolls back.
	add("restart too late", func(ctx context.Context, p *policyWork) error { return p.later(ctx, 2*time.Hour) })
	add("no password", func(ctx context.Context, p *policyWork) error { return p.db.ClearPassword(ctx, "account0", who) })
	return all
}

var passwords = []string{"correct horse battery 1", "correct horse battery 2"}

// sshKey is the wire form of an Ed25519 key (RFC 8709, section 4); nobody needs its private half.
func sshKey(n byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, 11)
	b = append(b, "ssh-ed25519"...)
	b = binary.BigEndian.AppendUint32(b, 32)
	return append(b, append([]byte{n}, make([]byte, 31)...)...)
}

// policyState is all that a policy.db says, but for what is random.
func policyState(db *policydb.DB) (string, error) {
	var s strings.Builder
	list, err := db.Accounts()
	if err != nil {
		return "", err
	}
	for _, a := range list {
		fmt.Fprintf(&s, "%s %v enabled %v, password %d %v %v, must change %v;", a.Name, a.ID, a.Enabled, a.PasswordVersion, a.HasPassword() && a.CheckPassword(passwords[0]), a.HasPassword() && a.CheckPassword(passwords[1]), a.MustChange)
		for _, k := range a.Keys {
			fmt.Fprintf(&s, " key %s;", k.Comment)
		}
		if a.Second != nil {
			fmt.Fprintf(&s, " second factor %d, %d codes;", a.Second.Version, len(a.Second.Recovery))
		}
		if byID, err := db.AccountByID(a.ID); err != nil || byID.Name != a.Name {
			return "", fmt.Errorf("account %x has no name any more: %w", a.ID, err)
		}
		s.WriteByte('\n')
	}
	revisions, err := db.Revisions(0, 100)
	if err != nil {
		return "", err
	}
	if n := db.Current().N; n > 0 && (len(revisions) == 0 || revisions[0].N != n) {
		return "", errors.New("the current revision is not the newest")
	}
	for _, r := range revisions {
		fmt.Fprintf(&s, "revision %d of %s because %q: %d %x\n", r.N, r.Who, r.Why, len(r.Document.Text()), r.Document.Text()[max(0, len(r.Document.Text())-20):])
	}
	p, err := db.Pending()
	if err != nil {
		return "", err
	}
	fmt.Fprintf(&s, "pending %v, revoked %v", p, db.Trust().Revoked)
	return s.String(), nil
}

// policyTruth is what a policy.db says after none, the first … all of the steps.
func policyTruth(t testing.TB) []string {
	t.Helper()
	c := emptyCorpus(t)
	ctx := context.Background()
	p, err := openPolicy(ctx, c.state, c.ring, dawn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { p.db.Close() }()
	var all []string
	for i := -1; i < len(policyScript()); i++ {
		if i >= 0 {
			if err := policyScript()[i].run(ctx, p); err != nil {
				t.Fatalf("%s: %v", policyScript()[i].what, err)
			}
		}
		s, err := policyState(p.db)
		if err != nil {
			t.Fatal(err)
		}
		if i >= 0 && s == all[i] { // nobody could tell whether the step is lost
			t.Fatalf("%s: nothing is changed", policyScript()[i].what)
		}
		all = append(all, s)
	}
	return all
}

func policyMark(i int) string { return fmt.Sprintf("policy %d", i) }

// examinePolicy asks for the state after the last change that was acknowledged, or the one after that if it had begun. What waits
// for its confirmation must go back when its time is over, on this disk, too.
func (s *site) examinePolicy(ctx context.Context, ring *keyring.Keyring) error {
	if !s.h.begun["policy"] {
		return nil
	}
	p, err := openPolicy(ctx, s.dir, ring, dawn)
	if err != nil {
		return wrong("policy.db does not open: %v", err)
	}
	defer func() { p.db.Close() }()
	got, err := policyState(p.db)
	if err != nil {
		return wrong("policy.db: %v", err)
	}
	acked := 0
	for s.h.acked[policyMark(acked)] {
		acked++
	}
	last := acked
	if s.h.begun[policyMark(acked)] && !(s.strict && s.h.failed[policyMark(acked)]) {
		last++
	}
	if got != s.policy[acked] && got != s.policy[last] {
		return wrong("%d changes of policy.db were acknowledged, up to %d begun, and it says\n%s\nand not\n%s", acked, last, got, s.policy[acked])
	}
	waits, err := p.db.Pending()
	if err != nil || waits == nil {
		return err
	}
	was, err := p.db.Revision(waits.Back)
	if err != nil {
		return wrong("the revision to go back to: %v", err)
	}
	if err := p.later(ctx, 2*time.Hour); err != nil {
		return wrong("policy.db does not open after its pending change is over: %v", err)
	}
	if r := p.db.Current(); r.N != waits.Revision+1 || r.Who != policydb.Automatic || string(r.Document.Text()) != string(was.Document.Text()) {
		return wrong("a change that nobody confirmed is still there: revision %d of %s", r.N, r.Who)
	}
	return nil
}
