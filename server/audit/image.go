package audit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Image is the log as of one instant, for a copy elsewhere: signed up to its last record, which the head names.
type Image struct {
	Head []byte // the file of that name
	Last uint64 // number of the last record
	// Files are those of records, the oldest first, and the checkpoints. Each is good up to its size, and grows only behind that;
	// one that is gone when it is read went by the policy of retention, and another image has to be taken.
	Files []ImageFile
}

// ImageFile is one file of an Image.
type ImageFile struct {
	Name string
	Size int64
}

// Image takes an Image. What was appended before is in it.
func (l *Log) Image(ctx context.Context) (*Image, error) {
	out := new(Image)
	if err := l.ask(ctx, func() (err error) { out, err = l.image(); return err }); err != nil {
		return nil, fmt.Errorf("taking an image of the audit log: %w", err)
	}
	return out, nil
}

// image is called by the writer.
func (l *Log) image() (*Image, error) {
	if err := l.sign(); err != nil {
		return nil, err
	}
	if err := full(l.saveHead()); err != nil {
		if !errors.Is(err, ErrFull) {
			err = l.fail(err)
		}
		return nil, err
	}
	out := &Image{Last: l.seq}
	var err error
	if out.Head, err = os.ReadFile(filepath.Join(l.o.Dir, headName)); err != nil {
		return nil, err
	}
	files, err := listFiles(l.o.Dir)
	if err != nil {
		return nil, err
	}
	for i, f := range files {
		if f.first < l.first {
			continue
		}
		size := l.size
		if i < len(files)-1 {
			info, err := os.Stat(filepath.Join(l.o.Dir, f.name))
			if err != nil {
				return nil, err
			}
			size = info.Size()
		}
		out.Files = append(out.Files, ImageFile{f.name, size})
	}
	if l.points != nil {
		out.Files = append(out.Files, ImageFile{checkpointName, l.pointsSize})
	}
	return out, nil
}

// OpenFile opens a file of an Image.
func (l *Log) OpenFile(name string) (*os.File, error) {
	f, err := os.Open(filepath.Join(l.o.Dir, filepath.Base(name)))
	if err != nil {
		return nil, fmt.Errorf("copying the audit log: %w", err)
	}
	return f, nil
}
