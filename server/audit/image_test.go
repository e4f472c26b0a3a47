package audit

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// TestAnImageVerifiesWhateverComesAfterIt takes an image, goes on writing and ends files, copies by the image, and has the
// copy verified as a log: it holds what was appended before, queued records included, and nothing that came later.
func TestAnImageVerifiesWhateverComesAfterIt(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.MaxFile = 2048
	l := open(t, o)
	for i := range 40 {
		if err := l.Append(t.Context(), Event{Action: Login, Detail: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.AppendAsync(Event{Action: Logout}); err != nil {
		t.Fatal(err)
	}
	image, err := l.Image(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if image.Last != 41 || len(image.Files) < 3 {
		t.Fatalf("record %d, files %v", image.Last, image.Files)
	}
	for range 40 {
		if err := l.Append(t.Context(), Event{Action: Login}); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, headName), image.Head, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, f := range image.Files {
		from, err := l.OpenFile(f.Name)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(io.NewSectionReader(from, 0, f.Size))
		if err = errors.Join(err, from.Close(), os.WriteFile(filepath.Join(dir, f.Name), data, 0o600)); err != nil || int64(len(data)) != f.Size {
			t.Fatal(len(data), err)
		}
	}
	r, err := Verify(dir, o.Box, l.publicKey())
	if err != nil || r.Records != 41 || r.Signed != 41 || r.Torn != 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	c := o
	c.Dir = dir
	again := open(t, c)
	if err := again.Append(t.Context(), Event{Action: ServerStart}); err != nil {
		t.Fatal(err)
	}
}

func TestNoImageOfALogThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	l := open(t, options(t))
	_ = l.fail(errors.New("a failed sync"))
	if _, err := l.Image(t.Context()); !errors.Is(err, ErrReadOnly) {
		t.Fatal(err)
	}
}
