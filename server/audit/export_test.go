package audit

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"net/netip"
	"strings"
	"testing"
)

// exported makes a log of six records, three checkpoints, and exports it.
func exported(t testing.TB, f Format) []byte {
	t.Helper()
	_, o := signed(t)
	l := open(t, o)
	if err := l.Append(t.Context(), Event{Action: LoginRefused, Remote: netip.MustParseAddrPort("192.0.2.1:22"), Client: "a=b|c\\d\nCEF:0|x\u2028y", Path: "/\xff"}); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := l.Export(t.Context(), ExportOptions{Format: f}, func(line []byte) error {
		if bytes.ContainsAny(line, "\n\r") {
			t.Errorf("a line of two: %q", line)
		}
		out.Write(append(line, '\n'))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// An export proves itself with the public key alone: bytes changed all over it, each line dropped, doubled or exchanged, cuts
// are found, with the number of the first bad record.
func TestAnExportProvesItself(t *testing.T) {
	t.Parallel()
	for _, f := range []Format{JSONLines, CEF} {
		t.Run(string(f), func(t *testing.T) {
			t.Parallel()
			data := exported(t, f)
			r, err := VerifyExport(bytes.NewReader(data), testKey)
			if err != nil || r.First != 1 || r.Last != 7 || r.Signed != 7 || r.Points != 4 {
				t.Fatalf("%+v, %v\n%s", r, err, data)
			}
			another := ed25519.NewKeyFromSeed(make([]byte, 32)).Public().(ed25519.PublicKey)
			if _, err := VerifyExport(bytes.NewReader(data), another); !errors.Is(err, ErrDamaged) {
				t.Errorf("with another key: %v", err)
			}
			lines := bytes.SplitAfter(data, []byte("\n"))
			lines = lines[:len(lines)-1]
			// Lines are: header, 1, 2, checkpoint, 3, 4, checkpoint, 5, 6, checkpoint, 7, checkpoint.
			first := []uint64{1, 1, 2, 1, 3, 4, 3, 5, 6, 5, 7, 7}
			at, n := 0, 0
			for i := 0; i < len(data); i += 11 {
				for ; i >= at+len(lines[n]); n++ {
					at += len(lines[n])
				}
				bad := bytes.Clone(data)
				bad[i] ^= 1
				_, err := VerifyExport(bytes.NewReader(bad), testKey)
				var d *DamageError
				if n == 1 && errors.As(err, &d) {
					continue // where an export begins is what its first record says
				}
				if !errors.As(err, &d) || d.Record < first[n] || d.Record > first[n]+2 || n != 3 && n != 6 && n != 9 && n != 11 && d.Record != first[n] && bad[i] != '\n' && data[i] != '\n' {
					t.Fatalf("byte %d of line %d: %v, want record %d", i-at, n+1, err, first[n])
				}
			}
			for i := 1; i < len(lines); i++ {
				var dropped, doubled []byte
				for j, l := range lines {
					if j != i {
						dropped = append(dropped, l...)
					}
					doubled = append(doubled, l...)
					if j == i {
						doubled = append(doubled, l...)
					}
				}
				// Without its first record it is an export from the second on; without its first checkpoint the next one proves as much.
				if r, err := VerifyExport(bytes.NewReader(dropped), testKey); (i == 1 || i == 3) && (err != nil || r.Last != 7 || i == 1 && r.First != 2) || i != 1 && i != 3 && !errors.Is(err, ErrDamaged) {
					t.Errorf("line %d dropped: %+v, %v", i+1, r, err)
				}
				if _, err := VerifyExport(bytes.NewReader(doubled), testKey); !errors.Is(err, ErrDamaged) {
					t.Errorf("line %d doubled: %v", i+1, err)
				}
			}
			for i := 1; i < len(data); i += 29 {
				r, err := VerifyExport(bytes.NewReader(data[:i]), testKey)
				if err == nil && (r.Last != r.Signed || data[i-1] != '\n') {
					t.Errorf("cut at %d: %+v", i, r)
				}
			}
		})
	}
}

func TestCEFEscapesWhatClientsSend(t *testing.T) {
	t.Parallel()
	data := string(exported(t, CEF))
	if want := `requestClientApplication=a\=b|c\\d\nCEF:0|x` + "\ufffdy filePath=/\ufffd "; !strings.Contains(data, want) {
		t.Errorf("no %q in\n%s", want, data)
	}
	if got := string(cefLine("a|b\\", "x\ny", 3, "k", "v\r")); got != `CEF:0|Sallyport|Sallyport|1|a\|b\\|x y|3|k=v\r` {
		t.Errorf("%q", got)
	}
}
