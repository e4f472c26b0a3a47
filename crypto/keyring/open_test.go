package keyring

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"testing"

	"sallyport/crypto/durable"
)

// TestCheckLeavesAServersRotationAlone looks, as `doctor` does, at the state of a server at each step of a rotation of the root, and while an older
// root waits to be destroyed: the answer is right, no file changes, none goes, and nothing is destroyed at the seal.
func TestCheckLeavesAServersRotationAlone(t *testing.T) {
	t.Parallel()
	seal := &vaultSeal{}
	k, state, tokens := filled(t, seal, 2)
	looks := 0
	look := func(when string) {
		t.Helper()
		looks++
		before, destroyed := readState(t, state), len(seal.destroyed)
		if err := Check(t.Context(), state, seal); err != nil {
			t.Errorf("%s: %v", when, err)
		}
		if !maps.EqualFunc(readState(t, state), before, func(a, b []byte) bool { return string(a) == string(b) }) || len(seal.destroyed) != destroyed {
			t.Errorf("%s: the look has changed something", when)
		}
	}
	k.replace = func(path string, data []byte, perm fs.FileMode) error {
		writeState(t, state, map[string][]byte{sealName + ".tmp-1": data[:10]}) // what the server is writing
		look("before a write")
		err := durable.WriteFile(path, data, perm)
		look("after it")
		return errors.Join(err, durable.RemoveTemp(state+"/"+sealName))
	}
	if err := k.RotateRoot(t.Context()); err != nil {
		t.Fatal(err)
	}
	seal.refuse = errors.New("away")
	if err := k.RotateRoot(t.Context()); !errors.Is(err, ErrOldRoot) {
		t.Fatal(err)
	}
	seal.refuse = nil
	look("with an old root that waits")
	if st := k.Status(); st.OldRoot == 0 || looks < 9 {
		t.Errorf("after %d looks: %+v", looks, st)
	}
	k.replace = durable.WriteFile
	sameTokens(t, "in the end", mustOpen(t, state, seal), tokens)
}

// turning is a seal whose Unwrap has something happen first, once.
type turning struct {
	*vaultSeal
	first func()
}

func (s *turning) Unwrap(ctx context.Context, wrapped []byte) ([]byte, error) {
	if f := s.first; f != nil {
		s.first = nil
		f()
	}
	return s.vaultSeal.Unwrap(ctx, wrapped)
}

// TestCheckDuringARotation: a root that is replaced and destroyed while it is asked for is no damage and no wrong key.
func TestCheckDuringARotation(t *testing.T) {
	t.Parallel()
	seal := &vaultSeal{}
	k, state, _ := filled(t, seal, 1)
	rotate := func() {
		if err := k.RotateRoot(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if err := Check(t.Context(), state, &turning{seal, rotate}); err != nil {
		t.Error(err)
	}
	if err := Check(t.Context(), state, &vaultSeal{}); !errors.Is(err, ErrWrongKey) {
		t.Errorf("another vault: %v", err)
	}
}
