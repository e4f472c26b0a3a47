package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"sallyport/crypto/durable"
	"sallyport/server"
	"sallyport/server/admin"
)

// demoAccount is the name of the one account of a demo.
const demoAccount = "demo"

// connection is <state>/connection.json: how to reach a demo. It is a contract
// with scripts, and the demo's one exception to "no secret in clear".
type connection struct {
	Host             string `json:"host"`
	SFTPPort         int    `json:"sftp_port"`
	FTPSPort         int    `json:"ftps_port"`
	FTPSImplicitPort int    `json:"ftps_implicit_port"`
	Account          string `json:"account"`
	Password         string `json:"password"`
	KeyFile          string `json:"key_file"`
	KnownHostsFile   string `json:"known_hosts_file"`
	CAFile           string `json:"ca_file"`
	AdminSocket      string `json:"admin_socket"`
	PID              int    `json:"pid"`
}

// demo is one run of `sallyport demo`.
type demo struct {
	app      *app
	loaded   *server.Loaded
	client   *admin.Client
	password string
}

func (a *app) demoCommand() *cobra.Command {
	var sftp, ftps, implicit, passive string
	c := &cobra.Command{Use: "demo", Short: "Run a complete server with one account, and print lines to paste", Args: exactly(),
		Long: "Run a complete server on this machine: state in ./sallyport-demo (--state), its key beside it, a\n" +
			"self-signed certificate, and one account with a generated password and key. Started again on the\n" +
			"same state it serves the same files.",
		RunE: func(c *cobra.Command, _ []string) error {
			if a.state == "" {
				dir, err := filepath.Abs("sallyport-demo")
				if err != nil {
					return err
				}
				a.state = dir
			}
			listeners := []server.Listener{
				{Protocol: server.ProtocolSFTP, Address: sftp},
				{Protocol: server.ProtocolFTPSExplicit, Address: ftps},
				{Protocol: server.ProtocolFTPSImplicit, Address: implicit},
			}
			return a.demo(c.Context(), listeners, passive)
		}}
	f := c.Flags()
	f.StringVar(&sftp, "sftp", "127.0.0.1:2022", "`ADDR:PORT` of SFTP; port 0 picks a free one")
	f.StringVar(&ftps, "ftps", "127.0.0.1:2121", "`ADDR:PORT` of FTPS with AUTH TLS")
	f.StringVar(&implicit, "ftps-implicit", "127.0.0.1:2990", "`ADDR:PORT` of FTPS with TLS from the first byte")
	f.StringVar(&passive, "passive-ports", "", "`A-B`, ports of FTP data connections (default any free)")
	return c
}

func (a *app) demo(ctx context.Context, listeners []server.Listener, passive string) error {
	list, err := json.Marshal(listeners) // JSON is YAML
	if err != nil {
		return err
	}
	source := a.configSource()
	source.NoFile = source.File == "" // a demo on a host with a real server must not take over its configuration
	source.Flags["listeners"] = string(list)
	source.Flags["passive.ports"] = passive
	l, err := server.LoadConfig(source)
	if err != nil {
		return err
	}
	if err := server.CreateState(ctx, l.Config); err != nil && !errors.Is(err, server.ErrStateExists) {
		return err
	}
	d := &demo{app: a, loaded: l, client: admin.NewClient(l.AdminSocket())}
	return a.serve(ctx, source, l, d.recall, d.ready)
}

// Names in the state directory of a demo. The last run's connection.json
// steps aside while the server starts, so that a script that waits for the file
// never reads an old port.
const (
	connectionFile = "connection.json"
	lastConnection = "connection.json.last"
)

// recall takes the password of an earlier run.
func (d *demo) recall() error {
	err := os.Rename(d.file(connectionFile), d.file(lastConnection))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if old, err := readConnection(d.file(lastConnection)); err == nil {
		d.password = old.Password
	}
	return nil
}

func (d *demo) file(name string) string { return filepath.Join(d.loaded.State.Dir, name) }

