package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	ftpserver "github.com/fclairamb/ftpserverlib"
	"github.com/pkg/sftp"
	"github.com/spf13/afero"
	"golang.org/x/crypto/ssh"
)

// The bare servers are what the libraries can do at all: no encryption at
// rest, no policy, no durability, a plain host directory. They listen on
// 127.0.0.1 only and exist for measuring.

type bareDriver struct {
	root string
	tls  *tls.Config
	ln   net.Listener
}

func (d *bareDriver) GetSettings() (*ftpserver.Settings, error) {
	return &ftpserver.Settings{
		Listener: d.ln, TLSRequired: ftpserver.MandatoryEncryption,
		DefaultTransferType: ftpserver.TransferTypeBinary, DisableActiveMode: true,
		ConnectionTimeout: 30, IdleTimeout: 900,
	}, nil
}
func (d *bareDriver) ClientConnected(ftpserver.ClientContext) (string, error) { return "bare", nil }
func (d *bareDriver) ClientDisconnected(ftpserver.ClientContext)              {}
func (d *bareDriver) AuthUser(ftpserver.ClientContext, string, string) (ftpserver.ClientDriver, error) {
	return afero.NewBasePathFs(afero.NewOsFs(), d.root), nil
}
func (d *bareDriver) GetTLSConfig() (*tls.Config, error) { return d.tls, nil }

func serveBareFTPS(args []string) error {
	fs := flag.NewFlagSet("bare-ftps", flag.ContinueOnError)
	addr, root := fs.String("addr", "127.0.0.1:0", ""), fs.String("root", "", "")
	if err := fs.Parse(args); err != nil {
		return err
	}
	cert, err := selfSigned()
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", *addr)
	if err != nil {
		return err
	}
	d := &bareDriver{root: *root, ln: ln, tls: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}}
	fmt.Println("ready", ln.Addr())
	return ftpserver.NewFtpServer(d).ListenAndServe()
}

func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(24 * time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

func serveBareSFTP(args []string) error {
	fs := flag.NewFlagSet("bare-sftp", flag.ContinueOnError)
	addr, root := fs.String("addr", "127.0.0.1:0", ""), fs.String("root", "", "")
	hostKey := fs.String("hostkey", "", "")
	if err := fs.Parse(args); err != nil {
		return err
	}
	pem, err := os.ReadFile(*hostKey)
	if err != nil {
		return err
	}
	signer, err := ssh.ParsePrivateKey(pem)
	if err != nil {
		return err
	}
	// Library defaults on purpose; any key is let in, on loopback only.
	conf := &ssh.ServerConfig{PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) {
		return nil, nil
	}}
	conf.AddHostKey(signer)
	ln, err := net.Listen("tcp", *addr)
	if err != nil {
		return err
	}
	fmt.Println("ready", ln.Addr())
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		go bareSFTPConn(c, conf, *root) // ends with its connection; the process ends by signal
	}
}

func bareSFTPConn(c net.Conn, conf *ssh.ServerConfig, root string) {
	defer c.Close()
	_, chans, reqs, err := ssh.NewServerConn(c, conf)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(reqs)
	for nc := range chans {
		ch, reqs, err := nc.Accept()
		if err != nil {
			return
		}
		go func() {
			for r := range reqs {
				_ = r.Reply(r.Type == "subsystem", nil)
			}
		}()
		h := bareHandlers(root)
		s := sftp.NewRequestServer(ch, h)
		if err := s.Serve(); err != nil && !errors.Is(err, io.EOF) {
			fmt.Fprintln(os.Stderr, "bare-sftp:", err)
		}
		_ = s.Close()
	}
}

// bareFiles serves a host directory through the library's RequestServer.
type bareFiles struct{ root string }

func bareHandlers(root string) sftp.Handlers {
	b := bareFiles{root}
	return sftp.Handlers{FileGet: b, FilePut: b, FileCmd: b, FileList: b}
}

func (b bareFiles) path(r *sftp.Request) string { return filepath.Join(b.root, r.Filepath) }

func (b bareFiles) Fileread(r *sftp.Request) (io.ReaderAt, error) { return os.Open(b.path(r)) }
func (b bareFiles) Filewrite(r *sftp.Request) (io.WriterAt, error) {
	return os.OpenFile(b.path(r), os.O_RDWR|os.O_CREATE, 0o600)
}
func (b bareFiles) Filecmd(r *sftp.Request) error {
	switch r.Method {
	case "Remove":
		return os.Remove(b.path(r))
	case "Mkdir":
		return os.Mkdir(b.path(r), 0o700)
	case "Setstat":
		return nil
	}
	return sftp.ErrSSHFxOpUnsupported
}

type bareList []os.FileInfo

func (l bareList) ListAt(to []os.FileInfo, off int64) (int, error) {
	if off >= int64(len(l)) {
		return 0, io.EOF
	}
	n := copy(to, l[off:])
	if n < len(to) {
		return n, io.EOF
	}
	return n, nil
}

func (b bareFiles) Filelist(r *sftp.Request) (sftp.ListerAt, error) {
	if r.Method == "Stat" {
		fi, err := os.Stat(b.path(r))
		return bareList{fi}, err
	}
	entries, err := os.ReadDir(b.path(r))
	var l bareList
	for _, e := range entries {
		if fi, err := e.Info(); err == nil {
			l = append(l, fi)
		}
	}
	return l, err
}
