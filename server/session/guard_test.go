package session

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/policy"
	"sallyport/server/audit"
	"sallyport/vfs"
)

const (
	wrNew  = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	wrOnly = os.O_WRONLY
)

func put(t testing.TB, g *Guard, name, content string) {
	t.Helper()
	if err := tryPut(g, name, content); err != nil {
		t.Fatalf("writing %s: %v", name, err)
	}
}

func tryPut(g *Guard, name, content string) error {
	f, err := g.OpenFile(context.Background(), name, wrNew, 0)
	if err != nil {
		return err
	}
	_, werr := f.Write([]byte(content))
	return errors.Join(werr, f.Close())
}

func get(g *Guard, name string) (string, error) {
	f, err := g.OpenFile(context.Background(), name, os.O_RDONLY, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(readOnly{f})
	return string(b), err
}

// readOnly hides WriteTo, so that Read is used.
type readOnly struct{ f *File }

func (r readOnly) Read(p []byte) (int, error) { return r.f.Read(p) }

func names(t testing.TB, g *Guard, dir string) []string {
	t.Helper()
	list := asListed(t, g, dir)
	slices.Sort(list)
	return list
}

// asListed are the names of a directory in the order of its listing.
func asListed(t testing.TB, g *Guard, dir string) []string {
	t.Helper()
	var list []string
	if err := g.ReadDir(t.Context(), dir, func(batch []*vfs.Info) error {
		for _, i := range batch {
			list = append(list, i.Name())
		}
		return nil
	}); err != nil {
		t.Fatalf("listing %s: %v", dir, err)
	}
	return list
}

// furnished has an account "owner" that may do everything and "guest", another account's policy on the same kind of tree
// made by its owner while the rights were wide.
func furnished(t testing.TB, grants map[string]string) (*house, *Session) {
	t.Helper()
	h := build(t, nil)
	h.addAccount(t, "alice", everything)
	l, s := h.login(t, "alice")
	g := s.Files()
	for _, d := range []string{"/in", "/in/closed", "/out", "/secret"} {
		if err := g.Mkdir(d, 0); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"/in/old", "/in/closed/x", "/out/report", "/secret/plan"} {
		put(t, g, f, "content of "+f)
	}
	for link, target := range map[string]string{"/in/way-out": "/secret", "/in/loop": "loop", "/out/up": "../secret/plan", "/out/to-in": "/in"} {
		if err := g.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
	}
	l.Close()
	for path, value := range grants {
		h.set(t, policy.AccountTarget("alice"), path, value)
	}
	_, s = h.login(t, "alice")
	return h, s
}

var narrow = map[string]string{"paths": "[{path: /in, allow: [list, write, rename, symlink, mkdir]}, {path: /in/closed, allow: []}, {path: /out, allow: [list, read]}]"}

func TestGuardAsksPermit(t *testing.T) {
	t.Parallel()
	_, s := furnished(t, narrow)
	g := s.Files()
	open := func(name string, flag int) error {
		f, err := g.OpenFile(t.Context(), name, flag, 0)
		if err == nil {
			f.Close()
		}
		return err
	}
	stat := func(name string) error { _, err := g.Stat(name); return err }
	for _, c := range []struct {
		what string
		err  error
		code string // "" = allowed
	}{
		{"read where only writing is", open("/in/old", os.O_RDONLY), policy.CodeRead},
		{"read and write", open("/in/old", os.O_RDWR), policy.CodeRead},
		{"overwrite", open("/in/old", wrNew), ""},
		{"read", open("/out/report", os.O_RDONLY), ""},
		{"write where only reading is", open("/out/new", wrNew), policy.CodeOverwrite},
		{"write through ..", open("/in/../out/report", wrOnly), policy.CodeOverwrite},
		{"read through a symlink to elsewhere", open("/out/up", os.O_RDONLY), policy.CodeRead},
		{"write through a symlink directory", open("/in/way-out/plan", wrOnly), policy.CodeOverwrite},
		{"create through a symlink directory", open("/in/way-out/new", wrNew), policy.CodeOverwrite},
		{"write through a symlink to where writing is", open("/out/to-in/old", wrOnly), ""},
		{"closed below open", open("/in/closed/x", wrOnly), policy.CodeOverwrite},
		{"stat of what is not granted", stat("/secret/plan"), policy.CodeStat},
		{"stat of what is not there and not granted", stat("/secret/nothing"), policy.CodeStat},
		{"stat below what is not there and not granted", stat("/nothing/at/all"), policy.CodeStat},
		{"stat on the way", stat("/"), ""},
		{"delete", g.Remove("/in/old"), policy.CodeDelete},
		{"rmdir", g.Rmdir("/in/closed"), policy.CodeDelete},
		{"remove all", g.RemoveAll("/in"), policy.CodeDelete},
		{"mkdir elsewhere", g.Mkdir("/new", 0), policy.CodeMkdir},
		{"mkdir", g.Mkdir("/in/new", 0), ""},
		{"rename out of sight", g.Rename("/in/old", "/out/old"), policy.CodeRename},
		{"rename from elsewhere", g.Rename("/out/report", "/in/report"), policy.CodeRename},
		{"rename of a tree with something closed in it", g.Rename("/in", "/in2"), policy.CodeRename},
		{"rename onto what is closed", g.Rename("/in/new", "/in/closed/y"), policy.CodeRename},
		{"rename", g.Rename("/in/old", "/in/renamed"), ""},
		{"symlink elsewhere", g.Symlink("/in", "/out/link"), policy.CodeSymlink},
		{"symlink", g.Symlink("/secret/plan", "/in/link"), ""},
		{"and through it", open("/in/link", wrOnly), policy.CodeOverwrite},
		{"setattr elsewhere", g.SetAttr("/out/report", vfs.AttrChange{}), policy.CodeSetAttr},
		{"setattr through a symlink", g.SetAttr("/in/link", vfs.AttrChange{}), policy.CodeSetAttr},
		{"reserved", g.Mkdir("/.backups", 0), policy.CodeReserved},
	} {
		if c.code == "" {
			if c.err != nil {
				t.Errorf("%s: %v", c.what, c.err)
			}
			continue
		}
		wantCode(t, c.what, c.err, c.code)
	}
	if _, err := g.Stat("/in/nothing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what is granted and not there: %v", err)
	}
	if _, err := g.Stat("/in/loop/x"); !errors.Is(err, vfs.ErrLoop) {
		t.Errorf("loop: %v", err)
	}
}

