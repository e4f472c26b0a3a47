package transit

import (
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/crypto/transit/transittest"
)

// hang returns when the client has gone, which is noticed only when its request was read.
func hang(r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body) // it may have gone already
	<-r.Context().Done()
}

// TestAnswersWithoutEnd: an answer that does not come, or does not end, costs no more than the time and the memory that are set for it.
func TestAnswersWithoutEnd(t *testing.T) {
	t.Parallel()
	const short = 20 * time.Millisecond
	for what, c := range map[string]struct {
		serve   http.HandlerFunc
		timeout time.Duration
		want    error
		says    string
	}{
		"no answer": {func(_ http.ResponseWriter, r *http.Request) { hang(r) }, short, ErrUnavailable, "no answer within 20ms"},
		"an answer that hangs": {func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "{")
			w.(http.Flusher).Flush()
			hang(r)
		}, short, ErrUnavailable, "no answer within 20ms"},
		"an answer that is cut off": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, `{"data":`)
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, time.Minute, ErrUnavailable, "unexpected EOF"},
		"an endless answer": {func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(bytes.Repeat([]byte(" "), 4096)); err != nil {
					return
				}
			}
		}, time.Minute, ErrAnswer, "longer than 65536 bytes"},
		"an endless refusal": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, strings.Repeat(" ", 4096)); err != nil {
					return
				}
			}
		}, time.Minute, ErrAnswer, "longer than 65536 bytes"},
		"a login page of a proxy": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			io.WriteString(w, "<html>who are you?")
		}, time.Minute, ErrAnswer, "(HTTP 403: not in the words of the service: something between answers in its place)"},
		"a proxy that knows no such path": {func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }, time.Minute, ErrAnswer, "HTTP 404: not in the words of the service"},
		"another API": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNotFound)
			io.WriteString(w, `{"message":"no route"}`)
		}, time.Minute, ErrAnswer, "HTTP 404: not in the words of the service"},
		"a proxy with nothing behind it": {func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadGateway)
		}, time.Minute, ErrUnavailable, "HTTP 502: not in the words of the service"},
		"a redirection that makes a GET of it": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://leader.example:8200"+r.URL.Path, http.StatusFound)
		}, time.Minute, ErrConfig, "redirected by a status that loses the request; seal.transit.address must be where it leads to: https://leader.example:8200"},
		"a redirection in a circle": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path, http.StatusTemporaryRedirect)
		}, time.Minute, ErrConfig, "not HTTPS, or for ever"},
		"an answer that expands without end": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			packed := gzip.NewWriter(w)
			for range 100 {
				if _, err := packed.Write(make([]byte, 1<<20)); err != nil {
					return
				}
			}
		}, time.Minute, ErrAnswer, "longer than 65536 bytes"},
		"a header without end": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Long", strings.Repeat("x", 1<<20))
		}, time.Minute, ErrUnavailable, "header"},
		"a page of a proxy": {func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") }, time.Minute, ErrAnswer, "no data in it"},
		"an older service": {func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, `{"data":{"plaintext":"AAAA"},"warnings":["Endpoint ignored these unrecognized parameters: [associated_data]"]}`)
		}, time.Minute, ErrAnswer, "unrecognized parameters: [associated_data]"},
		"a refusal that quotes the token": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			json.NewEncoder(w).Encode(map[string]any{"errors": []string{"what is " + r.Header.Get("X-Vault-Token") + "?\nno"}})
		}, time.Minute, ErrAnswer, "what is [redacted]? no"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewTLSServer(c.serve)
			defer server.Close()
			b, _ := newBench(t)
			b.config.Address, b.config.Timeout = server.URL, c.timeout
			ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
			if err := os.WriteFile(b.config.CAFile, ca, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := b.seal(t).Unwrap(t.Context(), []byte("vault:v1:AAAA"))
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "s.token") {
				t.Errorf("%v, want %v and %q", err, c.want, c.says)
			}
		})
	}
}

