package server

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// A load balancer must not send clients to a server that refuses every login.
func TestHealthFollowsTheAuditLog(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		state string
		audit error
		code  int
	}{
		{"ready", nil, http.StatusOK},
		{"ready", errors.New("no space: canary"), http.StatusServiceUnavailable},
		{"stopping", nil, http.StatusServiceUnavailable},
	} {
		w := httptest.NewRecorder()
		answerHealth(w, c.state, c.audit)
		if w.Code != c.code || strings.Contains(w.Body.String(), "canary") {
			t.Errorf("%s, %v: %d %s, want %d", c.state, c.audit, w.Code, w.Body, c.code)
		}
	}
}