func TestListingShowsWhatLeadsOn(t *testing.T) {
	t.Parallel()
	_, s := furnished(t, narrow)
	g := s.Files()
	if got := names(t, g, "/"); !slices.Equal(got, []string{"in", "out"}) {
		t.Errorf("root shows %v", got)
	}
	if got := names(t, g, "/in"); slices.Contains(got, "closed") || !slices.Contains(got, "old") {
		t.Errorf("/in shows %v", got)
	}
	if err := g.ReadDir(t.Context(), "/secret", nil); denialOf(err) == nil {
		t.Errorf("listing what is not granted: %v", err)
	}
	if err := g.ReadDir(t.Context(), "/in/way-out", nil); denialOf(err) == nil {
		t.Errorf("listing through a symlink: %v", err)
	}
	if got, err := g.Resolve("out/../in/./old"); err != nil || got != "/in/old" {
		t.Errorf("resolve: %q, %v", got, err)
	}
	if got, err := g.Resolve("/in/way-out"); denialOf(err) == nil {
		t.Errorf("resolve tells %q", got)
	}
	in, out := g.Perms("/in/old"), g.Perms("/out/report")
	if in[policy.OpRead] || !in[policy.OpOverwrite] || out[policy.OpOverwrite] || !out[policy.OpRead] || len(g.Perms("/secret/plan")) != 0 {
		t.Errorf("perms: in %v, out %v", in, out)
	}
}

