package admin

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sallyport/crypto/keyring"
	"sallyport/policy/policydb"
	"sallyport/server/audit"
	"sallyport/server/copier"
	"sallyport/server/statecopy"
	"sallyport/vfs"
	"sallyport/vfs/blob"
)

// copying is an admin server whose state can be copied.
type copying struct {
	*Client
	t     *testing.T
	state string
	ring  *keyring.Keyring
	fs    *vfs.FS
	db    *policydb.DB
	door  *Door
	c     *copier.Copier
}

func startCopying(t *testing.T) *copying {
	t.Helper()
	f := &copying{t: t, state: filepath.Join(t.TempDir(), "state")}
	seal, err := keyring.NewKeyFile(filepath.Join(t.TempDir(), "key"))
	check(t, err)
	f.ring, err = keyring.Create(t.Context(), f.state, seal)
	check(t, err)
	box, err := f.ring.Policy()
	check(t, err)
	names, err := f.ring.Names()
	check(t, err)
	f.db, err = policydb.Open(t.Context(), policydb.Options{Path: filepath.Join(f.state, "policy.db"), Box: box, Token: f.ring.PolicyToken, Names: names, NameToken: f.ring.NameToken})
	check(t, err)
	abox, err := f.ring.Audit()
	check(t, err)
	signer, version, err := f.ring.AuditSigner()
	check(t, err)
	log, err := audit.Open(audit.Options{Dir: filepath.Join(f.state, "audit"), Box: abox, Signer: signer, KeyVersion: version})
	check(t, err)
	f.fs, err = vfs.Open(t.Context(), vfs.Options{Dir: filepath.Join(f.state, "accounts"), Keyring: f.ring})
	check(t, err)
	quiet := slog.New(slog.DiscardHandler)
	f.c, err = copier.New(copier.Options{Keyring: f.ring, Policy: f.db, Volumes: f.fs, Audit: log, Dir: f.state, Program: "test", Log: quiet})
	check(t, err)
	s := NewServer(Options{Log: quiet, Policy: f.db, Keyring: f.ring, Volumes: f.fs, Copier: f.c, Record: log.Append, RecordSeq: log.AppendSeq})
	f.door = NewDoor(DoorOptions{Log: quiet, Status: func() Status { return Status{State: "sealed"} }})
	f.door.Open(s)
	socket := filepath.Join(f.state, "admin.sock")
	ln, err := Listen(socket, 0o600)
	check(t, err)
	f.Client = NewClient(socket)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.door.Serve(ctx, ln, time.Second) }()
	t.Cleanup(func() {
		cancel()
		check(t, <-done)
		check(t, errors.Join(f.c.Close(), f.fs.Close(), log.Close(), f.db.Close(), f.ring.Close()))
	})
	return f
}

// account makes an account with a file.
func (f *copying) account(name string, data []byte) keyring.AccountID {
	f.t.Helper()
	id, err := f.ring.NewAccount(f.t.Context())
	check(f.t, err)
	check(f.t, f.fs.Create(f.t.Context(), id))
	_, err = f.db.CreateAccount(f.t.Context(), policydb.NewAccount{Name: name, ID: id, Who: "test"})
	check(f.t, err)
	f.write(id, "file", data)
	return id
}

