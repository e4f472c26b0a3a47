// Package transit is a seal whose key is in a HashiCorp Vault or an OpenBao:
// their transit engine encrypts and decrypts the root key, over HTTPS, and never
// gives its own key away. It can destroy old versions of that key, and with them
// every old root key, whoever has old copies of the disk.
//
// API: https://developer.hashicorp.com/vault/api-docs/secret/transit, which
// OpenBao shares. Only net/http is used.
package transit

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"sallyport/crypto/keyring"
)

// associatedData binds what is wrapped to its purpose.
const associatedData = "sallyport.root.v1"

// Config says where the key is.
type Config struct {
	Address   string        // https://HOST:PORT
	Namespace string        // "" for none
	Mount     string        // of the transit engine; "" means "transit"
	Key       string        // name of the key, which nothing else should use
	TokenFile string        // read at each request, so that it may be renewed
	CAFile    string        // PEM; "" means the system's certificates
	Timeout   time.Duration // of one request; 0 means 10 s
	// KeepOld leaves the key's versions alone: the token needs fewer rights, and
	// an old root is never destroyed.
	KeepOld bool
}

// Seal is safe for concurrent use.
type Seal struct {
	config Config
	client *client
}

// destroyer is a Seal that may destroy old versions of its key.
type destroyer struct{ *Seal }

var (
	_ keyring.Labelled   = (*Seal)(nil)
	_ keyring.Identified = (*Seal)(nil)
	_ keyring.Destroyer  = (*destroyer)(nil)
)

// New makes the seal; it asks the service nothing. It is a keyring.Destroyer
// unless KeepOld is set.
func New(c Config) (keyring.Seal, error) {
	s, err := newSeal(c)
	if err != nil {
		return nil, err
	}
	if c.KeepOld {
		return s, nil
	}
	return &destroyer{s}, nil
}

func newSeal(c Config) (*Seal, error) {
	if c.Mount == "" {
		c.Mount = "transit"
	}
	if c.Timeout == 0 {
		c.Timeout = 10 * time.Second
	}
	if err := c.Check(); err != nil {
		return nil, err
	}
	s := &Seal{config: c}
	s.client = &client{config: &s.config, wait: wait}
	if _, err := s.client.connect(); err != nil { // what is wrong with ca_file is better known now
		return nil, err
	}
	return s, nil
}

// Check says what is wrong with the configuration; ErrConfig. Files are not read.
func (c *Config) Check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrConfig, fmt.Sprintf(format, args...))
	}
	u, err := url.Parse(c.Address)
	switch {
	case err != nil || u.Host == "":
		return bad("address %q is not https://HOST:PORT", c.Address)
	case u.Scheme != "https":
		return bad("address %q: the root key travels over HTTPS only", c.Address)
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return bad("address must be https://HOST:PORT and nothing more")
	case c.Timeout < 0 || c.Timeout > 5*time.Minute:
		return bad("timeout must be between 0s and 5m")
	case c.TokenFile == "":
		return bad("token_file is missing")
	}
	for name, v := range map[string]string{"mount": c.Mount, "key": c.Key, "namespace": c.Namespace} {
		if v == "" && name == "key" {
			return bad("key is missing")
		}
		if v != "" && !plain(v, name != "key") {
			return bad("%s %q: letters, digits, '-', '_' and '.' only%s", name, v, map[bool]string{true: ", in parts between slashes"}[name != "key"])
		}
	}
	return nil
}

// plain keeps names from changing the path of a request.
func plain(name string, slashes bool) bool {
	if len(name) > 128 {
		return false
	}
	for part := range strings.SplitSeq(strings.Trim(name, "/"), "/") {
		if part == "" || part == "." || part == ".." {
			return false
		}
		for _, c := range []byte(part) {
			if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-_.", c) >= 0) {
				return false
			}
		}
	}
	return slashes || !strings.Contains(name, "/")
}

// Kind is "transit".
func (s *Seal) Kind() string { return keyring.KindTransit }

// Label is where the key is, without the address of the server, which may change.
func (s *Seal) Label() string {
	label := strings.Trim(s.config.Mount, "/") + "/" + s.config.Key
	if ns := strings.Trim(s.config.Namespace, "/"); ns != "" {
		label = ns + ": " + label
	}
	return label
}

