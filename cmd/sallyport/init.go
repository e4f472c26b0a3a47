package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/spf13/cobra"

	"sallyport/crypto/durable"
	"sallyport/crypto/keyring"
	"sallyport/server"
	"sallyport/server/admin"
)

// initData fills the templates of units.go. Paths are as they will be read.
type initData struct {
	StateDir, KeyFile, ConfigFile, Binary string
	Socket, HealthSocket                  string
	Listeners                             []server.Listener
	PassivePorts, PublicAddress           string
	OwnStateDir                           bool // at the place that systemd makes and owns
	Seal                                  *sealFlags
}

// initFlags are the flags of `sallyport init`.
type initFlags struct {
	root, dest              string
	sftp, ftps, implicit    string
	passive, public, binary string
	noSystemd               bool
	seal                    sealFlags
}

func (a *app) initCommand() *cobra.Command {
	var o initFlags
	c := &cobra.Command{Use: "init", Short: "Set up a real host: state, keys, sallyport.yaml, systemd units", Args: exactly(),
		Long: "Make the state directory and its seal key (outside of it), host keys, a self-signed certificate,\n" +
			"sallyport.yaml and hardened systemd units. Nothing that exists is overwritten, nothing is started.",
		Example: "  sallyport init\n  sallyport init --root $HOME/try --sftp 127.0.0.1:2022 --ftps 127.0.0.1:2121 --ftps-implicit 127.0.0.1:2990\n" +
			"  sallyport init --seal shares --shares 2-of-3 --recipient @alice.pub --recipient @bob.pub --recipient age1… --out shares\n" +
			"  sallyport init --seal transit --transit-address https://vault.example:8200 --transit-key sallyport --transit-token-file /etc/sallyport/transit.token",
		RunE: func(c *cobra.Command, _ []string) error {
			return a.init(c.Context(), o)
		}}
	f := c.Flags()
	f.StringVar(&o.root, "root", "", "put everything below `DIR`, usable there: to try it anywhere")
	f.StringVar(&o.dest, "dest", "", "write files below `DIR` as the root of one host: an image with keys of its own")
	f.StringVar(&o.sftp, "sftp", ":2022", "`ADDR:PORT` of SFTP, empty for none")
	f.StringVar(&o.ftps, "ftps", ":21", "`ADDR:PORT` of FTPS with AUTH TLS, empty for none")
	f.StringVar(&o.implicit, "ftps-implicit", ":990", "`ADDR:PORT` of FTPS with TLS from the first byte, empty for none")
	f.StringVar(&o.passive, "passive-ports", "50000-50999", "`A-B`, ports of FTP data connections")
	f.StringVar(&o.public, "public-address", "auto", "IPv4 `address` that FTP clients reach, behind NAT")
	f.StringVar(&o.binary, "binary", "", "`path` of the program in the unit (default this one)")
	f.BoolVar(&o.noSystemd, "no-systemd", false, "write no units")
	o.seal.register(f)
	return c
}

func (a *app) init(ctx context.Context, o initFlags) error {
	d, err := o.data(a.state)
	if err != nil {
		return err
	}
	disk := func(path string) string { return filepath.Join(o.dest, path) } // where a path of the host is written
	files, err := o.files(d)
	if err != nil {
		return err
	}
	for _, f := range files {
		if _, err := os.Lstat(disk(f.path)); err == nil {
			return &admin.Error{Code: admin.CodeRefused, Message: disk(f.path) + " exists, and init overwrites nothing", Hint: "move it away, or try elsewhere with --root DIR"}
		}
	}
	c := server.DefaultConfig()
	c.State.Dir, c.Seal.KeyFile, c.Listeners, c.Passive.PublicAddress = disk(d.StateDir), disk(d.KeyFile), d.Listeners, d.PublicAddress
	o.seal.fill(&c.Seal)
	if err := a.createState(ctx, c, &o.seal); err != nil {
		if errors.Is(err, server.ErrStateExists) {
			return &admin.Error{Code: admin.CodeRefused, Message: err.Error(), Hint: "start it with `sallyport serve`, or choose another --state"}
		}
		return err
	}
	for _, f := range files {
		if err := os.MkdirAll(filepath.Dir(disk(f.path)), 0o755); err != nil {
			return err
		}
		if err := durable.WriteFile(disk(f.path), f.data, 0o644); err != nil {
			return err
		}
		a.say("wrote %s", disk(f.path))
	}
	// The finished file must be one that the server accepts.
	if o.dest == "" {
		if _, err := server.LoadConfig(server.Source{File: d.ConfigFile}); err != nil {
			return err
		}
	}
	if o.seal.Kind == keyring.KindKeyFile {
		a.say("state in %s, seal key in %s", disk(d.StateDir), disk(d.KeyFile))
	} else {
		a.say("state in %s, sealed by %s", disk(d.StateDir), o.seal.Kind)
	}
	if !o.noSystemd && o.root == "" && hidden(d.Binary) {
		a.say("note: the unit starts %s and cannot see it there; install it, e.g. in /usr/local/bin, and set ExecStart= (or --binary)", d.Binary)
	}
	_, err = fmt.Fprint(a.stdout, nextSteps(d, o))
	return err
}

