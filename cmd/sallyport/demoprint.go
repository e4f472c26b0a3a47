package main

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/template"
)

// demoText is what `sallyport demo` prints when it serves: every line can be pasted.
const demoText = `Sallyport demo is ready. It serves one account on this machine until you press Ctrl-C.

  account   {{.Account}}
  password  {{.Password}}
  key file  {{.KeyFile}}

SFTP (OpenSSH):
  sftp -i {{q .KeyFile}} -o IdentitiesOnly=yes -o {{q .KnownHosts}} -P {{.SFTPPort}} {{.Account}}@{{.Host}}

FTPS (curl), explicit and implicit:
  curl --ssl-reqd --cacert {{q .CAFile}} -u {{.Account}}:{{.Password}} -T {{q .Example}} ftp://{{.Addr}}:{{.FTPSPort}}/
  curl --cacert {{q .CAFile}} -u {{.Account}}:{{.Password}} ftps://{{.Addr}}:{{.FTPSImplicitPort}}/

FTPS (lftp):
  lftp -e {{q .LFTP}} -u {{.Account}},{{.Password}} ftp://{{.Addr}}:{{.FTPSPort}}

FileZilla, Site Manager (File > Site Manager > New site):
  explicit  Protocol FTP    Host {{.Host}}  Port {{.FTPSPort}}  Encryption "Require explicit FTP over TLS"  User {{.Account}}
  implicit  Protocol FTP    Host {{.Host}}  Port {{.FTPSImplicitPort}}  Encryption "Require implicit FTP over TLS"  User {{.Account}}
  SFTP      Protocol SFTP   Host {{.Host}}  Port {{.SFTPPort}}  Logon Type "Key file"  Key file {{.KeyFile}}  User {{.Account}}
  It asks once whether to trust the server. What it shows should be:
  certificate {{.Certificate}}
  host key    {{.HostKey}}

The operator's view, in another terminal:
  {{q .Program}} --socket {{q .AdminSocket}} status
  {{q .Program}} --socket {{q .AdminSocket}} audit tail

The same for scripts: {{.File}}
`

// shown is what clients that trust on first use show: SHA-256 fingerprints.
type shown struct{ Certificate, HostKey string }

func (c connection) print(w io.Writer, file string, s shown) error {
	addr := c.Host
	if strings.Contains(addr, ":") {
		addr = "[" + addr + "]"
	}
	data := struct {
		connection
		shown
		Addr, File, Example, KnownHosts, LFTP, Program string
	}{
		connection: c, shown: s, Addr: addr, Program: program(), File: file, Example: filepath.Join(filepath.Dir(file), "known_hosts"),
		KnownHosts: "UserKnownHostsFile=" + optionQuote(c.KnownHostsFile),
		LFTP:       "set ftp:ssl-force true; set ftp:ssl-protect-data true; set ssl:ca-file " + optionQuote(c.CAFile),
	}
	return template.Must(template.New("demo").Funcs(template.FuncMap{"q": shellQuote}).Parse(demoText)).Execute(w, data)
}

// program is how a shell finds this program: its name where that leads here,
// else its path.
func program() string {
	self, err := os.Executable()
	if err != nil {
		return "sallyport"
	}
	if found, err := exec.LookPath("sallyport"); err == nil {
		a, errA := os.Stat(found)
		b, errB := os.Stat(self)
		if errA == nil && errB == nil && os.SameFile(a, b) {
			return "sallyport"
		}
	}
	return self
}

// colons writes a fingerprint in hexadecimal as FileZilla and openssl do.
func colons(hex string) string {
	var b strings.Builder
	for i := 0; i+1 < len(hex); i += 2 {
		if i > 0 {
			b.WriteByte(':')
		}
		b.WriteString(hex[i : i+2])
	}
	return b.String()
}

// optionQuote makes s one word for a program that splits its own options at
// spaces, as ssh_config(5) and lftp do.
func optionQuote(s string) string {
	if strings.ContainsAny(s, " \t") {
		return `"` + s + `"`
	}
	return s
}

// shellQuote makes s one word of a POSIX shell.
func shellQuote(s string) string {
	for _, r := range s {
		if !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:@%+=,", r) {
			return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
		}
	}
	return s
}
