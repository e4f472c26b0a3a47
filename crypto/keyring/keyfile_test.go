package keyring

import (
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestNewKeyFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "key")
	if _, err := NewKeyFile(path); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if key, err := hex.DecodeString(strings.TrimSuffix(string(text), "\n")); err != nil || len(key) != 32 {
		t.Errorf("got %d bytes, %v", len(key), err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := NewKeyFile(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over a file: got %v, want %v", err, fs.ErrExist)
	}
	if again, err := os.ReadFile(path); err != nil || string(again) != string(text) {
		t.Errorf("the file was changed, %v", err)
	}
}

func TestKeyFileErrorsSayWhy(t *testing.T) {
	t.Parallel()
	digits := strings.Repeat("a1", 32)
	for _, c := range []struct {
		name, content string
		mode          fs.FileMode
		want          string // in the text; empty: usable
	}{
		{"as made", digits + "\n", 0o600, ""},
		{"no newline", digits, 0o600, ""},
		{"read-only, upper case", strings.ToUpper(digits), 0o400, ""},
		{"group may read", digits, 0o640, "chmod 600"},
		{"all may read", digits, 0o604, "mode 0604"},
		{"group may write", digits, 0o620, "chmod 600"},
		{"empty", "", 0o600, "64 hexadecimal digits"},
		{"short", digits[:62], 0o600, "64 hexadecimal digits"},
		{"long", digits + "a1", 0o600, "64 hexadecimal digits"},
		{"two lines", digits + "\n\n", 0o600, "64 hexadecimal digits"},
		{"much too long", strings.Repeat(digits, 100), 0o600, "64 hexadecimal digits"},
		{"raw bytes", string(make([]byte, 64)), 0o600, "hexadecimal digits only"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "key")
			if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, c.mode); err != nil {
				t.Fatal(err)
			}
			_, err := (&KeyFile{Path: path}).Wrap(t.Context(), make([]byte, 32))
			if c.want == "" {
				if err != nil {
					t.Errorf("got %v", err)
				}
				return
			}
			if !errors.Is(err, ErrKeyFile) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v, want %v with %q and the path", err, ErrKeyFile, c.want)
			}
			if err != nil && strings.Contains(err.Error(), "a1a1a1a1") {
				t.Errorf("the error quotes the key: %v", err)
			}
		})
	}
}

func TestKeyFileMissingOrNoFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := (&KeyFile{Path: filepath.Join(dir, "absent")}).Unwrap(t.Context(), nil)
	if !errors.Is(err, ErrKeyFile) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: got %v, want %v and %v", err, ErrKeyFile, fs.ErrNotExist)
	}
	if _, err := (&KeyFile{Path: dir}).Unwrap(t.Context(), nil); !errors.Is(err, ErrKeyFile) {
		t.Errorf("directory: got %v, want %v", err, ErrKeyFile)
	}
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (&KeyFile{Path: fifo}).Unwrap(t.Context(), nil); !errors.Is(err, ErrKeyFile) {
		t.Errorf("FIFO: got %v, want %v", err, ErrKeyFile)
	}
}

func TestKeyFileUnwrap(t *testing.T) {
	t.Parallel()
	s, err := NewKeyFile(filepath.Join(t.TempDir(), "key"))
	if err != nil {
		t.Fatal(err)
	}
	root := []byte("an unsafe test root of 32 bytes!")
	wrapped, err := s.Wrap(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.Unwrap(t.Context(), wrapped); err != nil || string(got) != string(root) {
		t.Fatalf("got %q, %v", got, err)
	}
	wrapped[len(wrapped)-1] ^= 1
	if _, err := s.Unwrap(t.Context(), wrapped); !errors.Is(err, ErrDamaged) {
		t.Errorf("damaged: got %v, want %v", err, ErrDamaged)
	}
	if _, err := s.Unwrap(t.Context(), wrapped[:50]); !errors.Is(err, ErrDamaged) {
		t.Errorf("cut: got %v, want %v", err, ErrDamaged)
	}
}

// TestKeyFileInsideStateDirectory is what a peer did: the wrapping key stored
// beside what it wraps.
func TestKeyFileInsideStateDirectory(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	state := filepath.Join(base, "state")
	if err := os.MkdirAll(filepath.Join(state, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(state, "sub"), filepath.Join(base, "link")); err != nil {
		t.Fatal(err)
	}
	for i, path := range []string{filepath.Join(state, "key"), filepath.Join(state, "sub", "key"), filepath.Join(base, "link", "key2")} {
		s, err := NewKeyFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Create(t.Context(), state, s); !errors.Is(err, ErrKeyFile) || !strings.Contains(err.Error(), "inside the state directory") {
			t.Errorf("%d: Create got %v, want %v", i, err, ErrKeyFile)
		}
		if _, err := Open(t.Context(), state, s); !errors.Is(err, ErrKeyFile) {
			t.Errorf("%d: Open got %v, want %v", i, err, ErrKeyFile)
		}
	}
	beside, err := NewKeyFile(filepath.Join(base, "state.key"))
	if err != nil {
		t.Fatal(err)
	}
	k, err := Create(t.Context(), state, beside)
	if err != nil {
		t.Fatalf("beside the directory: %v", err)
	}
	k.Close()
}

// TestSystemdCredential is not parallel: the directory is an environment variable.
func TestSystemdCredential(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]fs.FileMode{"list": 0o440, "other": 0o444} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.Repeat("a1", 32)), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	read := func(name string) error {
		_, err := (&KeyFile{Path: filepath.Join(dir, name)}).read()
		return err
	}
	if err := read("list"); !errors.Is(err, ErrKeyFile) {
		t.Errorf("mode 0440 elsewhere: got %v, want %v", err, ErrKeyFile)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", dir+"/")
	if err := read("list"); err != nil {
		t.Errorf("mode 0440 as a credential: %v", err)
	}
	if err := read("other"); !errors.Is(err, ErrKeyFile) {
		t.Errorf("mode 0444 as a credential: got %v, want %v", err, ErrKeyFile)
	}
}