// At is c for the key of that Label.
func (c Config) At(label string) Config {
	ns, rest, found := strings.Cut(label, ": ")
	if !found {
		ns, rest = "", label
	}
	if i := strings.LastIndexByte(rest, '/'); i > 0 {
		c.Namespace, c.Mount, c.Key = ns, rest[:i], rest[i+1:]
	}
	return c
}

func (s *Seal) path(op string, more ...string) string {
	return path.Join(append([]string{"/v1", strings.Trim(s.config.Mount, "/"), op, s.config.Key}, more...)...)
}

// Wrap encrypts the root. It is not kept, nor in a log; it is in the request.
func (s *Seal) Wrap(ctx context.Context, root []byte) ([]byte, error) {
	if _, err := s.suitable(ctx); err != nil {
		return nil, err
	}
	return s.encrypt(ctx, root)
}

func (s *Seal) encrypt(ctx context.Context, root []byte) ([]byte, error) {
	var out struct {
		Ciphertext string `json:"ciphertext"`
	}
	if err := s.client.do(ctx, http.MethodPost, s.path("encrypt"), map[string]any{
		"plaintext": secretBase64(root), "associated_data": base64.StdEncoding.EncodeToString([]byte(associatedData)),
	}, &out); err != nil {
		return nil, s.explain("encrypting with", err)
	}
	if _, err := version(out.Ciphertext); err != nil {
		return nil, err
	}
	return []byte(out.Ciphertext), nil
}

