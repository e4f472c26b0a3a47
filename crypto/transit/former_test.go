package transit

import (
	"context"
	"errors"
	"slices"
	"testing"

	"sallyport/crypto/keyring"
	"sallyport/crypto/transit/transittest"
)

// TestNothingIsSaidToBeDestroyedAtAnotherService: the key of that name at the service that is configured now did not wrap it.
func TestNothingIsSaidToBeDestroyedAtAnotherService(t *testing.T) {
	t.Parallel()
	for what, known := range map[string]bool{"which is known": true, "which was not known": false} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			atAnotherService(t, known)
		})
	}
}

func atAnotherService(t *testing.T, known bool) {
	before, now := newSite(t, transittest.Start(t), "k"), newSite(t, transittest.Start(t), "k")
	for range 3 { // versions that are newer than those of the other, which it does not have any more
		fresh := wrap(t, now.seal())
		if err := now.seal().(keyring.Destroyer).DestroyOld(t.Context(), now.wrapped, fresh); err != nil {
			t.Fatal(err)
		}
		now.wrapped = fresh
	}
	dir := t.TempDir()
	k, err := keyring.Create(t.Context(), dir, before.seal())
	if err != nil {
		t.Fatal(err)
	}
	if known {
		if _, err := k.Finish(t.Context()); err != nil { // it learns which service it is, as at a start
			t.Fatal(err)
		}
	}
	before.service.Stop()
	if err := k.Reseal(t.Context(), now.seal()); !errors.Is(err, keyring.ErrOldRoot) {
		t.Fatalf("changed with %v, while the former service refuses", err)
	}
	before.service.Start()
	k.Close()
	if k, err = keyring.Open(t.Context(), dir, now.seal()); err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	at := now
	k.FindSeals(func(context.Context, string, string) (keyring.Seal, error) { return at.seal(), nil })
	left := now.service.Versions("k")
	if done, err := k.Finish(t.Context()); !errors.Is(err, keyring.ErrElsewhere) || done.Former != "" || !k.Pending() || !slices.Equal(left, now.service.Versions("k")) {
		t.Errorf("finished %+v with %v at a service that wrapped nothing of it", done, err)
	}
	at = before
	if done, err := k.Finish(t.Context()); err != nil || done.Former != keyring.KindTransit || k.Pending() {
		t.Errorf("finished %+v with %v where it was wrapped", done, err)
	}
}

// TestAnotherServiceHasNotDestroyedAnOldRoot: a server that a recovery kit opened asks the service that is configured now. That its key
// of that name has no such version, or forbids it, proves nothing where it does not unwrap the root in force either.
func TestAnotherServiceHasNotDestroyedAnOldRoot(t *testing.T) {
	t.Parallel()
	before, now := newSite(t, transittest.Start(t), "k"), newSite(t, transittest.Start(t), "k")
	old, keep := before.wrapped, wrap(t, before.seal())
	for range 5 {
		now.service.RotateKey("k")
	}
	d := now.seal().(keyring.Destroyer)
	now.service.ConfigKey("k", map[string]any{"min_decryption_version": 6, "min_encryption_version": 6})
	if err := d.DestroyOld(t.Context(), old, keep); err == nil || len(now.service.Versions("k")) != 7 {
		t.Errorf("forbidden at another service: %v, %d versions", err, len(now.service.Versions("k")))
	}
	fresh := wrap(t, now.seal())
	if err := d.DestroyOld(t.Context(), now.wrapped, fresh); err != nil {
		t.Fatal(err)
	}
	if err := d.DestroyOld(t.Context(), old, keep); err == nil {
		t.Error("gone at another service, and counted as destroyed")
	}
	for range 2 { // where it is, also twice
		if err := before.seal().(keyring.Destroyer).DestroyOld(t.Context(), old, keep); err != nil {
			t.Error(err)
		}
	}
}
