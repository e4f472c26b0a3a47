package server

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestListenAllOpensAllOrNone(t *testing.T) {
	t.Parallel()
	open, err := listenAll(t.Context(), []Listener{{ProtocolSFTP, "127.0.0.1:0"}, {ProtocolFTPSExplicit, "127.0.0.1:0"}}, nil, new(handover).take)
	check(t, err)
	defer closeAll(open)
	taken := open[0].Addr().String()
	free, err := net.Listen("tcp", "127.83.76.1:0") // where nobody else listens who might be given the port in between
	check(t, err)
	address := free.Addr().String()
	free.Close()
	_, err = listenAll(t.Context(), []Listener{{ProtocolSFTP, address}, {ProtocolFTPSImplicit, taken}}, nil, new(handover).take)
	var le *ListenError
	if !errors.As(err, &le) || !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(le.Hint(), "another program has this port") {
		t.Fatalf("error %v", err)
	}
	again, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatalf("the first listener was left open: %v", err)
	}
	again.Close()
}

// Every way in which a listener fails says which one, why in one phrase, and what to do.
func TestListenErrorsSayWhatToDo(t *testing.T) {
	t.Parallel()
	bind := func(errno syscall.Errno) error {
		return &net.OpError{Op: "listen", Net: "tcp", Err: os.NewSyscallError("bind", errno)}
	}
	for _, tt := range []struct {
		l           Listener
		err         error
		says, hints string
	}{
		{Listener{ProtocolFTPSExplicit, ":21"}, bind(syscall.EACCES), "listening for ftps-explicit on :21: permission denied", "CAP_NET_BIND_SERVICE"},
		{Listener{ProtocolFTPSImplicit, ":990"}, bind(syscall.EADDRINUSE), "listening for ftps-implicit on :990: address already in use", "under listeners in"},
		{Listener{protocolHealth, "127.0.0.1:80"}, bind(syscall.EADDRINUSE), "listening for health on 127.0.0.1:80: address already in use", "under health.address in"},
		{Listener{ProtocolSFTP, "192.0.2.1:22"}, bind(syscall.EADDRNOTAVAIL), "listening for sftp on 192.0.2.1:22: cannot assign requested address", "`ip address`"},
		{Listener{ProtocolSFTP, "[::1]:22"}, bind(syscall.EAFNOSUPPORT), "address family not supported", "no IPv6"},
		{Listener{ProtocolSFTP, "host.invalid:22"}, &net.OpError{Op: "listen", Err: &net.DNSError{Err: "no such host", Name: "host.invalid"}}, "no such host", "rather than a name"},
	} {
		e := &ListenError{tt.l, tt.err}
		if !strings.Contains(e.Error(), tt.says) || !strings.Contains(e.Hint(), tt.hints) {
			t.Errorf("%q (hint %q), want %q (hint %q)", e, e.Hint(), tt.says, tt.hints)
		}
	}
}

func TestSocketActivation(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	open, err := listenAll(t.Context(), []Listener{{ProtocolSFTP, "systemd:sftp"}}, map[string][]net.Listener{"sftp": {ln}}, new(handover).take)
	check(t, err)
	defer closeAll(open)
	if len(open) != 1 || open[0].Addr() != ln.Addr() || open[0].protocol != ProtocolSFTP {
		t.Errorf("got %v", open)
	}
	if _, err := listenAll(t.Context(), []Listener{{ProtocolSFTP, "systemd:none"}}, nil, new(handover).take); err == nil || !strings.Contains(err.Error(), `no socket named "none"`) {
		t.Errorf("error %v", err)
	}
	// Sockets meant for another process are not ours.
	if got, err := passedListeners(func(k string) string {
		return map[string]string{"LISTEN_PID": "1", "LISTEN_FDS": "1"}[k]
	}); got != nil || err != nil {
		t.Errorf("took sockets of process 1: %v, %v", got, err)
	}
}

// The caps before login must act in the session manager, which has the fairer rule, before the front-end's wall is reached.
func TestSFTPLimitsFollowTheConfiguration(t *testing.T) {
	t.Parallel()
	got := sftpLimits(Limits{LoginTime: 7 * time.Second, Unauthenticated: 2000, UnauthenticatedPerAddress: 300})
	if got.PreAuth != 7*time.Second || got.Handshakes <= 2000 || got.HandshakesPerNet <= 300 {
		t.Errorf("got %+v", got)
	}
}

func TestPublicAddress(t *testing.T) {
	t.Parallel()
	addr := netip.MustParseAddr
	fn := publicAddress(Passive{PublicAddress: "203.0.113.5", Networks: []PassiveNetwork{{From: "10.0.0.0/8", Address: "auto"}, {From: "192.0.2.0/24", Address: "192.0.2.1"}}})
	for remote, want := range map[string]netip.Addr{"198.51.100.1": addr("203.0.113.5"), "10.1.2.3": {}, "::ffff:10.1.2.3": {}, "192.0.2.77": addr("192.0.2.1")} {
		if got := fn(addr("127.0.0.1"), addr(remote)); got != want {
			t.Errorf("client %s is told %v, want %v", remote, got, want)
		}
	}
}

func TestListeningPortsOfThisProcess(t *testing.T) {
	t.Parallel()
	const line = "   0: 0100007F:07E6 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1 0000000000000000 100 0 0 10 0"
	if port, ok := listening(line, map[string]bool{"4242": true}); !ok || port != 2022 {
		t.Errorf("port %d, %v; want 2022", port, ok)
	}
	for _, bad := range []string{"", "garbage", strings.Replace(line, " 0A ", " 01 ", 1), strings.Replace(line, "4242", "4243", 1), strings.Replace(line, ":07E6", ":zz", 1)} {
		if _, ok := listening(bad, map[string]bool{"4242": true}); ok {
			t.Errorf("%q counts as listening", bad)
		}
	}
}
