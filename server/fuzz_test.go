package server

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"sallyport/server/audit"
)

// FuzzConfig: a configuration file is taken whole or refused with places, and what `config show` prints of one that was
// taken can be set again.
func FuzzConfig(f *testing.F) {
	for _, s := range []string{
		"", "state: {dir: /x}\n", "listeners:\n  - {protocol: sftp, address: '[::]:22'}\n", "passive: {ports: 1-2, public_address: auto}", "a: &a [*a]", "---\n---\n",
		"tls: {certificates: [{certificate: a}]}", "health: {address: 0.0.0.0:1}", "state: !!binary x", "listeners: null\nstate:\n", "\xef\xbb\xbfstate: {}", "? [a]\n: b\n",
	} {
		f.Add([]byte(s), "SALLYPORT_HEALTH__ADDRESS=")
	}
	f.Add([]byte("x"), "SALLYPORT_LISTENERS=[]")
	f.Fuzz(func(t *testing.T, text []byte, environ string) {
		file := filepath.Join(t.TempDir(), "sallyport.yaml")
		check(t, os.WriteFile(file, text, 0o600))
		l, err := LoadConfig(Source{File: file, Environ: []string{environ}})
		var errs ConfigErrors
		switch {
		case err == nil:
			if len(l.Settings()) == 0 {
				t.Error("no settings")
			}
		case errors.As(err, &errs):
			if errs.Error() == "" || len(errs) == 0 {
				t.Error("refused without a reason")
			}
			errs.Hint()
		default:
			t.Fatalf("error is %T: %v", err, err)
		}
	})
}

// FuzzPorts: a range of ports is in order or refused, and a public address is IPv4.
func FuzzPorts(f *testing.F) {
	for _, s := range []string{"", "50000-50100", "1 - 2", "0-1", "9-1", "65535-65536", "auto", "192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if p, err := ParsePorts(s); err == nil && p[0] > p[1] {
			t.Errorf("%q is %v", s, p)
		}
		if a, err := parsePublic(s); err == nil && a.IsValid() && !a.Is4() {
			t.Errorf("%q is %v", s, a)
		}
	})
}

// FuzzNotes: what anybody wrote into the file of notes is bounded, and tells of attempts to unseal only.
func FuzzNotes(f *testing.F) {
	f.Add([]byte(notesMagic), []byte(`{"action":"unseal-refused","detail":"x"}`))
	f.Add(bytes.Repeat([]byte{4}, notesStart+40), []byte(`{"action":"login"}`))
	f.Fuzz(func(t *testing.T, data, plain []byte) {
		n := &notes{path: "notes"}
		entries, bytes := 0, 0
		if err := n.parse(data, func(_, sealed []byte) { entries++; bytes += 4 + len(sealed) }); err == nil {
			if entries > maxNotes || notesStart+bytes > len(data) || n.n != entries || n.size > int64(len(data)) {
				t.Errorf("%d entries of %d bytes in %d", entries, bytes, len(data))
			}
		}
		if e, ok := believed(plain); ok && (e.Action != audit.UnsealRefused && e.Action != audit.UnsealShare || e.Origin != "" || e.Account != (audit.ID{})) {
			t.Errorf("a note tells %+v", e)
		}
	})
}
