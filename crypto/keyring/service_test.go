package keyring

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// namedSeal is a vault that says which it is. "" = it does not tell.
type namedSeal struct {
	*vaultSeal
	service string
	away    error
}

func (s *namedSeal) Identity(context.Context) (string, error) { return s.service, s.away }

// DestroyOld of a vault says of what it does not have that it is destroyed, as that of a service does whose key was trimmed.
var _ Destroyer = (*namedSeal)(nil)

// TestAFormerSealDestroysAtItsServiceOnly: another vault with a key of the same name calls everything destroyed that it never had.
func TestAFormerSealDestroysAtItsServiceOnly(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		known  bool   // when the seal was changed
		finds  string // the service that is configured later
		format string
		want   error
	}{
		"known, and it is the one":   {true, "cluster-a", sealFormat4, nil},
		"known, and another":         {true, "cluster-b", sealFormat4, ErrElsewhere},
		"known, and one that is mum": {true, "", sealFormat4, ErrElsewhere},
		"not known, and another":     {false, "cluster-b", sealFormat3, ErrElsewhere},
		"not known, and the one":     {false, "cluster-a", sealFormat3, nil},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			right := &namedSeal{&vaultSeal{}, "cluster-a", nil}
			k, dir, tokens := filled(t, right, 1)
			if c.known {
				if _, err := k.Finish(t.Context()); err != nil { // nothing waits; it learns who the service is, as at a start
					t.Fatal(err)
				}
			}
			right.away, right.refuse = errors.New("away"), errors.New("away")
			file := newKeyFile(t)
			if err := k.Reseal(t.Context(), file); !errors.Is(err, ErrOldRoot) {
				t.Fatal(err)
			}
			right.away, right.refuse = nil, nil
			if text := string(readState(t, dir)[sealName]); !strings.Contains(text, c.format+`"`) || strings.Contains(text, "cluster-a") != c.known {
				t.Errorf("noted: %s", text)
			}
			found := right
			if c.finds != right.service {
				found = &namedSeal{&vaultSeal{}, c.finds, nil}
			}
			k = mustOpen(t, dir, file)
			k.FindSeals(finds(found))
			told := 0
			k.Tell(func(context.Context, Finished) error { told++; return nil })
			done, err := k.Finish(t.Context())
			if !errors.Is(err, c.want) || (c.want != nil) != k.Pending() || (done.Former == "") != (c.want != nil) || (told == 0) != (c.want != nil) {
				t.Errorf("finished %+v with %v, want %v; pending %v, told %d", done, err, c.want, k.Pending(), told)
			}
			if left := len(right.roots); (left > 0) != (c.want != nil) || len(found.destroyed) > 0 != (c.want == nil) {
				t.Errorf("the right vault has %d roots; %d were destroyed where it looked", left, len(found.destroyed))
			}
			sameTokens(t, "in the end", mustOpen(t, dir, file), tokens)
		})
	}
}

