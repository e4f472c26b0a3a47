package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"sallyport/crypto/keyring"
	"sallyport/policy"
	"sallyport/policy/policydb"
	"sallyport/server/audit"
	"sallyport/vfs"
)

// accountAdd makes key, volume, account, grants and credentials, in this order. What can be refused is checked
// before anything is made; a failure later removes everything again, so that no half account stays behind.
func (s *Server) accountAdd(ctx context.Context, who Peer, r AccountAdd) (Account, error) {
	grants, keys, err := s.checkAdd(r)
	if err != nil {
		return Account{}, err
	}
	id, err := s.o.Keyring.NewAccount(ctx)
	if err != nil {
		return Account{}, fmt.Errorf("making the account's key: %w", err)
	}
	made := false
	undo := func(err error) (Account, error) {
		ctx := context.WithoutCancel(ctx)
		if made { // before that the name may be somebody else's
			_, removeErr := s.o.Policy.RemoveAccount(ctx, r.Name, who.String())
			err = errors.Join(err, removeErr)
		}
		return Account{}, errors.Join(err, s.destroy(ctx, id))
	}
	if err := s.o.Volumes.Create(ctx, id); err != nil {
		return undo(fmt.Errorf("making the account's volume: %w", err))
	}
	if err := s.folders(ctx, id, r.Paths); err != nil {
		return undo(fmt.Errorf("making the account's folders: %w", err))
	}
	_, err = s.o.Policy.CreateAccount(ctx, policydb.NewAccount{Name: r.Name, ID: id, Who: who.String(), Why: r.Reason, Groups: r.Groups, Grants: grants})
	if err != nil {
		return undo(err)
	}
	made = true
	for _, k := range keys {
		if _, err := s.o.Policy.AddKey(ctx, r.Name, k, who.String()); err != nil {
			return undo(err)
		}
	}
	if r.Password != "" {
		if err := s.o.Policy.SetPassword(ctx, r.Name, string(r.Password), who.String()); err != nil {
			return undo(err)
		}
	}
	if err := s.record(ctx, who, audit.Event{Action: audit.AccountAdd, Account: audit.ID(id), Detail: r.Reason}); err != nil {
		return Account{}, err
	}
	return s.account(r.Name)
}

// folders makes the directories that rights are given for: the account may
// have no right to make them itself.
func (s *Server) folders(ctx context.Context, id keyring.AccountID, rights []PathRight) error {
	if len(rights) == 0 {
		return nil
	}
	v, err := s.o.Volumes.Volume(ctx, id)
	if err != nil {
		return err
	}
	view := v.View(vfs.ViewOptions{Writer: "admin"})
	for _, r := range rights {
		if err := view.MkdirAll(r.Path, 0o755); err != nil {
			return errors.Join(err, view.Close())
		}
	}
	return view.Close()
}

// checkAdd turns a request into grants and keys, or says what is wrong with it.
func (s *Server) checkAdd(r AccountAdd) (map[string]string, []policydb.PublicKey, error) {
	if !policy.ValidName(r.Name) {
		return nil, nil, policydb.ErrBadName
	}
	if _, err := s.o.Policy.Account(r.Name); err == nil {
		return nil, nil, policydb.ErrExists
	}
	keys, err := parseKeys(r.Keys)
	if err != nil {
		return nil, nil, err
	}
	if r.Password != "" {
		if err := policydb.CheckPassword(s.o.Policy.Current().Resolve(r.Name), string(r.Password)); err != nil {
			return nil, nil, err
		}
	}
	grants := map[string]string{}
	if len(r.Protocols) > 0 {
		grants["protocols"] = flow(r.Protocols)
	}
	if len(r.Paths) > 0 {
		grants["paths"] = flow(r.Paths)
	}
	return grants, keys, nil
}

// flow writes a list as YAML: JSON is YAML in flow style.
func flow(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic("admin: internal error: " + err.Error())
	}
	return string(b)
}

// parseKeys reads authorized_keys lines and TLS certificates.
func parseKeys(lines []string) ([]policydb.PublicKey, error) {
	var keys []policydb.PublicKey
	for i, l := range lines {
		k, err := policydb.ParseKey(l)
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", i+1, err)
		}
		keys = append(keys, k)
	}
	return keys, nil
}

