package keyring

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"testing"

	"sallyport/crypto/durable"
)

// moment is what is left of everything when a process ends at some step.
type moment struct {
	files map[string][]byte
	roots map[string][]byte // that the vault has
	told  int               // records that are durable
}

// moments runs change on what is left of a moment, and takes what each of its steps leaves..
func moments(t *testing.T, from moment, change func(*Keyring) error, seal func(*vaultSeal) Seal) (out []moment) {
	t.Helper()
	vault := &vaultSeal{roots: maps.Clone(from.roots)}
	dir := t.TempDir()
	writeState(t, dir, from.files)
	told := from.told
	take := func() { out = append(out, moment{readState(t, dir), maps.Clone(vault.roots), told}) }
	k := mustOpen(t, dir, seal(vault))
	k.FindSeals(finds(vault))
	k.Tell(func(context.Context, Finished) error {
		take()
		told++
		take()
		return nil
	})
	k.replace = func(path string, data []byte, perm fs.FileMode) error {
		take()
		err := durable.WriteFile(path, data, perm)
		take()
		return err
	}
	vault.onDestroy = take
	if err := change(k); err != nil {
		t.Fatal(err)
	}
	take()
	return out
}

// TestWhatASealDestroyedIsTold: whatever is destroyed is told at least once, also where three processes in a row come to it and two
// of them end at any step of what they do.
func TestWhatASealDestroyedIsTold(t *testing.T) {
	t.Parallel()
	file := newKeyFile(t)
	ofVault := func(v *vaultSeal) Seal { return v }
	finish := func(k *Keyring) error { _, err := k.Finish(t.Context()); return err }
	for what, change := range map[string]func(*Keyring) error{
		"a new root": func(k *Keyring) error { return k.RotateRoot(t.Context()) },
		"a new seal": func(k *Keyring) error { return k.Reseal(t.Context(), file) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			vault := &vaultSeal{}
			_, dir, tokens := filled(t, vault, 1)
			var old string
			for handle := range vault.roots {
				old = handle
			}
			ends, destroyed := 0, 0
			for _, first := range moments(t, moment{readState(t, dir), vault.roots, 0}, change, ofVault) {
				seal := func(v *vaultSeal) Seal {
					f, err := decodeSeal(first.files[sealName])
					if err != nil {
						t.Fatal(err)
					}
					if f.Kind == KindKeyFile {
						return file
					}
					return v
				}
				for _, second := range moments(t, first, finish, seal) {
					third := moments(t, second, finish, seal)
					last := third[len(third)-1]
					ends++
					if last.roots[old] == nil {
						destroyed++
						if last.told == 0 {
							t.Errorf("a root is destroyed, and nobody was told")
						}
					} else if last.told != 0 {
						t.Errorf("told %d times of what was not destroyed", last.told)
					}
					state := t.TempDir()
					writeState(t, state, last.files)
					k := mustOpen(t, state, seal(&vaultSeal{roots: last.roots}))
					sameTokens(t, "in the end", k, tokens)
					if k.Pending() {
						t.Error("something waits still")
					}
				}
			}
			if ends < 20 || destroyed < 10 || destroyed == ends {
				t.Errorf("of %d ends the root is destroyed in %d: this does not try what it should", ends, destroyed)
			}
		})
	}
}

// TestWhatCannotBeToldIsNotForgotten: the audit log cannot be written.
func TestWhatCannotBeToldIsNotForgotten(t *testing.T) {
	t.Parallel()
	vault := &vaultSeal{}
	k, dir, _ := filled(t, vault, 1)
	full := errors.New("the disk is full")
	k.Tell(func(context.Context, Finished) error { return full })
	if err := k.RotateRoot(t.Context()); !errors.Is(err, ErrOldRoot) || !errors.Is(err, full) || k.Epoch() != 2 || !k.Pending() {
		t.Errorf("rotated to epoch %d with %v, pending %v", k.Epoch(), err, k.Pending())
	}
	again := mustOpen(t, dir, vault)
	var told []Finished
	again.Tell(func(_ context.Context, f Finished) error { told = append(told, f); return nil })
	if done, err := again.Finish(t.Context()); err != nil || done.OldRoot != 1 || len(told) != 1 || told[0] != done || again.Pending() {
		t.Errorf("finished %+v with %v, told %+v", done, err, told)
	}
}
