package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// peer is a running server of either protocol.
type peer struct {
	name     string
	host     string
	port     string
	user     string
	password string
	key      string // private key file, SFTP
	base     string // directory to use, with a trailing slash
	cmd      *exec.Cmd
	group    *cgroup         // nil without root or cgroup2: then the process tree is added up
	warm     map[string]bool // inputs already laid out on it

	state     string                // state directory; "" = not sallyport
	amplified map[int]amplification // by round
}

func (p *peer) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	done := make(chan struct{})
	go func() { _ = p.cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		_ = p.cmd.Process.Kill()
		<-done
	}
	if p.group != nil {
		p.group.remove()
	}
}

// launch starts p.cmd, in a group of its own if that can be had.
func (p *peer) launch() error {
	g, err := newCgroup(strings.ReplaceAll(p.name, " ", "-"))
	if err != nil {
		return p.cmd.Start()
	}
	p.group = g
	return g.start(p.cmd)
}

func (p *peer) usage() (usage, error) {
	if p.group != nil {
		return p.group.usage()
	}
	return treeUsage(p.cmd.Process.Pid)
}

// sftpPeers are sallyport first, then whom it is compared with.
func sftpPeers(ctx context.Context, c config) ([]*peer, error) {
	s, conn, err := startSallyport(c, "sftp")
	if err != nil {
		return nil, err
	}
	s.port, s.key = fmt.Sprint(conn.SFTPPort), conn.KeyFile
	peers := []*peer{s}
	if c.alone {
		return peers, nil
	}
	hostKey := filepath.Join(c.dir, "hostkey")
	if err := run1(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", hostKey); err != nil {
		return peers, err
	}
	for _, start := range []func(config, *peer, string) (*peer, error){startBareSFTP, startOpenSSH} {
		p, err := start(c, s, hostKey)
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
			fmt.Fprintln(os.Stderr, "bench: a peer is not installed:", err)
			continue
		} else if err != nil {
			return peers, err
		}
		peers = append(peers, p)
	}
	return peers, nil
}

func ftpsPeers(_ context.Context, c config) ([]*peer, error) {
	s, conn, err := startSallyport(c, "ftps")
	if err != nil {
		return nil, err
	}
	s.port = fmt.Sprint(conn.FTPSPort)
	peers := []*peer{s}
	if c.alone {
		return peers, nil
	}
	for _, start := range []func(config) (*peer, error){startBareFTPS, startVsftpd} {
		p, err := start(c)
		if errors.Is(err, exec.ErrNotFound) {
			fmt.Fprintln(os.Stderr, "bench: a peer is not installed:", err)
			continue
		} else if err != nil {
			return peers, err
		}
		peers = append(peers, p)
	}
	return peers, nil
}

// connection is what `sallyport demo` writes for its users.
type connection struct {
	Host     string `json:"host"`
	SFTPPort int    `json:"sftp_port"`
	FTPSPort int    `json:"ftps_port"`
	Account  string `json:"account"`
	Password string `json:"password"`
	KeyFile  string `json:"key_file"`

	AdminSocket string `json:"admin_socket"`
}

