package meta

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"sallyport/vfs/pagecheck"
)

// ErrLocked means that another process has the database open.
var ErrLocked = errors.New("meta: the database is in use by another process")

// lockTimeout is how long Open waits for another process to let go, as a server that is just stopping does.
const lockTimeout = time.Second

// openChecked opens the file for bbolt, locked and with its pages checked.
func openChecked(path string, mode fs.FileMode, isNew bool) (*os.File, error) {
	f, err := pagecheck.Open(path, mode, isNew, lockTimeout)
	switch {
	case errors.Is(err, pagecheck.ErrLocked):
		return nil, ErrLocked
	case errors.Is(err, pagecheck.ErrDamaged):
		return nil, fmt.Errorf("%w: %w", ErrIntegrity, err)
	}
	return f, err
}
