package admin

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// DoorOptions are what the admin socket can do whether the server is sealed or
// not. What only the assembled server can do comes as function values.
type DoorOptions struct {
	Log  *slog.Logger
	UIDs []uint32 // who may administer, beside root and the server's own user
	// Unsealers may unseal and look at the state, and nothing else unless UIDs
	// has them too. Empty: whoever may administer. Root always may.
	Unsealers Unsealers

	Status   func() Status
	Reload   func(context.Context) error
	HostKeys func() []HostKey
	Certs    func() []Cert

	SealState func(context.Context) (SealState, error)
	// Unseal takes what one person has to give; the answer says what is missing.
	Unseal func(ctx context.Context, who Peer, r Unseal) (SealState, error)
	// Attempt is told of every refused attempt to unseal, for the record.
	Attempt func(who Peer, refusal *Error)
}

// Unsealers are users and groups.
type Unsealers struct{ UIDs, GIDs []uint32 }

func (u Unsealers) empty() bool { return len(u.UIDs)+len(u.GIDs) == 0 }

func (u Unsealers) has(p Peer) bool {
	return slices.Contains(u.UIDs, p.UID) || slices.ContainsFunc(p.GIDs, func(g uint32) bool { return slices.Contains(u.GIDs, g) })
}

// Door is the admin socket: it knows who calls, answers by itself what needs no
// key, and hands everything else to the Server, if one is open. Safe for
// concurrent use.
type Door struct {
	answerer
	o      DoorOptions
	http   *http.Server
	always *http.ServeMux
	inside atomic.Pointer[Server] // nil while sealed
}

type peerKey struct{}

// NewDoor makes a Door on a sealed server; Serve runs it.
func NewDoor(o DoorOptions) *Door {
	d := &Door{answerer: answerer{o.Log}, o: o, always: http.NewServeMux()}
	d.routes(d.always)
	d.http = &http.Server{
		Handler: d.guard(d.always), ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: 8 << 10,
		ErrorLog: slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			p, err := peerOf(c)
			if err != nil {
				return ctx // guard refuses a connection without a peer
			}
			return context.WithValue(ctx, peerKey{}, p)
		},
	}
	return d
}

// Open lets callers in to the operations of s.
func (d *Door) Open(s *Server) { d.inside.Store(s) }

// Shut is the end of Open: new calls are told that the server is sealed.
// Streams of the Server end.
func (d *Door) Shut() {
	if s := d.inside.Swap(nil); s != nil {
		s.stop()
	}
}

// Serve answers on ln until ctx ends, then lets requests under way finish for
// grace and returns nil.
func (d *Door) Serve(ctx context.Context, ln net.Listener, grace time.Duration) error {
	done := make(chan error, 1)
	go func() { done <- d.http.Serve(&strangers{Listener: ln, known: d.knows}) }() // ends with Shutdown or Close below
	select {
	case err := <-done:
		return fmt.Errorf("admin socket: %w", err)
	case <-ctx.Done():
	}
	if s := d.inside.Load(); s != nil {
		s.stop()
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	if d.http.Shutdown(stop) != nil {
		d.http.Close()
	}
	<-done
	return nil
}

// guard lets only known peers in and bounds what they send.
func (d *Door) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, ok := r.Context().Value(peerKey{}).(Peer)
		if !ok || !d.mayEnter(p, r.URL.Path) {
			d.o.Log.Warn("admin request refused", "uid", p.UID, "pid", p.PID, "path", r.URL.Path)
			w.Header().Set("Connection", "close")
			writeError(w, newError(CodeRefused, "this user may not administer the server", "run as root or as the server's own user, or add your uid to admin.uids in sallyport.yaml"))
			return
		}
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout)) // a unix socket always can
		most := int64(maxBody)
		if r.URL.Path == copyHavePath {
			most = maxManifest
		}
		r.Body = http.MaxBytesReader(w, r.Body, most)
		next.ServeHTTP(w, r)
	})
}

func (d *Door) administers(p Peer) bool {
	return p.UID == 0 || p.UID == uint32(os.Getuid()) || slices.Contains(d.o.UIDs, p.UID)
}

// knows says whether a peer may do anything at all.
func (d *Door) knows(p Peer) bool { return d.administers(p) || d.o.Unsealers.has(p) }

// mayEnter decides by the kernel's word. Whoever may only unseal may also look
// at what is to be unsealed.
func (d *Door) mayEnter(p Peer, path string) bool {
	if d.administers(p) {
		return true
	}
	return d.o.Unsealers.has(p) && slices.Contains([]string{"/v1/status", "/v1/unseal", "/v1/unseal/state"}, path)
}

// mayUnseal: an operator with a shell and admin rights is not thereby one who
// holds a key of the house.
func (d *Door) mayUnseal(p Peer) bool {
	return p.UID == 0 || d.o.Unsealers.empty() || d.o.Unsealers.has(p)
}

// routes binds the operations that need no key. For everything else there is
// the Server, or the news that there is none.
func (d *Door) routes(mux *http.ServeMux) {
	handle(d, mux, "status", func(context.Context, Peer, Empty) (Status, error) { return d.o.Status(), nil })
	handle(d, mux, "reload", d.reload)
	handle(d, mux, "unseal", d.unseal)
	handle(d, mux, "unseal/state", func(ctx context.Context, _ Peer, _ Empty) (SealState, error) { return d.o.SealState(ctx) })
	handle(d, mux, "hostkey/list", func(context.Context, Peer, Empty) (HostKeys, error) { return HostKeys{d.o.HostKeys()}, nil })
	handle(d, mux, "cert/list", func(context.Context, Peer, Empty) (Certs, error) { return Certs{d.o.Certs()}, nil })
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if s := d.inside.Load(); s != nil {
			s.mux.ServeHTTP(w, r)
			return
		}
		writeError(w, d.sealed())
	})
}

// sealed is the answer of a server without keys.
func (d *Door) sealed() *Error {
	st := d.o.Status()
	switch st.State {
	case "stopping":
		return newError(CodeSealed, "the server is stopping", "start it again")
	case "starting", "unsealing":
		return newError(CodeSealed, "the server is "+st.State, "try again in a moment")
	}
	message := "the server is sealed, so it cannot do that"
	if st.Sealed != nil && st.Sealed.Reason != "" {
		message += ": " + strings.TrimPrefix(st.Sealed.Reason, "keyring: sealed: ")
	}
	hint := "unseal it with `sallyport unseal`; `sallyport status` says why it is sealed"
	if st.Sealed != nil && st.Sealed.Hint != "" {
		hint = st.Sealed.Hint
	}
	return newError(CodeSealed, message, hint)
}

func (d *Door) reload(ctx context.Context, _ Peer, _ Empty) (Empty, error) {
	if err := d.o.Reload(ctx); err != nil {
		return Empty{}, newError(CodeInvalid, "not reloaded, the running configuration stays: "+err.Error(), "")
	}
	return Empty{}, nil
}

func (d *Door) unseal(ctx context.Context, who Peer, r Unseal) (SealState, error) {
	if !d.mayUnseal(who) {
		e := newError(CodeRefused, "this user may not unseal the server", "who may stands in sallyport.yaml: admin.unseal_uids, admin.unseal_gids")
		d.o.Attempt(who, e)
		return SealState{}, e
	}
	return d.o.Unseal(ctx, who, r)
}
