// Package transittest is a small Vault for tests: the part of the transit
// engine that a seal uses, with the paths, headers, bodies, status codes and
// words of the API as Vault and OpenBao document it. It is no proof that the
// real ones agree: neither can be had as a Go module within reason.
package transittest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// Server is an http.Handler. Safe for concurrent use.
type Server struct {
	Namespace string // that requests must name; "" for none
	Mount     string

	mu       sync.Mutex
	tokens   map[string]map[string]bool // token → operations it must not do
	keys     map[string]*key
	sealed   bool
	failures int // requests that fail with 500 before one succeeds
	requests []string
}

type key struct {
	kind                       string
	derived                    bool
	versions                   map[int][]byte
	latest                     int
	minDecrypt, minEncrypt, at int // at: min_available_version
}

// New makes a server with one token that may do everything, and no keys.
func New(mount, token string) *Server {
	return &Server{Mount: mount, tokens: map[string]map[string]bool{token: {}}, keys: map[string]*key{}}
}

// AddKey makes a key of type aes256-gcm96.
func (s *Server) AddKey(name string) { s.AddKeyOf(name, "aes256-gcm96", false) }

// AddKeyOf makes a key of another type.
func (s *Server) AddKeyOf(name, kind string, derived bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := &key{kind: kind, derived: derived, versions: map[int][]byte{}, minDecrypt: 1}
	k.rotate()
	s.keys[name] = k
}

// RemoveKey removes it.
func (s *Server) RemoveKey(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.keys, name)
}

// SetSealed seals or unseals the server.
func (s *Server) SetSealed(sealed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sealed = sealed
}

// Fail lets the next n requests fail with status 500.
func (s *Server) Fail(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures = n
}

// SetToken makes token the only one, with operations that it must not do:
// "read", "encrypt", "decrypt", "rotate", "config", "trim".
func (s *Server) SetToken(token string, denied ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	no := map[string]bool{}
	for _, d := range denied {
		no[d] = true
	}
	s.tokens = map[string]map[string]bool{token: no}
}

// Requests are method and path of what was asked so far, in order.
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.requests...)
}

// Versions are the versions of the key that exist.
func (s *Server) Versions(name string) (out []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for v := range s.keys[name].latest {
		if s.keys[name].versions[v+1] != nil {
			out = append(out, v+1)
		}
	}
	return out
}

func (k *key) rotate() {
	k.latest++
	raw := make([]byte, 32)
	rand.Read(raw)
	k.versions[k.latest] = raw
}

// refuse answers as the API does: errors in a list, no data.
func refuse(w http.ResponseWriter, status int, words ...string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if words == nil {
		words = []string{}
	}
	json.NewEncoder(w).Encode(map[string]any{"errors": words})
}

func answer(w http.ResponseWriter, data any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]any{
		"request_id": rand.Text(), "lease_id": "", "renewable": false, "lease_duration": 0, "data": data, "wrap_info": nil, "warnings": nil, "auth": nil, "mount_type": "transit",
	})
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, r.Method+" "+r.URL.Path)
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		refuse(w, http.StatusBadRequest, "failed to read the body")
		return
	}
	switch {
	case s.failures > 0:
		s.failures--
		refuse(w, http.StatusInternalServerError, "internal error")
		return
	case s.sealed:
		refuse(w, http.StatusServiceUnavailable, "Vault is sealed")
		return
	}
	denied, known := s.tokens[r.Header.Get("X-Vault-Token")]
	if !known || strings.Trim(r.Header.Get("X-Vault-Namespace"), "/") != s.Namespace {
		refuse(w, http.StatusForbidden, "permission denied")
		return
	}
	rest, ok := strings.CutPrefix(r.URL.Path, "/v1/"+s.Mount+"/")
	if !ok {
		refuse(w, http.StatusNotFound, fmt.Sprintf("no handler for route %q. route entry not found.", strings.TrimPrefix(r.URL.Path, "/v1/")))
		return
	}
	var in map[string]any
	if len(body) > 0 {
		if err := json.Unmarshal(body, &in); err != nil {
			refuse(w, http.StatusBadRequest, "error parsing JSON")
			return
		}
	}
	s.route(w, r, strings.Split(rest, "/"), in, denied)
}

func (s *Server) route(w http.ResponseWriter, r *http.Request, path []string, in map[string]any, denied map[string]bool) {
	write := r.Method == http.MethodPost || r.Method == http.MethodPut
	op := path[0]
	switch {
	case op == "keys" && len(path) == 2 && r.Method == http.MethodGet:
		op = "read"
	case op == "keys" && len(path) == 3 && write:
		op = path[2]
	case (op == "encrypt" || op == "decrypt") && len(path) == 2 && write:
	default:
		refuse(w, http.StatusMethodNotAllowed, "unsupported operation")
		return
	}
	if denied[op] {
		refuse(w, http.StatusForbidden, "1 error occurred:\n\t* permission denied\n\n")
		return
	}
	k := s.keys[path[1]]
	if k == nil {
		if op == "read" {
			refuse(w, http.StatusNotFound)
		} else {
			refuse(w, http.StatusBadRequest, "encryption key not found")
		}
		return
	}
	switch op {
	case "read":
		k.read(w, path[1])
	case "encrypt":
		k.encrypt(w, in)
	case "decrypt":
		k.decrypt(w, in)
	case "rotate":
		k.rotate()
		answer(w, map[string]any{})
	case "config":
		k.config(w, in)
	case "trim":
		k.trim(w, in)
	default:
		refuse(w, http.StatusNotFound, "unsupported path")
	}
}

