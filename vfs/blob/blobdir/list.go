package blobdir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"sallyport/vfs/blob"
)

// List implements blob.Store. It holds the names of one fan-out directory at a
// time, 1/256 of all. Files whose names are no ids are not blobs and are left alone.
func (d *Dir) List(ctx context.Context, after blob.ID, fn func(blob.ID, int64) error) error {
	fans, err := d.fans()
	if err != nil {
		return fmt.Errorf("listing blobs: %w", err)
	}
	for _, fan := range fans {
		if fan < after[0] {
			continue
		}
		ids, err := d.readFan(fan)
		if err != nil {
			return fmt.Errorf("listing blobs: %w", err)
		}
		for _, id := range ids {
			if slices.Compare(id[:], after[:]) <= 0 {
				continue
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := d.listOne(id, fn); err != nil {
				return err
			}
		}
	}
	return nil
}

// fans returns the fan-out directories that exist, sorted: a small volume has few of the 256.
func (d *Dir) fans() ([]byte, error) {
	names, err := d.names(".")
	if err != nil {
		return nil, err
	}
	var fans []byte
	for _, name := range names {
		if b, ok := parseFan(name); ok {
			fans = append(fans, b)
		}
	}
	slices.Sort(fans)
	return fans, nil
}

func (d *Dir) names(dir string) ([]string, error) {
	f, err := d.root.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

func (d *Dir) listOne(id blob.ID, fn func(blob.ID, int64) error) error {
	info, err := d.root.Lstat(path(id))
	switch {
	case errors.Is(err, fs.ErrNotExist): // removed since the directory was read
		return nil
	case err != nil:
		return fmt.Errorf("listing blobs: %w", err)
	case !info.Mode().IsRegular():
		return nil
	}
	return fn(id, info.Size())
}

// readFan returns the ids in one fan-out directory, sorted.
func (d *Dir) readFan(fan byte) ([]blob.ID, error) {
	names, err := d.names(fanName(fan))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	ids := make([]blob.ID, 0, len(names))
	for _, name := range names {
		if id, err := blob.ParseID(fanName(fan) + name); err == nil {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b blob.ID) int { return slices.Compare(a[:], b[:]) })
	return ids, nil
}
