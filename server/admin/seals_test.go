package admin

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/crypto/keyring"
)

// TestSharesAreHandedOutThoughTheAuditLogIsFull: the new seal is in force, and
// the answer is the only place where its shares are.
func TestSharesAreHandedOutThoughTheAuditLogIsFull(t *testing.T) {
	t.Parallel()
	f := start(t)
	f.actError = errors.New("disk full")
	out, err := f.SealChange(t.Context(), SealChange{To: keyring.KindShares, Threshold: 2, Shares: 3})
	check(t, err)
	if len(out.Shares) != 3 || !strings.Contains(out.Old, "audit log") {
		t.Errorf("%d shares, and %q", len(out.Shares), out.Old)
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
