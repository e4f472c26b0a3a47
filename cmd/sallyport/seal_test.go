package main

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/server/admin"
)

// breaking is the admin socket of a server that becomes another image: a connection that the old one had taken breaks.
type breaking struct {
	net.Listener
	left int
}

func (b *breaking) Accept() (net.Conn, error) {
	for ; b.left > 0; b.left-- {
		c, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c.Close()
	}
	return b.Listener.Accept()
}

// TestSealWaitsForTheNewImage: that a connection broke does not mean that the server ended; that nobody listens does.
func TestSealWaitsForTheNewImage(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "admin.sock")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	image := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err := json.NewEncoder(w).Encode(admin.Status{State: "sealed"}); err != nil {
			t.Error(err)
		}
	})}
	served := make(chan error, 1)
	go func() { served <- image.Serve(&breaking{ln, 2}) }()
	a, cl := &app{stdout: io.Discard, stderr: io.Discard}, admin.NewClient(path)
	if err := a.untilSealed(t.Context(), cl); err != nil {
		t.Errorf("sealed, and said: %v", err)
	}
	image.Close()
	<-served
	if err := a.untilSealed(t.Context(), cl); err == nil || !strings.Contains(err.Error(), "ended instead of sealing") {
		t.Errorf("nobody is there, and said: %v", err)
	}
}