func (f *copying) write(id keyring.AccountID, name string, data []byte) {
	f.t.Helper()
	v, err := f.fs.Volume(f.t.Context(), id)
	check(f.t, err)
	w := v.View(vfs.ViewOptions{Writer: "test"})
	h, err := w.OpenHandle(f.t.Context(), name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	check(f.t, err)
	_, err = h.Write(data)
	check(f.t, errors.Join(err, h.Close(), w.Close()))
}

// run makes a copy through the socket.
func (f *copying) run(to string, o statecopy.Options) (*statecopy.Done, []CopyDamaged) {
	f.t.Helper()
	d, err := statecopy.OpenDir(to, true)
	check(f.t, err)
	defer d.Close()
	source, err := f.StateCopy(f.t.Context(), Change{Reason: "test"})
	check(f.t, err)
	defer source.Close()
	done, err := statecopy.Run(f.t.Context(), source, d, o)
	check(f.t, err)
	lost, err := source.Finish(f.t.Context(), done, to)
	check(f.t, errors.Join(err, d.Clean(f.t.Context())))
	return done, lost
}

// TestCopiesThroughTheSocket: a first one, one of what changed, one that reads all of it back, and one of which a blob and a database are
// damaged at the server, with the names of accounts.
func TestCopiesThroughTheSocket(t *testing.T) {
	t.Parallel()
	f := startCopying(t)
	a := f.account("acme", bytes.Repeat([]byte("a"), 700_000))
	f.account("bolt", bytes.Repeat([]byte("b"), 70_000))
	to := filepath.Join(t.TempDir(), "copy")
	if done, lost := f.run(to, statecopy.Options{}); done.Copied != 2 || done.Checked != 2 || done.Same != 0 || len(lost) != 0 {
		t.Fatalf("the first: %+v %+v", done, lost)
	}
	f.write(a, "two", bytes.Repeat([]byte("c"), 90_000))
	if done, lost := f.run(to, statecopy.Options{Deep: true}); done.Copied != 1 || done.Same != 1 || done.Checked != 3 || len(lost) != 0 {
		t.Fatalf("the second: %+v %+v", done, lost)
	}
	copied, err := filepath.Glob(filepath.Join(to, "blobs", a.String(), "*", "*"))
	check(t, err)
	data, err := os.ReadFile(copied[0])
	check(t, err)
	data[len(data)-1] ^= 1
	check(t, os.WriteFile(copied[0], data, 0o600))
	if done, _ := f.run(to, statecopy.Options{Deep: true}); done.Mended != 1 || done.Copied != 1 {
		t.Fatalf("mending: %+v", done)
	}
	f.write(a, "three", bytes.Repeat([]byte("d"), 95_000))
	blobs, err := filepath.Glob(filepath.Join(f.state, "accounts", a.String(), "blobs", "*", "*"))
	check(t, err)
	for _, path := range blobs {
		if info, err := os.Stat(path); err == nil && info.Size() < 140_000 && info.ModTime().After(time.Now().Add(-time.Hour)) && info.Size() > 90_000 {
			check(t, os.Remove(path)) // two and three; two was copied
		}
	}
	done, lost := f.run(to, statecopy.Options{})
	if done.Damaged != 1 || len(lost) != 1 || lost[0].Account != "acme" || lost[0].ID != a.String() || len(lost[0].What) != 1 || !strings.HasSuffix(lost[0].What[0], "is missing") || lost[0].Last.IsZero() {
		t.Fatalf("damaged: %+v %+v", done, lost)
	}
}

// deleted are the files below a directory that this process has open and that have no name.
func deleted(dir string) (list []string) {
	fds, _ := os.ReadDir("/proc/self/fd")
	for _, fd := range fds {
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(to, dir+"/") && strings.HasSuffix(to, " (deleted)") {
			list = append(list, to)
		}
	}
	return list
}

// eventually polls, for a minute.
func eventually(t *testing.T, what string, fn func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); !fn(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// TestAClientThatGoesLeavesNothingOpen: it goes in the middle of a database; what was opened for it is closed, and the next copy is let in.
func TestAClientThatGoesLeavesNothingOpen(t *testing.T) {
	t.Parallel()
	f := startCopying(t)
	a := f.account("acme", bytes.Repeat([]byte("a"), 70_000))
	for range 3 {
		source, err := f.StateCopy(t.Context(), Change{})
		check(t, err)
		gone := errors.New("gone")
		err = source.Account(t.Context(), a, func(_ uint32, _ int64, tree io.Reader, _ int64, _ io.Reader) error {
			_, err := io.CopyN(io.Discard, tree, 100)
			if err == nil {
				err = gone
			}
			return err
		})
		if !errors.Is(err, gone) || len(deleted(f.state)) == 0 {
			t.Fatalf("%v; %q", err, deleted(f.state))
		}
		check(t, source.Close())
		eventually(t, "everything is closed", func() bool { return len(deleted(f.state)) == 0 })
	}
}

// TestSealingEndsACopy: the door shuts while a copy is under way; its stream ends, and nothing more is handed out.
func TestSealingEndsACopy(t *testing.T) {
	t.Parallel()
	f := startCopying(t)
	a := f.account("acme", bytes.Repeat([]byte("a"), 70_000))
	source, err := f.StateCopy(t.Context(), Change{})
	check(t, err)
	defer source.Close()
	_, err = source.Next(t.Context())
	check(t, err)
	f.door.Shut()
	if _, err := source.Next(t.Context()); err == nil {
		t.Error("it goes on after the server was sealed")
	}
	eventually(t, "the lease ends", func() bool {
		l, err := f.c.Begin(t.Context(), "test", "")
		if err == nil {
			check(t, l.End())
		}
		return err == nil
	})
	err = source.Account(t.Context(), a, func(uint32, int64, io.Reader, int64, io.Reader) error { return nil })
	wantCode(t, err, CodeSealed)
}

// TestPiecesAreWholeOrSayWhy: of a blob that is sent, cut at any byte, and of one that cannot be read to its end.
func TestPiecesAreWholeOrSayWhy(t *testing.T) {
	t.Parallel()
	data := bytes.Repeat([]byte("0123456789abcdef"), 40_000) // three pieces
	var whole bytes.Buffer
	check(t, copyPieces(&whole, bytes.NewReader(data)))
	sent := whole.Bytes()
	got, err := io.ReadAll(&pieces{r: bytes.NewReader(append(bytes.Clone(sent), "the next blob"...))})
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	for at := 0; at < len(sent); at += 1 + len(sent)/500 {
		if _, err := io.ReadAll(&pieces{r: bytes.NewReader(sent[:at])}); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut at %d: %v", at, err)
		}
	}
	lost := append(binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint32(bytes.Clone(sent[:4+copyPiece]), lostPiece), 3), "why"...)
	for at := 4 + copyPiece; at < len(lost); at++ {
		if _, err := io.ReadAll(&pieces{r: bytes.NewReader(lost[:at])}); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("lost, cut at %d: %v", at, err)
		}
	}
	got, err = io.ReadAll(&pieces{r: bytes.NewReader(lost)})
	if !errors.Is(err, statecopy.ErrAtSource) || !strings.HasSuffix(err.Error(), ": why") || len(got) != copyPiece {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// TestWrongRequestsOfACopy: each is refused, with a sentence, and the copy goes on.
func TestWrongRequestsOfACopy(t *testing.T) {
	t.Parallel()
	f := startCopying(t)
	a := f.account("acme", bytes.Repeat([]byte("a"), 70_000))
	source, err := f.StateCopy(t.Context(), Change{})
	check(t, err)
	defer source.Close()
	_, err = f.StateCopy(t.Context(), Change{})
	wantCode(t, err, CodeConflict)
	post := func(op, body string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://x/v1/backup/state/"+op, strings.NewReader(body))
		check(t, err)
		res, err := f.http.Do(req)
		check(t, err)
		defer res.Body.Close()
		text, err := io.ReadAll(io.LimitReader(res.Body, 4096))
		check(t, err)
		return res.StatusCode, string(text)
	}
	lease := source.lease
	many := strings.Repeat(`"`+strings.Repeat("ab", 16)+`",`, maxCopyBlobs) + `"` + strings.Repeat("ab", 16) + `"`
	for _, x := range []struct{ op, body string }{
		{"next", `{"lease":"another"}`}, {"next", `{"lease":""}`}, {"finish", `{"lease":"another"}`}, {"finish", fmt.Sprintf(`{"lease":%q}`, lease)},
		{"account", fmt.Sprintf(`{"lease":%q,"account":"../../etc"}`, lease)}, {"account", fmt.Sprintf(`{"lease":%q,"account":"%032x"}`, lease, 1)},
		{"account", `{`}, {"account", fmt.Sprintf(`{"lease":%q,"other":1}`, lease)},
		{"blobs", fmt.Sprintf(`{"lease":%q,"account":%q,"blobs":[%s]}`, lease, a.String(), many)},
		{"blobs", fmt.Sprintf(`{"lease":%q,"account":%q,"blobs":["x"]}`, lease, a.String())},
		{"file", fmt.Sprintf(`{"lease":%q,"file":"../seal.json"}`, lease)}, {"file", fmt.Sprintf(`{"lease":%q,"file":"seal.json"}`, lease)}, // it does not fit together yet
		{"note", fmt.Sprintf(`{"lease":%q,"notes":[{"account":"x"}]}`, lease)}, {"note", fmt.Sprintf(`{"lease":%q,"notes":[{"account":%q,"kept":true}]}`, lease, a.String())},
		{"have?lease=another", "x"}, {"check?lease=another", "x"}, {"check?lease=" + lease, "too short"},
		{"check?lease=" + lease + "&account=x&blob=y&first=-1", strings.Repeat("x", 200)},
		{"drilled", `{"id":"x"}`}, {"drilled", fmt.Sprintf(`{"id":"%032x","findings":-1}`, 1)},
	} {
		if code, text := post(x.op, x.body); code == http.StatusOK || !strings.Contains(text, `{"error":{"code":"`) {
			t.Errorf("%s %.80s: %d %s", x.op, x.body, code, text)
		}
	}
	if code, text := post("have?lease="+lease, "what is no manifest"); code != http.StatusOK {
		t.Errorf("a manifest that cannot be read: %d %s", code, text)
	}
	list, err := source.Next(t.Context())
	if err != nil || len(list) != 1 || list[0].ID != a || list[0].Same {
		t.Fatalf("after all: %+v, %v", list, err)
	}
	err = source.Check(t.Context(), a, blob.ID{1}, make([]byte, 128), make([]byte, 100), 0, true)
	if !errors.Is(err, statecopy.ErrPurged) {
		t.Errorf("a check of what is not there: %v", err)
	}
}

// TestAManifestMayBeLongerThanOtherRequests, and a client that stops in the middle of it does not keep the server.
func TestAManifestMayBeLongerThanOtherRequests(t *testing.T) {
	t.Parallel()
	f := startCopying(t)
	source, err := f.StateCopy(t.Context(), Change{})
	check(t, err)
	defer source.Close()
	check(t, source.Have(t.Context(), io.LimitReader(endless{}, maxBody+1000)))
	conn, err := net.Dial("unix", filepath.Join(f.state, "admin.sock"))
	check(t, err)
	_, err = fmt.Fprintf(conn, "POST %s?lease=%s HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nsallyport state copy 1\n", copyHavePath, source.lease)
	check(t, err)
	check(t, conn.Close())
	if _, err := source.Next(t.Context()); err != nil {
		t.Errorf("after a client that went: %v", err)
	}
}

// endless is a manifest whose first line never ends.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}
