package transit

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	maxAnswer = 64 << 10 // bytes
	maxToken  = 4096     // bytes
	maxCA     = 1 << 20  // bytes
	attempts  = 4
	firstWait = 250 * time.Millisecond // doubled after each attempt
	mostWait  = 10 * time.Second       // whatever Retry-After says: others wait for us
)

// anybody may ask this, without a token; the answer has no envelope.
const anybody = "/v1/sys/seal-status"

// errRedirect means that the service sent us elsewhere: a standby names its leader. errLost: in a way that makes another request of it.
var (
	errRedirect = errors.New("redirected to somewhere that is not HTTPS, or for ever")
	errLost     = errors.New("redirected by a status that loses the request; seal.transit.address must be where it leads to")
)

// client speaks to one service. Safe for concurrent use.
type client struct {
	config *Config
	wait   func(context.Context, time.Duration) error
}

// connect is an HTTP client for one request and its redirections. It reads ca_file each time: like a token, an authority is replaced
// before it ends.
func (c *client) connect() (*http.Client, error) {
	tlsConfig := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.config.CAFile != "" {
		pem, err := readFile("ca_file", c.config.CAFile, maxCA, 0o022)
		if err != nil {
			return nil, err
		}
		tlsConfig.RootCAs = x509.NewCertPool()
		if !tlsConfig.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%w: ca_file %s holds no certificate", ErrConfig, c.config.CAFile)
		}
	}
	return &http.Client{
		// No proxy from the environment: the root key goes where the configuration says.
		Transport: &http.Transport{TLSClientConfig: tlsConfig, ForceAttemptHTTP2: true, DisableKeepAlives: true, MaxResponseHeaderBytes: maxAnswer},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if r.URL.Scheme != "https" || len(via) > 3 { // the token must not go out in clear
				return errRedirect
			}
			if r.Method != via[0].Method { // 301, 302, 303; a standby says 307
				return fmt.Errorf("%w: https://%s", errLost, r.URL.Host)
			}
			return nil
		},
	}, nil
}

// wait is a sleep that ctx ends.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// do asks until there is an answer that will not change by asking again. in is
// sent as JSON, nil for none; out takes the member data of the answer, or all of it where the path is one that anybody may ask.
func (c *client) do(ctx context.Context, method, path string, in map[string]any, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return fmt.Errorf("transit: internal error: %w", err)
		}
		defer clear(body)
	}
	pause := firstWait
	for try := 1; ; try++ {
		err := c.once(ctx, method, path, body, out)
		if err == nil || !again(err) || try == attempts || ctx.Err() != nil {
			return err
		}
		if werr := c.wait(ctx, max(pause, retryAfter(err))); werr != nil {
			return fmt.Errorf("%w; %w", err, werr)
		}
		pause *= 2
	}
}

// again tells whether another attempt may help. A token may just have been
// renewed, so that a refusal is tried again like a service that is not there.
func again(err error) bool { return errors.Is(err, ErrUnavailable) || errors.Is(err, ErrForbidden) }

// retryAfter is how long the service asked to be left alone, within bounds.
func retryAfter(err error) time.Duration {
	var api *apiError
	if errors.As(err, &api) {
		return min(api.after, mostWait)
	}
	return 0
}

func (c *client) once(ctx context.Context, method, path string, body []byte, out any) error {
	token := ""
	if path != anybody {
		var err error
		if token, err = c.token(); err != nil {
			return err
		}
	}
	conn, err := c.connect()
	if err != nil {
		return err
	}
	timed, cancel := context.WithTimeout(ctx, c.config.Timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(timed, method, strings.TrimRight(c.config.Address, "/")+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	r.Header.Set("X-Vault-Request", "true")
	if path != anybody {
		r.Header.Set("X-Vault-Token", token)
	}
	if c.config.Namespace != "" && path != anybody { // it is of no namespace
		r.Header.Set("X-Vault-Namespace", strings.Trim(c.config.Namespace, "/"))
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := conn.Do(r)
	if err != nil {
		return c.unreachable(ctx, err)
	}
	defer resp.Body.Close()
	// One buffer from the beginning: one that grows would leave the root behind in each that it outgrew.
	answer := make([]byte, maxAnswer+1)
	n, err := readAll(resp.Body, answer)
	defer clear(answer[:n])
	if err == nil { // an end that comes when the time is over may be that of a connection which was given up for it
		err = timed.Err()
	}
	if err != nil {
		return c.unreachable(ctx, err)
	}
	if path == anybody && resp.StatusCode == http.StatusOK && json.Unmarshal(answer[:n], out) == nil {
		return nil
	}
	err = decode(resp.StatusCode, answer[:n], out, token)
	var api *apiError
	if seconds, serr := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 32); serr == nil && errors.As(err, &api) {
		api.after = time.Duration(seconds) * time.Second
	}
	return err
}

// readAll reads up to the end, or until the buffer is full. Unlike io.ReadFull it tells an end from a connection that was cut.
func readAll(r io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var more int
		more, err = r.Read(buf[n:])
		n += more
	}
	if err == io.EOF {
		err = nil
	}
	return n, err
}

// unreachable tells what somebody has to mend from a service that is away.
func (c *client) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%w: no answer in time: %w", ErrUnavailable, ctx.Err())
	}
	var cert *tls.CertificateVerificationError
	var alert tls.AlertError
	var op *net.OpError
	var timed net.Error
	var outer *url.Error // quotes method and address, which the caller names
	switch {
	case errors.As(err, &cert):
		return fmt.Errorf("%w: its certificate: %w; %s", ErrConfig, cert.Err, certAdvice(cert.Err))
	case errors.Is(err, http.ErrSchemeMismatch):
		return fmt.Errorf("%w: it speaks HTTP without TLS there", ErrConfig)
	case errors.Is(err, errRedirect), errors.Is(err, errLost):
		errors.As(err, &outer)
		return fmt.Errorf("%w: %w", ErrConfig, outer.Err)
	case errors.As(err, &alert):
		return fmt.Errorf("%w: it does not take this client: %w", ErrConfig, alert)
	case errors.As(err, &timed) && timed.Timeout():
		return fmt.Errorf("%w: no answer within %v", ErrUnavailable, c.config.Timeout)
	case errors.As(err, &op):
		return fmt.Errorf("%w: %w", ErrUnavailable, op)
	case errors.As(err, &outer):
		return fmt.Errorf("%w: %w", ErrUnavailable, outer.Err)
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// certAdvice is what to look at first.
func certAdvice(err error) string {
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &name):
		return "seal.transit.address must name the service as the certificate does"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "it must be replaced at the service, or the clock here is wrong"
	}
	return "is ca_file right?"
}

