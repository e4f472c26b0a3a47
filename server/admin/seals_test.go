package admin

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sallyport/crypto/keyring"
)

// TestSharesAreInForceOnceConfirmed copies the state at each step, as a machine that stops there leaves it: the key file
// opens what was left before the confirmation, the shares open what was left after it, and never does nothing.
func TestSharesAreInForceOnceConfirmed(t *testing.T) {
	t.Parallel()
	f := start(t)
	state := filepath.Dir(filepath.Dir(f.socket))
	left := func() string {
		dir := filepath.Join(t.TempDir(), "state")
		check(t, os.Mkdir(dir, 0o700))
		for _, name := range []string{"seal.json", "keyring"} {
			data, err := os.ReadFile(filepath.Join(state, name))
			check(t, err)
			check(t, os.WriteFile(filepath.Join(dir, name), data, 0o600))
		}
		return dir
	}
	byKey := func(dir string) error {
		k, err := keyring.Open(t.Context(), dir, &keyring.KeyFile{Path: filepath.Join(filepath.Dir(state), "key")})
		if err == nil {
			k.Close()
		}
		return err
	}
	byShares := func(dir string, p SealPrepared) error {
		info, err := keyring.ReadSeal(dir)
		check(t, err)
		c, err := info.NewCollector(time.Hour)
		if err != nil {
			return err
		}
		for _, s := range p.Shares[1:] {
			if _, err := c.Add([]byte(s.Text)); err != nil {
				return err
			}
		}
		seal, err := info.Shares(c)
		if err != nil {
			return err
		}
		k, err := keyring.Open(t.Context(), dir, seal)
		if err == nil {
			k.Close()
		}
		return err
	}
	ask := SealChange{To: keyring.KindShares, Threshold: 2, Shares: 3}
	if _, err := f.SealChange(t.Context(), ask); err == nil {
		t.Error("shares were put in force before anybody had them")
	}
	first, err := f.SealPrepare(t.Context(), ask) // whose answer got lost, say
	check(t, err)
	p, err := f.SealPrepare(t.Context(), ask)
	check(t, err)
	if len(p.Shares) != 3 || p.Set == first.Set || time.Until(p.Until) <= 0 || time.Until(p.Until) > preparedTime {
		t.Errorf("prepared: %d shares of set %s until %v", len(p.Shares), p.Set, p.Until)
	}
	prepared := left()
	if err := byKey(prepared); err != nil {
		t.Errorf("prepared: the key file does not open it: %v", err)
	}
	if err := byShares(prepared, p); err == nil {
		t.Error("prepared: the shares open it")
	}
	var conflict *Error
	if _, err := f.SealConfirm(t.Context(), SealConfirm{Set: first.Set}); !errors.As(err, &conflict) || conflict.Code != CodeConflict {
		t.Errorf("a set that another has replaced: %v", err)
	}
	out, err := f.SealConfirm(t.Context(), SealConfirm{Change: Change{Reason: "OPS-9"}, Set: p.Set})
	check(t, err)
	if out.Kind != keyring.KindShares || !strings.Contains(out.Old, "rotate the root key") {
		t.Errorf("confirmed: %+v", out)
	}
	confirmed := left()
	if err := byShares(confirmed, p); err != nil {
		t.Errorf("confirmed: the shares do not open it: %v", err)
	}
	if err := byKey(confirmed); err == nil {
		t.Error("confirmed: the key file opens it")
	}
	if out, err := f.SealConfirm(t.Context(), SealConfirm{Set: p.Set}); err != nil || !strings.Contains(out.Old, "already") {
		t.Errorf("confirmed again, as if the answer got lost: %+v, %v", out, err)
	}
	if n := len(f.acts); n != 1 || !strings.Contains(f.acts[0].Detail, "keyfile to 2 of 3 shares of set "+p.Set+"; OPS-9") {
		t.Errorf("audit: %+v", f.acts)
	}
}