func (k *key) read(w http.ResponseWriter, name string) {
	versions := map[string]int{}
	for v := range k.versions {
		versions[strconv.Itoa(v)] = 1700000000 + v
	}
	answer(w, map[string]any{
		"name": name, "type": k.kind, "derived": k.derived, "exportable": false, "deletion_allowed": false, "keys": versions, "latest_version": k.latest,
		"min_available_version": k.at, "min_decryption_version": k.minDecrypt, "min_encryption_version": k.minEncrypt,
		"supports_encryption": k.kind != "ed25519", "supports_decryption": k.kind != "ed25519", "supports_derivation": true, "supports_signing": k.kind == "ed25519",
	})
}

// bytes is a member in Base64.
func bytes(in map[string]any, name string) ([]byte, bool) {
	text, ok := in[name].(string)
	raw, err := base64.StdEncoding.DecodeString(text)
	return raw, ok && err == nil
}

func (k *key) aead(v int) cipher.AEAD {
	block, err := aes.NewCipher(k.versions[v])
	if err != nil {
		panic(err)
	}
	a, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return a
}

func (k *key) encrypt(w http.ResponseWriter, in map[string]any) {
	plain, ok := bytes(in, "plaintext")
	if !ok {
		refuse(w, http.StatusBadRequest, "failed to base64-decode plaintext")
		return
	}
	ad, ok := bytes(in, "associated_data")
	if _, given := in["associated_data"]; given && !ok {
		refuse(w, http.StatusBadRequest, "failed to base64-decode associated_data")
		return
	}
	sealed := k.aead(k.latest).Seal(nil, nil, plain, ad)
	answer(w, map[string]any{"ciphertext": fmt.Sprintf("vault:v%d:%s", k.latest, base64.StdEncoding.EncodeToString(sealed)), "key_version": k.latest})
}

func (k *key) decrypt(w http.ResponseWriter, in map[string]any) {
	text, _ := in["ciphertext"].(string)
	rest, ok := strings.CutPrefix(text, "vault:v")
	digits, body, found := strings.Cut(rest, ":")
	v, err := strconv.Atoi(digits)
	raw, err2 := base64.StdEncoding.DecodeString(body)
	switch {
	case !ok:
		refuse(w, http.StatusBadRequest, "invalid ciphertext: no prefix")
		return
	case !found || err != nil || err2 != nil:
		refuse(w, http.StatusBadRequest, "invalid ciphertext: could not decode base64")
		return
	case v < k.minDecrypt:
		refuse(w, http.StatusBadRequest, "ciphertext or signature version is disallowed by policy (too old)")
		return
	case k.versions[v] == nil:
		refuse(w, http.StatusBadRequest, "invalid ciphertext: unable to decrypt")
		return
	}
	ad, _ := bytes(in, "associated_data")
	plain, err := k.aead(v).Open(nil, nil, raw, ad)
	if err != nil {
		refuse(w, http.StatusBadRequest, "cipher: message authentication failed")
		return
	}
	answer(w, map[string]any{"plaintext": base64.StdEncoding.EncodeToString(plain)})
}

func (k *key) config(w http.ResponseWriter, in map[string]any) {
	number := func(name string, old int) int {
		if v, ok := in[name].(float64); ok {
			return int(v)
		}
		return old
	}
	decrypt, encrypt := number("min_decryption_version", k.minDecrypt), number("min_encryption_version", k.minEncrypt)
	switch {
	case decrypt < k.at:
		refuse(w, http.StatusBadRequest, "min decryption version should not be less then min available version")
	case decrypt > k.latest:
		refuse(w, http.StatusBadRequest, fmt.Sprintf("cannot set min decryption version of %d, latest key version is %d", decrypt, k.latest))
	case encrypt > k.latest:
		refuse(w, http.StatusBadRequest, fmt.Sprintf("cannot set min encryption version of %d, latest key version is %d", encrypt, k.latest))
	case encrypt > 0 && encrypt < decrypt:
		refuse(w, http.StatusBadRequest, fmt.Sprintf("cannot set min encryption/decryption values; min encryption version of %d must be greater than or equal to min decryption version of %d", encrypt, decrypt))
	default:
		k.minDecrypt, k.minEncrypt = decrypt, encrypt
		answer(w, map[string]any{})
	}
}

func (k *key) trim(w http.ResponseWriter, in map[string]any) {
	v, _ := in["min_available_version"].(float64)
	n := int(v)
	switch {
	case k.minEncrypt == 0:
		refuse(w, http.StatusBadRequest, "minimum available version cannot be set when minimum encryption version is not set")
	case n > k.minEncrypt:
		refuse(w, http.StatusBadRequest, "minimum available version cannot be greater than minmum encryption version")
	case n > k.minDecrypt:
		refuse(w, http.StatusBadRequest, "minimum available version cannot be greater than minimum decryption version")
	case n < k.at:
		refuse(w, http.StatusBadRequest, "minimum available version cannot be decremented")
	default:
		for old := range k.versions {
			if old < n {
				delete(k.versions, old)
			}
		}
		k.at = n
		answer(w, map[string]any{})
	}
}
