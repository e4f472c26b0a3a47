package keyring

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"sallyport/crypto/durable"
	"sallyport/crypto/record"
)

// ErrKeyFile means that the key file cannot be used as it is; the text says
// why and what to do.
var ErrKeyFile = errors.New("keyring: unusable key file")

// KeyFile is the key-file seal: 32 random bytes, hex, mode 0600, outside the
// state directory. It belongs to root or to who reads it. The file is read at each use and not kept.
type KeyFile struct {
	Path  string
	Owner int // may have it, too: the server's user, for root who looks at it for them
}

var _ Seal = (*KeyFile)(nil)

// keyFilePlace is where a wrapped root belongs.
const keyFilePlace = "root"

// NewKeyFile generates the file. It fails with fs.ErrExist if there is one.
func NewKeyFile(path string) (*KeyFile, error) {
	key := record.NewKey()
	defer clear(key[:])
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return nil, fmt.Errorf("making a key file: %w", err)
	}
	text := append(hex.AppendEncode(make([]byte, 0, 2*keySize+1), key[:]), '\n')
	defer clear(text)
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = durable.SyncDir(filepath.Dir(path))
	}
	if err != nil {
		os.Remove(path)
		return nil, fmt.Errorf("making a key file: %w", err)
	}
	return &KeyFile{Path: path}, nil
}

// Kind is "keyfile".
func (s *KeyFile) Kind() string { return KindKeyFile }

// Wrap wraps root under the file's key.
func (s *KeyFile) Wrap(ctx context.Context, root []byte) ([]byte, error) {
	if len(root) != keySize {
		return nil, fmt.Errorf("keyring: internal error: a root key of %d bytes", len(root))
	}
	kek, err := s.kek(ctx)
	if err != nil {
		return nil, err
	}
	key := record.Key(root)
	defer clear(key[:])
	return kek.Wrap(AccountID{}, record.DomainRootKey, []byte(keyFilePlace), &key), nil
}

// Unwrap is the inverse of Wrap.
func (s *KeyFile) Unwrap(ctx context.Context, wrapped []byte) ([]byte, error) {
	kek, err := s.kek(ctx)
	if err != nil {
		return nil, err
	}
	key, err := kek.Unwrap(AccountID{}, record.DomainRootKey, []byte(keyFilePlace), wrapped)
	switch {
	case errors.Is(err, record.ErrWrongKey):
		return nil, fmt.Errorf("%w: key file %s is another one", ErrWrongKey, s.Path)
	case err != nil:
		return nil, fmt.Errorf("%w: %s: the wrapped root key does not authenticate", ErrDamaged, sealName)
	}
	return key[:], nil
}

func (s *KeyFile) kek(ctx context.Context) (*record.KEK, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	key, err := s.read()
	if err != nil {
		return nil, err
	}
	defer clear(key[:])
	return record.NewKEK(key, 0)
}

// read reads and checks the file. Errors never quote its content.
func (s *KeyFile) read() (*record.Key, error) {
	unusable := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s: %s", ErrKeyFile, s.Path, fmt.Sprintf(format, args...))
	}
	// Not blocking, so that a FIFO in the file's place stalls nobody.
	f, err := os.OpenFile(s.Path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	if !info.Mode().IsRegular() {
		return nil, unusable("not a regular file")
	}
	if mode := info.Mode().Perm(); mode&s.forbidden() != 0 {
		return nil, unusable("mode %#o lets others at it; run chmod 600 on it", mode)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 && int(st.Uid) != os.Geteuid() && int(st.Uid) != s.Owner {
		return nil, unusable("it belongs to user id %d; it must belong to the server's user or to root", st.Uid)
	}
	text := make([]byte, 2*keySize+2)
	n, err := io.ReadFull(f, text)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	defer clear(text)
	digits := bytes.TrimSuffix(text[:n], []byte("\n"))
	if len(digits) != 2*keySize {
		return nil, unusable("it must hold %d hexadecimal digits and nothing else", 2*keySize)
	}
	key := new(record.Key)
	if _, err := hex.Decode(key[:], digits); err != nil {
		return nil, unusable("it must hold hexadecimal digits only")
	}
	return key, nil
}

// forbidden are the mode bits that a key file must not have. systemd gives a
// service its credentials through an access list, which shows as read
// permission of the group in a directory that nobody else can enter.
func (s *KeyFile) forbidden() fs.FileMode {
	if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" && filepath.Dir(s.Path) == filepath.Clean(dir) {
		return 0o037
	}
	return 0o077
}

// checkOutside refuses a key file inside the state directory: whoever copies
// the directory would have the key with it.
func checkOutside(s Seal, stateDir string) error {
	f, ok := s.(*KeyFile)
	if !ok {
		return nil
	}
	dir, err := realPath(stateDir)
	if err != nil {
		return fmt.Errorf("opening the keyring: %w", err)
	}
	path, err := realPath(f.Path)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	if rel, err := filepath.Rel(dir, path); err == nil && filepath.IsLocal(rel) {
		return fmt.Errorf("%w: %s is inside the state directory; move it to another place, best to another disk", ErrKeyFile, f.Path)
	}
	return nil
}

// realPath is absolute and without symbolic links.
func realPath(path string) (string, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", err
	}
	return filepath.Abs(real)
}
