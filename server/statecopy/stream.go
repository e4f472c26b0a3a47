package statecopy

import (
	"archive/tar"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"strings"
	"time"

	"sallyport/vfs/blob"
)

// Stream writes a copy as a tar archive. A file that comes twice counts as it came last; the manifest comes last of all, and
// without it the archive is none.
type Stream struct {
	tar  *tar.Writer
	sums map[string][sha256.Size]byte // of the files, which cannot be read back
	of   map[AccountID][]string       // names of sums
}

// NewStream begins an archive.
func NewStream(w io.Writer) *Stream {
	return &Stream{tar.NewWriter(w), map[string][sha256.Size]byte{}, map[AccountID][]string{}}
}

func (s *Stream) Begin(bool) error                    { return nil }
func (s *Stream) Settle() error                       { return nil }
func (s *Stream) Sync() error                         { return nil }
func (s *Stream) HasFile(context.Context, Entry) bool { return false }
func (s *Stream) HasBlob(AccountID, Blob) bool        { return false }
func (s *Stream) Have() (io.ReadCloser, error)        { return nil, nil }

// Retain keeps nothing either.
func (s *Stream) Retain(context.Context, AccountID, bool) (Retained, error) { return Retained{}, nil }

// Keep keeps nothing: an archive has no earlier copy beside it.
func (s *Stream) Keep(context.Context, AccountID, bool, func(Blob) error) (bool, error) {
	return false, nil
}

// Drop forgets the sums of an account.
func (s *Stream) Drop(id AccountID) error {
	for _, name := range s.of[id] {
		delete(s.sums, name)
	}
	delete(s.of, id)
	return nil
}

func (s *Stream) put(ctx context.Context, name string, size int64, r io.Reader, h hash.Hash) error {
	err := s.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o600, ModTime: time.Unix(0, 0), Format: tar.FormatPAX})
	if err != nil {
		return err
	}
	var w io.Writer = s.tar
	if h != nil {
		w = io.MultiWriter(s.tar, h)
	}
	n, err := io.Copy(w, patient{ctx, r})
	if errors.Is(err, ErrAtSource) { // its size is in the archive: what cannot be read is zeroes, which do not authenticate
		if _, full := io.CopyN(w, zeroes{}, size-n); full != nil {
			return full
		}
		return err
	}
	if err == nil && n != size {
		err = fmt.Errorf("%s came with %d bytes and not %d: %w", name, n, size, io.ErrUnexpectedEOF)
	}
	return err
}

type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// File takes a file of the copy.
func (s *Stream) File(ctx context.Context, name string, size int64, r io.Reader) error {
	h := sha256.New()
	if err := s.put(ctx, name, size, r, h); err != nil {
		return err
	}
	s.sums[name] = [sha256.Size]byte(h.Sum(nil))
	if id, ok := accountOf(name); ok {
		s.of[id] = append(s.of[id], name)
	}
	return nil
}

// Blob takes a blob.
func (s *Stream) Blob(ctx context.Context, account AccountID, b Blob, size int64, r io.Reader) error {
	name := blobPath(account, b.ID)
	if b.Open {
		name = openPath(account, b.ID)
	}
	return s.put(ctx, name, size, r, nil)
}

// Verify compares what went into the archive with the manifest.
func (s *Stream) Verify(_ context.Context, e Entry) error {
	if sum, ok := s.sums[e.Name]; !ok || sum != e.Sum {
		return damaged("%s is not the one that the manifest names", e.Name)
	}
	return nil
}

// Commit ends the archive with its manifest.
func (s *Stream) Commit(ctx context.Context, _ *Manifest, text io.ReadSeeker) error {
	size, err := text.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = text.Seek(0, io.SeekStart)
	}
	if err == nil {
		err = s.put(ctx, manifestName, size, text, nil)
	}
	if err != nil {
		return err
	}
	return s.tar.Close()
}

// Unpack makes a directory of copies out of an archive. What is no part of a copy is refused. The copy is in force when the
// archive was read to its end.
func Unpack(ctx context.Context, r io.Reader, to *Dir) error {
	if err := to.Begin(false); err != nil {
		return err
	}
	files := tar.NewReader(r)
	for {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("%w: the archive ends before its manifest", ErrNoCopy)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return damaged("the archive cannot be read: %v", err)
		}
		switch {
		case h.Typeflag != tar.TypeReg:
			return damaged("the archive holds %q, which is no file", h.Name)
		case sparse(h): // a few bytes of an archive could fill the disk
			return damaged("the archive holds %q as a file with holes", h.Name)
		case h.Name == manifestName:
			return to.unpacked(ctx, files)
		}
		path, ok := to.placeOf(h.Name)
		if !ok {
			return damaged("the archive holds %q, which is no part of a copy", h.Name)
		}
		if err := to.put(ctx, path, h.Size, files); err != nil {
			if errors.Is(err, io.ErrUnexpectedEOF) {
				return damaged("the archive ends in %s", h.Name)
			}
			return err
		}
	}
}

// sparse says whether archive/tar would fill in holes.
func sparse(h *tar.Header) bool {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// placeOf is where a name of an archive lies in a Dir.
func (d *Dir) placeOf(name string) (string, bool) {
	if fileNames.MatchString(name) {
		return d.usual(name), true
	}
	parts := strings.Split(name, "/")
	if len(parts) != 4 {
		return "", false
	}
	account, aerr := blob.ParseID(parts[1])
	switch {
	case aerr != nil:
	case parts[0] == "blobs":
		id, err := blob.ParseID(parts[2] + parts[3])
		return d.blob(AccountID(account), Blob{ID: id}), err == nil && len(parts[2]) == 2
	case parts[0]+"/" == accountsDir && parts[2] == "open":
		id, err := blob.ParseID(parts[3])
		return d.blob(AccountID(account), Blob{ID: id, Open: true}), err == nil
	}
	return "", false
}

func (d *Dir) unpacked(ctx context.Context, r io.Reader) error {
	name := manifestName + tempInfix + rand.Text()
	text, err := d.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer d.root.Remove(name)
	defer text.Close()
	if _, err := io.Copy(text, patient{ctx, r}); errors.Is(err, io.ErrUnexpectedEOF) {
		return damaged("the archive ends in its manifest")
	} else if err != nil {
		return err
	}
	if _, err := text.Seek(0, io.SeekStart); err != nil {
		return err
	}
	m, err := ReadManifest(text, func(Entry) error { return nil })
	if err == nil {
		err = d.mkdir(writing)
	}
	if err != nil {
		return err
	}
	return d.Commit(ctx, m, text)
}