// TestARefusalThatQuotesTheRootKey: what a program in between quotes of the request must not put the root key where errors go.
func TestARefusalThatQuotesTheRootKey(t *testing.T) {
	t.Parallel()
	b, _ := newBench(t)
	asked, quoting := false, func(body []byte) string { return string(body) }
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked = asked || bytes.Contains(body, []byte("plaintext"))
		w.WriteHeader(http.StatusBadRequest)
		json.NewEncoder(w).Encode(map[string]any{"errors": []string{"do not like " + quoting(body)}})
	}))
	defer server.Close()
	b.config.Address = server.URL
	if err := os.WriteFile(b.config.CAFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	root := bytes.Repeat([]byte{0xfb, 0xf7, 0xff, 1}, 8) // in Base64 there are + and / in it
	for what, q := range map[string]func([]byte) string{
		"as it came": func(b []byte) string { return string(b) },
		"escaped": func(b []byte) string {
			return strings.NewReplacer("/", `\/`, "+", `\u002b`, "=", `\u003d`).Replace(string(b))
		},
	} {
		quoting, asked = q, false
		_, err := b.seal(t).(*destroyer).encrypt(t.Context(), root)
		if !asked || err == nil || !strings.Contains(err.Error(), `do not like {"associated_data":"c2FsbHlwb3J0LnJvb3QudjE`) || !strings.HasSuffix(err.Error(), `"plaintext":"[redacted]"})`) {
			t.Errorf("%s, asked %v: %v", what, asked, err)
		}
	}
}

// TestHTTPWhereTLSIsExpected is what somebody sees who forgot tls_cert_file at the service.
func TestHTTPWhereTLSIsExpected(t *testing.T) {
	t.Parallel()
	b, s := newBench(t)
	wrapped := wrap(t, s)
	var stolen atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { stolen.Add(1) }))
	defer server.Close()
	b.config.Address = strings.Replace(server.URL, "http:", "https:", 1)
	if _, err := b.seal(t).Unwrap(t.Context(), wrapped); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), "without TLS") || stolen.Load() > 0 {
		t.Errorf("%v, after %d requests in clear", err, stolen.Load())
	}
}

// TestCertificates: what is wrong with one is said so that somebody can mend it.
func TestCertificates(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		change func(*x509.Certificate)
		says   string
	}{
		"of another name": {func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"vault.example"} }, "seal.transit.address must name the service as the certificate does"},
		"that has ended":  {func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }, "it must be replaced at the service, or the clock here is wrong"},
	} {
		cert, key := transittest.Certificate(t, c.change)
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := newBench(t)
		server := httptest.NewUnstartedServer(b.vault)
		server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		server.StartTLS()
		b.config.Address = server.URL
		if err := os.WriteFile(b.config.CAFile, cert, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err = b.seal(t).Unwrap(t.Context(), []byte("vault:v1:AAAA"))
		if n := len(b.vault.Requests()); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), c.says) || n > 0 {
			t.Errorf("a certificate %s: %v after %d requests", what, err, n)
		}
		server.Close()
	}
}

// TestRetryAfter: a service that asks for a pause gets one, within bounds.
func TestRetryAfter(t *testing.T) {
	t.Parallel()
	b, _ := newBench(t)
	pauses := []string{"3", "86400", "tomorrow"}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if len(pauses) > 0 {
			w.Header().Set("Retry-After", pauses[0])
			pauses = pauses[1:]
		}
		w.WriteHeader(http.StatusTooManyRequests)
		io.WriteString(w, `{"errors":["rate limit quota exceeded"]}`)
	}))
	defer server.Close()
	b.config.Address = server.URL
	if err := os.WriteFile(b.config.CAFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := b.seal(t).Unwrap(t.Context(), []byte("vault:v1:AAAA"))
	if want := []time.Duration{3 * time.Second, mostWait, 4 * firstWait}; !errors.Is(err, ErrUnavailable) || !slices.Equal(b.waits, want) {
		t.Errorf("%v, after pauses of %v, want %v", err, b.waits, want)
	}
}

// TestNoProxyIsAsked: the root key is in the requests, and the environment must not say who sees them.
func TestNoProxyIsAsked(t *testing.T) {
	t.Parallel()
	_, s := newBench(t)
	conn, err := s.(*destroyer).client.connect()
	if err != nil {
		t.Fatal(err)
	}
	if tr := conn.Transport.(*http.Transport); tr.Proxy != nil || tr.TLSClientConfig.InsecureSkipVerify || tr.TLSClientConfig.MinVersion < tls.VersionTLS12 {
		t.Errorf("a transport with proxy %v, skipping verification %v, TLS from %#x", tr.Proxy != nil, tr.TLSClientConfig.InsecureSkipVerify, tr.TLSClientConfig.MinVersion)
	}
}
