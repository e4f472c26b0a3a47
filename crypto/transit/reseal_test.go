package transit

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"sallyport/crypto/keyring"
	"sallyport/crypto/transit/transittest"
)

// TestResealOutOfTransit: the key service destroys what opened older copies of seal.json, the newest version of its key too, and
// never what the new seal.json needs, though the new seal may use the same key, under whatever name.
func TestResealOutOfTransit(t *testing.T) {
	t.Parallel()
	service := transittest.Start(t)
	for what, c := range map[string]struct {
		to   func(*site) keyring.Seal
		want error
		gone error // of the old seal.json; nil = it opens
	}{
		"a key file": {func(s *site) keyring.Seal {
			file, err := keyring.NewKeyFile(filepath.Join(s.t.TempDir(), "key"))
			if err != nil {
				s.t.Fatal(err)
			}
			return file
		}, nil, ErrDestroyed},
		"the same key": {(*site).seal, nil, ErrDestroyed},
		"the same key, and it keeps old versions": {func(s *site) keyring.Seal {
			s.config.KeepOld = true
			return s.seal()
		}, keyring.ErrOldRoot, nil},
		"another key, of fewer versions": {func(s *site) keyring.Seal {
			s.service.AddKey(s.key+"-next", "aes256-gcm96", false)
			s.config.Key, s.config.KeepOld = s.key+"-next", true
			s.use(s.service.Token("+"))
			return s.seal()
		}, nil, ErrDestroyed},
	} {
		t.Run(what, func(t *testing.T) {
			s := newSite(t, service, "reseal-"+nameOf(what))
			dir := t.TempDir()
			before := s.seal()
			k, err := keyring.Create(t.Context(), dir, before)
			if err != nil {
				t.Fatal(err)
			}
			defer k.Close()
			old := t.TempDir()
			for _, name := range []string{"seal.json", "keyring"} {
				text, err := os.ReadFile(filepath.Join(dir, name))
				if err == nil {
					err = os.WriteFile(filepath.Join(old, name), text, 0o600)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			to := c.to(s)
			if err := k.Reseal(t.Context(), to); !errors.Is(err, c.want) {
				t.Fatalf("%v, want %v", err, c.want)
			}
			if err := keyring.Check(t.Context(), dir, to); err != nil {
				t.Errorf("the new seal: %v", err)
			}
			if err := keyring.Check(t.Context(), old, before); !errors.Is(err, c.gone) {
				t.Errorf("the old seal.json: %v, want %v", err, c.gone)
			}
		})
	}
}
