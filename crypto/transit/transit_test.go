package transit

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/crypto/keyring"
	"sallyport/crypto/transit/transittest"
)

// bench is a service with one key, and a seal for it that does not wait between attempts.
type bench struct {
	vault  *transittest.Server
	config Config
	waits  []time.Duration
}

func newBench(t *testing.T, change ...func(*Config)) (*bench, keyring.Seal) {
	t.Helper()
	b := &bench{vault: transittest.New("transit", "s.token")}
	b.vault.AddKey("root")
	server := httptest.NewTLSServer(b.vault)
	t.Cleanup(server.Close)
	dir := t.TempDir()
	b.config = Config{Address: server.URL, Key: "root", TokenFile: filepath.Join(dir, "token"), CAFile: filepath.Join(dir, "ca.pem")}
	b.token(t, "s.token")
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(b.config.CAFile, ca, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range change {
		c(&b.config)
	}
	return b, b.seal(t)
}

func (b *bench) token(t *testing.T, token string) {
	t.Helper()
	if err := os.WriteFile(b.config.TokenFile, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (b *bench) seal(t *testing.T) keyring.Seal {
	t.Helper()
	s, err := New(b.config)
	if err != nil {
		t.Fatal(err)
	}
	noWait := func(ctx context.Context, d time.Duration) error { b.waits = append(b.waits, d); return ctx.Err() }
	switch s := s.(type) {
	case *destroyer:
		s.client.wait = noWait
	case *Seal:
		s.client.wait = noWait
	}
	return s
}

var root = bytes.Repeat([]byte("root key"), 4)

func wrap(t *testing.T, s keyring.Seal) []byte {
	t.Helper()
	wrapped, err := s.Wrap(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	return wrapped
}

func TestWrapAndUnwrap(t *testing.T) {
	t.Parallel()
	b, s := newBench(t, func(c *Config) { c.KeepOld = true })
	wrapped := wrap(t, s)
	got, err := s.Unwrap(t.Context(), wrapped)
	if err != nil || !bytes.Equal(got, root) {
		t.Fatalf("%q, %v", got, err)
	}
	if _, ok := s.(keyring.Destroyer); ok {
		t.Error("destroys although it must keep old versions")
	}
	want := []string{"GET /v1/transit/keys/root", "POST /v1/transit/encrypt/root", "POST /v1/transit/decrypt/root"}
	if got := b.vault.Requests(); !slices.Equal(got, want) {
		t.Errorf("asked %v, want %v", got, want)
	}
}

func TestNamespaceAndMount(t *testing.T) {
	t.Parallel()
	b, s := newBench(t, func(c *Config) { c.Namespace, c.Mount = "/team/a/", "keys/transit/" })
	b.vault.Namespace, b.vault.Mount = "team/a", "keys/transit"
	if got, err := s.Unwrap(t.Context(), wrap(t, s)); err != nil || !bytes.Equal(got, root) {
		t.Fatal(err)
	}
	if got := s.(keyring.Labelled).Label(); got != "team/a: keys/transit/root" {
		t.Errorf("label %q", got)
	}
}

// What one version of the key wrapped goes when that version goes; everything
// later stays readable.
func TestDestroyOldDestroysWhatWasWrappedBefore(t *testing.T) {
	t.Parallel()
	b, s := newBench(t)
	old, current := wrap(t, s), wrap(t, s)
	d := s.(keyring.Destroyer)
	for range 2 { // repeating it is harmless
		if err := d.DestroyOld(t.Context(), old, current); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Unwrap(t.Context(), old); !errors.Is(err, ErrDestroyed) || !errors.Is(err, keyring.ErrWrongKey) {
		t.Errorf("the destroyed root: %v", err)
	}
	if got, err := s.Unwrap(t.Context(), current); err != nil || !bytes.Equal(got, root) {
		t.Errorf("the root in force: %v", err)
	}
	if got := b.vault.Versions("root"); !slices.Equal(got, []int{3}) {
		t.Errorf("versions %v are left", got)
	}
	if err := d.DestroyOld(t.Context(), current, current); !errors.Is(err, ErrUnsuitable) {
		t.Errorf("destroying what is to be kept: %v", err)
	}
	for range 2 { // another seal has the root
		if err := d.DestroyOld(t.Context(), current, nil); err != nil {
			t.Errorf("destroying the newest: %v", err)
		}
	}
	if _, err := s.Unwrap(t.Context(), current); !errors.Is(err, ErrDestroyed) {
		t.Errorf("the newest: %v", err)
	}
}

// TestWhatIsInForceIsNotDestroyed: seal.json names what is to be destroyed, and
// a rotation that was rolled back leaves a version that is newer than the one in use.
func TestWhatIsInForceIsNotDestroyed(t *testing.T) {
	t.Parallel()
	_, s := newBench(t)
	current := wrap(t, s)
	wrap(t, s)
	forged := bytes.Replace(current, current[len("vault:v2:"):], []byte("AAAA"), 1)
	if err := s.(keyring.Destroyer).DestroyOld(t.Context(), forged, current); !errors.Is(err, ErrUnsuitable) {
		t.Errorf("destroying the version in use: %v", err)
	}
	if got, err := s.Unwrap(t.Context(), current); err != nil || !bytes.Equal(got, root) {
		t.Errorf("the root in force: %v", err)
	}
}

func TestRefusalsArePrecise(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		change func(*testing.T, *bench)
		want   error
		asked  int // requests
	}{
		"sealed":            {func(_ *testing.T, b *bench) { b.vault.SetSealed(true) }, ErrUnavailable, attempts},
		"another token":     {func(t *testing.T, b *bench) { b.token(t, "s.other") }, ErrForbidden, attempts},
		"no right to read":  {func(_ *testing.T, b *bench) { b.vault.SetToken("s.token", "read") }, ErrForbidden, attempts},
		"no key":            {func(_ *testing.T, b *bench) { b.vault.RemoveKey("root") }, ErrNoKey, 1},
		"no mount":          {func(_ *testing.T, b *bench) { b.vault.Mount = "elsewhere" }, ErrForbidden, attempts},
		"no token":          {func(t *testing.T, b *bench) { b.token(t, "") }, ErrConfig, 0},
		"token of lines":    {func(t *testing.T, b *bench) { b.token(t, "a\nb") }, ErrConfig, 0},
		"signing key":       {func(_ *testing.T, b *bench) { b.vault.AddKeyOf("root", "ed25519", false) }, ErrUnsuitable, 1},
		"RSA":               {func(_ *testing.T, b *bench) { b.vault.AddKeyOf("root", "rsa-2048", false) }, ErrUnsuitable, 1},
		"derived":           {func(_ *testing.T, b *bench) { b.vault.AddKeyOf("root", "aes256-gcm96", true) }, ErrUnsuitable, 1},
		"for ever failing":  {func(_ *testing.T, b *bench) { b.vault.Fail(99) }, ErrUnavailable, attempts},
		"no right to renew": {func(_ *testing.T, b *bench) { b.vault.SetToken("s.token", "rotate") }, ErrForbidden, 1 + attempts},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			b, s := newBench(t)
			c.change(t, b)
			_, err := s.Wrap(t.Context(), root)
			if !errors.Is(err, c.want) || len(b.vault.Requests()) != c.asked {
				t.Errorf("%d requests, %v; want %d, %v", len(b.vault.Requests()), err, c.asked, c.want)
			}
			if err != nil && (strings.Contains(err.Error(), "s.token") || strings.Contains(err.Error(), "s.other")) {
				t.Errorf("the error quotes a token: %v", err)
			}
		})
	}
}

func TestUnwrapTellsAnotherKeyFromDamage(t *testing.T) {
	t.Parallel()
	b, s := newBench(t)
	wrapped := wrap(t, s)
	changed := bytes.Clone(wrapped)
	i := len(changed) - 10
	changed[i] = map[bool]byte{true: 'B', false: 'A'}[changed[i] == 'A']
	if _, err := s.Unwrap(t.Context(), changed); !errors.Is(err, keyring.ErrWrongKey) {
		t.Errorf("changed: %v", err)
	}
	for _, text := range []string{"", "vault:", "vault:v1:", "vault:v0:AAAA", "vault:v01:AAAA", "vault:v1:!", "x" + string(wrapped)} {
		if _, err := s.Unwrap(t.Context(), []byte(text)); !errors.Is(err, keyring.ErrDamaged) {
			t.Errorf("%q: %v, want ErrDamaged", text, err)
		}
	}
	b.vault.AddKey("root") // another key of the same name
	if _, err := s.Unwrap(t.Context(), wrapped); !errors.Is(err, keyring.ErrWrongKey) {
		t.Errorf("another key: %v", err)
	}
}

// The purpose is bound: what was encrypted for something else with the same key is no root.
func TestWhatWasEncryptedForSomethingElseIsNoRoot(t *testing.T) {
	t.Parallel()
	b, s := newBench(t)
	var out struct{ Ciphertext string }
	if err := s.(*destroyer).client.do(t.Context(), http.MethodPost, "/v1/transit/encrypt/root", map[string]any{"plaintext": secretBase64(root)}, &out); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Unwrap(t.Context(), []byte(out.Ciphertext)); !errors.Is(err, keyring.ErrWrongKey) {
		t.Errorf("%v, want ErrWrongKey", err)
	}
	_ = b
}

func TestServiceThatComesBack(t *testing.T) {
	t.Parallel()
	b, s := newBench(t)
	wrapped := wrap(t, s)
	b.vault.Fail(attempts - 1)
	if got, err := s.Unwrap(t.Context(), wrapped); err != nil || !bytes.Equal(got, root) {
		t.Fatal(err)
	}
	if want := []time.Duration{firstWait, 2 * firstWait, 4 * firstWait}; !slices.Equal(b.waits, want) {
		t.Errorf("waited %v, want %v", b.waits, want)
	}
}

// An agent replaces the token before the old one expires; the next request uses it.
func TestRenewedTokenIsRead(t *testing.T) {
	t.Parallel()
	b, s := newBench(t)
	wrapped := wrap(t, s)
	b.vault.SetToken("s.renewed")
	b.token(t, "s.renewed")
	if _, err := s.Unwrap(t.Context(), wrapped); err != nil {
		t.Fatal(err)
	}
}

func TestCertificateOfAStrangerIsRefused(t *testing.T) {
	t.Parallel()
	b, _ := newBench(t)
	b.config.CAFile = ""
	if _, err := b.seal(t).Wrap(t.Context(), root); !errors.Is(err, ErrConfig) || len(b.vault.Requests()) != 0 {
		t.Errorf("%v, after %d requests", err, len(b.vault.Requests()))
	}
}

func TestRedirectToPlainHTTPIsRefused(t *testing.T) {
	t.Parallel()
	b, _ := newBench(t)
	var stolen []string
	plainServer := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { stolen = append(stolen, r.Header.Get("X-Vault-Token")) }))
	defer plainServer.Close()
	standby := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, plainServer.URL+r.URL.Path, http.StatusTemporaryRedirect)
	}))
	defer standby.Close()
	b.config.Address = standby.URL
	if err := os.WriteFile(b.config.CAFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: standby.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := b.seal(t).Wrap(t.Context(), root); err == nil || len(stolen) > 0 {
		t.Errorf("error %v; the token went to %d places in clear", err, len(stolen))
	}
}

