package keyring

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzKeyFile: a key file is 64 hexadecimal digits and at most one newline, and no error quotes what it holds.
func FuzzKeyFile(f *testing.F) {
	f.Add([]byte(strings.Repeat("aB", 32) + "\n"))
	f.Add([]byte(strings.Repeat("ab", 32)))
	f.Add([]byte(strings.Repeat("ab", 32) + "\n\n"))
	f.Add([]byte(strings.Repeat("zz", 32)))
	f.Add(make([]byte, 32))
	f.Fuzz(func(t *testing.T, text []byte) {
		path := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		key, err := (&KeyFile{Path: path}).read()
		if err != nil {
			if !errors.Is(err, ErrKeyFile) {
				t.Fatal(err)
			}
			if len(text) > 20 && strings.Contains(err.Error(), string(text[:20])) {
				t.Fatalf("the error quotes the file: %v", err)
			}
			return
		}
		digits := bytes.TrimSuffix(text, []byte("\n"))
		if want, err := hex.DecodeString(string(digits)); err != nil || !bytes.Equal(key[:], want) {
			t.Fatalf("%q was taken", text)
		}
	})
}
