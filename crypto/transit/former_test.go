package transit

import (
	"context"
	"errors"
	"testing"

	"sallyport/crypto/keyring"
	"sallyport/crypto/transit/transittest"
)

// TestNothingIsSaidToBeDestroyedAtAnotherService: the key of that name at the service that is configured now did not wrap it.
func TestNothingIsSaidToBeDestroyedAtAnotherService(t *testing.T) {
	t.Parallel()
	before, now := newSite(t, transittest.Start(t), "k"), newSite(t, transittest.Start(t), "k")
	for range 3 { // versions that are newer than those of the other
		wrap(t, now.seal())
	}
	dir := t.TempDir()
	k, err := keyring.Create(t.Context(), dir, before.seal())
	if err != nil {
		t.Fatal(err)
	}
	before.service.Revoke(before.token)
	if err := k.Reseal(t.Context(), now.seal()); !errors.Is(err, keyring.ErrOldRoot) {
		t.Fatalf("changed with %v, while the former service refuses", err)
	}
	k.Close()
	if k, err = keyring.Open(t.Context(), dir, now.seal()); err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	at := now
	k.FindSeals(func(context.Context, string, string) (keyring.Seal, error) { return at.seal(), nil })
	if done, err := k.Finish(t.Context()); err == nil || done.Former != "" || !k.Pending() {
		t.Errorf("finished %+v with %v at a service that wrapped nothing of it", done, err)
	}
	before.use(before.service.Token("k"))
	at = before
	if done, err := k.Finish(t.Context()); err != nil || done.Former != keyring.KindTransit || k.Pending() {
		t.Errorf("finished %+v with %v where it was wrapped", done, err)
	}
}
