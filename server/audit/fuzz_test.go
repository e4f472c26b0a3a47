package audit

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sallyport/crypto/record"
)

// FuzzEvent: an event that is read and written again is the same event, and small enough for a frame.
func FuzzEvent(f *testing.F) {
	f.Add(Event{Time: time.Unix(1, 2), Action: Upload, Path: "/\xff", To: "/e\u0301", Remote: netip.MustParseAddrPort("[::1]:2"), Bytes: 1 << 63}.Encode())
	f.Add([]byte(`{"action":"login","path":{"b64":"//8="},"account":"00000000000000000000000000000001"}`))
	f.Add([]byte(`{"time":"2026-11-27T12:00:00Z","remote":"192.0.2.1:1","account":"x"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := Decode(b)
		if err != nil {
			return
		}
		e.bound()
		first := e.Encode()
		if len(first) > maxFrame-headerSize-200 {
			t.Fatalf("an event of %d bytes", len(first))
		}
		again, err := Decode(first)
		if err != nil || !bytes.Equal(again.Encode(), first) {
			t.Fatalf("%s became %s, %v", first, again.Encode(), err)
		}
	})
}

// FuzzHead gives the log heads that are authentic and say anything, and heads that are not.
func FuzzHead(f *testing.F) {
	o := options(f)
	l := open(f, o)
	appendN(f, l, 1, 3)
	if err := l.Close(); err != nil {
		f.Fatal(err)
	}
	img := load(f, o.Dir)
	plain, err := o.Box.Open(nil, record.DomainAudit, []byte(headName), img[headName])
	if err != nil {
		f.Fatal(err)
	}
	f.Add(plain, true)
	f.Add(img[headName], false)
	f.Add([]byte(`{"seq":18446744073709551615,"hash":[]}`), true)
	f.Add([]byte(`{"seq":2,"hash":[1,2,3]}`), true)
	f.Fuzz(func(t *testing.T, b []byte, authentic bool) {
		if authentic {
			b = o.Box.Seal(nil, record.DomainAudit, []byte(headName), b)
		}
		dir := t.TempDir()
		img.with(headName, b).store(t, dir)
		l, err := Open(Options{Dir: dir, Box: o.Box})
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Fatal(err)
			}
			return
		}
		defer l.Close()
		if n := len(all(t, l)); n != 3 {
			t.Errorf("%d records, want 3", n)
		}
		if _, err := os.Stat(filepath.Join(dir, headName)); err != nil {
			t.Error(err)
		}
	})
}

// FuzzCheckpoints puts any bytes in the place of the checkpoints: only those that were signed are believed, and one at the end that is not
// complete.
func FuzzCheckpoints(f *testing.F) {
	img, _ := signed(f)
	good := img[checkpointName]
	for _, at := range []uint32{0, 8, 8 + 56, 8 + 131, 8 + 195, 8 + 2*checkpointSize} {
		f.Add(at, []byte{1, 2, 3}, uint32(0))
	}
	f.Add(uint32(len(good)), good[8:8+checkpointSize], uint32(0))
	f.Add(uint32(0), []byte{}, uint32(100))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, at uint32, change []byte, cut uint32) {
		at %= uint32(len(good) + 1)
		b := append(bytes.Clone(good[:at]), change...)
		b = append(b, good[min(len(good), len(b)):]...)
		b = b[:len(b)-int(cut%uint32(len(b)+1))]
		if err := os.WriteFile(filepath.Join(dir, checkpointName), b, 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := readCheckpoints(dir, testKey, 2)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Fatal(err)
			}
			return
		}
		if n := len(p.list); n > 3 || p.size > int64(len(b)) || n > 0 && !bytes.HasPrefix(good, b[:len(checkpointMagic)+n*checkpointSize]) {
			t.Fatalf("%d checkpoints are believed that were not made", n)
		}
	})
}

// FuzzExport gives the verifier an export that somebody changed: it is whole, or damaged, or says less at its end.
func FuzzExport(f *testing.F) {
	for i, form := range []Format{JSONLines, CEF} {
		good := exported(f, form)
		f.Add(uint8(i), uint32(0), []byte{}, uint32(0))
		f.Add(uint8(i), uint32(len(good)/2), []byte("\n{}"), uint32(7))
		f.Add(uint8(i), uint32(20), []byte(`"seq":99`), uint32(0))
	}
	exports := [][]byte{exported(f, JSONLines), exported(f, CEF)}
	f.Fuzz(func(t *testing.T, form uint8, at uint32, change []byte, cut uint32) {
		good := exports[int(form)%len(exports)]
		at %= uint32(len(good) + 1)
		b := append(bytes.Clone(good[:at]), change...)
		b = append(b, good[min(len(good), len(b)):]...)
		b = b[:len(b)-int(cut%uint32(len(b)+1))]
		r, err := VerifyExport(bytes.NewReader(b), testKey)
		if err == nil && (r.Last == 0 || r.Signed < r.Last) {
			t.Fatalf("%+v is taken", r)
		}
		if err == nil && bytes.Contains(change, []byte("seq")) && !bytes.Equal(b, good) && len(b) >= len(good) && r.Last > 7 {
			t.Fatalf("%d records, of 7", r.Last)
		}
	})
}