func TestCreateOnlyAndChangeOnly(t *testing.T) {
	t.Parallel()
	h, s := furnished(t, map[string]string{"paths": "[{path: /in, allow: [create, rename]}]"})
	g := s.Files()
	put(t, g, "/in/new", "1")
	wantCode(t, "overwriting", tryPut(g, "/in/old", "x"), policy.CodeOverwrite)
	wantCode(t, "overwriting its own", tryPut(g, "/in/new", "x"), policy.CodeOverwrite)
	wantCode(t, "replacing by a rename", g.Rename("/in/new", "/in/old"), policy.CodeOverwrite)
	if err := g.Rename("/in/new", "/in/newer"); err != nil {
		t.Error(err)
	}
	f, err := g.OpenFile(t.Context(), "/in/again", wrNew, 0)
	if err != nil {
		t.Fatal(err)
	}
	mode := fs.FileMode(0o600)
	if err := f.SetAttr(vfs.AttrChange{Mode: &mode}); err != nil {
		t.Errorf("attributes of what is being uploaded: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if _, err := g.OpenFile(t.Context(), "/in/old", wrNew|os.O_EXCL, 0); !errors.Is(err, fs.ErrExist) {
		t.Errorf("asked for a new one: %v", err)
	}
	h.set(t, policy.AccountTarget("alice"), "paths", "[{path: /, allow: [all]}]")
	if got, err := get(g, "/in/old"); err != nil || got != "content of /in/old" {
		t.Errorf("what was there: %q, %v", got, err)
	}
}

// O_CREATE makes a file also where it is opened for reading, and O_EXCL must not open what is there.
func TestCreatingAsksToWrite(t *testing.T) {
	t.Parallel()
	h, s := furnished(t, map[string]string{"paths": "[{path: /in, allow: [list, read]}, {path: /out, allow: [list, read, create]}]"})
	g := s.Files()
	open := func(name string, flag int) error {
		f, err := g.OpenFile(t.Context(), name, flag, 0)
		if err != nil {
			return err
		}
		if b, err := io.ReadAll(readOnly{f}); flag&os.O_WRONLY == 0 && (err != nil || string(b) != "content of "+name) {
			t.Errorf("%s: read %q, %v", name, b, err)
		}
		return f.Close()
	}
	const reading = os.O_RDONLY | os.O_CREATE
	wantCode(t, "creating without the right", open("/in/new", reading), policy.CodeWrite)
	wantCode(t, "creating a new one or none", open("/in/new", reading|os.O_EXCL), policy.CodeWrite)
	wantCode(t, "creating a new one where one is", open("/in/old", reading|os.O_EXCL), policy.CodeWrite)
	for _, name := range []string{"/in/old", "/out/report"} {
		if err := open(name, reading); err != nil {
			t.Errorf("%s, which exists: %v", name, err)
		}
	}
	wantCode(t, "writing", open("/in/old", os.O_RDWR|os.O_CREATE), policy.CodeOverwrite)
	if err := open("/out/report", reading|os.O_EXCL); !errors.Is(err, fs.ErrExist) {
		t.Errorf("asked for a new one: %v", err)
	}
	if err := open("/out/none", os.O_RDONLY); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("not asked to make it: %v", err)
	}
	f, err := g.OpenFile(t.Context(), "/out/made", os.O_RDONLY|os.O_CREATE|os.O_EXCL, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	h.set(t, policy.AccountTarget("alice"), "paths", "[{path: /, allow: [all]}]")
	if in, out := names(t, g, "/in"), names(t, g, "/out"); slices.Contains(in, "new") || !slices.Contains(out, "made") {
		t.Errorf("in %v, out %v", in, out)
	}
}

// Two sessions that create one name where only creating is allowed: one wins, nothing is overwritten.
func TestCreateOnlyIsSafeAgainstRaces(t *testing.T) {
	t.Parallel()
	h, s := furnished(t, map[string]string{"paths": "[{path: /in, allow: [create]}]"})
	_, s2 := h.login(t, "alice")
	for i := range 20 {
		name := "/in/race" + string(rune('a'+i))
		var wg sync.WaitGroup
		won := make(chan string, 2)
		for who, g := range map[string]*Guard{"one": s.Files(), "two": s2.Files()} {
			wg.Go(func() {
				if tryPut(g, name, who) == nil {
					won <- who
				}
			})
		}
		wg.Wait()
		if len(won) != 1 {
			t.Fatalf("%s: %d winners", name, len(won))
		}
	}
}

// Between the decision on a path and its use nobody can swap a directory for a symlink to what is closed.
// Through a symlink into what it may not see, an account cannot tell what is there from what is not.
func TestSymlinkTellsNothingOfWhatIsHidden(t *testing.T) {
	t.Parallel()
	_, s := furnished(t, narrow)
	g := s.Files()
	for _, name := range []string{"/in/way-out", "/in/way-out/plan", "/in/way-out/nothing", "/in/way-out/plan/x", "/in/way-out/nothing/x", "/in/way-out/no/thing/x"} {
		_, err := g.Stat(name)
		wantCode(t, "stat "+name, err, policy.CodeStat)
		_, err = g.Resolve(name)
		wantCode(t, "resolve "+name, err, policy.CodeStat)
	}
	if _, err := g.Stat("/in/nothing/x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what may be seen and is not there: %v", err)
	}
}

