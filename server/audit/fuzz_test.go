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
