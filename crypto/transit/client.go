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
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

const (
	maxAnswer = 64 << 10 // bytes
	maxToken  = 4096     // bytes
	attempts  = 4
	firstWait = 250 * time.Millisecond // doubled after each attempt
)

// client speaks to one service. Safe for concurrent use.
type client struct {
	config *Config
	http   *http.Client
	wait   func(context.Context, time.Duration) error
}

func newClient(c *Config) (*client, error) {
	tlsConfig := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("%w: ca_file: %w", ErrConfig, err)
		}
		tlsConfig.RootCAs = x509.NewCertPool()
		if !tlsConfig.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%w: ca_file %s holds no certificate", ErrConfig, c.CAFile)
		}
	}
	return &client{config: c, wait: wait, http: &http.Client{
		// No proxy from the environment: the root key goes where the configuration says.
		Transport: &http.Transport{TLSClientConfig: tlsConfig, ForceAttemptHTTP2: true, DisableKeepAlives: true, ResponseHeaderTimeout: c.Timeout},
		Timeout:   c.Timeout,
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			// A standby names its leader; the token must not go out in clear.
			if r.URL.Scheme != "https" || len(via) > 3 {
				return errors.New("redirected to somewhere that is not HTTPS, or for ever")
			}
			return nil
		},
	}}, nil
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
// sent as JSON, nil for none; out takes the member data of the answer.
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
		if err == nil || !again(err) || try == attempts {
			return err
		}
		if werr := c.wait(ctx, pause); werr != nil {
			return errors.Join(err, werr)
		}
		pause *= 2
	}
}

// again tells whether another attempt may help. A token may just have been
// renewed, so that a refusal is tried again like a service that is not there.
func again(err error) bool { return errors.Is(err, ErrUnavailable) || errors.Is(err, ErrForbidden) }

func (c *client) once(ctx context.Context, method, path string, body []byte, out any) error {
	token, err := c.token()
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(c.config.Address, "/")+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	r.Header.Set("X-Vault-Token", token)
	r.Header.Set("X-Vault-Request", "true")
	if c.config.Namespace != "" {
		r.Header.Set("X-Vault-Namespace", strings.Trim(c.config.Namespace, "/"))
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return unreachable(ctx, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	defer clear(answer)
	if err != nil {
		return unreachable(ctx, err)
	}
	return decode(resp.StatusCode, answer, out)
}

// unreachable tells a certificate that does not fit from a service that is away.
func unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var cert *tls.CertificateVerificationError
	if errors.As(err, &cert) {
		return fmt.Errorf("%w: its certificate: %w; is ca_file right?", ErrConfig, cert.Err)
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return fmt.Errorf("%w: %w", ErrUnavailable, op)
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// token is read each time: agents replace the file before the old one expires.
func (c *client) token() (string, error) {
	f, err := os.Open(c.config.TokenFile)
	if err != nil {
		return "", fmt.Errorf("%w: token_file: %w", ErrConfig, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxToken+1))
	if err != nil {
		return "", fmt.Errorf("%w: token_file: %w", ErrConfig, err)
	}
	token := strings.TrimSpace(string(b))
	if token == "" || len(b) > maxToken || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("%w: token_file %s does not hold a token", ErrConfig, c.config.TokenFile)
	}
	return token, nil
}

// apiError is an answer that is not 2xx.
type apiError struct {
	status   int
	messages []string
	kind     error
}

func (e *apiError) Error() string {
	text := fmt.Sprintf("%v (HTTP %d", e.kind, e.status)
	for _, m := range e.messages {
		text += ": " + m
	}
	return text + ")"
}

func (e *apiError) Unwrap() error { return e.kind }

// says tells whether the service's words have this in them. They are what it
// has: its status is 400 for many things.
func (e *apiError) says(what string) bool {
	for _, m := range e.messages {
		if strings.Contains(m, what) {
			return true
		}
	}
	return false
}

// decode reads an answer.
func decode(status int, answer []byte, out any) error {
	if len(answer) > maxAnswer {
		return fmt.Errorf("%w: longer than %d bytes", ErrAnswer, maxAnswer)
	}
	if status < 200 || status > 299 {
		return refusal(status, answer)
	}
	if out == nil {
		return nil
	}
	var envelope struct {
		Data json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(answer, &envelope); err != nil || len(envelope.Data) == 0 {
		return fmt.Errorf("%w: no data in it", ErrAnswer)
	}
	defer clear(envelope.Data)
	if err := json.Unmarshal(envelope.Data, out); err != nil {
		return fmt.Errorf("%w: not what was asked for", ErrAnswer) // err could quote the data
	}
	return nil
}

func refusal(status int, answer []byte) error {
	var body struct {
		Errors []string `json:"errors"`
	}
	_ = json.Unmarshal(answer, &body) // a proxy's page has none
	e := &apiError{status: status, kind: ErrAnswer}
	for i, m := range body.Errors {
		if i == 3 {
			break
		}
		e.messages = append(e.messages, tidy(m))
	}
	switch {
	case status == http.StatusForbidden || status == http.StatusUnauthorized:
		e.kind = ErrForbidden
	case status == http.StatusNotFound, e.says("encryption key not found"), e.says("key not found"):
		e.kind = ErrNoKey
	case status == http.StatusTooManyRequests, status >= 500, status == 412, status == 472, status == 473:
		e.kind = ErrUnavailable // 503: sealed; 412: a replica that lags behind; 472, 473: standby
	}
	return e
}

// tidy makes the words of another program fit to be shown: one line, short.
func tidy(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
	if len(s) > 200 {
		s = s[:200] + "…"
	}
	return strings.ToValidUTF8(strings.Join(strings.Fields(s), " "), "?")
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
