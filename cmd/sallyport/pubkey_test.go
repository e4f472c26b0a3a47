package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadPublicKeys(t *testing.T) {
	t.Parallel()
	read := func(name string) string {
		data, err := os.ReadFile(filepath.Join("testdata/keys", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	id, ec, r := strings.TrimSpace(read("id.pub")), strings.TrimSuffix(strings.TrimSpace(read("ec.pub")), " ec"), strings.TrimSuffix(strings.TrimSpace(read("r.pub")), " r")
	tests := []struct{ name, text, form, line string }{
		{"OpenSSH", read("id.pub"), "OpenSSH", id},
		{"several lines", "# mine\n\n" + read("id.pub"), "OpenSSH", id},
		{"CRLF", strings.ReplaceAll(read("id.pub"), "\n", "\r\n"), "OpenSSH", id},
		{"RFC 4716 with a continued header", read("id.rfc4716"), "RFC 4716", ""},
		{"PKIX PEM", read("ec.pem"), "PEM", ec},
		{"PKCS #1 PEM", read("r.pem"), "PEM", r},
		{"PuTTY 2", read("id2.ppk"), "PuTTY", id},
		{"PuTTY 3", read("id3.ppk"), "PuTTY", id},
		{"PuTTY with CRLF", strings.ReplaceAll(read("id3.ppk"), "\n", "\r\n"), "PuTTY", id},
	}
	for _, tt := range tests {
		keys, err := readPublicKeys([]byte(tt.text))
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if len(keys) != 1 || !strings.Contains(keys[0].form, tt.form) || tt.line != "" && keys[0].line() != tt.line {
			t.Errorf("%s: read %q as %q, want %q", tt.name, keys[0].line(), keys[0].form, tt.line)
		}
	}
	two, err := readPublicKeys([]byte(id + "\n" + ec + " second"))
	if err != nil || len(two) != 2 || two[1].comment != "second" {
		t.Errorf("two lines: %v, %v", two, err)
	}
}

func TestReadPublicKeysRefuses(t *testing.T) {
	t.Parallel()
	const id = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMUMILcl9t6KyesVyv4JNQVCdhuLww7fXrHgSgK06dNU"
	for name, tt := range map[string]struct {
		text string
		want error
	}{
		"OpenSSH private":          {"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n", errPrivateKey},
		"PKCS #8 private":          {"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", errPrivateKey},
		"encrypted private":        {"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n", errPrivateKey},
		"RSA private":              {"-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n", errPrivateKey},
		"private behind public":    {id + "\n-----BEGIN OPENSSH PRIVATE KEY-----\n", errPrivateKey},
		"SSH.com private":          {"---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\n", errPrivateKey},
		"nothing":                  {"", errNoKey},
		"comment only":             {"# none\n", errNoKey},
		"certificate PEM":          {"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", errNoKey},
		"cut RFC 4716":             {"---- BEGIN SSH2 PUBLIC KEY ----\nAAAA\n", errNoKey},
		"garbage RFC 4716":         {"---- BEGIN SSH2 PUBLIC KEY ----\n!\n---- END SSH2 PUBLIC KEY ----\n", errNoKey},
		"PuTTY without public":     {"PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\n", errNoKey},
		"PuTTY with a false count": {"PuTTY-User-Key-File-3: ssh-ed25519\nPublic-Lines: 9999\nAAAA\n", errNoKey},
		"PuTTY with no count":      {"PuTTY-User-Key-File-3: ssh-ed25519\nPublic-Lines: x\n", errNoKey},
	} {
		if keys, err := readPublicKeys([]byte(tt.text)); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, %v; want %v", name, keys, err, tt.want)
		}
	}
	line := `from="192.0.2.0/24" ` + strings.TrimSpace(id)
	if keys, err := readPublicKeys([]byte(line)); err != nil || len(keys) != 1 || keys[0].line() != line {
		t.Errorf("options go to the server as they are: %v, %v", keys, err)
	}
}

func FuzzReadPublicKeys(f *testing.F) {
	files, err := filepath.Glob("testdata/keys/*")
	if err != nil || len(files) == 0 {
		f.Fatal(files, err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := readPublicKeys(data)
		if err == nil && len(keys) == 0 {
			t.Error("neither keys nor an error")
		}
		for _, k := range keys {
			// What is sent to the server must be one line that the server reads back as the same key.
			again, err := readPublicKeys([]byte(k.line()))
			if err != nil || len(again) != 1 || string(again[0].key.Marshal()) != string(k.key.Marshal()) {
				t.Errorf("%q does not read back: %v", k.line(), err)
			}
		}
	})
}

func TestCleanHidesControlCharacters(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain é 日本": "plain é 日本", "a\x1b[2Jb": `a\u001b[2Jb`, "x\xffy": `x\xffy`, "\u202etxt": `\u202etxt`, "l1\nl2": `l1\u000al2`, "\ufffd": "\ufffd",
	} {
		if got := clean(in, false); got != want {
			t.Errorf("clean(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestShellQuote(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"/a/b-c.d": "/a/b-c.d", "/a b": "'/a b'", "it's": `'it'\''s'`, "$(x)": "'$(x)'"} {
		if got := shellQuote(in); got != want {
			t.Errorf("shellQuote(%q) = %q, want %q", in, got, want)
		}
	}
}