func TestSwappedDirectory(t *testing.T) {
	t.Parallel()
	h, s := furnished(t, map[string]string{"paths": "[{path: /in, allow: [all]}, {path: /, allow: [list]}]"})
	_, s2 := h.login(t, "alice")
	g, swap := s.Files(), s2.Files()
	if err := g.Mkdir("/in/d", 0); err != nil {
		t.Fatal(err)
	}
	put(t, g, "/in/d/plan", "harmless")
	swapped := make(chan error, 4)
	// A race as an attacker wants it: the swap begins when the path has been decided on, and has all the time it needs.
	g.testOnlyUsing = sync.OnceFunc(func() {
		started := make(chan struct{})
		go func() {
			close(started)
			swapped <- swap.Rename("/in/d", "/in/e")
			swapped <- swap.Symlink("/secret", "/in/d")
		}()
		<-started
		select {
		case err := <-swapped:
			t.Errorf("the directory was renamed while its path was in use: %v", err)
			<-swapped
		case <-time.After(50 * time.Millisecond): // it waits
		}
	})
	if got, err := get(g, "/in/d/plan"); err != nil || got != "harmless" {
		t.Fatalf("read %q, %v", got, err)
	}
	if err := errors.Join(<-swapped, <-swapped); err != nil {
		t.Fatal(err)
	}
	if _, err := get(g, "/in/d/plan"); denialOf(err) == nil {
		t.Errorf("through the symlink: %v", err)
	}
	// What moves names holds everybody else.
	g.testOnlyUsing = func() {
		if s.account.names.TryRLock() {
			t.Error("others could use paths during a rename")
			s.account.names.RUnlock()
		}
	}
	if err := g.Rename("/in/e", "/in/f"); err != nil {
		t.Error(err)
	}
	// A listing holds names only until its directory is open.
	g.testOnlyUsing = func() {
		if s.account.names.TryLock() {
			t.Error("names could be moved before the directory was open")
			s.account.names.Unlock()
		}
	}
	if err := g.ReadDir(t.Context(), "/in", func([]*vfs.Info) error { return swap.Rename("/in/f", "/in/g") }); err != nil {
		t.Errorf("a rename during a listing: %v", err)
	}
}