// TestAnotherServiceAtTheAddressDestroysNothing: the seal in force is at hand when another takes its place, but what answers at its
// address is another service by then, with a key of the same name.
func TestAnotherServiceAtTheAddressDestroysNothing(t *testing.T) {
	t.Parallel()
	for what, known := range map[string]bool{"known at the start": true, "not known": false} {
		vault, other := &vaultSeal{}, &vaultSeal{}
		seal := &namedSeal{vault, "cluster-a", nil}
		k, dir, tokens := filled(t, seal, 1)
		if known {
			if _, err := k.Finish(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		told := 0
		k.Tell(func(context.Context, Finished) error { told++; return nil })
		seal.vaultSeal, seal.service = other, "cluster-b"
		file := newKeyFile(t)
		if err := k.Reseal(t.Context(), file); !errors.Is(err, ErrOldRoot) || !errors.Is(err, ErrElsewhere) || !k.Pending() || told != 0 || len(other.destroyed) != 0 {
			t.Errorf("%s: changed with %v; pending %v, told %d, destroyed %d elsewhere", what, err, k.Pending(), told, len(other.destroyed))
		}
		k = mustOpen(t, dir, file)
		k.FindSeals(finds(&namedSeal{vault, "cluster-a", nil}))
		if done, err := k.Finish(t.Context()); err != nil || done.Former != KindTransit || len(vault.roots) != 0 {
			t.Errorf("%s: finished %+v with %v, %d roots left", what, done, err, len(vault.roots))
		}
		sameTokens(t, what, mustOpen(t, dir, file), tokens)
	}
}

// TestAServiceIsNotedBeforeItDestroys: the note did not say which service it was, and the process ends after the destruction. The
// next one knows that there is nothing more to do.
func TestAServiceIsNotedBeforeItDestroys(t *testing.T) {
	t.Parallel()
	vault := &namedSeal{&vaultSeal{}, "", nil}
	k, dir, tokens := filled(t, vault, 1)
	vault.refuse = errors.New("away")
	file := newKeyFile(t)
	if err := k.Reseal(t.Context(), file); !errors.Is(err, ErrOldRoot) {
		t.Fatal(err)
	}
	vault.service, vault.refuse = "cluster-a", nil
	k = mustOpen(t, dir, file)
	k.FindSeals(finds(vault))
	died := errors.New("the process ended")
	k.Tell(func(context.Context, Finished) error { return died })
	if _, err := k.Finish(t.Context()); !errors.Is(err, died) || len(vault.roots) != 0 {
		t.Fatalf("%v, %d roots", err, len(vault.roots))
	}
	k = mustOpen(t, dir, file)
	k.FindSeals(finds(vault))
	if done, err := k.Finish(t.Context()); err != nil || done.Former != KindTransit || k.Pending() {
		t.Errorf("finished %+v with %v", done, err)
	}
	sameTokens(t, "in the end", mustOpen(t, dir, file), tokens)
}

// TestTheServiceOfAFormerSealIsAuthentic: who can write to the disk cannot send a destruction elsewhere.
func TestTheServiceOfAFormerSealIsAuthentic(t *testing.T) {
	t.Parallel()
	vault := &namedSeal{&vaultSeal{refuse: errors.New("away")}, "cluster-a", nil}
	k, dir, _ := filled(t, vault, 1)
	file := newKeyFile(t)
	if err := k.Reseal(t.Context(), file); !errors.Is(err, ErrOldRoot) {
		t.Fatal(err)
	}
	files := readState(t, dir)
	for what, service := range map[string]string{"another": "cluster-b", "none": "", "long": strings.Repeat("a", 65), "of two lines": "a\nb"} {
		var f sealFile
		if err := json.Unmarshal(files[sealName], &f); err != nil {
			t.Fatal(err)
		}
		f.Former.Service = service
		f.Format = f.format()
		f.Check = f.check() // anybody can
		if _, err := Open(t.Context(), stateOf(t, f.encode(), files[keyringName]), file); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v, want %v", what, err, ErrDamaged)
		}
	}
	older := bytes.Replace(files[sealName], []byte(sealFormat4), []byte(sealFormat3), 1)
	if _, err := Open(t.Context(), stateOf(t, older, files[keyringName]), file); !errors.Is(err, ErrDamaged) {
		t.Errorf("as an older format: %v", err)
	}
}

// TestIndependentReaderKnowsFormerSeals holds testdata/reader.py against formats 3 and 4.
func TestIndependentReaderKnowsFormerSeals(t *testing.T) {
	t.Parallel()
	python, err := exec.LookPath("python3")
	if err != nil || exec.CommandContext(t.Context(), python, "-c", "import cryptography").Run() != nil {
		t.Skip("needs python3 with the package cryptography")
	}
	script := filepath.Join("..", "..", "testdata", "reader.py")
	read(t, script) // so that a change of it runs the test again
	for format, vault := range map[string]Seal{
		sealFormat3: &vaultSeal{refuse: errors.New("away")}, sealFormat4: &namedSeal{&vaultSeal{refuse: errors.New("away")}, "cluster-a", nil},
	} {
		k, dir, _ := filled(t, vault, 1)
		file := newKeyFile(t)
		if err := k.Reseal(t.Context(), file); !errors.Is(err, ErrOldRoot) {
			t.Fatal(err)
		}
		text := read(t, filepath.Join(dir, sealName))
		if !bytes.Contains(text, []byte(format+`"`)) {
			t.Errorf("not of %s: %s", format, text)
		}
		if out, err := exec.CommandContext(t.Context(), python, script, "--keys", dir, file.Path).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", format, err, out)
		}
		write(t, filepath.Join(dir, sealName), bytes.Replace(text, []byte(`"label": "v`), []byte(`"label": "w`), 1))
		if out, err := exec.CommandContext(t.Context(), python, script, "--keys", dir, file.Path).CombinedOutput(); err == nil {
			t.Errorf("%s: it reads what was changed: %s", format, out)
		}
	}
}
