package main

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unicode/utf16"

	"go.etcd.io/bbolt"

	"sallyport/server/admin"
)

// TestNothingTells copies the disk of a busy server and looks for what nobody may
// learn from it, in every form in which a program might have left it.
func TestNothingTells(t *testing.T) {
	t.Parallel()
	h := startHost(t)
	secrets := h.live(t)
	if err := h.cl.Seal(t.Context(), admin.Change{Reason: "canary-reason"}); err != nil { // every file is closed and complete
		t.Fatal(err)
	}
	h.await(t, "sealed")
	needles := map[string][]byte{}
	for _, s := range secrets {
		for form, b := range forms(s) {
			needles[fmt.Sprintf("%q %s", s, form)] = b
		}
	}
	files := 0
	var recordings [][]byte
	err := filepath.WalkDir(h.state, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(h.state, path)
		look(t, "the name "+rel, []byte(rel), needles)
		top, _, _ := strings.Cut(rel, "/")
		if !d.Type().IsRegular() || top == "hostkeys" || top == "tls" { // what the server shows to everybody
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		recordings = append(recordings, data)
		look(t, rel, data, needles)
		for i, plain := range inflated(data) {
			look(t, fmt.Sprintf("%s, inflated %d", rel, i), plain, needles)
		}
		if strings.HasSuffix(rel, ".db") {
			steps(t, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 6 {
		t.Fatalf("only %d files were looked at", files)
	}
	// The search itself: in a copy that does hold one of them, in any form, it is found.
	for what, b := range needles {
		if hits(append(bytes.Clone(recordings[0]), b...), map[string][]byte{what: b}) == nil {
			t.Errorf("the search does not find %s", what)
		}
	}
}

// live uses every feature that writes something down, and returns what must not be found.
func (h *realHost) live(t *testing.T) []string {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	const account, other, group, password = "canary-acme", "canary-leaver", "canary-group", "Canary-password-42"
	network := netip.MustParsePrefix("198.51.100.0/24")
	_, err := h.cl.PolicySet(t.Context(), admin.PolicySet{Change: admin.Change{Reason: "canary-ticket"}, Set: []admin.KeyValue{
		{Key: "groups." + group + ".allow_from", Value: "[127.0.0.0/8, " + network.String() + "]"},
	}})
	check(err)
	for _, name := range []string{account, other} {
		_, err := h.cl.AccountAdd(t.Context(), admin.AccountAdd{Name: name, Groups: []string{group}, Protocols: []string{"sftp", "ftps"}, Password: password,
			Paths: []admin.PathRight{{Path: "/", Allow: []string{"all"}}, {Path: "/canary-right", Allow: []string{"list"}}}, Keys: []string{h.publicKey}})
		check(err)
	}
	check(h.cl.Passwd(t.Context(), admin.Passwd{Account: account, Password: password + "x"}))
	st, err := h.cl.Status(t.Context())
	check(err)
	_, port, _ := net.SplitHostPort(st.Listeners[0].Address)
	n, _ := strconv.Atoi(port)
	conn := &connection{Host: "127.0.0.1", SFTPPort: n, Account: account, KeyFile: h.keyFile}
	r, err := dialSFTP(conn)
	check(err)
	c := r.(overSFTP)
	check(c.c.Mkdir("/canary-directory"))
	check(c.put("/canary-directory/canary-small.txt", []byte("canary small content"), func(int, bool) {}))
	check(c.put("/canary-large.txt", bytes.Repeat([]byte("canary large content, "), 20_000), func(int, bool) {}))
	check(c.put("/canary-large.txt", bytes.Repeat([]byte("canary second version "), 20_000), func(int, bool) {}))
	check(c.rename("/canary-large.txt", "/canary-renamed.txt"))
	check(c.c.Symlink("/canary-target", "/canary-link"))
	check(c.remove("/canary-directory/canary-small.txt"))
	if f, err := c.c.OpenFile("/canary-interrupted", os.O_WRONLY|os.O_CREATE); err != nil {
		t.Fatal(err)
	} else if _, err := f.Write(bytes.Repeat([]byte("canary interrupted "), 10_000)); err != nil {
		t.Fatal(err)
	}
	c.conn.Close()
	if _, err := dialSFTP(&connection{Host: "127.0.0.1", SFTPPort: n, Account: "canary-nobody", KeyFile: h.keyFile}); err == nil {
		t.Fatal("let in")
	}
	secrets := []string{account, other, group, password, "canary-nobody", network.String(), network.Masked().Addr().String(), string(network.Addr().AsSlice()), "canary-ticket", "canary-reason",
		"canary-right", "canary-directory", "canary-small", "canary-large", "canary-renamed", "canary-target", "canary-link", "canary-interrupted",
		"canary small content", "canary large content", "canary second version", "canary interrupted ", "$2a$", "$2b$", "$argon2id$", strings.Fields(h.publicKey)[1]}
	second, err := h.cl.SecondEnable(t.Context(), admin.SecondEnable{Account: account})
	check(err)
	secrets = append(secrets, secondSecrets(t, second)...)
	check(h.cl.AccountRemove(t.Context(), admin.AccountRef{Name: other}))
	return secrets
}

// forms are ways to write s down.
func forms(s string) map[string][]byte {
	utf := utf16.Encode([]rune(s))
	var le, be []byte
	for _, u := range utf {
		le, be = append(le, byte(u), byte(u>>8)), append(be, byte(u>>8), byte(u))
	}
	out := map[string][]byte{"as it is": []byte(s), "in UTF-16LE": le, "in UTF-16BE": be, "in hex": []byte(hex.EncodeToString([]byte(s))), "in HEX": []byte(strings.ToUpper(hex.EncodeToString([]byte(s))))}
	if u := strings.ToUpper(s); u != s {
		out["in capitals"] = []byte(u)
	}
	for shift := range 3 { // wherever in a longer text it began
		b := base64.RawStdEncoding.EncodeToString(append(make([]byte, shift), s...))
		from, to := (shift*8+5)/6, (shift+len(s))*8/6
		if to-from >= 6 {
			out[fmt.Sprintf("in Base64 at %d", shift)] = []byte(b[from:to])
		}
	}
	for form, b := range out {
		if len(b) < 4 { // chance would find them
			delete(out, form)
		}
	}
	return out
}

func hits(data []byte, needles map[string][]byte) (found []string) {
	for what, b := range needles {
		if bytes.Contains(data, b) {
			found = append(found, what)
		}
	}
	return found
}

func look(t *testing.T, where string, data []byte, needles map[string][]byte) {
	t.Helper()
	for _, what := range hits(data, needles) {
		// Four bytes are met by chance once in 2^32 places; a longer one is not chance.
		if at := bytes.Index(data, needles[what]); len(needles[what]) > 4 || at < 0 {
			t.Errorf("%s holds %s at %d", where, what, at)
		}
	}
}

// maxInflated bounds what one compressed stream may become.
const maxInflated = 1 << 20

// inflated are the streams of gzip and zlib that begin anywhere in data.
func inflated(data []byte) (out [][]byte) {
	for i := 0; i+3 < len(data); i++ {
		var r io.Reader
		var err error
		switch {
		case data[i] == 0x1f && data[i+1] == 0x8b && data[i+2] == 8:
			r, err = gzip.NewReader(bytes.NewReader(data[i:]))
		case data[i] == 0x78 && (uint(data[i])<<8|uint(data[i+1]))%31 == 0:
			r, err = zlib.NewReader(bytes.NewReader(data[i:]))
		default:
			continue
		}
		if err != nil {
			continue
		}
		plain, _ := io.ReadAll(io.LimitReader(r, maxInflated)) // what came before an error counts, too
		if len(plain) > 16 {
			out = append(out, plain)
		}
	}
	return out
}

// steps checks that a database shows lengths in steps of 64 bytes only (docs/FORMAT.md "Sealed record").
func steps(t *testing.T, path string) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	records := 0
	err = db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
			return b.ForEach(func(k, v []byte) error {
				records++
				if len(v) < 109 || (len(v)-45)%64 != 0 {
					t.Errorf("%s: a value of %d bytes under %x tells more than its format admits", path, len(v), k)
				}
				return nil
			})
		})
	})
	if err != nil || records == 0 {
		t.Errorf("%s: %d records, %v", path, records, err)
	}
}

// secondSecrets are the secret of a second factor as it is shown, and as bytes.
func secondSecrets(t *testing.T, e admin.Enrolment) []string {
	t.Helper()
	u, err := url.Parse(string(e.URI))
	if err != nil {
		t.Fatal(err)
	}
	secret := u.Query().Get("secret")
	raw, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(secret)
	if err != nil || len(raw) < 16 || len(e.Recovery) == 0 {
		t.Fatalf("no secret of a second factor: %d bytes, %v", len(raw), err)
	}
	out := []string{secret, string(raw)}
	for _, code := range e.Recovery {
		out = append(out, string(code))
	}
	return out
}
