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
		state  phase
		sealed bool
		audit  error
		clock  bool
		code   int
	}{
		{phaseReady, false, nil, true, http.StatusOK},
		{phaseReady, false, nil, false, http.StatusOK},
		{phaseReady, false, errors.New("no space: canary"), true, http.StatusServiceUnavailable},
		{phaseSealed, true, nil, true, http.StatusServiceUnavailable},
		{phaseStopping, false, nil, true, http.StatusServiceUnavailable},
	} {
		w := httptest.NewRecorder()
		answerHealth(w, c.state, c.sealed, c.clock, c.audit, c.audit, nil)
		if w.Code != c.code || strings.Contains(w.Body.String(), "canary") {
			t.Errorf("%s, %v: %d %s, want %d", c.state, c.audit, w.Code, w.Body, c.code)
		}
		if sealed := strings.Contains(w.Body.String(), `"sealed":true`); sealed != c.sealed {
			t.Errorf("%s: %s", c.state, w.Body)
		}
		if clock := strings.Contains(w.Body.String(), `"clock_trusted":true`); clock != c.clock {
			t.Errorf("%s: %s", c.state, w.Body)
		}
	}
}
