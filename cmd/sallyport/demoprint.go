package main

import (
	"io"
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

The operator's view, in another terminal:
  sallyport --socket {{q .AdminSocket}} status
  sallyport --socket {{q .AdminSocket}} audit tail

The same for scripts: {{.File}}
`

func (c connection) print(w io.Writer, file string) error {
	addr := c.Host
	if strings.Contains(addr, ":") {
		addr = "[" + addr + "]"
	}
	data := struct {
		connection
		Addr, File, Example, KnownHosts, LFTP string
	}{
		connection: c, Addr: addr, File: file, Example: filepath.Join(filepath.Dir(file), "known_hosts"),
		KnownHosts: "UserKnownHostsFile=" + optionQuote(c.KnownHostsFile),
		LFTP:       "set ftp:ssl-force true; set ftp:ssl-protect-data true; set ssl:ca-file " + optionQuote(c.CAFile),
	}
	return template.Must(template.New("demo").Funcs(template.FuncMap{"q": shellQuote}).Parse(demoText)).Execute(w, data)
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