// hidden says whether ProtectHome= and PrivateTmp= of the unit hide path.
func hidden(path string) bool {
	for _, dir := range []string{"/home/", "/root/", "/run/user/", "/tmp/", "/var/tmp/"} {
		if strings.HasPrefix(path, dir) {
			return true
		}
	}
	return false
}

// data works out every path from the flags.
func (o *initFlags) data(state string) (*initData, error) {
	paths := []*string{&o.root, &o.dest}
	if file := &o.seal.Transit.TokenFile; !strings.HasPrefix(*file, "credential:") {
		paths = append(paths, file)
	}
	for _, dir := range append(paths, &o.seal.Transit.CAFile) { // the server is started elsewhere
		if *dir == "" {
			continue
		}
		abs, err := filepath.Abs(*dir)
		if err != nil {
			return nil, err
		}
		*dir = abs
	}
	d := &initData{
		StateDir: filepath.Join("/", o.root, server.DefaultStateDir), KeyFile: filepath.Join("/", o.root, "/etc/sallyport/sallyport.key"),
		ConfigFile: filepath.Join("/", o.root, server.DefaultConfigFile), Socket: filepath.Join("/", o.root, "/run/sallyport/admin.sock"),
		HealthSocket: filepath.Join("/", o.root, "/run/sallyport/health.sock"), PassivePorts: o.passive, PublicAddress: o.public, Binary: o.binary, Seal: &o.seal,
	}
	if state != "" {
		d.StateDir = state
	}
	d.OwnStateDir = strings.HasSuffix(d.StateDir, server.DefaultStateDir)
	if d.Binary == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		d.Binary = self
	}
	for _, l := range []server.Listener{
		{Protocol: server.ProtocolSFTP, Address: o.sftp}, {Protocol: server.ProtocolFTPSExplicit, Address: o.ftps}, {Protocol: server.ProtocolFTPSImplicit, Address: o.implicit},
	} {
		if l.Address != "" {
			d.Listeners = append(d.Listeners, l)
		}
	}
	if len(d.Listeners) == 0 {
		return nil, usage("no listener is left", "give at least one of --sftp, --ftps, --ftps-implicit an address")
	}
	return d, nil
}

type initFile struct {
	path string
	data []byte
}

// files renders everything that init writes beside the state.
func (o *initFlags) files(d *initData) ([]initFile, error) {
	config, err := render(configText, d)
	if err != nil {
		return nil, err
	}
	files := []initFile{{d.ConfigFile, config}}
	if o.noSystemd {
		return files, nil
	}
	units := filepath.Join("/", o.root, "/etc/systemd/system")
	service, err := render(serviceText, d)
	if err != nil {
		return nil, err
	}
	files = append(files,
		initFile{filepath.Join(units, "sallyport.service"), service},
		initFile{filepath.Join("/", o.root, "/etc/sysusers.d/sallyport.conf"), []byte(sysusersText)})
	for _, l := range d.Listeners {
		unit := "sallyport-" + l.Protocol + ".socket"
		socket, err := render(socketText, map[string]string{"Protocol": l.Protocol, "Unit": unit, "Stream": streamAddress(l.Address)})
		if err != nil {
			return nil, err
		}
		files = append(files, initFile{filepath.Join(units, unit), socket})
	}
	return files, nil
}

// streamAddress is a listener's address as ListenStream= wants it: a bare port means every address.
func streamAddress(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err == nil && host == "" {
		return port
	}
	return address
}

func render(text string, data any) ([]byte, error) {
	t, err := template.New("").Option("missingkey=error").Parse(text)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = t.Execute(&b, data)
	return b.Bytes(), err
}

func nextSteps(d *initData, o initFlags) string {
	var b strings.Builder
	step := func(format string, args ...any) { fmt.Fprintf(&b, "  "+format+"\n", args...) }
	name := "sallyport"
	if o.dest == "" {
		name = shellQuote(program())
	}
	b.WriteString("Next steps:\n")
	if o.noSystemd || o.root != "" || o.dest != "" {
		step("%s serve --config %s", name, shellQuote(d.ConfigFile))
	} else {
		step("systemd-sysusers && systemctl daemon-reload")
		if !d.OwnStateDir {
			step("chown -R sallyport: %s", shellQuote(d.StateDir))
		}
		step("systemctl enable --now sallyport")
	}
	config := ""
	if o.root != "" {
		config = " --config " + shellQuote(d.ConfigFile)
	}
	switch o.seal.Kind {
	case keyring.KindPassphrase:
		step("%s unseal%s    # asks for the passphrase, after each start", name, config)
	case keyring.KindShares:
		step("%s unseal%s    # asks for a share, of one person after the other, after each start", name, config)
	}
	step("%s doctor%s", name, config)
	step("%s account add NAME --protocols sftp --key FILE.pub --paths /:all%s", name, config)
	switch o.seal.Kind {
	case keyring.KindKeyFile:
		b.WriteString("Keep a copy of the seal key off this host. Without it nobody can read the files:\n")
		step("%s", d.KeyFile)
	case keyring.KindPassphrase, keyring.KindShares:
		b.WriteString("The server starts sealed. Without the " + o.seal.Kind + " nobody can read the files.\n")
	default:
		b.WriteString("Without the key of the " + o.seal.Kind + " seal nobody can read the files: keep that key safe.\n")
	}
	return b.String()
}
