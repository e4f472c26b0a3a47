package main

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"
)

// publicKey is a key read from a file in one of the forms that clients write.
type publicKey struct {
	form    string // what was read, in words
	key     ssh.PublicKey
	comment string
	raw     string // the line or the certificate as it was read, where that says more than key and comment
}

// line is the authorized_keys form, or a certificate in PEM.
func (k publicKey) line() string {
	if k.raw != "" {
		return k.raw
	}
	l := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k.key)))
	if k.comment != "" {
		l += " " + k.comment
	}
	return l
}

var (
	errPrivateKey = errors.New("this is a private key; it was not stored and not sent anywhere")
	errNoKey      = errors.New("no public key found: expected OpenSSH, RFC 4716, PEM or PuTTY (.ppk) form")
)

// maxKeyFile bounds a file of public keys, bytes.
const maxKeyFile = 256 << 10

// readPublicKeys finds every public key in data. The private part of a PuTTY
// file is skipped without being decoded; every other private key is refused.
func readPublicKeys(data []byte) ([]publicKey, error) {
	text := strings.ReplaceAll(string(data), "\r\n", "\n")
	switch {
	case strings.HasPrefix(text, "PuTTY-User-Key-File-"):
		return one(readPPK(text))
	case strings.Contains(text, "PRIVATE KEY-----"):
		return nil, errPrivateKey
	case strings.Contains(text, "---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----"):
		return nil, errPrivateKey
	case strings.Contains(text, "---- BEGIN SSH2 PUBLIC KEY ----"):
		return one(readRFC4716(text))
	case strings.Contains(text, "-----BEGIN "):
		return one(readPEM([]byte(text)))
	default:
		return readAuthorizedKeys([]byte(text))
	}
}

func one(k publicKey, err error) ([]publicKey, error) {
	if err != nil {
		return nil, err
	}
	return []publicKey{k}, nil
}

// kind of the key, for people.
func (k publicKey) kind() string {
	if k.key == nil {
		return "x509"
	}
	return k.key.Type()
}

// readAuthorizedKeys reads lines as in sshd(8) AUTHORIZED_KEYS. Which options
// there are the server says, and it refuses others: dropping a command= would
// grant more than the line says.
func readAuthorizedKeys(data []byte) ([]publicKey, error) {
	var keys []publicKey
	for n, l := range bytes.Split(data, []byte("\n")) {
		l = bytes.TrimSpace(l)
		if len(l) == 0 || l[0] == '#' {
			continue
		}
		key, comment, options, _, err := ssh.ParseAuthorizedKey(l)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n+1, errNoKey)
		}
		if _, isCert := key.(*ssh.Certificate); isCert {
			return nil, fmt.Errorf("line %d: is a certificate, not a key", n+1)
		}
		k := publicKey{form: "OpenSSH public key", key: key, comment: comment}
		if len(options) > 0 {
			k.form, k.raw = "OpenSSH public key with options", string(l)
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil, errNoKey
	}
	return keys, nil
}

// readRFC4716 reads the form of RFC 4716, section 3: headers with
// continuation lines, then base64.
func readRFC4716(text string) (publicKey, error) {
	_, body, _ := strings.Cut(text, "---- BEGIN SSH2 PUBLIC KEY ----")
	body, _, ok := strings.Cut(body, "---- END SSH2 PUBLIC KEY ----")
	if !ok {
		return publicKey{}, fmt.Errorf("RFC 4716 key without its end line: %w", errNoKey)
	}
	var b64 strings.Builder
	comment, header := "", false
	for l := range strings.Lines(body) {
		l = strings.TrimSpace(l)
		if name, value, isHeader := strings.Cut(l, ":"); isHeader && !header {
			if strings.EqualFold(name, "comment") {
				comment = strings.Trim(strings.TrimSpace(strings.TrimSuffix(value, `\`)), `"`)
			}
		} else if !header {
			b64.WriteString(l)
		}
		header = strings.HasSuffix(l, `\`)
	}
	return wire("RFC 4716 public key", b64.String(), comment)
}

// readPPK reads Public-Lines of a PuTTY key file (PPK version 2 and 3).
func readPPK(text string) (publicKey, error) {
	lines := strings.Split(text, "\n")
	comment := ""
	for i, l := range lines {
		if c, ok := strings.CutPrefix(l, "Comment: "); ok {
			comment = c
		}
		count, ok := strings.CutPrefix(l, "Public-Lines: ")
		if !ok {
			continue
		}
		var n int
		if _, err := fmt.Sscanf(count, "%d", &n); err != nil || n < 1 || i+1+n > len(lines) {
			break
		}
		return wire("public part of a PuTTY key file (its private part was not read)", strings.Join(lines[i+1:i+1+n], ""), comment)
	}
	return publicKey{}, fmt.Errorf("PuTTY key file without a public part: %w", errNoKey)
}

func wire(form, b64, comment string) (publicKey, error) {
	blob, err := base64.StdEncoding.DecodeString(b64)
	if err != nil {
		return publicKey{}, fmt.Errorf("%s: %w", form, errNoKey)
	}
	key, err := ssh.ParsePublicKey(blob)
	if err != nil {
		return publicKey{}, fmt.Errorf("%s: %w", form, errNoKey)
	}
	return publicKey{form: form, key: key, comment: comment}, nil
}

// readPEM reads SubjectPublicKeyInfo ("PUBLIC KEY"), PKCS #1 ("RSA PUBLIC KEY") and certificates.
func readPEM(data []byte) (publicKey, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return publicKey{}, errNoKey
	}
	var pub any
	var err error
	switch block.Type {
	case "PUBLIC KEY":
		pub, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "CERTIFICATE":
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return publicKey{}, fmt.Errorf("PEM certificate: %w", errNoKey)
		}
		return publicKey{form: "TLS certificate", raw: string(pem.EncodeToMemory(block))}, nil
	case "RSA PUBLIC KEY":
		pub, err = x509.ParsePKCS1PublicKey(block.Bytes)
	default:
		return publicKey{}, fmt.Errorf("PEM block %q: %w", block.Type, errNoKey)
	}
	if err != nil {
		return publicKey{}, fmt.Errorf("PEM public key: %w", errNoKey)
	}
	key, err := ssh.NewPublicKey(pub)
	if err != nil {
		return publicKey{}, fmt.Errorf("PEM public key: %w", err)
	}
	return publicKey{form: "PEM public key", key: key}, nil
}
