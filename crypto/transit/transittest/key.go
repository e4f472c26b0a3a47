package transittest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

type key struct {
	kind                       string
	derived, exportable        bool
	backup, imported           bool
	deletable, soft            bool // may be deleted; is soft-deleted
	versions                   map[int][]byte
	latest                     int
	minDecrypt, minEncrypt, at int // at: min_available_version
}

func newKey(kind string, derived bool) *key {
	k := &key{kind: kind, derived: derived, versions: map[int][]byte{}, minDecrypt: 1}
	k.rotate()
	return k
}

func (k *key) rotate() {
	k.latest++
	raw := make([]byte, 32)
	rand.Read(raw)
	k.versions[k.latest] = raw
}

// noKey is how each operation says that there is none.
func noKey(op, name string) reply {
	switch op {
	case "read":
		return refuse(http.StatusNotFound)
	case "encrypt": // it could make one, which the tokens must not
		return denied()
	case "decrypt":
		return refuse(http.StatusBadRequest, "encryption key not found")
	case "rotate":
		return refuse(http.StatusBadRequest, "key not found")
	case "config":
		return refuse(http.StatusBadRequest, fmt.Sprintf("no existing key named %s could be found", name))
	}
	return refuse(http.StatusBadRequest, "invalid key name")
}

func (k *key) read(name string) reply {
	versions := map[string]int{}
	for v := range k.versions {
		if v >= k.minDecrypt {
			versions[strconv.Itoa(v)] = 1700000000 + v
		}
	}
	aead := strings.HasPrefix(k.kind, "aes") || strings.HasPrefix(k.kind, "chacha20")
	signs := !aead
	return done(map[string]any{
		"name": name, "type": k.kind, "derived": k.derived, "exportable": k.exportable, "deletion_allowed": k.deletable, "allow_plaintext_backup": k.backup,
		"imported_key": k.imported, "soft_deleted": k.soft, "keys": versions, "latest_version": k.latest,
		"min_available_version": k.at, "min_decryption_version": k.minDecrypt, "min_encryption_version": k.minEncrypt,
		"supports_encryption": aead || strings.HasPrefix(k.kind, "rsa"), "supports_decryption": aead || strings.HasPrefix(k.kind, "rsa"), "supports_derivation": aead, "supports_signing": signs,
	})
}

// inBase64 is a member in Base64.
func inBase64(in map[string]any, name string) ([]byte, bool) {
	text, ok := in[name].(string)
	raw, err := base64.StdEncoding.DecodeString(text)
	return raw, ok && err == nil
}

func (k *key) aead(v int) cipher.AEAD {
	block, err := aes.NewCipher(k.versions[v])
	if err != nil {
		panic(err)
	}
	a, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err)
	}
	return a
}

func (k *key) encrypt(in map[string]any) reply {
	plain, ok := inBase64(in, "plaintext")
	if !ok {
		return refuse(http.StatusBadRequest, "failed to base64-decode plaintext")
	}
	ad, ok := inBase64(in, "associated_data")
	if _, given := in["associated_data"]; given && !ok {
		return refuse(http.StatusBadRequest, "failed to base64-decode associated_data")
	}
	sealed := k.aead(k.latest).Seal(nil, nil, plain, ad)
	return done(map[string]any{"ciphertext": fmt.Sprintf("vault:v%d:%s", k.latest, base64.StdEncoding.EncodeToString(sealed)), "key_version": k.latest})
}

func (k *key) decrypt(in map[string]any) reply {
	bad := func(words string) reply { return refuse(http.StatusBadRequest, words) }
	text, _ := in["ciphertext"].(string)
	rest, ok := strings.CutPrefix(text, "vault:v")
	digits, body, found := strings.Cut(rest, ":")
	v, err := strconv.Atoi(digits)
	raw, err2 := base64.StdEncoding.DecodeString(body)
	switch {
	case !ok:
		return bad("invalid ciphertext: no prefix")
	case !found:
		return bad("invalid ciphertext: wrong number of fields")
	case err != nil:
		return bad("invalid ciphertext: version number could not be decoded")
	case v > k.latest:
		return bad("invalid ciphertext: version is too new")
	case v < k.minDecrypt:
		return bad("ciphertext or signature version is disallowed by policy (too old)")
	case err2 != nil:
		return bad("invalid ciphertext: could not decode base64")
	}
	ad, _ := inBase64(in, "associated_data")
	plain, err := k.aead(v).Open(nil, nil, raw, ad)
	if err != nil {
		return bad("cipher: message authentication failed")
	}
	return done(map[string]any{"plaintext": base64.StdEncoding.EncodeToString(plain)})
}

func (k *key) config(name string, in map[string]any) reply {
	bad := func(format string, args ...any) reply {
		return refuse(http.StatusBadRequest, fmt.Sprintf(format, args...))
	}
	number := func(name string, old int) int {
		if v, ok := in[name].(float64); ok {
			return int(v)
		}
		return old
	}
	decrypt, encrypt := number("min_decryption_version", k.minDecrypt), number("min_encryption_version", k.minEncrypt)
	switch {
	case decrypt < k.at:
		return bad("min decryption version should not be less then min available version")
	case decrypt > k.latest:
		return bad("cannot set min decryption version of %d, latest key version is %d", decrypt, k.latest)
	case encrypt > k.latest:
		return bad("cannot set min encryption version of %d, latest key version is %d", encrypt, k.latest)
	case encrypt > 0 && encrypt < decrypt:
		return bad("cannot set min encryption/decryption values; min encryption version of %d must be greater than or equal to min decryption version of %d", encrypt, decrypt)
	}
	k.minDecrypt, k.minEncrypt = decrypt, encrypt
	for name, b := range map[string]*bool{"exportable": &k.exportable, "allow_plaintext_backup": &k.backup} { // for ever
		yes, _ := in[name].(bool)
		*b = *b || yes
	}
	if yes, ok := in["deletion_allowed"].(bool); ok {
		k.deletable = yes
	}
	return k.read(name)
}

func (k *key) trim(name string, in map[string]any) reply {
	bad := func(words string) reply { return refuse(http.StatusBadRequest, words) }
	v, _ := in["min_available_version"].(float64)
	n := int(v)
	switch {
	case n < k.at:
		return bad("minimum available version cannot be decremented")
	case k.minEncrypt == 0:
		return bad("minimum available version cannot be set when minimum encryption version is not set")
	case n > k.minEncrypt:
		return bad("minimum available version cannot be greater than minmum encryption version")
	case n > k.minDecrypt:
		return bad("minimum available version cannot be greater than minimum decryption version")
	}
	for old := range k.versions {
		if old < n {
			delete(k.versions, old)
		}
	}
	k.at = n
	return k.read(name)
}

// softDeleted is how an OpenBao refuses to use such a key.
func (k *key) softDeleted(op string) reply {
	const words = "refusing to use soft-deleted key"
	if op == "rotate" {
		return refuse(http.StatusInternalServerError, "1 error occurred:\n\t* "+words+"\n\n")
	}
	return refuse(http.StatusBadRequest, words)
}