// TestAPreparedSetIsForgotten: in time, and when the server stops; the seal in force stays.
func TestAPreparedSetIsForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var p preparedSeal
		seal, _, err := keyring.NewShares(2, 2)
		check(t, err)
		p.put(seal, "a", "")
		time.Sleep(preparedTime - time.Second)
		other, _, err := keyring.NewShares(2, 2)
		check(t, err)
		p.put(other, "b", "")
		time.Sleep(2 * time.Second) // the first one's time is over
		synctest.Wait()
		if got, _ := p.take("a"); got != nil {
			t.Error("a set that another has replaced is there")
		}
		if _, err := seal.Unwrap(t.Context(), nil); !errors.Is(err, keyring.ErrSealed) {
			t.Errorf("its secret is in memory: %v", err)
		}
		time.Sleep(preparedTime)
		synctest.Wait()
		if got, _ := p.take("b"); got != nil {
			t.Error("a set is there after its time")
		}
	})
}

// TestConfirmedThoughTheAuditLogIsFull: it is done, and says so.
func TestConfirmedThoughTheAuditLogIsFull(t *testing.T) {
	t.Parallel()
	f := start(t)
	p, err := f.SealPrepare(t.Context(), SealChange{To: keyring.KindShares, Threshold: 2, Shares: 3})
	check(t, err)
	f.actError = errors.New("disk full")
	if _, err := f.SealConfirm(t.Context(), SealConfirm{Set: p.Set}); err == nil || !strings.Contains(err.Error(), "done, but") {
		t.Error(err)
	}
	if info, err := f.keyring.SealInfo(); err != nil || info.Kind != keyring.KindShares {
		t.Errorf("sealed by %+v, %v", info, err)
	}
}

// TestAnAccountIsDestroyedThoughTheSealIsAway: it is gone from the account
// table by then, so nobody could name it to have its key destroyed later.
func TestAnAccountIsDestroyedThoughTheSealIsAway(t *testing.T) {
	t.Parallel()
	f := start(t)
	check(t, os.Remove(filepath.Join(filepath.Dir(filepath.Dir(filepath.Dir(f.socket))), "key")))
	_, err := f.AccountAdd(t.Context(), AccountAdd{Name: "alice"})
	check(t, err)
	out, err := f.AccountDestroy(t.Context(), AccountRef{Name: "alice"})
	check(t, err)
	if st := f.keyring.Status(); len(st.Accounts) != 0 || st.Owed != 1 || out.Pending == "" || st.Epoch != 1 {
		t.Errorf("receipt %+v, keyring %+v", out, st)
	}
}

// TestARemovalCutShortIsFinishedByTheID: a crash between the account table and the keyring leaves a key that no name leads to.
func TestARemovalCutShortIsFinishedByTheID(t *testing.T) {
	t.Parallel()
	f := start(t)
	for _, name := range []string{"alice", "bob", "carol"} {
		_, err := f.AccountAdd(t.Context(), AccountAdd{Name: name})
		check(t, err)
	}
	ids := map[string]string{}
	for _, name := range []string{"alice", "bob", "carol"} {
		a, err := f.policy.Account(name)
		check(t, err)
		ids[name] = a.ID.String()
	}
	for _, name := range []string{"alice", "bob"} {
		_, err := f.policy.RemoveAccount(t.Context(), name, "test") // all that was done before the crash
		check(t, err)
	}
	out, err := f.AccountDestroy(t.Context(), AccountRef{Name: ids["alice"]})
	check(t, err)
	if out.ID != ids["alice"] || out.Version != 1 {
		t.Errorf("receipt %+v", out)
	}
	check(t, f.AccountRemove(t.Context(), AccountRef{Name: ids["bob"]}))
	for _, name := range []string{ids["alice"], ids["bob"], ids["carol"], strings.Repeat("0", 32)} {
		_, err := f.AccountDestroy(t.Context(), AccountRef{Name: name})
		wantCode(t, err, CodeNotFound)
	}
	if left := f.keyring.Accounts(); len(left) != 1 || left[0].String() != ids["carol"] {
		t.Errorf("keys of %v are left, want carol's", left)
	}
}