func (s *Server) accountList(context.Context, Peer, Empty) (Accounts, error) {
	list, err := s.o.Policy.Accounts()
	if err != nil {
		return Accounts{}, err
	}
	out := Accounts{Accounts: []Account{}}
	live := s.liveSessions()
	for _, a := range list {
		out.Accounts = append(out.Accounts, s.describe(a, live))
	}
	return out, nil
}

func (s *Server) accountShow(_ context.Context, _ Peer, r AccountRef) (Account, error) {
	return s.account(r.Name)
}

func (s *Server) account(name string) (Account, error) {
	a, err := s.o.Policy.Account(name)
	if err != nil {
		return Account{}, err
	}
	return s.describe(a, s.liveSessions()), nil
}

// describe joins the account's record with what the policy grants it.
func (s *Server) describe(a *policydb.Account, live map[string]int) Account {
	e := s.o.Policy.Current().Resolve(a.Name)
	out := Account{
		Name: a.Name, ID: a.ID.String(), Enabled: a.Enabled, Password: a.HasPassword(), Second: a.Second != nil, MustChange: a.PasswordExpired(e, time.Now()), Sessions: live[a.Name],
		Groups: e.Groups, Protocols: []string{}, Keys: describeKeys(a.Keys), Created: a.Created,
	}
	for _, p := range e.Protocols {
		out.Protocols = append(out.Protocols, string(p))
	}
	out.Paths, _ = e.Value("paths")
	return out
}

func describeKeys(keys []policydb.PublicKey) []Key {
	out := []Key{}
	for i := range keys {
		k := &keys[i]
		out = append(out, Key{Fingerprint: k.Fingerprint(), Algorithm: k.Type, Comment: k.Comment, Added: k.Added, Expires: k.Expires, Authority: k.Authority, Principals: k.Principals})
		for _, n := range k.From {
			out[i].From = append(out[i].From, n.String())
		}
	}
	return out
}

func (s *Server) accountEnable(ctx context.Context, who Peer, r AccountRef) (Account, error) {
	return s.setEnabled(ctx, who, r, true, audit.AccountEnable)
}

func (s *Server) accountDisable(ctx context.Context, who Peer, r AccountRef) (Account, error) {
	return s.setEnabled(ctx, who, r, false, audit.AccountDisable)
}

func (s *Server) setEnabled(ctx context.Context, who Peer, r AccountRef, enabled bool, action audit.Action) (Account, error) {
	if err := s.o.Policy.SetEnabled(ctx, r.Name, enabled, who.String()); err != nil {
		return Account{}, err
	}
	a, err := s.account(r.Name)
	if err != nil {
		return Account{}, err
	}
	return a, s.recordFor(ctx, who, r.Name, audit.Event{Action: action, Detail: r.Reason})
}

// accountRemove ends the sessions (policydb tells session), then destroys keys
// and files.
func (s *Server) accountRemove(ctx context.Context, who Peer, r AccountRef) (Empty, error) {
	id, err := s.toRemove(r.Name)
	if err != nil {
		return Empty{}, err
	}
	if id, err = s.removeName(ctx, who, r.Name, id); err != nil {
		return Empty{}, err
	}
	ctx = context.WithoutCancel(ctx) // half a removal helps nobody
	return Empty{}, errors.Join(s.destroy(ctx, id), s.record(ctx, who, audit.Event{Action: audit.AccountRemove, Account: audit.ID(id), Detail: r.Reason}))
}

// toRemove finds the account of a name, or of the id of one whose name is gone and whose key is there: its removal was cut short by
// a crash, and nothing else could name it any more.
func (s *Server) toRemove(name string) (keyring.AccountID, error) {
	a, err := s.o.Policy.Account(name)
	if err == nil {
		return a.ID, nil
	}
	var id keyring.AccountID
	if id.UnmarshalText([]byte(name)) != nil || !slices.Contains(s.o.Keyring.Accounts(), id) {
		return id, err
	}
	accounts, failed := s.o.Policy.Accounts()
	if failed != nil {
		return id, failed
	}
	if slices.ContainsFunc(accounts, func(a *policydb.Account) bool { return a.ID == id }) {
		return id, err // it has a name: whoever destroys it is to say that one
	}
	return id, nil
}

