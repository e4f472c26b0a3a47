package session

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sallyport/policy"
	"sallyport/server/audit"
	"sallyport/vfs"
)

// instantNow is an instant by its name, after everything that has been committed and before everything that will be.
func instantNow() string { return FormatInstant(time.Now()) }

func TestTheHistoryIsATree(t *testing.T) {
	t.Parallel()
	h := build(t, nil)
	h.addAccount(t, "alice", everything)
	_, s := h.login(t, "alice")
	g := s.Files()
	put(t, g, "/f.csv", "one")
	must(t, g.Mkdir("/d", 0))
	must(t, g.Symlink("f.csv", "/l"))
	then := "/.backups/" + instantNow()
	put(t, g, "/f.csv", "second")
	put(t, g, "/d/x", "x")
	must(t, g.Remove("/l"))
	must(t, g.Rename("/f.csv", "/g.csv"))

	if got := names(t, g, then); !slices.Equal(got, []string{"d", "f.csv", "l"}) {
		t.Errorf("%s has %q", then, got)
	}
	for _, name := range []string{"/f.csv", "/l", "/d/../f.csv"} {
		if got, err := get(g, then+name); got != "one" || err != nil {
			t.Errorf("%s holds %q, %v", name, got, err)
		}
	}
	if at, err := g.Resolve(then + "/l"); at != then+"/f.csv" || err != nil {
		t.Errorf("the link leads to %q, %v", at, err)
	}
	if to, err := g.Readlink(then + "/l"); to != "f.csv" || err != nil {
		t.Errorf("the link is %q, %v", to, err)
	}
	i, err := g.Stat(then + "/l")
	if err != nil || i.Size() != 3 || i.Inode() != 0 || i.Version() != 1 {
		t.Errorf("stat: %+v, %v", i, err)
	}
	if i, err := g.Lstat(then + "/l"); err != nil || i.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("lstat: %+v, %v", i, err)
	}
	for _, dir := range []string{"/.backups", then, then + "/d", "/.backups/versions", "/.backups/versions/d", "/.backups/versions/f.csv"} {
		if i, err := g.Stat(dir); err != nil || !i.IsDir() || i.Name() != path.Base(dir) {
			t.Errorf("%s: %+v, %v", dir, i, err)
		}
	}
	if got := names(t, g, "/.backups/versions"); !slices.Equal(got, []string{"d", "f.csv", "g.csv", "l"}) {
		t.Errorf("versions of %q", got)
	}
	got := names(t, g, "/.backups/versions/f.csv")
	if len(got) != 2 || !strings.HasSuffix(got[0], "Z_1.csv") || !strings.HasSuffix(got[1], "Z_2.csv") {
		t.Fatalf("versions %q", got)
	}
	for i, want := range []string{"one", "second"} {
		name := "/.backups/versions/f.csv/" + got[i]
		if data, err := get(g, name); data != want || err != nil {
			t.Errorf("%s holds %q, %v", name, data, err)
		}
		if st, err := g.Stat(name); err != nil || st.Size() != int64(len(want)) || st.Name() != got[i] {
			t.Errorf("%s: %+v, %v", name, st, err)
		}
	}
	for _, name := range []string{"/.backups/yesterday", "/.backups/2026-13-40T0000Z", then + "/none", "/.backups/versions/none",
		"/.backups/versions/f.csv/2026-11-20T143012Z_9.csv", "/.backups/versions/f.csv/x", then + "/d/x"} {
		if _, err := g.Stat(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := g.Stat("/.backups/2199-01-01T0000Z"); !errors.Is(err, vfs.ErrFuture) {
		t.Errorf("the future: %v", err)
	}
	if _, err := g.Stat("/.backups/2020-01-01T0000Z"); !errors.Is(err, vfs.ErrNotKept) {
		t.Errorf("long ago: %v", err)
	}
	if p := g.Perms(then + "/f.csv"); !p[policy.OpRead] || p[policy.OpDelete] || p[policy.OpOverwrite] {
		t.Errorf("perms %v", p)
	}
	if got := names(t, g, "/"); slices.Contains(got, ".backups") {
		t.Errorf("/ lists %q", got)
	}
	h.set(t, policy.AccountTarget("alice"), "backup.show", "true")
	if got := names(t, g, "/"); !slices.Contains(got, ".backups") {
		t.Errorf("/ lists %q with backup.show", got)
	}
	n := count(h.records(t), func(r audit.Record) bool {
		return r.Action == audit.Download && string(r.Path) == then+"/f.csv" && r.Result == "complete" && r.Bytes == 3 && r.Version == 1
	})
	if n != 3 {
		t.Errorf("%d records of downloads from the history", n)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestTheHistoryCannotBeChanged(t *testing.T) {
	t.Parallel()
	for _, grants := range []map[string]string{nil, narrow} {
		_, s := furnished(t, grants)
		g := s.Files()
		then := "/.backups/" + instantNow()
		size := int64(0)
		for _, name := range []string{"/.backups", then, then + "/out/report", "/.backups/versions/out/report", "/.backups/new/x", then + "/in/old"} {
			open := func(flag int) error { _, err := g.OpenFile(t.Context(), name, flag, 0); return err }
			for what, err := range map[string]error{
				"write": open(os.O_WRONLY), "create": open(wrNew), "read and write": open(os.O_RDWR), "make": open(os.O_RDONLY | os.O_CREATE),
				"mkdir": g.Mkdir(name, 0), "remove": g.Remove(name), "rmdir": g.Rmdir(name), "remove all": g.RemoveAll(name),
				"rename from": g.Rename(name, "/in/x"), "rename to": g.Rename("/in/old", name), "symlink": g.Symlink("x", name),
				"setattr": g.SetAttr(name, vfs.AttrChange{}), "lsetattr": g.LsetAttr(name, vfs.AttrChange{}), "truncate": g.SetAttr(name, vfs.AttrChange{Size: &size}),
			} {
				wantCode(t, what+" "+name, err, policy.CodeReserved)
			}
		}
		f, err := g.OpenFile(t.Context(), then+"/out/report", os.O_RDONLY, 0)
		must(t, err)
		wantCode(t, "setattr of a handle", f.SetAttr(vfs.AttrChange{}), policy.CodeReserved)
		must(t, f.Close())
	}
}

// TestAnUploadThatPreservesTimesIsOneVersion: its name stays when times are set later, it shows the times that were set, and restoring it
// brings them back.
func TestAnUploadThatPreservesTimesIsOneVersion(t *testing.T) {
	t.Parallel()
	h := build(t, nil)
	h.addAccount(t, "alice", everything)
	_, s := h.login(t, "alice")
	g := s.Files()
	const dir = "/.backups/versions/f.csv"
	stamp := func(second int64) {
		at := time.Unix(second, 0)
		must(t, g.SetAttr("/f.csv", vfs.AttrChange{Mtime: &at}))
	}
	put(t, g, "/f.csv", "one")
	before := names(t, g, dir)
	stamp(1000)
	if got := names(t, g, dir); !slices.Equal(got, before) || len(got) != 1 {
		t.Fatalf("versions %q, before its time was set %q", got, before)
	}
	put(t, g, "/f.csv", "two")
	stamp(2000)
	if got := names(t, g, dir); len(got) != 2 || got[0] != before[0] {
		t.Fatalf("versions %q of two uploads", got)
	}
	version := dir + "/" + before[0]
	if i, err := g.Stat(version); err != nil || i.ModTime().Unix() != 1000 {
		t.Errorf("%s: %+v, %v", version, i, err)
	}
	if _, err := g.Restore(t.Context(), version, ""); err != nil {
		t.Fatal(err)
	}
	if got, err := get(g, "/f.csv"); got != "one" || err != nil {
		t.Errorf("restored %q, %v", got, err)
	}
	if i, err := g.Stat("/f.csv"); err != nil || i.ModTime().Unix() != 1000 {
		t.Errorf("restored with %v, %v", i.ModTime(), err)
	}
}

// TestVersionsOfOneSecondAreToldApart by a name that keeps its extension: programs must know what it is.
func TestVersionsOfOneSecondAreToldApart(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 20, 14, 30, 12, 500, time.UTC)
	for of, want := range map[string][]string{
		"/d/f.csv":    {"2026-11-20T143012Z_1.csv", "2026-11-20T143012Z_1~2.csv", "2026-11-20T143012Z_1~3.csv", "2026-11-20T143012Z_2.csv", "2026-11-20T143013Z_1.csv", "2026-11-20T143013Z_1.interrupted.csv"},
		"/d/.profile": {"2026-11-20T143012Z_1", "2026-11-20T143012Z_1~2", "2026-11-20T143012Z_1~3", "2026-11-20T143012Z_2", "2026-11-20T143013Z_1", "2026-11-20T143013Z_1.interrupted"},
	} {
		n := namer{of: of}
		var got []string
		for _, v := range []vfs.PathVersion{{Number: 1, At: at}, {Number: 1, At: at}, {Number: 1, At: at}, {Number: 2, At: at}, {Number: 1, At: at.Add(time.Second)},
			{Number: 1, At: at.Add(time.Second), State: vfs.VersionInterrupted}} {
			got = append(got, n.name(&v))
		}
		if !slices.Equal(got, want) {
			t.Errorf("versions of %s are named %q, want %q", of, got, want)
		}
	}
}

// TestARefusalToWriteHistorySaysWhatItWouldHaveBeen: making a name, or changing what is there; and of what may not be seen, making one.
func TestARefusalToWriteHistorySaysWhatItWouldHaveBeen(t *testing.T) {
	t.Parallel()
	h, s := furnished(t, narrow)
	g := s.Files()
	then := "/.backups/" + instantNow()
	version := "/.backups/versions/out/report/" + names(t, g, "/.backups/versions/out/report")[0]
	for _, c := range []struct {
		name string
		flag int
		op   string
	}{
		{then + "/out/report", wrNew, "overwrite"},
		{then + "/out/report", os.O_WRONLY, "overwrite"},
		{then + "/out/new", wrNew, "create"},
		{then + "/out/new", os.O_RDONLY | os.O_CREATE, "create"},
		{then + "/out/absent", os.O_WRONLY, "overwrite"}, // it would have made nothing
		{then + "/secret/plan", wrNew, "create"},
		{version, wrNew, "overwrite"},
		{version + "x", wrNew, "create"},
		{"/.backups/report", wrNew, "create"},
		{"/.backups", wrNew, "overwrite"},
	} {
		before := len(h.records(t))
		_, err := g.OpenFile(t.Context(), c.name, c.flag, 0)
		wantCode(t, c.name, err, policy.CodeReserved)
		got := slices.DeleteFunc(h.records(t)[before:], func(r audit.Record) bool { return r.Action != audit.Refused })
		if len(got) != 1 || got[0].Op != c.op || got[0].Code != policy.CodeReserved || string(got[0].Path) != c.name {
			t.Errorf("%s with %#x: recorded %+v, want one %s", c.name, c.flag, got, c.op)
		}
	}
}

// TestRightsHoldInTheHistory: those on the path behind the instant, as they are now.
func TestRightsHoldInTheHistory(t *testing.T) {
	t.Parallel()
	_, s := furnished(t, narrow)
	g := s.Files()
	then := "/.backups/" + instantNow()
	versions := "/.backups/versions"
	if got := names(t, g, then); !slices.Equal(got, []string{"in", "out"}) {
		t.Errorf("%s has %q", then, got)
	}
	if got := names(t, g, versions); !slices.Equal(got, []string{"in", "out"}) {
		t.Errorf("%s has %q", versions, got)
	}
	if got, err := get(g, then+"/out/report"); got != "content of /out/report" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	list := func(name string) error {
		return g.ReadDir(t.Context(), name, func([]*vfs.Info) error { return nil })
	}
	read := func(name string) error { _, err := get(g, name); return err }
	stat := func(name string) error { _, err := g.Stat(name); return err }
	for _, c := range []struct {
		what string
		err  error
		code string
	}{
		{"read where only listing is", read(then + "/in/old"), policy.CodeRead},
		{"read through a symlink to elsewhere", read(then + "/out/up"), policy.CodeRead},
		{"read what is not granted", read(then + "/secret/plan"), policy.CodeRead},
		{"list what is not granted", list(then + "/secret"), policy.CodeList},
		{"list what is closed", list(then + "/in/closed"), policy.CodeList},
		{"stat what is not granted", stat(then + "/secret/plan"), policy.CodeStat},
		{"stat what never was, where nothing is granted", stat(then + "/secret/none"), policy.CodeStat},
		{"versions of what is not granted", list(versions + "/secret/plan"), policy.CodeList},
		{"versions where only listing is", read(versions + "/in/old/" + names(t, g, versions+"/in/old")[0]), policy.CodeRead},
	} {
		wantCode(t, c.what, c.err, c.code)
	}
	name := versions + "/out/report/" + names(t, g, versions+"/out/report")[0]
	if got, err := get(g, name); got != "content of /out/report" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// TestAChangeOfRetentionIsInForceAtOnce: also for what is open.
func TestAChangeOfRetentionIsInForceAtOnce(t *testing.T) {
	t.Parallel()
	h := build(t, nil)
	h.addAccount(t, "alice", everything)
	_, s := h.login(t, "alice")
	g := s.Files()
	put(t, g, "/f", strings.Repeat("one", 50_000))
	then := "/.backups/" + instantNow()
	put(t, g, "/f", "two")
	version := "/.backups/versions/f/" + names(t, g, "/.backups/versions/f")[0]
	open := func(name string) *File {
		f, err := g.OpenFile(context.Background(), name, os.O_RDONLY, 0)
		must(t, err)
		return f
	}
	files := []*File{open(then + "/f"), open(version)}
	buf := make([]byte, 10)
	for _, f := range files {
		if _, err := f.ReadAt(buf, 0); err != nil {
			t.Fatal(err)
		}
	}
	h.set(t, policy.AccountTarget("alice"), "backup.retention_days", "0")
	for _, f := range files {
		if _, err := f.ReadAt(buf, 0); !errors.Is(err, vfs.ErrNotKept) {
			t.Errorf("an open handle reads on: %v", err)
		}
		must(t, f.Close())
	}
	for _, name := range []string{"/.backups", then, then + "/f", version, "/.backups/versions"} {
		if _, err := g.Stat(name); !errors.Is(err, vfs.ErrNotKept) {
			t.Errorf("%s: %v", name, err)
		}
		if err := g.ReadDir(t.Context(), name, func([]*vfs.Info) error { return nil }); !errors.Is(err, vfs.ErrNotKept) {
			t.Errorf("listing %s: %v", name, err)
		}
	}
	h.set(t, policy.AccountTarget("alice"), "backup.show", "true")
	if got := names(t, g, "/"); !slices.Equal(got, []string{"f"}) {
		t.Errorf("/ lists %q", got)
	}
	h.set(t, policy.AccountTarget("alice"), "backup.retention_days", "forever")
	if got, err := get(g, version); len(got) != 150_000 || err != nil {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	f := open(then + "/f")
	h.set(t, policy.AccountTarget("alice"), "backup.self_service", "false")
	_, err := f.ReadAt(buf, 0)
	wantCode(t, "an open handle", err, policy.CodeHistory)
	f.Close()
	_, err = g.Stat(then)
	wantCode(t, "without self-service", err, policy.CodeHistory)
	wantCode(t, "writing without self-service", g.Mkdir(then, 0), policy.CodeReserved)
	if got := names(t, g, "/"); !slices.Equal(got, []string{"f"}) {
		t.Errorf("/ lists %q", got)
	}
}

func TestTheListingOffersUsefulInstants(t *testing.T) {
	t.Parallel()
	var now atomic.Int64
	now.Store(time.Date(2026, 11, 20, 14, 30, 0, 0, time.UTC).UnixNano())
	clock := func() time.Time { return time.Unix(0, now.Add(1000)) }
	h := build(t, func(o *Options) { o.Now = clock })
	h.addAccount(t, "alice", everything)
	_, s := h.login(t, "alice")
	g := s.Files()
	must(t, g.Mkdir("/d", 0))
	for i := range 20 {
		put(t, g, fmt.Sprintf("/d/%d", i), "x")
	}
	now.Add(int64(50 * time.Hour))
	must(t, g.RemoveAll("/d"))
	now.Add(int64(90 * time.Minute))
	got := asListed(t, g, "/.backups")
	if !slices.IsSorted(got) {
		t.Errorf("listed in the order %q", got)
	}
	if got[len(got)-1] != versionsDir {
		t.Errorf("listed %q", got)
	}
	got = got[:len(got)-1]
	if len(got) != hourly+1+1 { // a midnight and the removal beside the hours
		t.Errorf("%d instants: %q", len(got), got)
	}
	full := 0
	for _, name := range got {
		at, ok := ParseInstant(name)
		if !ok || FormatInstant(at) != name {
			t.Errorf("%q is no instant", name)
		}
		if i, err := g.Stat("/.backups/" + name); err != nil || !i.IsDir() {
			t.Errorf("%s: %v", name, err)
		}
		if l := names(t, g, "/.backups/"+name); len(l) == 1 && len(names(t, g, "/.backups/"+name+"/d")) == 20 {
			full++
			if at.Nanosecond() != 0 && at.Hour() != 16 {
				t.Errorf("the removal was before %s", name)
			}
		}
	}
	if full < 3 {
		t.Errorf("the tree is whole in %d instants of %q", full, got)
	}
}

func TestInstantsAreReadAsTheyAreWritten(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"2026-11-20T1430Z": "2026-11-20T14:30:00Z", "2026-11-20T143012Z": "2026-11-20T14:30:12Z", "2026-11-20T143012.5Z": "2026-11-20T14:30:12.5Z",
		"2026-11-20": "2026-11-20T00:00:00Z", "2026-11-20T14:30Z": "2026-11-20T14:30:00Z", "2026-11-20T14:30:12.000000001Z": "2026-11-20T14:30:12.000000001Z",
		"": "", "2026-11-20T1430": "", "2026-11-31": "", "2026-11-20T2460Z": "", "1969-12-31": "", "2300-01-01": "", "versions": "", "2026-11-20T143012.0000000001Z": "",
	} {
		at, ok := ParseInstant(text)
		if got := at.Format(time.RFC3339Nano); ok != (want != "") || ok && got != want {
			t.Errorf("%q is %v, %v", text, got, ok)
		}
		if again, _ := ParseInstant(FormatInstant(at)); ok && !again.Equal(at) {
			t.Errorf("%q is written as %q", text, FormatInstant(at))
		}
	}
}

// TestALongListingOfVersionsEndsWithItsSession: of the versions of a file, and of the names that a directory had.
func TestALongListingOfVersionsEndsWithItsSession(t *testing.T) {
	t.Parallel()
	h := build(t, nil)
	h.addAccount(t, "alice", everything)
	for _, dir := range []string{"/.backups/versions/f", "/.backups/versions/d"} {
		l, s := h.login(t, "alice")
		g := s.Files()
		if dir == "/.backups/versions/f" {
			must(t, g.Mkdir("/d", 0))
			for i := range 600 {
				put(t, g, "/f", strconv.Itoa(i))
				must(t, g.Symlink("x", fmt.Sprintf("/d/%d", i)))
			}
		}
		batches := 0
		err := g.ReadDir(t.Context(), dir, func([]*vfs.Info) error {
			if batches++; batches == 1 {
				l.end(policy.Deny(policy.CodeKilled, "test", "test"), "", "")
			}
			return nil
		})
		wantCode(t, dir, err, policy.CodeKilled)
		if batches != 1 {
			t.Errorf("%s: %d batches after the session had ended", dir, batches-1)
		}
	}
}

// TestACommitThatBecomesVisibleLeadsNoReaderElsewhere: a commit takes its instant before it can be seen, so the tree of an instant just
// past may still change. What is judged is what is read.
func TestACommitThatBecomesVisibleLeadsNoReaderElsewhere(t *testing.T) {
	t.Parallel()
	var now atomic.Int64
	start := time.Date(2026, 11, 20, 14, 30, 0, 0, time.UTC)
	now.Store(start.UnixNano())
	h := build(t, func(o *Options) { o.Now = func() time.Time { return time.Unix(0, now.Load()) } })
	h.addAccount(t, "alice", everything)
	l, s := h.login(t, "alice")
	g := s.Files()
	for _, dir := range []string{"/in", "/in/d", "/secret"} {
		must(t, g.Mkdir(dir, 0))
	}
	put(t, g, "/in/d/plan", "harmless")
	put(t, g, "/secret/plan", "secret")
	put(t, g, "/secret/other", "secret")
	must(t, g.Symlink("gone", "/in/d/link"))
	must(t, g.Symlink("secret target", "/secret/link"))
	l.Close()
	h.set(t, policy.AccountTarget("alice"), "paths", "[{path: /in, allow: [all]}]")
	_, swapping := h.login(t, "alice")
	swap := swapping.Files()
	list := func(g *Guard, name string) (out string, err error) {
		err = g.ReadDir(t.Context(), name, func(batch []*vfs.Info) error {
			for _, i := range batch {
				out += i.Name() + " "
			}
			return nil
		})
		return out, err
	}
	for name, read := range map[string]func(g *Guard, dir string) (string, error){
		"open":     func(g *Guard, dir string) (string, error) { return get(g, dir+"/plan") },
		"list":     list,
		"readlink": func(g *Guard, dir string) (string, error) { return g.Readlink(dir + "/link") },
		"resolve":  func(g *Guard, dir string) (string, error) { return g.Resolve(dir + "/plan") },
		"stat": func(g *Guard, dir string) (string, error) {
			i, err := g.Stat(dir + "/plan")
			if err != nil {
				return "", err
			}
			return fmt.Sprint("size ", i.Size()), nil
		},
	} {
		_, s := h.login(t, "alice")
		g := s.Files()
		soon := time.Unix(0, now.Load()).Add(time.Millisecond)
		then := "/.backups/" + FormatInstant(soon) + "/in/d"
		before := now.Load()
		now.Store(soon.UnixNano())
		g.testOnlyUsing = sync.OnceFunc(func() {
			now.Store(before) // as for a commit that was begun a moment ago
			done := make(chan error, 1)
			go func() {
				done <- errors.Join(swap.Rename("/in/d", "/in/e"), swap.Symlink("/secret", "/in/d"))
			}()
			select {
			case err := <-done:
				must(t, err)
			case <-time.After(10 * time.Second): // it may wait for those who read
			}
			now.Store(soon.UnixNano())
		})
		got, err := read(g, then)
		if strings.Contains(got, "secret") || strings.Contains(got, "other") || got == "size 6" || err != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if got, err = read(g, then); denialOf(err) == nil { // it is visible now
			t.Errorf("%s again: %q, %v", name, got, err)
		}
		now.Add(int64(time.Second))
		must(t, errors.Join(swap.Remove("/in/d"), swap.Rename("/in/e", "/in/d")))
		now.Add(int64(time.Second))
	}
}

// TestTheListingOffersTheInstantBeforeAMassOverwrite: what malware has encrypted is whole there.
func TestTheListingOffersTheInstantBeforeAMassOverwrite(t *testing.T) {
	t.Parallel()
	var now atomic.Int64
	now.Store(time.Date(2026, 11, 20, 14, 30, 0, 0, time.UTC).UnixNano())
	h := build(t, func(o *Options) { o.Now = func() time.Time { return time.Unix(0, now.Add(1000)) } })
	h.addAccount(t, "alice", everything)
	_, s := h.login(t, "alice")
	g := s.Files()
	must(t, g.Mkdir("/d", 0))
	for i := range 20 {
		put(t, g, fmt.Sprintf("/d/%d", i), "mine")
	}
	now.Add(int64(100 * time.Minute))
	whole := func() (instants []string) {
		for _, name := range names(t, g, "/.backups") {
			at, ok := ParseInstant(name)
			mine := 0
			for i := range 20 {
				if got, err := get(g, fmt.Sprintf("/.backups/%s/d/%d", name, i)); got == "mine" && err == nil {
					mine++
				}
			}
			if ok && at.Minute() != 0 && mine == 20 {
				instants = append(instants, name)
			}
		}
		return instants
	}
	if got := whole(); len(got) != 0 {
		t.Errorf("offered %q before anything happened", got)
	}
	for i := range 20 {
		put(t, g, fmt.Sprintf("/d/%d", i), "encrypted")
	}
	now.Add(int64(100 * time.Minute))
	if got := whole(); len(got) != 1 || !strings.HasPrefix(got[0], "2026-11-20T1609") && !strings.HasPrefix(got[0], "2026-11-20T1610") {
		t.Errorf("offered %q", got)
	}
}

// TestATimeThatIsNoneIsRefusedAsSuch, by listing, reading and restoring; only text that says an instant without doubt is one.
func TestATimeThatIsNoneIsRefusedAsSuch(t *testing.T) {
	t.Parallel()
	h := build(t, nil)
	h.addAccount(t, "alice", everything)
	_, s := h.login(t, "alice")
	g := s.Files()
	put(t, g, "/f", "x")
	for text, want := range map[string]error{
		"2026-11-20t1430z": ErrInstant, "2026-11-20T1430z": ErrInstant, "2026-11-20T1430": ErrInstant, "2026-11-20T14:30+01:00": ErrInstant, "2026-11-31": ErrInstant,
		"2026-11-20T2460Z": ErrInstant, "20261120": ErrInstant, "yesterday": ErrInstant, "versions ": ErrInstant, "VERSIONS": ErrInstant, "-1": ErrInstant, "\x00": ErrInstant,
		"2026-11-20T143012.Z": ErrInstant, "2026-11-20T143012.0000000001Z": ErrInstant, "0000-01-01": ErrInstant, "9999-12-31": ErrInstant, strings.Repeat("2", 5000): ErrInstant,
		" 2026-11-20": ErrInstant, "2026-11-20 ": ErrInstant, "2026-11-2": ErrInstant, "2026-11-20T14:30:12,5Z": ErrInstant, "२०२६-११-२०": ErrInstant,
		"2199-01-01": vfs.ErrFuture, "2261-12-31": vfs.ErrFuture, "1970-01-01": vfs.ErrNotKept, "2001-01-01T0000Z": vfs.ErrNotKept,
		FormatInstant(time.Now().Add(-time.Hour)): vfs.ErrNothingYet,
	} {
		if _, err := g.Stat("/.backups/" + text); !errors.Is(err, want) || !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("stat of %.30q: %v, want %v", text, err, want)
		}
		if err := g.ReadDir(t.Context(), "/.backups/"+text+"/d", func([]*vfs.Info) error { return nil }); !errors.Is(err, want) {
			t.Errorf("list of %.30q: %v, want %v", text, err, want)
		}
		if _, err := get(g, "/.backups/"+text+"/f"); !errors.Is(err, want) {
			t.Errorf("open of %.30q: %v, want %v", text, err, want)
		}
		if _, err := g.Restore(t.Context(), "/f", text); !errors.Is(err, want) {
			t.Errorf("restore of %.30q: %v, want %v", text, err, want)
		}
	}
	for _, text := range []string{"..", "../..", "/", ".", "x/" + instantNow(), "versions", "versions/f", "./" + instantNow()} {
		if _, err := g.Restore(t.Context(), "/f", text); !errors.Is(err, ErrInstant) {
			t.Errorf("restore of %q: %v", text, err)
		}
	}
}

// TestAListingThatWaitsForItsClientHoldsNobodyUp: nor does the name of the history, which it shows first.
func TestAListingThatWaitsForItsClientHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	h, s := furnished(t, map[string]string{"paths": "[{path: /, allow: [list, read]}, {path: /in, allow: [all]}, {path: /secret, allow: []}]", "backup.show": "true"})
	_, other := h.login(t, "alice")
	g, swap := s.Files(), other.Files()
	then := "/.backups/" + instantNow()
	for _, dir := range []string{"/", "/in", "/.backups", then, then + "/in", "/.backups/versions", "/.backups/versions/in", "/.backups/versions/in/old"} {
		batches := 0
		must(t, g.ReadDir(t.Context(), dir, func([]*vfs.Info) error {
			batches++
			if !s.account.names.TryLock() {
				t.Errorf("%s: names are held while the client reads batch %d", dir, batches)
				return nil
			}
			s.account.names.Unlock()
			return errors.Join(swap.Rename("/in/old", "/in/new"), swap.Rename("/in/new", "/in/old"))
		}))
		if batches == 0 {
			t.Errorf("%s is empty", dir)
		}
	}
	h.set(t, policy.AccountTarget("alice"), "paths", "[{path: /, allow: [all]}, {path: /none, allow: []}]")
	for _, name := range []string{"/in", "/out", "/secret"} {
		must(t, g.RemoveAll(name))
	}
	if got := names(t, g, "/"); !slices.Equal(got, []string{".backups"}) {
		t.Errorf("an empty root lists %q", got)
	}
}
