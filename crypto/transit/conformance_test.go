package transit

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/crypto/keyring"
	"sallyport/crypto/transit/transittest"
)

// site is a key of its own at a service, a seal for it, and what the seal has wrapped.
type site struct {
	t       *testing.T
	service transittest.Service
	key     string
	config  Config
	token   string
	wrapped []byte
}

func newSite(t *testing.T, service transittest.Service, key string) *site {
	t.Helper()
	dir := t.TempDir()
	s := &site{t: t, service: service, key: key, config: Config{Address: service.URL(), Key: key, TokenFile: filepath.Join(dir, "token"), CAFile: filepath.Join(dir, "ca.pem"), Timeout: 20 * time.Second}}
	service.AddKey(key, "aes256-gcm96", false)
	s.write(s.config.CAFile, service.CA())
	s.use(service.Token(key))
	s.wrapped = wrap(t, s.seal())
	return s
}

func (s *site) write(file string, text []byte) {
	s.t.Helper()
	if err := os.WriteFile(file, text, 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// looked looks at the token, which must have nearly that time, and must leave it as it is.
func (s *site) looked(whole time.Duration, renewable bool) error {
	t, err := s.seal().(Tokened).TendToken(s.t.Context())
	if err == nil && (t.TTL > whole || t.TTL < whole-5*time.Minute || t.Whole != whole || t.Renewable != renewable || t.Due() || t.Ends() == renewable) {
		s.t.Errorf("the token is %+v, want one of %v, renewable %v", t, whole, renewable)
	}
	return err
}

func (s *site) mode(file string, mode os.FileMode) {
	s.t.Helper()
	if err := os.Chmod(file, mode); err != nil {
		s.t.Fatal(err)
	}
}

// use has the seal use another token.
func (s *site) use(token string) {
	s.token = token
	s.write(s.config.TokenFile, []byte(token+"\n"))
}

// seal does not wait between attempts.
func (s *site) seal() keyring.Seal {
	s.t.Helper()
	b := &bench{config: s.config}
	return b.seal(s.t)
}

func (s *site) unwrap() error { return s.unwrapOf(s.wrapped) }

func (s *site) unwrapOf(wrapped []byte) error {
	got, err := s.seal().Unwrap(s.t.Context(), wrapped)
	if err == nil && !bytes.Equal(got, root) {
		s.t.Errorf("%q was unwrapped", got)
	}
	return err
}

func (s *site) rewrap() error {
	_, err := s.seal().Wrap(s.t.Context(), root)
	return err
}

// rotated is what a rotation of the root does: another root is wrapped, and the old one destroyed.
func (s *site) rotated() (fresh []byte, err error) {
	seal := s.seal()
	if fresh, err = seal.Wrap(s.t.Context(), root); err == nil {
		err = seal.(keyring.Destroyer).DestroyOld(s.t.Context(), s.wrapped, fresh)
	}
	return fresh, err
}

// answer is what a service says, and what that is taken for.
type answer struct {
	want   error
	status int
	says   string
}

// bare is how an OpenBao refuses a token that it does not know.
var bare = &answer{ErrToken, 403, "permission denied"}

// situations are what can be wrong with a key service, or strange, and what the seal makes of the answer. status and says are what
// the service must answer for that: where a real one answers something else, this table and the fake are wrong.
var situations = []struct {
	name string
	do   func(*site) error
	want error // nil = all is well

	status int    // of the refusal; 0 = none came from the service
	says   string // some of its words

	open *answer             // of an OpenBao, where it differs
	only transittest.Product // "" = both have it
}{
	{name: "all is well", do: (*site).unwrap},
	{name: "a root is replaced", do: func(s *site) error {
		fresh, err := s.rotated()
		if err == nil {
			err = s.unwrapOf(fresh)
		}
		if got := s.service.Versions(s.key); err == nil && (len(got) != 1 || got[0] != 3) {
			s.t.Errorf("versions %v are left, want 3 alone", got)
		}
		return err
	}},
	{name: "a root was replaced, and is asked for", want: ErrDestroyed, do: func(s *site) error {
		if _, err := s.rotated(); err != nil {
			return err
		}
		return s.unwrap()
	}},
	{name: "another seal has the root", want: ErrDestroyed, do: func(s *site) error {
		if err := s.seal().(keyring.Destroyer).DestroyOld(s.t.Context(), s.wrapped, nil); err != nil {
			return err
		}
		return s.unwrap()
	}},
	{name: "the key was rotated by its administrator", do: func(s *site) error {
		s.service.RotateKey(s.key)
		if err := s.unwrap(); err != nil {
			return err
		}
		fresh, err := s.rotated()
		if err != nil {
			return err
		}
		return s.unwrapOf(fresh)
	}},
	{name: "min_decryption_version was raised above ours", want: ErrTooOld, do: func(s *site) error {
		s.service.RotateKey(s.key)
		s.service.ConfigKey(s.key, map[string]any{"min_decryption_version": 3})
		return s.unwrap()
	}},
	{name: "min_decryption_version was raised and lowered", do: func(s *site) error {
		s.service.RotateKey(s.key)
		s.service.ConfigKey(s.key, map[string]any{"min_decryption_version": 3})
		s.service.ConfigKey(s.key, map[string]any{"min_decryption_version": 1})
		return s.unwrap()
	}},
	{name: "min_decryption_version was raised by hand, and a root before it is to be destroyed", do: func(s *site) error {
		s.service.RotateKey(s.key)
		s.service.ConfigKey(s.key, map[string]any{"min_decryption_version": 3})
		_, err := s.rotated()
		return err
	}},
	{name: "the key was deleted", want: ErrNoKey, status: 400, says: "encryption key not found", do: func(s *site) error {
		s.service.RemoveKey(s.key)
		return s.unwrap()
	}},
	{name: "the key was deleted, and a root is to be wrapped", want: ErrNoKey, status: 404, do: func(s *site) error {
		s.service.RemoveKey(s.key)
		return s.rewrap()
	}},
	{name: "the key was deleted, and there is another of the name", want: keyring.ErrWrongKey, do: func(s *site) error {
		s.service.RemoveKey(s.key)
		s.service.AddKey(s.key, "aes256-gcm96", false)
		s.service.RotateKey(s.key)
		return s.unwrap()
	}},
	{name: "another key of the name, with fewer versions", want: keyring.ErrWrongKey, do: func(s *site) error {
		s.service.RemoveKey(s.key)
		s.service.AddKey(s.key, "aes256-gcm96", false)
		return s.unwrap()
	}},
	{name: "tampered ciphertext", want: keyring.ErrWrongKey, do: func(s *site) error {
		changed := bytes.Clone(s.wrapped)
		i := len(changed) - 10
		changed[i] = map[bool]byte{true: 'B', false: 'A'}[changed[i] == 'A']
		return s.unwrapOf(changed)
	}},
	{name: "a ciphertext of one byte", want: keyring.ErrWrongKey, do: func(s *site) error { return s.unwrapOf([]byte("vault:v1:AA==")) }},
	{name: "the ciphertext of another key", want: keyring.ErrWrongKey, do: func(s *site) error {
		other := newSite(s.t, s.service, s.key+"-other")
		return s.unwrapOf(other.wrapped)
	}},
	{name: "encrypted for something else", want: keyring.ErrWrongKey, do: func(s *site) error {
		var out struct{ Ciphertext string }
		if err := s.seal().(*destroyer).client.do(s.t.Context(), "POST", "/v1/transit/encrypt/"+s.key, map[string]any{"plaintext": secretBase64(root)}, &out); err != nil {
			return err
		}
		return s.unwrapOf([]byte(out.Ciphertext))
	}},
	{name: "a token that never was", want: ErrToken, status: 403, says: "invalid token", open: bare, do: func(s *site) error { s.use("hvs.AAAAAAAAAAAAAAAAAAAAAAAA"); return s.unwrap() }},
	{name: "a revoked token", want: ErrToken, status: 403, says: "invalid token", open: bare, do: func(s *site) error { s.service.Revoke(s.token); return s.unwrap() }},
	{name: "a token of another key", want: ErrForbidden, status: 403, says: "permission denied", do: func(s *site) error { s.use(s.service.Token(s.key + "x")); return s.unwrap() }},
	{name: "no right to read", want: ErrForbidden, status: 403, says: "permission denied", do: func(s *site) error { s.use(s.service.Token(s.key, "read")); return s.rewrap() }},
	{name: "no right to encrypt", want: ErrForbidden, status: 403, says: "permission denied", do: func(s *site) error { s.use(s.service.Token(s.key, "encrypt")); return s.rewrap() }},
	{name: "no right to decrypt", want: ErrForbidden, status: 403, says: "permission denied", do: func(s *site) error { s.use(s.service.Token(s.key, "decrypt")); return s.unwrap() }},
	{name: "no right to rotate", want: ErrForbidden, status: 403, says: "permission denied", do: func(s *site) error { s.use(s.service.Token(s.key, "rotate")); return s.rewrap() }},
	{name: "no right to config", want: ErrForbidden, status: 403, says: "permission denied", do: func(s *site) error { s.use(s.service.Token(s.key, "config")); _, err := s.rotated(); return err }},
	{name: "no right to trim", want: ErrForbidden, status: 403, says: "permission denied", do: func(s *site) error { s.use(s.service.Token(s.key, "trim")); _, err := s.rotated(); return err }},
	{name: "keep_old needs no right to destroy", do: func(s *site) error {
		s.use(s.service.Token(s.key, "rotate", "config", "trim"))
		s.config.KeepOld = true
		return s.unwrapOf(wrap(s.t, s.seal()))
	}},
	{name: "an unknown key", want: ErrNoKey, status: 404, do: func(s *site) error {
		s.config.Key = s.key + "-none"
		s.use(s.service.Token(s.config.Key))
		return s.rewrap()
	}},
	{name: "an unknown mount", want: ErrForbidden, status: 403, says: "permission denied", do: func(s *site) error { s.config.Mount = "elsewhere"; return s.unwrap() }},
	{name: "a namespace where there are none", open: &answer{ErrConfig, 404, "namespace not found"}, do: func(s *site) error { s.config.Namespace = "team"; return s.unwrap() }},
	{name: "a key that signs", want: ErrUnsuitable, do: func(s *site) error { return s.ofKind("ed25519", false) }},
	{name: "an RSA key", want: ErrUnsuitable, do: func(s *site) error { return s.ofKind("rsa-2048", false) }},
	{name: "a derived key", want: ErrUnsuitable, do: func(s *site) error { return s.ofKind("aes256-gcm96", true) }},
	{name: "a key of AES-128", do: func(s *site) error { return s.ofKind("aes128-gcm96", false) }},
	{name: "a key of ChaCha20", do: func(s *site) error { return s.ofKind("chacha20-poly1305", false) }},
	{name: "a key that may be exported", want: ErrUnsuitable, do: func(s *site) error { s.service.ConfigKey(s.key, map[string]any{"exportable": true}); return s.rewrap() }},
	{name: "a key that may be backed up in clear", want: ErrUnsuitable, do: func(s *site) error {
		s.service.ConfigKey(s.key, map[string]any{"allow_plaintext_backup": true})
		return s.rewrap()
	}},
	{name: "a key that was imported", want: ErrUnsuitable, do: func(s *site) error { return s.imported(false) }},
	{name: "a key that was imported, and keeps old versions", do: func(s *site) error { return s.imported(true) }},
	{name: "a key that may be deleted", do: func(s *site) error {
		key := s.seal().(Tokened)
		if bad, deletable, err := key.Key(s.t.Context()); bad != nil || deletable || err != nil {
			s.t.Errorf("a new key: %v, may be deleted: %v, %v", bad, deletable, err)
		}
		s.service.ConfigKey(s.key, map[string]any{"deletion_allowed": true})
		bad, deletable, err := key.Key(s.t.Context())
		if bad != nil || !deletable {
			s.t.Errorf("%v, may be deleted: %v", bad, deletable)
		}
		return err
	}},
	{name: "a soft-deleted key", only: transittest.OpenBao, want: ErrSoftDeleted, status: 400, says: "soft-deleted", do: func(s *site) error {
		s.service.SoftDeleteKey(s.key)
		if err := s.rewrap(); !errors.Is(err, ErrSoftDeleted) {
			s.t.Errorf("a new root: %v", err)
		}
		seal := s.seal().(*destroyer)
		if err := seal.rotate(s.t.Context()); !errors.Is(err, ErrSoftDeleted) || errors.Is(err, ErrUnavailable) {
			s.t.Errorf("rotating: %v", err)
		}
		return s.unwrap()
	}},
	{name: "what it wrapped before it could be exported opens", do: func(s *site) error {
		s.service.ConfigKey(s.key, map[string]any{"exportable": true})
		return s.unwrap()
	}},
	{name: "the authority of somebody else", want: ErrConfig, do: func(s *site) error {
		ca, _ := transittest.Certificate(s.t)
		s.write(s.config.CAFile, ca)
		return s.unwrap()
	}},
	{name: "no authority", want: ErrConfig, do: func(s *site) error { s.config.CAFile = ""; return s.unwrap() }},
	{name: "the authority is replaced while the seal is in use", do: func(s *site) error {
		seal := s.seal()
		s.write(s.config.CAFile, []byte("none"))
		if _, err := seal.Unwrap(s.t.Context(), s.wrapped); !errors.Is(err, ErrConfig) {
			s.t.Errorf("without a certificate: %v", err)
		}
		s.write(s.config.CAFile, s.service.CA())
		_, err := seal.Unwrap(s.t.Context(), s.wrapped)
		return err
	}},
	{name: "a token that everybody can read", want: ErrConfig, do: func(s *site) error { s.mode(s.config.TokenFile, 0o644); return s.unwrap() }},
	{name: "a token that the group can write", want: ErrConfig, do: func(s *site) error { s.mode(s.config.TokenFile, 0o660); return s.unwrap() }},
	{name: "a token as an agent writes it", do: func(s *site) error { s.mode(s.config.TokenFile, 0o640); return s.unwrap() }},
	{name: "a token as systemd shows a credential", do: func(s *site) error { s.mode(s.config.TokenFile, 0o440); return s.unwrap() }},
	{name: "an authority that everybody can write", want: ErrConfig, do: func(s *site) error {
		seal := s.seal()
		s.mode(s.config.CAFile, 0o666)
		_, err := seal.Unwrap(s.t.Context(), s.wrapped)
		return err
	}},
	{name: "an authority that everybody can read", do: func(s *site) error { s.mode(s.config.CAFile, 0o644); return s.unwrap() }},
	{name: "a token that is looked at", do: func(s *site) error {
		s.use(s.service.ShortToken(s.key, time.Hour, true))
		return s.looked(time.Hour, true)
	}},
	{name: "a token that is renewed", do: func(s *site) error {
		s.use(s.service.ShortToken(s.key, time.Hour, true))
		if err := s.seal().(*destroyer).renew(s.t.Context()); err != nil {
			return err
		}
		return s.looked(time.Hour, true)
	}},
	{name: "a token that cannot be renewed", want: ErrAnswer, status: 400, says: "lease is not renewable", do: func(s *site) error {
		s.use(s.service.ShortToken(s.key, time.Hour, false))
		if err := s.looked(time.Hour, false); err != nil {
			return err
		}
		return s.seal().(*destroyer).renew(s.t.Context())
	}},
	{name: "a token for so many requests", do: func(s *site) error {
		s.use(s.service.LimitedToken(s.key, 3))
		t, err := s.seal().(Tokened).Token(s.t.Context())
		if t.Uses < 2 || t.Uses > 3 || !t.Ends() {
			s.t.Errorf("the token is %+v", t)
		}
		return err
	}},
	{name: "a token whose requests are used up", want: ErrToken, status: 403, says: "invalid token", open: bare, do: func(s *site) error {
		s.use(s.service.LimitedToken(s.key, 1))
		if err := s.unwrap(); err != nil {
			return err
		}
		return s.unwrap()
	}},
	{name: "a token that must not look at itself", want: ErrForbidden, status: 403, says: "permission denied", do: func(s *site) error { return s.looked(time.Hour, true) }},
	{name: "a token that has ended", want: ErrToken, status: 403, says: "invalid token", open: bare, do: func(s *site) error {
		s.use(s.service.ShortToken(s.key, time.Second, false))
		for { // its end is the service's to say; the test's own time limit ends it otherwise
			if err := s.unwrap(); err != nil {
				return err
			}
		}
	}},
	{name: "the token is replaced while the seal is in use", do: func(s *site) error {
		seal := s.seal()
		old := s.token
		s.use(s.service.Token(s.key))
		s.service.Revoke(old)
		_, err := seal.Unwrap(s.t.Context(), s.wrapped)
		return err
	}},
	{name: "sealed", want: ErrUnavailable, status: 503, says: "sealed", do: func(s *site) error {
		s.service.SetSealed(true)
		defer s.service.SetSealed(false)
		return s.unwrap()
	}},
	{name: "away", want: ErrUnavailable, do: func(s *site) error {
		s.service.Stop()
		defer s.service.Start()
		return s.unwrap()
	}},
	{name: "back again", do: (*site).unwrap},
}

// ofKind wraps and unwraps with a key of another kind.
func (s *site) ofKind(kind string, derived bool) error {
	s.config.Key = strings.Join([]string{s.key, kind}, "-")
	s.service.AddKey(s.config.Key, kind, derived)
	s.use(s.service.Token(s.config.Key))
	wrapped, err := s.seal().Wrap(s.t.Context(), root)
	if err != nil {
		return err
	}
	return s.unwrapOf(wrapped)
}

// imported wraps and unwraps with a key that was imported.
func (s *site) imported(keepOld bool) error {
	s.config.Key = s.key + "-imported"
	s.config.KeepOld = keepOld
	s.service.ImportKey(s.config.Key)
	s.use(s.service.Token(s.config.Key))
	wrapped, err := s.seal().Wrap(s.t.Context(), root)
	if err != nil {
		return err
	}
	return s.unwrapOf(wrapped)
}

// nameOf is a name for a key.
func nameOf(what string) string { return strings.NewReplacer(" ", "-", ",", "").Replace(what) }

// TestConformance is the table: of the fake of both products, or of the one that SALLYPORT_VAULT names.
func TestConformance(t *testing.T) {
	t.Parallel()
	for _, p := range transittest.Products(t) {
		t.Run(string(p), func(t *testing.T) {
			t.Parallel()
			conforms(t, transittest.StartAs(t, p))
		})
	}
}

func conforms(t *testing.T, service transittest.Service) {
	for _, c := range situations {
		if c.only != "" && c.only != service.Product() {
			continue
		}
		if c.open != nil && service.Product() == transittest.OpenBao {
			c.want, c.status, c.says = c.open.want, c.open.status, c.open.says
		}
		t.Run(c.name, func(t *testing.T) { // one after the other: some have the service go away
			s := newSite(t, service, nameOf(c.name))
			err := c.do(s)
			if !errors.Is(err, c.want) || c.want == ErrForbidden && errors.Is(err, ErrToken) {
				t.Fatalf("%v, want %v", err, c.want)
			}
			var api *apiError
			status := 0
			if errors.As(err, &api) {
				status = api.status
			}
			if status != c.status || c.says != "" && !api.says(c.says) {
				t.Errorf("the service said %v, want HTTP %d with %q", err, c.status, c.says)
			}
			if err == nil {
				return
			}
			if Hint(err) == "" && !errors.Is(err, keyring.ErrWrongKey) {
				t.Errorf("nothing says what to do about %q", err)
			}
			if text := err.Error(); strings.Contains(text, s.token) || strings.ContainsAny(text, "\n\r") {
				t.Errorf("the error quotes a token, or is not one line: %q", text)
			}
			t.Log(err)
		})
	}
}
