package admin

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestOnlyKnownUsersMayCall(t *testing.T) {
	t.Parallel()
	s := NewDoor(DoorOptions{Log: slog.New(slog.DiscardHandler), UIDs: []uint32{4321}, Status: func() Status { return Status{State: "ready"} }})
	for _, tt := range []struct {
		peer *Peer
		want int
	}{
		{&Peer{UID: 0}, http.StatusOK},
		{&Peer{UID: uint32(os.Getuid())}, http.StatusOK},
		{&Peer{UID: 4321}, http.StatusOK},
		{&Peer{UID: 4322}, http.StatusForbidden},
		{nil, http.StatusForbidden}, // the kernel did not say who
	} {
		r := httptest.NewRequest(http.MethodPost, "/v1/status", strings.NewReader("{}"))
		if tt.peer != nil {
			r = r.WithContext(context.WithValue(r.Context(), peerKey{}, *tt.peer))
		}
		w := httptest.NewRecorder()
		s.http.Handler.ServeHTTP(w, r)
		if w.Code != tt.want {
			t.Errorf("peer %v: status %d, want %d", tt.peer, w.Code, tt.want)
		}
	}
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	f := start(t)
	hc := f.http
	for _, tt := range []struct {
		method, path, body string
		want               int
	}{
		{"POST", "/v1/status", `{"unknown": 1}`, 400},
		{"POST", "/v1/status", `{} {}`, 400},
		{"POST", "/v1/status", ``, 400},
		{"GET", "/v1/status", ``, 404},
		{"POST", "/v1/none", `{}`, 404},
		{"POST", "/v1/policy/show", `{"account":"` + strings.Repeat("a", maxBody) + `"}`, 400},
	} {
		req, err := http.NewRequestWithContext(t.Context(), tt.method, "http://x"+tt.path, strings.NewReader(tt.body))
		check(t, err)
		res, err := hc.Do(req)
		check(t, err)
		body, err := io.ReadAll(res.Body)
		check(t, err)
		res.Body.Close()
		if res.StatusCode != tt.want || !strings.Contains(string(body), `{"error":{"code":"`) {
			t.Errorf("%s %s %.40q: %d %s, want %d and an error", tt.method, tt.path, tt.body, res.StatusCode, body, tt.want)
		}
	}
}

func TestInternalErrorsAreNotShown(t *testing.T) {
	t.Parallel()
	f := start(t)
	_, err := f.AuditVerify(t.Context())
	e := wantCode(t, err, CodeInternal)
	ref := strings.TrimPrefix(e.Message, "internal error, reference ")
	if strings.Contains(e.Message, "secret place") || ref == e.Message {
		t.Errorf("message %q", e.Message)
	}
	if !strings.Contains(f.log.String(), ref) || !strings.Contains(f.log.String(), "secret place /x") {
		t.Errorf("the log has no cause under reference %s: %s", ref, f.log)
	}
}

func TestNoServer(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "admin.sock")
	_, err := NewClient(socket).Status(t.Context())
	if e := wantCode(t, err, CodeUnreachable); e.Code.Exit() != 7 || !strings.Contains(e.Message, socket) {
		t.Errorf("got %+v", e)
	}
	ln, err := Listen(socket, 0o600)
	check(t, err)
	ln.Close() // leaves a stale socket behind
	_, err = NewClient(socket).Status(t.Context())
	wantCode(t, err, CodeUnreachable)
	ln, err = Listen(socket, 0o600)
	check(t, err)
	defer ln.Close()
	if fi, err := os.Stat(socket); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("socket mode %v, %v", fi.Mode(), err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = NewClient(socket).Status(ctx) // accepted by the kernel, answered by nobody
	if e := wantCode(t, err, CodeTimeout); e.Code.Exit() != 9 {
		t.Errorf("exit %d", e.Code.Exit())
	}
}

func TestListenReplacesOnlySockets(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "admin.sock")
	check(t, os.WriteFile(path, []byte("precious"), 0o600))
	if _, err := Listen(path, 0o600); err == nil {
		t.Fatal("listened on a file")
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "precious" {
		t.Errorf("the file is %q, %v", data, err)
	}
}

// TestWhoMayUseTheSocketGetsToIt through every directory that was made for it, and nobody through one that was there.
func TestWhoMayUseTheSocketGetsToIt(t *testing.T) {
	t.Parallel()
	for mode, want := range map[os.FileMode]os.FileMode{0o600: 0o700, 0o666: 0o711} {
		top := filepath.Join(t.TempDir(), "top")
		check(t, os.Mkdir(top, 0o700))
		ln, err := Listen(filepath.Join(top, "run", "sallyport", "admin.sock"), mode)
		check(t, err)
		check(t, ln.Close())
		for dir, want := range map[string]os.FileMode{top: 0o700, top + "/run": want, top + "/run/sallyport": want} {
			if fi, err := os.Stat(dir); err != nil || fi.Mode().Perm() != want {
				t.Errorf("socket of mode %o: %s has mode %o, %v, want %o", mode, dir, fi.Mode().Perm(), err, want)
			}
		}
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	r := AccountAdd{Name: "a", Password: "canary"}
	slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "password", r.Password)
	slog.New(slog.NewTextHandler(&b, nil)).Info("x", "request", r)
	if strings.Contains(b.String(), "canary") {
		t.Errorf("log has the secret: %s", b.String())
	}
}