func TestConfigurationsThatAreRefused(t *testing.T) {
	t.Parallel()
	good := Config{Address: "https://vault.example:8200", Key: "root", TokenFile: "/run/token"}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(*Config){
		"plain HTTP": func(c *Config) { c.Address = "http://vault.example:8200" }, "no address": func(c *Config) { c.Address = "" },
		"user in address": func(c *Config) { c.Address = "https://u:p@vault.example" }, "no key": func(c *Config) { c.Key = "" }, "no token": func(c *Config) { c.TokenFile = "" },
		"key that climbs": func(c *Config) { c.Key = "../sys/seal" }, "key with slash": func(c *Config) { c.Key = "a/b" }, "mount that climbs": func(c *Config) { c.Mount = "a/../sys" },
		"query": func(c *Config) { c.Key = "a?b" }, "namespace": func(c *Config) { c.Namespace = "a\r\nX-Evil: 1" }, "timeout": func(c *Config) { c.Timeout = time.Hour },
	} {
		c := good
		change(&c)
		if err := c.Check(); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v, want ErrConfig", what, err)
		}
	}
}

// One keyring through creation, rotation with destruction, and another start.
func TestKeyringUnderTransit(t *testing.T) {
	t.Parallel()
	b, s := newBench(t)
	dir := t.TempDir()
	k, err := keyring.Create(t.Context(), dir, s)
	if err != nil {
		t.Fatal(err)
	}
	stolen, err := os.ReadFile(filepath.Join(dir, "seal.json"))
	if err != nil {
		t.Fatal(err)
	}
	ring, err := os.ReadFile(filepath.Join(dir, "keyring"))
	if err != nil {
		t.Fatal(err)
	}
	if err := k.RotateRoot(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	if k, err = keyring.Open(t.Context(), dir, b.seal(t)); err != nil {
		t.Fatal(err)
	}
	k.Close()
	// Whoever copied the disk before, and may ask the service now, has nothing.
	old := t.TempDir()
	for name, data := range map[string][]byte{"seal.json": stolen, "keyring": ring} {
		if err := os.WriteFile(filepath.Join(old, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := keyring.Open(t.Context(), old, b.seal(t)); !errors.Is(err, ErrDestroyed) {
		t.Errorf("the old disk: %v, want ErrDestroyed", err)
	}
}

// FuzzAnswer feeds answers of the service: never a crash, never more than was asked.
func FuzzAnswer(f *testing.F) {
	f.Add(200, []byte(`{"data":{"plaintext":"cm9vdA=="}}`))
	f.Add(400, []byte(`{"errors":["encryption key not found"]}`))
	f.Add(503, []byte(`<html>`))
	f.Add(200, []byte(`{"data":{"ciphertext":"vault:v1:AAAA","latest_version":1e99}}`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		var info keyInfo
		_ = decode(status, bytes.Clone(body), &info)
		var out struct {
			Plaintext  secretBase64 `json:"plaintext"`
			Ciphertext string       `json:"ciphertext"`
		}
		if err := decode(status, bytes.Clone(body), &out); err != nil {
			if len(err.Error()) > 1000 || strings.ContainsAny(err.Error(), "\n\r\x00") {
				t.Fatalf("an error that is not one short line: %q", err)
			}
			return
		}
		if v, err := version(out.Ciphertext); err == nil && v < 1 {
			t.Fatal("version", v)
		}
	})
}

// TestReachable: asking ends with the context, however the service fails.
func TestReachable(t *testing.T) {
	t.Parallel()
	b, s := newBench(t)
	remote := s.(keyring.Remote)
	if err := remote.Reachable(t.Context()); err != nil {
		t.Error(err)
	}
	b.token(t, "s.another")
	if err := remote.Reachable(t.Context()); !errors.Is(err, ErrForbidden) {
		t.Errorf("another token: %v", err)
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	b.config.Address = "https://" + silent.Addr().String()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := b.seal(t).(keyring.Remote).Reachable(ctx); err == nil || ctx.Err() == nil {
		t.Errorf("a service that says nothing: %v, and the context %v", err, ctx.Err())
	}
}
