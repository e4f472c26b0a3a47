// Package durable replaces small files so that a crash or power loss at any
// moment leaves either the whole old content or the whole new content.
package durable

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// tempInfix stands between a file's name and the random end of the name of its
// temporary copy.
const tempInfix = ".tmp-"

// ErrUncertain means that the content was put in place and that whether it stays
// there after power loss is not known. Other errors of WriteFile left the old content.
var ErrUncertain = errors.New("not known to be durable")

// WriteFile replaces the file at path, or makes it, with the given content. On
// return without error the new content survives power loss. On error the file
// holds the old content or, if only the last step failed, the new one. The mode
// is perm, whatever the umask. Calls on one path may run concurrently; the last one wins.
func WriteFile(path string, data []byte, perm os.FileMode) error {
	temp, err := writeTemp(path, data, perm)
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	if err := os.Rename(temp, path); err != nil {
		os.Remove(temp)
		return fmt.Errorf("writing %s: %w", path, err)
	}
	if err := SyncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("writing %s: %w: %w", path, ErrUncertain, err)
	}
	return nil
}

// writeTemp makes a synced temporary copy beside path. A failed write or sync
// is never tried again: the kernel may have dropped the data and forgotten it.
func writeTemp(path string, data []byte, perm os.FileMode) (name string, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+tempInfix)
	if err != nil {
		return "", err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			os.Remove(f.Name())
		}
	}()
	if err := f.Chmod(perm); err != nil {
		return "", err
	}
	if _, err := f.Write(data); err != nil {
		return "", err
	}
	return f.Name(), f.Sync()
}

// SyncDir makes the creations, renames and removals in a directory survive
// power loss.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("syncing a directory: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("syncing a directory: %w", err)
	}
	return nil
}

// RemoveTemp removes the temporary copies that a crash left beside path. No
// WriteFile of that path may be running.
func RemoveTemp(path string) error {
	dir, prefix := filepath.Dir(path), filepath.Base(path)+tempInfix
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("looking for temporary files: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) {
			errs = append(errs, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}