// ready runs in the serving process: it makes the account through the admin
// socket, as any operator would, and writes down how to connect.
func (d *demo) ready(ctx context.Context, s admin.Status) error {
	key, err := d.clientKey()
	if err != nil {
		return err
	}
	if err := d.account(ctx, key); err != nil {
		return fmt.Errorf("making the account %s: %w", demoAccount, err)
	}
	certs, _ := d.loaded.Certificates()
	c := connection{
		Account: demoAccount, Password: d.password, KeyFile: d.file("client_key"), KnownHostsFile: d.file("known_hosts"),
		CAFile: certs[0].Certificate, AdminSocket: d.loaded.AdminSocket(), PID: s.PID,
	}
	for _, l := range s.Listeners {
		host, port := splitPort(l.Address)
		switch l.Protocol {
		case server.ProtocolSFTP:
			c.Host, c.SFTPPort = reachable(host), port
		case server.ProtocolFTPSExplicit:
			c.FTPSPort = port
		case server.ProtocolFTPSImplicit:
			c.FTPSImplicitPort = port
		}
	}
	if err := d.knownHosts(ctx, c); err != nil {
		return err
	}
	out, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	if err := durable.WriteFile(d.file(connectionFile), append(out, '\n'), 0o600); err != nil {
		return err
	}
	if err := os.Remove(d.file(lastConnection)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	seen, err := d.shown(ctx)
	if err != nil {
		return err
	}
	return c.print(d.app.stdout, d.file(connectionFile), seen)
}

// shown asks the server what it shows to strangers.
func (d *demo) shown(ctx context.Context) (shown, error) {
	var s shown
	certs, err := d.client.CertList(ctx)
	if err != nil {
		return s, err
	}
	if len(certs.Certs) > 0 {
		s.Certificate = colons(certs.Certs[0].Fingerprint)
	}
	keys, err := d.client.HostKeyList(ctx)
	if err != nil {
		return s, err
	}
	if len(keys.Keys) > 0 {
		s.HostKey = keys.Keys[0].Fingerprint
	}
	return s, nil
}

func readConnection(path string) (connection, error) {
	var c connection
	data, err := os.ReadFile(path)
	if err != nil {
		return c, err
	}
	return c, json.Unmarshal(data, &c)
}

func splitPort(address string) (string, int) {
	host, port, _ := net.SplitHostPort(address) // of a listener: always well-formed
	n, _ := strconv.Atoi(port)
	return host, n
}

// reachable is an address that clients on this machine can use.
func reachable(host string) string {
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		return "127.0.0.1"
	}
	return host
}

// clientKey is the demo account's key; it is made once.
func (d *demo) clientKey() (ssh.PublicKey, error) {
	path := d.file("client_key")
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		_, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		block, err := ssh.MarshalPrivateKey(private, "sallyport demo")
		if err != nil {
			return nil, err
		}
		data = pem.EncodeToMemory(block)
		if err := durable.WriteFile(path, data, 0o600); err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	signer, err := ssh.ParsePrivateKey(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return signer.PublicKey(), nil
}

// account makes the account with every right below /, or gives the one from an
// earlier run a new password if the old one is no longer known.
func (d *demo) account(ctx context.Context, key ssh.PublicKey) error {
	line := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))) + " sallyport demo"
	have, err := d.client.AccountShow(ctx, demoAccount)
	if err == nil {
		return d.refresh(ctx, have, key, line)
	}
	if explain(err).Code != admin.CodeNotFound {
		return err
	}
	d.password = demoPassword()
	_, err = d.client.AccountAdd(ctx, admin.AccountAdd{
		Change: admin.Change{Reason: "sallyport demo"}, Name: demoAccount, Protocols: []string{"sftp", "ftps"},
		Paths: []admin.PathRight{{Path: "/", Allow: []string{"all"}}}, Password: admin.Secret(d.password), Keys: []string{line},
	})
	return err
}

func (d *demo) refresh(ctx context.Context, have admin.Account, key ssh.PublicKey, line string) error {
	change := admin.Change{Reason: "sallyport demo"}
	known := false
	for _, k := range have.Keys {
		known = known || k.Fingerprint == ssh.FingerprintSHA256(key)
	}
	if !known {
		if _, err := d.client.KeysAdd(ctx, admin.KeysAdd{Change: change, Account: demoAccount, Keys: []string{line}}); err != nil {
			return err
		}
	}
	if d.password != "" {
		return nil
	}
	d.password = demoPassword()
	return d.client.Passwd(ctx, admin.Passwd{Change: change, Account: demoAccount, Password: admin.Secret(d.password)})
}

// demoPassword satisfies every password rule's default: 26 base32 characters
// (130 bits) with digits and dashes for sure.
func demoPassword() string {
	r := rand.Text()
	return "2-" + strings.ToLower(r[:13]) + "-7-" + strings.ToLower(r[13:])
}

// knownHosts lets clients verify the SSH host keys.
func (d *demo) knownHosts(ctx context.Context, c connection) error {
	keys, err := d.client.HostKeyList(ctx)
	if err != nil {
		return err
	}
	var b strings.Builder
	for _, k := range keys.Keys {
		for _, host := range []string{c.Host, "localhost"} {
			name := net.JoinHostPort(host, strconv.Itoa(c.SFTPPort))
			if !strings.HasPrefix(name, "[") {
				name = "[" + host + "]:" + strconv.Itoa(c.SFTPPort)
			}
			if c.SFTPPort == 22 {
				name = host // sshd(8) SSH_KNOWN_HOSTS: the standard port is not written
			}
			fmt.Fprintf(&b, "%s %s\n", name, k.Public)
		}
	}
	return durable.WriteFile(d.file("known_hosts"), []byte(b.String()), 0o600)
}