// removeName takes the account out of the table and returns which it was; id if the table does not have it any more.
func (s *Server) removeName(ctx context.Context, who Peer, name string, id keyring.AccountID) (keyring.AccountID, error) {
	a, err := s.o.Policy.RemoveAccount(ctx, name, who.String())
	switch {
	case errors.Is(err, policydb.ErrNoAccount):
		return id, nil
	case err != nil:
		return id, err
	}
	return a.ID, nil
}

// destroyTries and destroyEvery bound the wait for an account's sessions to let
// its volume go: they were told to end a moment ago.
const (
	destroyTries = 100
	destroyEvery = 50 * time.Millisecond
)

// destroy makes an account's files unreadable for ever, then removes them.
func (s *Server) destroy(ctx context.Context, id keyring.AccountID) error {
	if err := s.o.Keyring.RemoveAccount(ctx, id); err != nil {
		return fmt.Errorf("destroying the account's key: %w", err)
	}
	return s.removeVolume(ctx, id)
}

// removeVolume waits for the account's sessions to let go.
func (s *Server) removeVolume(ctx context.Context, id keyring.AccountID) error {
	tick := time.NewTicker(destroyEvery)
	defer tick.Stop()
	for try := 1; ; try++ {
		err := s.o.Volumes.Destroy(ctx, id)
		if !errors.Is(err, vfs.ErrBusy) || try == destroyTries {
			return err
		}
		<-tick.C
	}
}

func (s *Server) passwd(ctx context.Context, who Peer, r Passwd) (Empty, error) {
	var err error
	detail := "set"
	switch {
	case r.Password != "" && r.Hash != "":
		return Empty{}, newError(CodeUsage, "give either a password or a hash", "")
	case r.Password == "" && r.Hash == "" && r.MustChange:
		detail, err = "must be changed", s.o.Policy.RequireChange(ctx, r.Account, who.String())
	default:
		if r.Hash != "" {
			detail = "hash imported"
		}
		if r.MustChange {
			detail += ", must be changed"
		}
		err = s.o.Policy.ChangePassword(ctx, policydb.PasswordChange{Account: r.Account, Who: who.String(), Secret: string(r.Password), Hash: string(r.Hash), MustChange: r.MustChange})
	}
	if err != nil {
		return Empty{}, err
	}
	return Empty{}, s.recordFor(ctx, who, r.Account, audit.Event{Action: audit.Password, Detail: join(detail, r.Reason)})
}

func (s *Server) keysAdd(ctx context.Context, who Peer, r KeysAdd) (Keys, error) {
	keys, err := parseKeys(r.Keys)
	if err != nil {
		return Keys{}, err
	}
	for _, k := range keys {
		added, err := s.o.Policy.AddKey(ctx, r.Account, k, who.String())
		if err != nil {
			return Keys{}, err
		}
		if err := s.recordFor(ctx, who, r.Account, audit.Event{Action: audit.KeyAdd, Detail: join(added.Fingerprint(), r.Reason)}); err != nil {
			return Keys{}, err
		}
	}
	return s.keys(r.Account)
}

func (s *Server) keysList(_ context.Context, _ Peer, r AccountRef) (Keys, error) {
	return s.keys(r.Name)
}

func (s *Server) keys(account string) (Keys, error) {
	keys, err := s.o.Policy.Keys(account)
	return Keys{describeKeys(keys)}, err
}

func (s *Server) keysRemove(ctx context.Context, who Peer, r KeysRemove) (Keys, error) {
	if err := s.o.Policy.RemoveKey(ctx, r.Account, r.Fingerprint, who.String()); err != nil {
		return Keys{}, err
	}
	if err := s.recordFor(ctx, who, r.Account, audit.Event{Action: audit.KeyRemove, Detail: join(r.Fingerprint, r.Reason)}); err != nil {
		return Keys{}, err
	}
	return s.keys(r.Account)
}
