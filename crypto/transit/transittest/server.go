// Package transittest has key services for tests: a small fake of a Vault, which is
// the part of the transit engine that a seal uses, and a real one where the environment
// names its binary. That the fake gives the status codes and words of the real one is what
// TestConformance in crypto/transit shows, with one table for both.
package transittest

import (
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Server is an http.Handler. Safe for concurrent use.
type Server struct {
	Product   Product // "" is a Vault
	Namespace string  // that requests must name; "" for none
	Mount     string

	cluster  string // its id
	mu       sync.Mutex
	tokens   map[string]token
	keys     map[string]*key
	sealed   bool
	failures int // requests that fail with 500 before one succeeds
	requests []string
}

// token may do everything with one key, or with any, but for what is denied.
type token struct {
	key    string // "" = any
	denied map[string]bool
	self   *self // nil = it must not look at itself
	uses   *int  // requests that it is for; nil = any number
}

// self is what a token is told of itself.
type self struct {
	ttl       time.Duration // from its creation, or from a renewal
	ends      time.Time
	renewable bool
}

// New makes a server with one token that may do everything, and no keys.
func New(mount, first string) *Server {
	return &Server{Mount: mount, cluster: rand.Text(), tokens: map[string]token{first: {}}, keys: map[string]*key{}}
}

// AddKey makes a key of type aes256-gcm96.
func (s *Server) AddKey(name string) { s.AddKeyOf(name, "aes256-gcm96", false) }

// AddKeyOf makes a key of another type.
func (s *Server) AddKeyOf(name, kind string, derived bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[name] = newKey(kind, derived)
}

// ImportKey makes a key that counts as made elsewhere.
func (s *Server) ImportKey(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[name] = newKey("aes256-gcm96", false)
	s.keys[name].imported = true
}

// SoftDeleteKey has it refuse to work.
func (s *Server) SoftDeleteKey(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[name].deletable, s.keys[name].soft = true, true
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
func (s *Server) SetToken(text string, denied ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens = map[string]token{text: newToken("", denied)}
}

func newToken(key string, denied []string) token {
	t := token{key: key, denied: map[string]bool{}}
	for _, d := range denied {
		t.denied[d] = true
	}
	return t
}

// Token makes another token, for one key, or for all with "+".
func (s *Server) Token(key string, denied ...string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := "s." + rand.Text()
	s.tokens[text] = newToken(strings.TrimPrefix(key, "+"), denied)
	return text
}

// ShortToken makes a token that ends.
func (s *Server) ShortToken(key string, ttl time.Duration, renewable bool) string {
	text := s.Token(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tokens[text]
	t.self = &self{ttl, time.Now().Add(ttl), renewable}
	s.tokens[text] = t
	return text
}

// LimitedToken makes a token that is for so many requests.
func (s *Server) LimitedToken(key string, uses int) string {
	text := s.ShortToken(key, time.Hour, true)
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tokens[text]
	t.uses = &uses
	s.tokens[text] = t
	return text
}

// Age has so much of a token's time go by.
func (s *Server) Age(text string, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	self := s.tokens[text].self
	self.ends = self.ends.Add(-d)
}

// tokenSelf answers below auth/token.
func (t *token) tokenSelf(method, path string) reply {
	switch {
	case t.self == nil:
		return denied()
	case path == "lookup-self" && method == http.MethodGet:
		left := int(time.Until(t.self.ends).Seconds())
		uses := 0
		if t.uses != nil {
			uses = *t.uses
		}
		return done(map[string]any{"ttl": left, "creation_ttl": int(t.self.ttl.Seconds()), "num_uses": uses, "renewable": t.self.renewable, "path": "auth/token/create", "type": "service", "orphan": false})
	case path == "renew-self" && !t.self.renewable:
		return refuse(http.StatusBadRequest, "lease is not renewable")
	case path == "renew-self" && method != http.MethodGet:
		t.self.ends = time.Now().Add(t.self.ttl)
		return done(nil) // the new times are in the member auth, which nobody reads
	}
	return denied()
}

// Revoke ends a token.
func (s *Server) Revoke(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.tokens, text)
}

// RotateKey makes another version of a key.
func (s *Server) RotateKey(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys[name].rotate()
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

// reply is an answer: data, or what is wrong.
type reply struct {
	status int
	data   any
	words  []string
}

func done(data any) reply { return reply{http.StatusOK, data, nil} }

func refuse(status int, words ...string) reply { return reply{status, nil, words} }

// denied is the answer to a token that may not.
func denied() reply {
	return refuse(http.StatusForbidden, "1 error occurred:\n\t* permission denied\n\n")
}

// write answers as the API does: errors in a list and no data, or data in an envelope.
func (r reply) write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(r.status)
	if r.status != http.StatusOK {
		json.NewEncoder(w).Encode(map[string]any{"errors": append([]string{}, r.words...)})
		return
	}
	json.NewEncoder(w).Encode(map[string]any{
		"request_id": rand.Text(), "lease_id": "", "renewable": false, "lease_duration": 0, "data": r.data, "wrap_info": nil, "warnings": nil, "auth": nil, "mount_type": "transit",
	})
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		refuse(http.StatusBadRequest, "failed to read the body").write(w)
		return
	}
	if r.URL.Path == "/v1/sys/seal-status" {
		s.sealStatus(w)
		return
	}
	s.answer(r, body).write(w)
}

// sealStatus is for anybody, in no envelope, and no part of Requests.
func (s *Server) sealStatus(w http.ResponseWriter) {
	s.mu.Lock()
	status := map[string]any{"type": "shamir", "initialized": true, "sealed": s.sealed}
	if !s.sealed {
		status["cluster_name"], status["cluster_id"] = "vault-cluster-1", s.cluster
	}
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(status)
}

func (s *Server) answer(r *http.Request, body []byte) reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = append(s.requests, r.Method+" "+r.URL.Path)
	switch {
	case s.failures > 0:
		s.failures--
		return refuse(http.StatusInternalServerError, "internal error")
	case s.sealed:
		return refuse(http.StatusServiceUnavailable, "Vault is sealed")
	}
	may, known := s.tokens[r.Header.Get("X-Vault-Token")]
	known = known && (may.self == nil || time.Now().Before(may.self.ends)) && (may.uses == nil || *may.uses > 0)
	if known && may.uses != nil {
		*may.uses--
	}
	namespace := strings.Trim(r.Header.Get("X-Vault-Namespace"), "/")
	switch {
	case s.Product == OpenBao && namespace != s.Namespace:
		return refuse(http.StatusNotFound, "namespace not found")
	case s.Product == OpenBao && !known: // unlike what a policy forbids (see denied), it is no list
		return refuse(http.StatusForbidden, "permission denied")
	case !known, s.Namespace != "" && namespace != s.Namespace: // a Vault without namespaces ignores the header
		return refuse(http.StatusForbidden, "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n")
	}
	if path, ok := strings.CutPrefix(r.URL.Path, "/v1/auth/token/"); ok {
		return may.tokenSelf(r.Method, path)
	}
	rest, ok := strings.CutPrefix(r.URL.Path, "/v1/"+s.Mount+"/")
	if !ok { // no policy allows what is not there
		return denied()
	}
	var in map[string]any
	if len(body) > 0 {
		if err := json.Unmarshal(body, &in); err != nil {
			return refuse(http.StatusBadRequest, "error parsing JSON")
		}
	}
	return s.route(r.Method, strings.Split(rest, "/"), in, may)
}

func (s *Server) route(method string, path []string, in map[string]any, may token) reply {
	write := method == http.MethodPost || method == http.MethodPut
	op := path[0]
	switch {
	case op == "keys" && len(path) == 2 && method == http.MethodGet:
		op = "read"
	case op == "keys" && len(path) == 3 && write:
		op = path[2]
	case (op == "encrypt" || op == "decrypt") && len(path) == 2 && write:
	default:
		return refuse(http.StatusMethodNotAllowed, "unsupported operation")
	}
	name := path[1]
	if may.denied[op] || may.key != "" && may.key != name {
		return denied()
	}
	k := s.keys[name]
	if k == nil {
		return noKey(op, name)
	}
	if k.soft && op != "read" && op != "config" {
		return k.softDeleted(op)
	}
	switch op {
	case "read":
		return k.read(name)
	case "encrypt":
		return k.encrypt(in)
	case "decrypt":
		return k.decrypt(in)
	case "rotate":
		k.rotate()
		return k.read(name)
	case "config":
		return k.config(name, in)
	case "trim":
		return k.trim(name, in)
	}
	return refuse(http.StatusNotFound, "unsupported path")
}
