package stream

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// vector is one entry of testdata/floe.json.
type vector struct {
	Name             string
	Segment          int
	Rotation         uint
	First            uint64 // position of the first of Segments
	Key, AAD, Header []byte
	Plain            []byte
	Segments         [][]byte
	Bad              int // number of the first bad segment, badNothing or badHeader
}

const (
	badNothing = -1
	badHeader  = -2
)

// TestFrozenVectors opens what an independent implementation
// (testdata/floe_vectors.py) sealed, and refuses what it damaged, exactly
// where it damaged it.
func TestFrozenVectors(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/floe.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []vector
	if err := json.Unmarshal(data, &vectors); err != nil {
		t.Fatal(err)
	}
	if len(vectors) < 40 {
		t.Fatalf("only %d vectors", len(vectors))
	}
	for _, v := range vectors {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			p := params{segment: v.Segment, rotation: v.Rotation}
			k, err := openHeader(p, (*[32]byte)(v.Key), v.AAD, v.Header)
			if v.Bad == badHeader {
				if !errors.Is(err, ErrAuth) {
					t.Fatalf("header: got %v, want %v", err, ErrAuth)
				}
				return
			}
			if err != nil {
				t.Fatalf("header: %v", err)
			}
			plain := v.Plain
			for i, s := range v.Segments {
				got, err := k.open(nil, s, v.First+uint64(i), i == len(v.Segments)-1)
				if i == v.Bad {
					if !errors.Is(err, ErrAuth) || got != nil {
						t.Fatalf("segment %d: got %d bytes and %v, want %v", i, len(got), err, ErrAuth)
					}
					return
				}
				if err != nil || !bytes.HasPrefix(plain, got) {
					t.Fatalf("segment %d: got %x, %v", i, got, err)
				}
				plain = plain[len(got):]
			}
			if v.Bad != badNothing || len(plain) != 0 {
				t.Fatalf("opened with %d bytes left over, want failure at segment %d", len(plain), v.Bad)
			}
		})
	}
}

// TestPublishedVectors opens the known answers that five implementations of
// FLOE published (github.com/Snowflake-Labs/floe-specification, kats), where a
// directory above the repository has them as shared/vectors/floe.
func TestPublishedVectors(t *testing.T) {
	t.Parallel()
	files := publishedVectors(t)
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), "_ct.txt")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sealed := readHex(t, file)
			want := readHex(t, strings.TrimSuffix(file, "_ct.txt")+"_pt.txt")
			p := params{segment: 40, rotation: 20}
			switch {
			case strings.HasSuffix(name, "_64"):
				p.segment = 64
			case strings.HasSuffix(name, "_4K"):
				p.segment = 4096
			case strings.HasSuffix(name, "_rotation"):
				p.rotation = 2
			}
			got, err := openAll(p, new([32]byte), []byte("This is AAD"), sealed)
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("got %d bytes and %v, want %d bytes", len(got), err, len(want))
			}
			again := sealAll(t, p, new([32]byte), []byte("This is AAD"), want)
			got, err = openAll(p, new([32]byte), []byte("This is AAD"), again)
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("after sealing: got %d bytes and %v, want %d bytes", len(got), err, len(want))
			}
		})
	}
}

func publishedVectors(t *testing.T) []string {
	t.Helper()
	const beside = "shared/vectors/floe/*_ct.txt"
	for up := beside; len(up) < len(beside)+6*len("../"); up = "../" + up {
		if files, err := filepath.Glob(up); err != nil {
			t.Fatal(err)
		} else if len(files) > 0 {
			return files
		}
	}
	t.Skipf("no directory above this one has %s; the vectors of this repository are in testdata", beside)
	return nil
}

func readHex(t *testing.T, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	data, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return data
}
