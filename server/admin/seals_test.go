package admin

import (
	"errors"
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
