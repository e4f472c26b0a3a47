// Package rawtest looks at a state directory as somebody does who has the disk and no key. For tests only.
package rawtest

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Files are the bytes of every file of a state, by its path below the state directory.
type Files map[string][]byte

// Read takes all of a directory into memory. It is an error if there is nothing: a scan of it would prove nothing.
func Read(dir string) (Files, error) {
	files := Files{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		files[name], err = os.ReadFile(path)
		return err
	})
	if err == nil && len(files) == 0 {
		err = errors.New("it is empty, so that a scan proves nothing")
	}
	if err != nil {
		return nil, fmt.Errorf("reading all of %s: %w", dir, err)
	}
	return files, nil
}

// In tells in which files, or in which of their names, some bytes are.
func (f Files) In(what []byte) (in []string) {
	for name, data := range f {
		if bytes.Contains(data, what) || strings.Contains(name, string(what)) {
			in = append(in, name)
		}
	}
	return in
}

// Blobs are the ids, 16 bytes each, of the blobs that lie in the state.
func (f Files) Blobs() map[string]bool {
	ids := map[string]bool{}
	for name := range f {
		dir, last := filepath.Split(name)
		if id, err := hex.DecodeString(filepath.Base(dir) + last); err == nil && len(id) == 16 && strings.HasSuffix(filepath.Dir(filepath.Clean(dir)), "/blobs") {
			ids[string(id)] = true
		}
	}
	return ids
}

// sealedKey is the least that the record of a wrapped key takes, bytes: header, nonce, tag and the smallest text (docs/FORMAT.md).
const sealedKey = 109

// WrappedKeys finds the record of each blob's wrapped key in the bytes of the databases, free pages included, in every form that is left of
// it: behind the blob's id the record's version, 1, and the account key's. It is an error if one of a blob that is there is not found: a
// later scan for it would prove nothing.
func (f Files) WrappedKeys() (map[string][][]byte, error) {
	keys := map[string][][]byte{}
	for id := range f.Blobs() {
		begins := append([]byte(id), 1, 0, 0, 0)
		for name, data := range f {
			if !strings.HasPrefix(filepath.Base(name), "tree-") {
				continue
			}
			for at := bytes.Index(data, begins); at >= 0 && at+len(id)+sealedKey <= len(data); { // earlier forms of it lie in free pages
				keys[id] = append(keys[id], bytes.Clone(data[at+len(id):at+len(id)+sealedKey]))
				next := bytes.Index(data[at+1:], begins)
				if next < 0 {
					break
				}
				at += 1 + next
			}
		}
		if keys[id] == nil {
			return nil, fmt.Errorf("the wrapped key of blob %x is not found, so that a scan proves nothing", id)
		}
	}
	return keys, nil
}