func startSallyport(c config, protocol string) (*peer, *connection, error) {
	state, err := filepath.Abs(filepath.Join(c.dir, "sallyport-"+protocol))
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.Command(c.sallyport, "demo", "--state", state, "--sftp", "127.0.0.1:0", "--ftps", "127.0.0.1:0", "--ftps-implicit", "127.0.0.1:0")
	log, err := os.Create(state + ".log")
	if err != nil {
		return nil, nil, err
	}
	cmd.Stdout, cmd.Stderr = log, log
	p := &peer{name: "sallyport", host: "127.0.0.1", cmd: cmd, base: "/", warm: map[string]bool{}, state: state}
	if err := p.launch(); err != nil {
		return nil, nil, err
	}
	var conn connection
	deadline := time.Now().Add(30 * time.Second)
	for {
		raw, err := os.ReadFile(filepath.Join(state, "connection.json"))
		if err == nil {
			err = json.Unmarshal(raw, &conn)
		}
		if err == nil && reachable(conn.SFTPPort) && reachable(conn.FTPSPort) {
			break
		}
		if time.Now().After(deadline) {
			p.stop()
			return nil, nil, fmt.Errorf("sallyport did not get ready, see %s: %v", log.Name(), err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	p.user, p.password = conn.Account, conn.Password
	// One account is every client here; by default it may have 16 sessions.
	return p, &conn, run1(context.Background(), c.sallyport, "--socket", conn.AdminSocket, "policy", "set", "accounts."+conn.Account+".session.max=500", "--reason", "benchmark")
}

func reachable(port int) bool {
	c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), time.Second)
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}

// startReady starts this binary as a bare server and waits for its ready line.
func startReady(p *peer, args ...string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	p.cmd = exec.Command(self, args...)
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := p.launch(); err != nil {
		return err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	_, p.port, err = net.SplitHostPort(strings.TrimSpace(strings.TrimPrefix(line, "ready ")))
	return err
}

func startBareSFTP(c config, s *peer, hostKey string) (*peer, error) {
	root, err := newRoot(c, "bare-sftp")
	if err != nil {
		return nil, err
	}
	p := &peer{name: "bare sftp", host: "127.0.0.1", user: s.user, key: s.key, base: "/", warm: map[string]bool{}}
	return p, startReady(p, "bare-sftp", "-root", root, "-hostkey", hostKey)
}

func startBareFTPS(c config) (*peer, error) {
	root, err := newRoot(c, "bare-ftps")
	if err != nil {
		return nil, err
	}
	p := &peer{name: "bare ftps", host: "127.0.0.1", user: "bench", password: "bench", base: "/", warm: map[string]bool{}}
	return p, startReady(p, "bare-ftps", "-root", root)
}

func newRoot(c config, name string) (string, error) {
	root, err := filepath.Abs(filepath.Join(c.dir, name))
	if err != nil {
		return "", err
	}
	return root, os.MkdirAll(root, 0o777)
}

func freePort() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer ln.Close()
	_, port, err := net.SplitHostPort(ln.Addr().String())
	return port, err
}

// startOpenSSH runs sshd for the current user, keys only, with the stock sftp-server and stock algorithms.
func startOpenSSH(c config, s *peer, hostKey string) (*peer, error) {
	sshd, err := lookSbin("sshd")
	if err != nil {
		return nil, err
	}
	root, err := newRoot(c, "openssh")
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	pub, err := exec.Command("ssh-keygen", "-y", "-f", s.key).Output()
	if err != nil {
		return nil, err
	}
	keys := filepath.Join(root, ".authorized")
	if err := os.WriteFile(keys, pub, 0o600); err != nil {
		return nil, err
	}
	_ = os.MkdirAll("/run/sshd", 0o755) // sshd's privilege separation directory
	host, err := filepath.Abs(hostKey)
	if err != nil {
		return nil, err
	}
	conf := filepath.Join(root, ".sshd_config")
	text := fmt.Sprintf("Port %s\nListenAddress 127.0.0.1\nHostKey %s\nAuthorizedKeysFile %s\nStrictModes no\nUsePAM no\nPidFile none\nMaxStartups 200\nPermitRootLogin prohibit-password\nSubsystem sftp /usr/lib/openssh/sftp-server\n", port, host, keys)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return nil, err
	}
	p := &peer{name: "openssh", host: "127.0.0.1", port: port, user: currentUser(), key: s.key, base: root + "/", warm: map[string]bool{}}
	p.cmd = exec.Command(sshd, "-D", "-f", conf)
	return p, startAndWait(p)
}

// startVsftpd runs vsftpd (TLS 1.3 comes with its OpenSSL) and its anonymous account, which
// spares it the slow password hash; it needs root.
func startVsftpd(c config) (*peer, error) {
	bin, err := lookSbin("vsftpd")
	if err != nil {
		return nil, err
	}
	root, err := newRoot(c, "vsftpd")
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(root, "pub"), 0o777); err != nil {
		return nil, err
	}
	// The anonymous root must not be writable, its subdirectory must.
	for path, mode := range map[string]os.FileMode{filepath.Join(root, "pub"): 0o777, root: 0o755} {
		if err := os.Chmod(path, mode); err != nil {
			return nil, err
		}
	}
	cert := filepath.Join(root, "..", "vsftpd.pem")
	if err := writePEM(cert); err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	conf := filepath.Join(root, "..", "vsftpd.conf")
	text := strings.Join([]string{"listen=YES", "listen_ipv6=NO", "background=NO", "listen_address=127.0.0.1", "listen_port=" + port,
		"anonymous_enable=YES", "no_anon_password=NO", "local_enable=NO", "write_enable=YES", "anon_upload_enable=YES", "anon_mkdir_write_enable=YES",
		"anon_other_write_enable=YES", "anon_umask=022", "anon_root=" + root, "ssl_enable=YES", "allow_anon_ssl=YES", "force_anon_data_ssl=YES",
		"force_anon_logins_ssl=YES", "require_ssl_reuse=NO", "rsa_cert_file=" + cert, "ssl_ciphers=HIGH",
		"secure_chroot_dir=/var/run/vsftpd/empty", "xferlog_enable=NO", "ftp_username=ftp", "max_clients=0", "max_per_ip=0", "seccomp_sandbox=NO"}, "\n") + "\n"
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return nil, err
	}
	_ = os.MkdirAll("/var/run/vsftpd/empty", 0o755)
	p := &peer{name: "vsftpd", host: "127.0.0.1", port: port, user: "anonymous", password: "bench", base: "/pub/", warm: map[string]bool{}}
	p.cmd = exec.Command(bin, conf)
	return p, startAndWait(p)
}

func startAndWait(p *peer) error {
	p.cmd.Stdout, p.cmd.Stderr = os.Stderr, os.Stderr // vsftpd complains on stdout
	if err := p.launch(); err != nil {
		return err
	}
	deadline := time.Now().Add(10 * time.Second)
	for time.Now().Before(deadline) {
		c, err := net.DialTimeout("tcp", net.JoinHostPort(p.host, p.port), time.Second)
		if err == nil {
			return c.Close()
		}
		time.Sleep(50 * time.Millisecond)
	}
	p.stop()
	return fmt.Errorf("%s did not listen on port %s", p.name, p.port)
}

func lookSbin(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	return exec.LookPath("/usr/sbin/" + name)
}

func currentUser() string {
	if u := os.Getenv("USER"); u != "" {
		return u
	}
	return "root"
}