func TestMaxSize(t *testing.T) {
	t.Parallel()
	h, s := furnished(t, map[string]string{"upload.max_size": "10"})
	g := s.Files()
	put(t, g, "/ten", "0123456789")
	eleven := "0123456789X"
	write := func(name string, fn func(f *File) error) error {
		t.Helper()
		f, err := g.OpenFile(t.Context(), name, wrNew, 0)
		if err != nil {
			t.Fatal(err)
		}
		err = fn(f)
		f.Close()
		return err
	}
	for what, err := range map[string]error{
		"Write":    write("/a", func(f *File) error { _, err := f.Write([]byte(eleven)); return err }),
		"WriteAt":  write("/b", func(f *File) error { _, err := f.WriteAt([]byte("X"), 10); return err }),
		"ReadFrom": write("/c", func(f *File) error { _, err := f.ReadFrom(strings.NewReader(eleven)); return err }),
		"Truncate": write("/d", func(f *File) error { return f.Truncate(11) }),
		"SetAttr":  g.SetAttr("/ten", vfs.AttrChange{Size: ptr(int64(11))}),
		"second Write": write("/e", func(f *File) error {
			if _, err := f.Write([]byte("01234")); err != nil {
				t.Error(err)
			}
			_, err := f.Write([]byte("567890"))
			return err
		}),
	} {
		wantCode(t, what, err, policy.CodeMaxSize)
	}
	if err := write("/f", func(f *File) error { _, err := f.ReadFrom(strings.NewReader("0123456789")); return err }); err != nil {
		t.Errorf("exactly the limit: %v", err)
	}
	f, err := g.OpenFile(t.Context(), "/g", wrNew, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = f.WriteAt([]byte("X"), 10)
	wantCode(t, "Close after a refused write", f.Close(), policy.CodeMaxSize)
	// What was cut off by the limit does not pass for a whole file.
	if i, err := g.Stat("/c"); err == nil && !i.Partial() {
		t.Errorf("/c is there as a whole file of %d bytes", i.Size())
	}
	h.m.Close()
	if count(h.records(t), func(r audit.Record) bool { return r.Action == audit.Refused && r.Code == policy.CodeMaxSize }) == 0 {
		t.Error("no record of the refusals")
	}
}

func ptr[T any](v T) *T { return &v }

func TestQuota(t *testing.T) {
	t.Parallel()
	h := build(t, nil)
	h.addAccount(t, "alice", everything)
	h.set(t, policy.AccountTarget("alice"), "quota.bytes", "100kB")
	h.set(t, policy.AccountTarget("alice"), "quota.files", "3")
	_, s := h.login(t, "alice")
	g := s.Files()
	put(t, g, "/a", strings.Repeat("a", 60_000))
	err := tryPut(g, "/b", strings.Repeat("b", 60_000))
	wantCode(t, "over the bytes", err, policy.CodeQuotaBytes)
	if sp, err := g.Space(); err != nil || sp.BytesTotal != 100_000 || sp.BytesFree > 40_000 || sp.FilesTotal != 3 {
		t.Errorf("space %+v, %v", sp, err)
	}
	h.set(t, policy.AccountTarget("alice"), "quota.bytes", "0") // takes effect on the live session
	put(t, g, "/b", strings.Repeat("b", 60_000))
	put(t, g, "/c", "c")
	wantCode(t, "over the files", tryPut(g, "/d", "d"), policy.CodeQuotaFiles)
}

func TestDownloadsAreRecorded(t *testing.T) {
	t.Parallel()
	h, s := furnished(t, nil)
	g := s.Files()
	whole := strings.Repeat("x", 5000)
	put(t, g, "/f", whole)
	if got, err := get(g, "/f"); err != nil || got != whole {
		t.Fatal(err)
	}
	f, err := g.OpenFile(t.Context(), "/f", os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.ReadAt(make([]byte, 100), 10); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if f, err = g.OpenFile(t.Context(), "/f", os.O_RDONLY, 0); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if n, err := f.WriteTo(&b); err != nil || n != 5000 || b.String() != whole {
		t.Fatal(n, err)
	}
	f.Close()
	if f, err = g.OpenFile(t.Context(), "/f", os.O_RDONLY, 0); err != nil {
		t.Fatal(err)
	}
	f.TransferError(io.ErrClosedPipe)
	f.Read(make([]byte, 5000))
	f.Close()
	var got []string
	for _, r := range h.records(t) {
		if r.Action == audit.Download {
			got = append(got, r.Result)
			if r.Path != "/f" || r.Session != s.ID() || r.Version == 0 {
				t.Errorf("record %+v", r)
			}
		}
	}
	if !slices.Equal(got, []string{"complete", "partial", "complete", "interrupted"}) {
		t.Errorf("results %v", got)
	}
	if i := h.m.List()[0]; i.BytesOut != 5000+100+5000+5000 || i.BytesIn < 5000 {
		t.Errorf("counted %d out, %d in", i.BytesOut, i.BytesIn)
	}
}

func TestBrokenUploads(t *testing.T) {
	t.Parallel()
	h, s := furnished(t, nil)
	g := s.Files()
	broken := func(name string) {
		t.Helper()
		f, err := g.OpenFile(t.Context(), name, wrNew, 0)
		if err != nil {
			t.Fatal(err)
		}
		f.Write([]byte("half"))
		f.TransferError(io.ErrUnexpectedEOF)
		f.Close()
	}
	broken("/kept")
	if i, err := g.Stat("/kept"); err != nil || !i.Partial() || !slices.Contains(names(t, g, "/"), "kept") {
		t.Errorf("keep: %v, %v", i, err)
	}
	h.set(t, policy.AccountTarget("alice"), "upload.interrupted", "hide")
	broken("/hidden")
	if list := names(t, g, "/"); slices.Contains(list, "hidden") || slices.Contains(list, "kept") || !slices.Contains(list, "in") {
		t.Errorf("hide: listed %v", list)
	}
	if i, err := g.Stat("/hidden"); err != nil || i.Size() != 4 {
		t.Errorf("hide: to be resumed by its name: %v", err)
	}
	h.set(t, policy.AccountTarget("alice"), "upload.interrupted", "discard")
	broken("/gone")
	if _, err := g.Stat("/gone"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("discard: %v", err)
	}
}

// A right that is taken away stops transfers under way: nothing more is read or written, and the upload is not whole.
func TestRevokedDuringTransfer(t *testing.T) {
	t.Parallel()
	h, s := furnished(t, nil)
	g := s.Files()
	put(t, g, "/big", strings.Repeat("x", 1<<20))
	down, err := g.OpenFile(t.Context(), "/big", os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	up, err := g.OpenFile(t.Context(), "/new", wrNew, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := up.Write([]byte("some")); err != nil {
		t.Fatal(err)
	}
	h.set(t, policy.AccountTarget("alice"), "paths", "[{path: /in, allow: [all]}]")
	_, err = down.Read(make([]byte, 10))
	wantCode(t, "read", err, policy.CodeRead)
	_, err = up.Write([]byte("more"))
	wantCode(t, "write", err, policy.CodeWrite)
	down.Close()
	if err := up.Close(); err == nil {
		t.Error("the upload ended with success")
	}
	h.set(t, policy.AccountTarget("alice"), "paths", "[{path: /, allow: [all]}]")
	if i, err := g.Stat("/new"); err == nil && !i.Partial() {
		t.Error("the upload passes for whole")
	}
}

func TestNothingHappensWithoutAudit(t *testing.T) {
	t.Parallel()
	h, s := furnished(t, nil)
	g := s.Files()
	f, err := g.OpenFile(t.Context(), "/x", wrNew, 0)
	if err != nil {
		t.Fatal(err)
	}
	h.log.Close()
	if _, err := f.Write([]byte("x")); !errors.Is(err, ErrAudit) {
		t.Errorf("write: %v", err)
	}
	if _, err := g.Stat("/"); !errors.Is(err, ErrAudit) {
		t.Errorf("stat: %v", err)
	}
	l := h.connect(t, sftpFrom("198.51.100.9"))
	if _, err := l.Login(t.Context(), "alice", Credential{PublicKey: h.key}); !errors.Is(err, ErrAudit) {
		t.Errorf("login: %v", err)
	}
}

func TestMkdirAll(t *testing.T) {
	t.Parallel()
	_, s := furnished(t, narrow)
	g := s.Files()
	if err := g.MkdirAll("in/a/b/c", 0); err != nil {
		t.Fatal(err)
	}
	if i, err := g.Stat("/in/a/b/c"); err != nil || !i.IsDir() {
		t.Error(err)
	}
	if err := g.MkdirAll("/", 0); err != nil {
		t.Error(err)
	}
	wantCode(t, "elsewhere", g.MkdirAll("/else/where", 0), policy.CodeMkdir)
	if err := g.MkdirAll("/in/old/x", 0); err == nil {
		t.Error("a file is no directory")
	}
}

func TestRefusalsDoNotFloodTheLog(t *testing.T) {
	t.Parallel()
	h, s := furnished(t, narrow)
	for range 5000 {
		s.Files().Remove("/in/old")
	}
	n, sum := 0, uint64(0)
	for _, r := range h.records(t) {
		if r.Action == audit.Refused {
			n++
			sum += r.Count
		}
	}
	if n == 0 || n > 2000 || sum > 5000 {
		t.Errorf("%d records that stand for %d refusals", n, sum)
	}
}

func BenchmarkGuardStat(b *testing.B) {
	for name, grants := range map[string]map[string]string{"uniform": nil, "narrow": narrow} {
		b.Run(name, func(b *testing.B) {
			_, s := furnished(b, grants)
			g := s.Files()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := g.Stat("/out/report"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkViewStat(b *testing.B) {
	_, s := furnished(b, nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.guard.view.Stat("/out/report"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadAt(b *testing.B) {
	_, s := furnished(b, narrow)
	f, err := s.Files().OpenFile(b.Context(), "/out/report", os.O_RDONLY, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	p := make([]byte, 8)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := f.ReadAt(p, 0); err != nil {
			b.Fatal(err)
		}
	}
}