// Wrap of a destroyer uses a new version of the key each time, because what one
// version wrapped can only be destroyed all together.
func (s *destroyer) Wrap(ctx context.Context, root []byte) ([]byte, error) {
	before, err := s.suitable(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.rotate(ctx); err != nil {
		return nil, err
	}
	wrapped, err := s.encrypt(ctx, root)
	if err != nil {
		return nil, err
	}
	if v, err := version(string(wrapped)); err != nil {
		return nil, err
	} else if v <= before.LatestVersion {
		return nil, fmt.Errorf("%w: %s was rotated, and encrypts with version %d still", ErrAnswer, s.Label(), v)
	}
	return wrapped, nil
}

func (s *destroyer) rotate(ctx context.Context) error {
	if err := s.client.do(ctx, http.MethodPost, s.path("keys", "rotate"), map[string]any{}, nil); err != nil {
		return s.explain("rotating", err)
	}
	return nil
}

// Unwrap decrypts. Whether the service has another key or wrapped was changed
// cannot be told apart: ErrWrongKey either way, ErrDamaged if it is not even of
// the right form.
func (s *Seal) Unwrap(ctx context.Context, wrapped []byte) ([]byte, error) {
	v, err := version(string(wrapped))
	if err != nil {
		return nil, fmt.Errorf("%w: seal.json: the wrapped root key is none of transit's", keyring.ErrDamaged)
	}
	var out struct {
		Plaintext secretBase64 `json:"plaintext"`
	}
	err = s.client.do(ctx, http.MethodPost, s.path("decrypt"), map[string]any{
		"ciphertext": string(wrapped), "associated_data": base64.StdEncoding.EncodeToString([]byte(associatedData)),
	}, &out)
	var api *apiError
	switch {
	case errors.As(err, &api) && api.says("too old", "version is disallowed"):
		return nil, s.tooOld(ctx, v)
	case errors.As(err, &api) && api.says("authentication failed", "invalid ciphertext", "unable to decrypt"):
		return nil, fmt.Errorf("%w: key %s does not decrypt it: it is another key of that name, or seal.json was changed", keyring.ErrWrongKey, s.Label())
	case err != nil:
		return nil, s.explain("decrypting with", err)
	}
	return out.Plaintext, nil
}

// tooOld tells a version that is gone from one that is forbidden and can be allowed again. The service has one answer for both.
func (s *Seal) tooOld(ctx context.Context, v int) error {
	info, err := s.info(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("%w: version %d of %s (whether it is gone could not be asked: %w)", ErrTooOld, v, s.Label(), err)
	case info.MinAvailable > v:
		return fmt.Errorf("%w: %w: version %d of %s", keyring.ErrWrongKey, ErrDestroyed, v, s.Label())
	}
	return fmt.Errorf("%w: version %d of %s, whose min_decryption_version is %d", ErrTooOld, v, s.Label(), info.MinDecryption)
}

// DestroyOld destroys the version of the key that wrapped, and every one before
// it: decryption with them is forbidden, then they are deleted. ErrUnsuitable
// if keep was wrapped by one of them. If nothing is to be kept and it is the
// newest version, which cannot be deleted, the key gets another.
func (s *destroyer) DestroyOld(ctx context.Context, wrapped, keep []byte) error {
	v, err := version(string(wrapped))
	if err != nil {
		return err
	}
	if keep != nil {
		kept, err := version(string(keep))
		if err != nil {
			return err
		}
		if kept <= v {
			return fmt.Errorf("%w: %w: version %d of %s is in use and cannot be destroyed", keyring.ErrNeeded, ErrUnsuitable, kept, s.Label())
		}
	}
	info, err := s.info(ctx)
	if err != nil {
		return err
	}
	if info.MinAvailable > v {
		return s.has(ctx, keep)
	}
	// A service at another address can have a key of that name: to destroy there would be no erasure, and be said to be one.
	root, err := s.Unwrap(ctx, wrapped)
	clear(root)
	switch {
	case errors.Is(err, ErrTooOld): // it was forbidden already, by a try that did not come to its end
		if err := s.has(ctx, keep); err != nil {
			return err
		}
	case err != nil:
		return err
	}
	switch {
	case info.LatestVersion > v:
	case keep != nil:
		return fmt.Errorf("%w: version %d of %s is the newest, which cannot be destroyed", ErrUnsuitable, v, s.Label())
	default:
		if err := s.rotate(ctx); err != nil {
			return err
		}
	}
	return s.trim(ctx, info, v+1)
}

// has refuses a key that did not wrap keep, where a version before that is gone, or cannot be tried. nil: the keyring knows that it is
// the right service.
func (s *destroyer) has(ctx context.Context, keep []byte) error {
	if keep == nil {
		return nil
	}
	root, err := s.Unwrap(ctx, keep)
	clear(root)
	return err
}

// trim deletes the versions before first. The service wants both minima raised before.
func (s *destroyer) trim(ctx context.Context, info *keyInfo, first int) error {
	if info.MinDecryption < first || info.MinEncryption < first {
		raised := map[string]any{"min_decryption_version": max(first, info.MinDecryption), "min_encryption_version": max(first, info.MinDecryption, info.MinEncryption)}
		if err := s.client.do(ctx, http.MethodPost, s.path("keys", "config"), raised, nil); err != nil {
			return s.explain("forbidding old versions of", err)
		}
	}
	if err := s.client.do(ctx, http.MethodPost, s.path("keys", "trim"), map[string]any{"min_available_version": first}, nil); err != nil {
		return s.explain("deleting old versions of", err)
	}
	info, err := s.info(ctx)
	if err == nil && info.MinAvailable < first {
		err = fmt.Errorf("%w: %s still has version %d after it was deleted", ErrAnswer, s.Label(), info.MinAvailable)
	}
	return err
}

// version is the N of "vault:vN:…".
func version(ciphertext string) (int, error) {
	rest, ok := strings.CutPrefix(ciphertext, "vault:v")
	digits, body, found := strings.Cut(rest, ":")
	n, err := strconv.Atoi(digits)
	if !ok || !found || err != nil || n < 1 || digits != strconv.Itoa(n) || len(body) > 1024 {
		return 0, fmt.Errorf("%w: not a ciphertext of transit", ErrAnswer)
	}
	if raw, err := base64.StdEncoding.DecodeString(body); err != nil || len(raw) == 0 {
		return 0, fmt.Errorf("%w: not a ciphertext of transit", ErrAnswer)
	}
	return n, nil
}

// explain says what was asked of which key.
func (s *Seal) explain(doing string, err error) error {
	return fmt.Errorf("%s %s at %s: %w", doing, s.Label(), s.config.Address, err)
}
