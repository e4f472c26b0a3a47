package admin

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// What a user may do with a sealed server and with an open one, by the kernel's word.
func TestWhoMayUnsealMayNothingElse(t *testing.T) {
	t.Parallel()
	var attempts []Peer
	options := func(u Unsealers) DoorOptions {
		return DoorOptions{
			Log: slog.New(slog.DiscardHandler), UIDs: []uint32{21999}, Unsealers: u,
			Status:    func() Status { return Status{State: "sealed", Sealed: &Sealed{Reason: "no key", Hint: "find it"}} },
			Reload:    func(context.Context) error { return nil },
			SealState: func(context.Context) (SealState, error) { return SealState{}, nil },
			Unseal:    func(context.Context, Peer, Unseal) (SealState, error) { return SealState{State: "ready"}, nil },
			Attempt:   func(p Peer, _ *Error) { attempts = append(attempts, p) },
		}
	}
	holder, member, operator, stranger := Peer{UID: 21001}, Peer{UID: 21500, GIDs: []uint32{5, 21003}}, Peer{UID: 21999}, Peer{UID: 21500, GIDs: []uint32{5}}
	named := NewDoor(options(Unsealers{UIDs: []uint32{21001}, GIDs: []uint32{21003}}))
	open := NewDoor(options(Unsealers{}))
	for _, tt := range []struct {
		door *Door
		peer Peer
		op   string
		want int
	}{
		{named, holder, "unseal", http.StatusOK},
		{named, member, "unseal", http.StatusOK},
		{named, Peer{UID: 0}, "unseal", http.StatusOK},
		{named, operator, "unseal", http.StatusForbidden},
		{named, stranger, "unseal", http.StatusForbidden},
		{named, holder, "status", http.StatusOK},
		{named, holder, "unseal/state", http.StatusOK},
		{named, holder, "reload", http.StatusForbidden},
		{named, holder, "account/list", http.StatusForbidden},
		{named, stranger, "status", http.StatusForbidden},
		{named, operator, "reload", http.StatusOK},
		{named, operator, "account/list", http.StatusServiceUnavailable},
		{open, operator, "unseal", http.StatusOK},
		{open, holder, "unseal", http.StatusForbidden},
	} {
		r := httptest.NewRequest(http.MethodPost, "/v1/"+tt.op, strings.NewReader("{}"))
		w := httptest.NewRecorder()
		tt.door.http.Handler.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), peerKey{}, tt.peer)))
		if w.Code != tt.want {
			t.Errorf("uid %d, %s: status %d, want %d: %s", tt.peer.UID, tt.op, w.Code, tt.want, w.Body)
		}
		if w.Code == http.StatusServiceUnavailable && !strings.Contains(w.Body.String(), "no key") {
			t.Errorf("a sealed server does not say why: %s", w.Body)
		}
	}
	if len(attempts) != 1 || attempts[0].UID != operator.UID {
		t.Errorf("attempts on record: %v, want the operator's", attempts)
	}
}
