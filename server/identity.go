package server

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"sallyport/crypto/durable"
	"sallyport/crypto/keyring"
	"sallyport/crypto/record"
	"sallyport/server/statecopy"
)

// identityFiles are the files that say to strangers who the server is, by the name that they have in a copy: host keys, and
// the certificate that the server made itself. Other certificates belong to the configuration, as do their keys.
func (c *Config) identityFiles() map[string]string {
	files := map[string]string{}
	for _, kind := range hostKeyKinds {
		name := "ssh_host_" + kind + "_key"
		files[name] = filepath.Join(c.HostKeyDir(), name)
	}
	if pairs, own := c.Certificates(); own {
		files["server.crt"], files["server.key"] = pairs[0].Certificate, pairs[0].Key
	}
	return files
}

// readIdentity reads them, for a copy that seals them.
func (c *Config) readIdentity() (map[string][]byte, error) {
	out := map[string][]byte{}
	for name, path := range c.identityFiles() {
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // an operator may have removed a kind
		}
		if err != nil {
			return nil, err
		}
		out[name] = data
	}
	return out, nil
}

// openIdentity unseals one of them; the caller overwrites it.
func openIdentity(k *keyring.Keyring, path string, sealed []byte) ([]byte, error) {
	box, err := k.Policy()
	if err != nil {
		return nil, err
	}
	data, err := box.Open(nil, record.DomainIdentity, []byte(path), sealed)
	if err != nil {
		return nil, fmt.Errorf("%s does not open: %w", path, err)
	}
	return data, nil
}

// restoreIdentity unseals one of them and puts it in its place. Nothing is overwritten: who has keys there has an identity.
func (c *Config) restoreIdentity(k *keyring.Keyring, path string, sealed []byte) (note string, err error) {
	name := strings.TrimPrefix(path, statecopy.IdentityFile(""))
	data, err := openIdentity(k, path, sealed)
	if err != nil {
		return "", err
	}
	defer clear(data)
	to, ok := c.identityFiles()[name]
	switch {
	case !ok:
		return path + " is left out: this configuration has certificates of its own, or knows no such key", nil
	case fileExists(to):
		if have, err := os.ReadFile(to); err == nil && bytes.Equal(have, data) {
			return "", nil
		}
		return to + " is there already and stays; the copy has another one", nil
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return "", err
	}
	return "", durable.WriteFile(to, data, 0o600)
}