// token is read each time: agents replace the file before the old one expires.
func (c *client) token() (string, error) {
	b, err := readFile("token_file", c.config.TokenFile, maxToken, 0o027)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(b))
	if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("%w: token_file %s does not hold a token", ErrConfig, c.config.TokenFile)
	}
	return token, nil
}

// readFile reads a file of the configuration that must not have these mode bits. Who can read the token can have the root decrypted
// from a copy of the disk; who can write the authority can stand in for the service. The group may read a token: an agent that
// runs as another user writes it so (Vault Agent's default is 0640), and systemd's credentials show their access list there.
// Not blocking, so that a FIFO in the file's place stalls nobody.
func readFile(what, path string, most int64, forbidden fs.FileMode) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrConfig, what, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrConfig, what, err)
	}
	if !info.Mode().IsRegular() || info.Size() > most {
		return nil, fmt.Errorf("%w: %s %s is not a file of at most %d bytes", ErrConfig, what, path, most)
	}
	if mode := info.Mode().Perm(); mode&forbidden != 0 {
		return nil, fmt.Errorf("%w: %s %s has mode %#o, which lets others at it; run chmod %o on it, and have whoever writes it (the sink of an agent) use that mode", ErrConfig, what, path, mode, mode&^forbidden)
	}
	b, err := io.ReadAll(io.LimitReader(f, most))
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrConfig, what, err)
	}
	return b, nil
}

// decode reads an answer. What it says of it has no secret in it.
func decode(status int, answer []byte, out any, secrets ...string) error {
	if len(answer) > maxAnswer {
		return fmt.Errorf("%w: longer than %d bytes", ErrAnswer, maxAnswer)
	}
	if status < 200 || status > 299 {
		return refusal(status, answer, secrets)
	}
	var envelope struct {
		Data     json.RawMessage `json:"data"`
		Warnings []string        `json:"warnings"`
	}
	err := json.Unmarshal(answer, &envelope)
	defer clear(envelope.Data)
	for _, w := range envelope.Warnings {
		if strings.Contains(w, "unrecognized parameters") { // associated_data, of an older version: nothing would be bound
			return fmt.Errorf("%w: %s", ErrAnswer, tidy(w, secrets...))
		}
	}
	switch {
	case out == nil:
		return nil
	case err != nil || len(envelope.Data) == 0:
		return fmt.Errorf("%w: no data in it", ErrAnswer)
	}
	if err := json.Unmarshal(envelope.Data, out); err != nil {
		return fmt.Errorf("%w: not what was asked for", ErrAnswer) // err could quote the data
	}
	return nil
}

func refusal(status int, answer []byte, secrets []string) error {
	var body struct {
		Errors []string `json:"errors"`
	}
	e := &apiError{status: status, kind: ErrAnswer}
	if err := json.Unmarshal(answer, &body); err != nil || body.Errors == nil {
		// Neither a right nor a key is missing where a proxy says 403 or 404. The service has the list in all its refusals, if only an empty one.
		e.messages = []string{"not in the words of the service: something between answers in its place"}
		if status == http.StatusTooManyRequests || status >= 500 {
			e.kind = ErrUnavailable
		}
		return e
	}
	for _, m := range body.Errors[:min(3, len(body.Errors))] {
		e.messages = append(e.messages, tidy(m, secrets...))
	}
	switch {
	case e.says("soft-deleted"): // the status is 500 for some requests, as if it would pass
		e.kind = ErrSoftDeleted
	// What a policy forbids is a list of one error. The bare words are of a token that is not known: to an OpenBao, and to a Vault before
	// 1.15; or one that is bound to other addresses.
	case status == http.StatusForbidden && (e.says("invalid token") || slices.Equal(e.messages, []string{"permission denied"})):
		e.kind = ErrToken
	case status == http.StatusForbidden || status == http.StatusUnauthorized:
		e.kind = ErrForbidden
	case status == http.StatusNotFound && e.says("namespace not found"):
		e.kind = ErrConfig
	case status == http.StatusNotFound, e.says("key not found"):
		e.kind = ErrNoKey
	case status == http.StatusTooManyRequests, status >= 500, status == 412, status == 472, status == 473:
		e.kind = ErrUnavailable // 503: sealed; 412: a replica that lags behind; 472, 473: standby
	}
	return e
}

// secretBase64 is bytes that travel as Base64 and are never printed.
type secretBase64 []byte

func (secretBase64) String() string   { return "[redacted]" }
func (secretBase64) GoString() string { return "[redacted]" }

func (b secretBase64) MarshalText() ([]byte, error) {
	return base64.StdEncoding.AppendEncode(nil, b), nil
}

func (b *secretBase64) UnmarshalText(text []byte) (err error) {
	*b, err = base64.StdEncoding.AppendDecode(nil, text)
	return err
}
