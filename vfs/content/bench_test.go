package content

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"io"
	"math/rand/v2"
	"testing"

	"sallyport/vfs/blob/blobdir"
	"sallyport/vfs/extent"
)

const benchSize = 64 << 20

func benchStore(b *testing.B) *Store {
	b.Helper()
	dir, err := blobdir.Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { dir.Close() })
	return &Store{Blobs: dir, Keys: newKeys(), Budget: NewBudget(256 << 20)}
}

func BenchmarkRawGCM(b *testing.B) {
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		b.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		b.Fatal(err)
	}
	src, dst, nonce := make([]byte, segmentPlain), make([]byte, 0, segmentPlain+16), make([]byte, 12)
	b.SetBytes(segmentPlain)
	for b.Loop() {
		gcm.Seal(dst, nonce, src, nil)
	}
}

// benchUpload measures uploads of 64 MiB without the sync of Finish, which is the disk's affair.
func benchUpload(b *testing.B, write func(d *Draft, content []byte) error) {
	s := benchStore(b)
	content := pattern(benchSize)
	b.SetBytes(benchSize)
	b.ReportAllocs()
	for b.Loop() {
		d := edit(b, s, nil)
		if err := write(d, content); err != nil {
			b.Fatal(err)
		}
		if err := d.Abort(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUploadCopyFrom(b *testing.B) {
	benchUpload(b, func(d *Draft, content []byte) error {
		_, err := d.CopyFrom(bytes.NewReader(content), 0)
		return err
	})
}

func benchWriteAt(b *testing.B, piece int) {
	benchUpload(b, func(d *Draft, content []byte) error {
		for off := 0; off < len(content); off += piece {
			if _, err := d.WriteAt(content[off:min(len(content), off+piece)], int64(off)); err != nil {
				return err
			}
		}
		return nil
	})
}

func BenchmarkUploadWriteAt32K(b *testing.B)  { benchWriteAt(b, 32<<10) }
func BenchmarkUploadWriteAt255K(b *testing.B) { benchWriteAt(b, 255<<10) }

// BenchmarkUploadPlainFile is what the same bytes cost without any of this.
func BenchmarkUploadPlainFile(b *testing.B) {
	s := benchStore(b)
	content := pattern(benchSize)
	b.SetBytes(benchSize)
	for i := byte(0); b.Loop(); i++ {
		w, err := s.Blobs.Create(b.Context(), [16]byte{1, i})
		if err != nil {
			b.Fatal(err)
		}
		for off := 0; off < len(content); off += 256 << 10 {
			if _, err := w.Write(content[off : off+256<<10]); err != nil {
				b.Fatal(err)
			}
		}
		if err := w.Abort(); err != nil {
			b.Fatal(err)
		}
	}
}

func benchReader(b *testing.B) *Reader {
	s := benchStore(b)
	l := upload(b, s, pattern(benchSize), 4<<20)
	r, err := s.Open(b.Context(), l)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { r.Close() })
	return r
}

type sink struct{}

func (sink) Write(p []byte) (int, error) { return len(p), nil }

func BenchmarkDownloadCopyTo(b *testing.B) {
	r := benchReader(b)
	b.SetBytes(benchSize)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.CopyTo(sink{}, 0, -1); err != nil {
			b.Fatal(err)
		}
	}
}

func benchReadAt(b *testing.B, piece int) {
	r := benchReader(b)
	p := make([]byte, piece)
	b.SetBytes(benchSize)
	b.ReportAllocs()
	for b.Loop() {
		for off := 0; off < benchSize; off += piece {
			if _, err := r.ReadAt(p, int64(off)); err != nil && err != io.EOF {
				b.Fatal(err)
			}
		}
	}
}

func BenchmarkDownloadReadAt32K(b *testing.B)  { benchReadAt(b, 32<<10) }
func BenchmarkDownloadReadAt255K(b *testing.B) { benchReadAt(b, 255<<10) }

func BenchmarkRandomRead4K(b *testing.B) {
	r := benchReader(b)
	p := make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.ReadAt(p, rand.Int64N(benchSize/4096)*4096); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRandomWrite4K(b *testing.B) {
	s := benchStore(b)
	p := pattern(4096)
	d := edit(b, s, &extent.Layout{Size: 1 << 30})
	b.SetBytes(4096)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.WriteAt(p, rand.Int64N(1<<18)*4096); err != nil {
			b.Fatal(err)
		}
	}
	if err := d.Abort(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkSmallFile is a file that stays inline: no blob, no key, no sync.
func BenchmarkSmallFile(b *testing.B) {
	s := benchStore(b)
	p := pattern(4096)
	b.ReportAllocs()
	for b.Loop() {
		d := edit(b, s, nil)
		if _, err := d.WriteAt(p, 0); err != nil {
			b.Fatal(err)
		}
		finish(b, d)
	}
}
