package ftpd

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/policy"
)

// Every command with its codes, on one session that goes from login to QUIT.
func TestEveryCommand(t *testing.T) {
	t.Parallel()
	h := start(t, Explicit)
	h.vol.put("/f", 0o644, []byte("0123456789"))
	h.vol.put("/d", fs.ModeDir|0o755, nil)
	c := h.dial().secure()

	seen := map[string]bool{"AUTH": true} // secure has sent it
	run := func(code int, command, contains string) {
		t.Helper()
		verb, _ := splitCommand(command)
		seen[verb] = true
		if got := c.cmd(code, "%s", command); !strings.Contains(got, contains) {
			t.Errorf("%s: %q does not contain %q", command, got, contains)
		}
	}
	// Before the login.
	for verb, cmd := range h.srv.commands {
		if cmd.login {
			run(530, verb+" x", "log in")
		}
	}
	run(220, "HOST files.example.com", "")
	run(501, "HOST a/b", "")
	run(503, "PASS x", "USER")
	run(211, "STAT", "Not logged in")
	run(530, "STAT /f", "")
	run(501, "USER", "USER <account>")
	run(331, "USER alice", "")
	run(503, "HOST late.example.com", "")
	run(230, "PASS secret", "")
	run(503, "USER bob", "Already")
	run(503, "PASS secret", "Already")
	run(200, "PBSZ 0", "PBSZ=0")
	run(200, "PROT P", "")
	run(533, "CCC", "")
	run(202, "ACCT none", "")

	// Session.
	run(200, "CLNT a client", "")
	run(211, "FEAT", "UTF8")
	run(214, "HELP", "XCUP")
	run(214, "HELP retr", "RETR <path>")
	run(214, "HELP SITE", "CHMOD")
	run(502, "HELP NONE", "")
	run(200, "LANG", "")
	run(200, "LANG en-GB", "")
	run(504, "LANG fr", "")
	run(200, "NOOP", "")
	run(215, "SYST", "UNIX Type: L8")
	run(211, "STAT", "Logged in as alice")
	run(213, "STAT f", "10 Nov  1 12:30 f")
	run(212, "STAT /", " d\r\n")
	run(550, "STAT /none", "")
	run(200, "OPTS UTF8 ON", "")
	run(200, "OPTS MLST type;SIZE;nonsense;", "MLST OPTS Type;Size;")
	run(200, "OPTS MLST", "MLST OPTS")
	run(200, "OPTS MLST Type;Size;Modify;Create;Perm;Unique;UNIX.mode;", "")
	run(200, "OPTS HASH", "SHA-256")
	run(200, "OPTS HASH sha-512", "SHA-512")
	run(501, "OPTS HASH MD5", "")
	run(200, "OPTS HASH SHA-256", "")
	run(501, "OPTS NONE", "")

	// Parameters.
	for _, typ := range []string{"A", "a n", "I", "L 8"} {
		run(200, "TYPE "+typ, "")
	}
	run(504, "TYPE E", "")
	run(200, "MODE s", "")
	run(504, "MODE Z", "")
	run(504, "MODE B", "")
	run(200, "STRU f", "")
	run(504, "STRU R", "")
	run(350, "REST 5", "5")
	run(501, "REST -1", "")
	run(501, "REST x", "")
	run(350, "REST 0", "0")
	run(350, "RANG 1 5", "")
	run(501, "RANG 5 1", "")
	run(501, "RANG 5", "")
	run(350, "RANG 1 0", "reset")
	run(202, "ALLO 100 R 10", "")
	run(552, "ALLO 99999999999999", "")
	run(501, "ALLO x", "")
	run(227, "PASV", "(127,0,0,1,")
	run(229, "EPSV", "(|||")
	run(229, "EPSV 1", "(|||")
	run(522, "EPSV 2", "(1)")
	run(502, "PORT 127,0,0,1,200,1", "switched off")
	run(502, "EPRT |1|127.0.0.1|51201|", "switched off")
	run(226, "ABOR", "")

	// Transfers without a data connection; with one they are in other tests.
	for _, command := range []string{"RETR f", "STOR g", "APPE g", "STOU", "LIST", "NLST", "MLSD"} {
		run(425, command, "PASV")
	}

	// Files.
	run(257, "PWD", `"/" is`)
	run(250, "CWD d", `"/d"`)
	run(250, "CDUP", `"/"`)
	run(250, "XCWD d", `"/d"`)
	run(257, "XPWD", `"/d"`)
	run(250, "XCUP", `"/"`)
	run(550, "CWD none", "")
	run(550, "CWD f", "Not a directory")
	run(257, `MKD say "hi"`, `"/say ""hi""" created`)
	run(550, `MKD say "hi"`, "exists")
	run(550, "MKD none/x", "")
	run(257, "XMKD x", `"/x"`)
	run(250, "RMD x", "")
	run(550, "RMD x", "")
	run(550, "RMD f", "")
	run(250, `XRMD say "hi"`, "")
	run(213, "SIZE f", "10")
	run(550, "SIZE d", "directory")
	run(550, "SIZE none", "")
	run(213, "MDTM f", "20261101123000")
	run(550, "MDTM none", "")
	run(250, "MLST f", "\r\n Type=file;Size=10;Modify=20261101123000;Create=20261101123000;Perm=adfrw;Unique=2;UNIX.mode=0644; /f\r\n")
	run(250, "MLST", "Type=dir;")
	run(550, "MLST none", "")
	run(213, "MFMT 20200203040506 f", "Modify=20200203040506; f")
	run(213, "MDTM f", "20200203040506")
	run(550, "MFMT 20200203040506 none", "")
	run(501, "MFMT 2020 f", "")
	run(213, "MFCT 19990203040506.5 f", "Create=19990203040506.5; f")
	run(250, "MLST f", "Modify=20200203040506;Create=19990203040506;")
	run(550, "MFCT 20200203040506 none", "")
	run(501, "MFCT f", "Syntax: MFCT ")
	run(213, "MFF Modify=20210203040506;UNIX.mode=0600; f", "Modify=20210203040506;UNIX.mode=0600; f")
	run(250, "MLST f", "Modify=20210203040506;")
	run(250, "MLST f", "UNIX.mode=0600;")
	run(213, "MFF create=20220203040506; f", "create=20220203040506; f")
	run(250, "MLST f", "Modify=20210203040506;Create=20220203040506;")
	run(213, "MFF Create=20230203040506;Modify=20240203040506; f", "")
	run(250, "MLST f", "Modify=20240203040506;Create=20230203040506;")
	run(501, "MFF Modify=x; f", "")
	run(501, "MFF Create=2020; f", "")
	run(504, "MFF Modify=20200203040506;Size=1; f", "")
	run(213, "MDTM f", "20240203040506") // refused as a whole
	run(213, "AVBL", "1073741824")
	run(550, "AVBL none", "")
	run(350, "RNFR f", "")
	run(250, "RNTO g", "")
	run(503, "RNTO h", "")
	run(350, "RNFR g", "")
	run(200, "NOOP", "")
	run(503, "RNTO h", "")
	run(550, "RNFR none", "")
	run(502, "SMNT /", "")
	run(200, "SITE CHMOD 0640 g", "")
	run(250, "MLST g", "UNIX.mode=0640;")
	run(501, "SITE CHMOD 999 g", "")
	run(200, "SITE UTIME 202203040506 g", "")
	run(213, "MDTM g", "20220304050600")
	run(200, "SITE UTIME g 20220304050607 20220304050608 20220304050609 UTC", "")
	run(213, "MDTM g", "20220304050608")
	run(200, "SITE SYMLINK g link", "")
	run(250, "MLST link", "Type=OS.unix=slink:g;")
	run(200, `SITE SYMLINK "to ""this""" "a link"`, "")
	run(250, "MLST a link", "Type=OS.unix=slink;") // its target has a space, which would end the facts
	run(350, "RNFR a link", "")                    // it dangles
	run(250, "RNTO b link", "")
	run(250, "DELE b link", "")
	run(250, "SITE MKDIR p/q/r", "")
	run(250, "SITE RMDIR p", "")
	run(550, "SITE RMDIR /", "")
	run(202, "SITE CHOWN 0 g", "")
	run(214, "SITE HELP", "UTIME")
	run(504, "SITE EXEC ls", "")
	run(501, "SITE", "Syntax")

	of234 := sha256.Sum256([]byte("234"))
	// Checksums of "0123456789", known from elsewhere.
	run(213, "HASH g", "SHA-256 0-9 84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882 g")
	run(350, "RANG 2 4", "")
	run(213, "HASH g", "SHA-256 2-4 "+hex.EncodeToString(of234[:]))
	run(550, "HASH none", "")
	run(550, "HASH d", "directory")
	if h.srv.legacy {
		run(250, "XCRC g", "A684C7C6")
		run(250, "XMD5 g", "781E5E245D69B566979B86E28D23F2C7")
		run(250, "MD5 g", "781E5E245D69B566979B86E28D23F2C7")
		run(250, "XSHA g", "87ACEC17CD9DCD20A716CC2CF67417B71C8A7016")
		run(250, "XSHA1 g", "87ACEC17CD9DCD20A716CC2CF67417B71C8A7016")
	}
	run(250, `XSHA256 "g"`, "84D89877F0D4041EFB6BF91A16F0248F2FD573E6AF05C19F96BEDB9F882F7882")
	run(250, "XSHA512 g", "BB96C2FC40D2D54617D6F276FEBE571F623A8DADF0B734855299B0E107FDA32CF6B69F2DA32B36445D73690B93CBD0F7BFC20E0F7F28553D2A4428F23B716E90")
	if h.srv.legacy {
		run(250, `XMD5 "g" 0 5`, "4100C4D44DA9177247E44A5FC1546778") // md5 of 01234
		run(554, `XMD5 "g" 50`, "")
		run(501, `XMD5 "g" 5 1`, "")
	}

	run(200, "EPSV ALL", "")
	run(503, "PASV", "EPSV")
	run(229, "EPSV", "")
	run(220, "REIN", "Sallyport")
	run(530, "PWD", "")
	run(331, "USER alice", "")
	run(230, "PASS secret", "")
	run(257, "PWD", `"/"`)
	run(221, "QUIT", "")
	c.expectEnd()
	for verb := range h.srv.commands {
		if !seen[verb] {
			t.Errorf("%s was not tried", verb)
		}
	}
}

// FEAT is exactly what works: each line is tried, and nothing that works as an extension is missing.
func TestFeatIsWhatWorks(t *testing.T) {
	t.Parallel()
	h := start(t, Implicit, func(o *Options) { o.ActiveMode = true })
	h.vol.put("/f", 0o644, []byte("0123456789"))
	c := h.dial().login()
	lines := strings.Split(c.cmd(211, "FEAT"), "\r\n")
	feat := map[string]string{}
	for _, l := range lines[1 : len(lines)-1] {
		if !strings.HasPrefix(l, " ") || strings.HasSuffix(l, " ") {
			t.Errorf("malformed line %q", l) // RFC 2389, section 3.2: one space, then the feature
		}
		verb, arg := splitCommand(strings.TrimSpace(l))
		feat[verb] = strings.TrimSpace(feat[verb] + " " + arg)
	}
	works := map[string]string{ // a command that shows the feature, and its code
		"UTF8": "200 OPTS UTF8 ON", "EPSV": "229 EPSV", "EPRT": "200 EPRT |1|127.0.0.1|51201|", "SIZE": "213 SIZE f", "MDTM": "213 MDTM f",
		"REST": "350 REST 3", "RANG": "350 RANG 1 2", "TVFS": "250 CWD /", "CLNT": "200 CLNT x", "HOST": "503 HOST x", "LANG": "200 LANG EN",
		"AUTH": "503 AUTH TLS", "PBSZ": "200 PBSZ 0", "PROT": "200 PROT P", "MLST": "250 MLST f", "MFMT": "213 MFMT 20200101000000 f",
		"MFCT": "213 MFCT 20200101000000 f", "MFF": "213 MFF Create=20200101000000;Modify=20200101000000;UNIX.mode=0644; f", "AVBL": "213 AVBL", "HASH": "213 HASH f", "XCRC": "250 XCRC f",
		"XMD5": "250 XMD5 f", "MD5": "250 MD5 f", "XSHA": "250 XSHA f", "XSHA1": "250 XSHA1 f", "XSHA256": "250 XSHA256 f", "XSHA512": "250 XSHA512 f",
	}
	if !h.srv.legacy { // FIPS 140-3 mode forbids their algorithms
		for _, verb := range []string{"XCRC", "XMD5", "MD5", "XSHA", "XSHA1"} {
			delete(works, verb)
		}
	}
	if got, want := slices.Sorted(maps.Keys(feat)), slices.Sorted(maps.Keys(works)); !slices.Equal(got, want) {
		t.Errorf("FEAT tells\n%v, what works is\n%v", got, want)
	}
	for _, line := range works {
		var code int
		_, _ = fmt.Sscan(line, &code)
		c.cmd(code, "%s", line[4:])
	}
	if got := feat["HASH"]; got != "SHA-256*;SHA-512;" {
		t.Errorf("HASH %s", got)
	}
	if got := feat["MFF"]; got != "Create;Modify;UNIX.mode;" {
		t.Errorf("MFF %s", got)
	}
	if got := feat["MLST"]; got != "Type*;Size*;Modify*;Create*;Perm*;Unique*;UNIX.mode*;X.partial*;" {
		t.Errorf("MLST %s", got)
	}
	c.cmd(200, "OPTS HASH SHA-512")
	c.cmd(200, "OPTS MLST Size;")
	again := c.cmd(211, "FEAT")
	for _, want := range []string{" HASH SHA-256;SHA-512*;\r\n", " MLST Type;Size*;Modify;"} {
		if !strings.Contains(again, want) {
			t.Errorf("FEAT does not tell the choice %q: %q", want, again)
		}
	}
	// What the optional switches take away is not told either.
	bare := start(t, Implicit, func(o *Options) { o.NoLegacyHashes = true }).dial().login()
	if got := bare.cmd(211, "FEAT"); strings.Contains(got, "EPRT") || strings.Contains(got, "XMD5") {
		t.Errorf("FEAT tells what is switched off: %q", got)
	}
	bare.cmd(500, "XMD5 f")
}

func TestNames(t *testing.T) {
	t.Parallel()
	h := start(t, Implicit)
	c := h.dial().login()
	for _, name := range []string{
		"with space", " leading", "trailing ", "grüße", "\xe9t\xe9 latin-1", "\xff one", "a\xff\xffb", `quote"inside`, "-la", "*[?", "~", "a;b=c", strings.Repeat("n", 255),
	} {
		wire := strings.ReplaceAll(name, "\xff", "\xff\xff") // as Telnet has it
		c.stor("STOR "+wire, "content of "+name)
		if got, ok := h.vol.get("/" + name); !ok || got != "content of "+name {
			t.Errorf("%q: stored as %q, %v", name, got, ok)
		}
		if got := c.retr("RETR " + wire); got != "content of "+name {
			t.Errorf("%q: read back %q", name, got)
		}
		c.cmd(213, "SIZE %s", wire)
		for _, command := range []string{"NLST", "MLSD", "LIST"} {
			if got := c.retr(command); !strings.Contains(got, name+"\r\n") {
				t.Errorf("%s lacks %q:\n%s", command, name, got)
			}
		}
		c.cmd(250, "DELE %s", wire)
	}
	// A byte 255 that is not doubled, and not followed by a command, is meant as it stands.
	c.stor("STOR y\xffz", "x")
	if _, ok := h.vol.get("/y\xffz"); !ok {
		t.Error("a lone 255 was lost")
	}
	c.cmd(257, "MKD /d\xff\xff")
	if got := c.cmd(250, "CWD /d\xff\xff"); !strings.Contains(got, "\"/d\xff\xff\"") {
		t.Errorf("255 is not doubled in the reply %q", got)
	}
	c.cmd(501, "RETR a\rb")
	c.cmd(501, "RETR a\x00b")
	// Names from elsewhere may hold line ends: they cannot forge lines here.
	h.vol.put("/d\xff/evil\r\n226 done", 0o644, nil)
	for _, command := range []string{"NLST", "MLSD", "LIST"} {
		if got := c.retr(command); strings.Count(got, "\n") != 1 || !strings.Contains(got, "evil??226 done") {
			t.Errorf("%s: %q", command, got)
		}
	}
	if got := c.cmd(212, "STAT /d\xff\xff"); !strings.Contains(got, "evil??226 done") {
		t.Errorf("STAT: %q", got)
	}
}

func TestListings(t *testing.T) {
	t.Parallel()
	h := start(t, Implicit)
	h.vol.put("/d", fs.ModeDir|0o750, nil)
	h.vol.put("/d/a.txt", 0o640, make([]byte, 1234))
	h.vol.put("/d/b.bin", 0o755, nil)
	if err := h.vol.Symlink("a.txt", "/d/l"); err != nil {
		t.Fatal(err)
	}
	old := time.Date(2019, 2, 3, 4, 5, 6, 0, time.UTC)
	h.vol.nodes["/d/b.bin"].mtime = old
	h.vol.nodes["/d/a.txt"].part = true
	c := h.dial().login()
	const (
		a = "-rw-r-----   1 owner    group            1234 Nov  1 12:30 a.txt\r\n"
		b = "-rwxr-xr-x   1 owner    group               0 Feb  3  2019 b.bin\r\n"
		l = "lrwxrwxrwx   1 owner    group               0 Nov  1 12:30 l -> a.txt\r\n"
	)
	for command, want := range map[string]string{
		"LIST d": a + b + l, "LIST -la d": a + b + l, "LIST d/a.txt": a, "LIST -a -l /d": a + b + l, "LIST d/*.bin": b,
		"NLST d": "d/a.txt\r\nd/b.bin\r\nd/l\r\n", "NLST": "d\r\n", "NLST d/a.txt": "d/a.txt\r\n", "NLST d/*": "d/a.txt\r\nd/b.bin\r\nd/l\r\n",
		"NLST /d/[a]*": "/d/a.txt\r\n", "NLST d/none*": "",
	} {
		if got := c.retr(command); got != want {
			t.Errorf("%s:\n%q, want\n%q", command, got, want)
		}
	}
	mlsd := c.retr("MLSD d")
	for _, want := range []string{
		"Type=file;Size=1234;Modify=20261101123000;Create=20261101123000;Perm=adfrw;Unique=3;UNIX.mode=0640;X.partial=1; a.txt\r\n",
		"Modify=20190203040506;", "Type=OS.unix=slink:a.txt;Modify=20261101123000;",
	} {
		if !strings.Contains(mlsd, want) {
			t.Errorf("MLSD lacks %q:\n%s", want, mlsd)
		}
	}
	c.cmd(200, "OPTS MLST Type;Size;")
	if got := c.retr("MLSD d"); !strings.HasPrefix(got, "Type=file;Size=1234; a.txt\r\nType=file;Size=0; b.bin\r\n") {
		t.Errorf("MLSD after OPTS: %q", got)
	}
	for command, code := range map[string]int{"MLSD d/a.txt": 501, "LIST none": 550, "NLST none": 550, "MLSD none": 550, "LIST none/*": 550} {
		c.epsv()
		c.open()
		c.cmd(code, "%s", command)
	}
}

func TestRestart(t *testing.T) {
	t.Parallel()
	h := start(t, Implicit)
	c := h.dial().login()
	c.stor("STOR f", "0123456789")
	with := func(parameter, command string) string {
		t.Helper()
		c.cmd(350, "%s", parameter)
		return c.retr(command)
	}
	for parameter, want := range map[string]string{"REST 4": "456789", "REST 10": "", "RANG 2 4": "234", "RANG 8 100": "89"} {
		if got := with(parameter, "RETR f"); got != want {
			t.Errorf("%s: %q, want %q", parameter, got, want)
		}
	}
	if got := c.retr("RETR f"); got != "0123456789" {
		t.Errorf("the position outlives its transfer: %q", got)
	}
	c.cmd(350, "REST 4")
	c.cmd(425, "RETR f") // no data connection: the position is gone, too
	if got := c.retr("RETR f"); got != "0123456789" {
		t.Errorf("the position outlives a refused transfer: %q", got)
	}
	for _, command := range []string{"RETR f", "STOR f", "STOR new"} {
		c.cmd(350, "REST 11")
		c.epsv()
		c.open()
		c.cmd(554, "%s", command)
	}
	c.cmd(350, "RANG 2 4")
	c.epsv()
	c.cmd(504, "STOR f")
	c.cmd(350, "REST 4")
	c.stor("STOR f", "ab")
	if got, _ := h.vol.get("/f"); got != "0123ab" {
		t.Errorf("after REST 4, STOR: %q; what lay beyond must be gone", got)
	}
	c.stor("APPE f", "cd")
	if got, _ := h.vol.get("/f"); got != "0123abcd" {
		t.Errorf("after APPE: %q", got)
	}
	c.stor("APPE g", "new")
	if got, _ := h.vol.get("/g"); got != "new" {
		t.Errorf("APPE to a new file: %q", got)
	}
}

func TestStoreUnique(t *testing.T) {
	t.Parallel()
	h := start(t, Implicit)
	c := h.dial().login()
	names := map[string]bool{}
	for _, command := range []string{"STOU", "STOU", "STOU base", "STOU base"} {
		c.epsv()
		raw := c.open()
		text := c.cmd(150, "%s", command)
		m := regexp.MustCompile(`^150 FILE: (\S+)$`).FindStringSubmatch(text) // RFC 1123, section 4.1.2.9
		if m == nil {
			t.Fatalf("%s: %q names no file", command, text)
		}
		d := tls.Client(raw, c.tls)
		if _, err := io.WriteString(d, "content"); err != nil {
			t.Fatal(err)
		}
		_ = d.Close()
		c.expect(226)
		if got, _ := h.vol.get("/" + m[1]); got != "content" || names[m[1]] {
			t.Errorf("%s stored %q as %s", command, got, m[1])
		}
		names[m[1]] = true
	}
}

// ABOR overtakes what is queued; replies stay in order.
func TestAbort(t *testing.T) {
	t.Parallel()
	t.Run("upload", func(t *testing.T) {
		t.Parallel()
		h := start(t, Implicit)
		c := h.dial().login()
		c.epsv()
		d := tls.Client(c.open(), c.tls)
		c.cmd(150, "STOR f")
		if _, err := io.WriteString(d, "half"); err != nil {
			t.Fatal(err)
		}
		c.send("NOOP\r\n\xff\xf4\xff\xf2ABOR\r\nPWD\r\n")
		c.expect(426)
		c.expect(200)
		c.expect(226)
		c.expect(257)
		if got := h.vol.uploads(); len(got) != 1 || !strings.HasPrefix(got[0], "interrupted /f") {
			t.Errorf("uploads: %q", got)
		}
	})
	t.Run("pending accept", func(t *testing.T) {
		t.Parallel()
		h := start(t, Implicit, withLimits(limits{data: time.Hour})) // who waits for the data connection waits longer than the client
		h.vol.put("/f", 0o644, []byte("x"))
		c := h.dial().login()
		c.epsv()
		c.send("RETR f\r\nABOR\r\n")
		c.expect(426)
		c.expect(226)
		if got := c.retr("RETR f"); got != "x" {
			t.Errorf("the next transfer got %q", got)
		}
	})
	t.Run("nothing", func(t *testing.T) {
		t.Parallel()
		h := start(t, Implicit)
		c := h.dial().login()
		c.cmd(226, "ABOR")
		c.epsv()
		ch := h.srv.onlyConn(t).control.prepared()
		c.cmd(226, "ABOR")
		if ch.listening() {
			t.Error("ABOR left the passive port open")
		}
	})
	t.Run("control lost", func(t *testing.T) {
		t.Parallel()
		h := start(t, Implicit)
		c := h.dial().login()
		c.epsv()
		d := tls.Client(c.open(), c.tls)
		c.cmd(150, "STOR f")
		if _, err := io.WriteString(d, "half"); err != nil {
			t.Fatal(err)
		}
		_ = c.raw.Close()
		eventually(t, "the upload ends as interrupted", func() bool {
			u := h.vol.uploads()
			return len(u) == 1 && strings.HasPrefix(u[0], "interrupted /f")
		})
	})
}

func TestStatusAndQuitDuringTransfer(t *testing.T) {
	t.Parallel()
	h := start(t, Implicit)
	c := h.dial().login()
	c.epsv()
	d := tls.Client(c.open(), c.tls)
	c.cmd(150, "STOR f")
	if _, err := io.WriteString(d, "half"); err != nil {
		t.Fatal(err)
	}
	if got := c.cmd(211, "STAT"); !strings.Contains(got, "STOR in progress") {
		t.Errorf("STAT: %q", got)
	}
	c.send("NOOP\r\nQUIT\r\n")
	if _, err := io.WriteString(d, " and half"); err != nil {
		t.Fatal(err)
	}
	_ = d.Close()
	c.expect(226) // QUIT waits for the transfer, RFC 959, section 4.1.1
	c.expect(200)
	c.expect(221)
	c.expectEnd()
	if got, _ := h.vol.get("/f"); got != "half and half" {
		t.Errorf("stored %q", got)
	}
}

func TestPipelinedCommands(t *testing.T) {
	t.Parallel()
	h := start(t, Implicit)
	c := h.dial().login()
	const n = 500
	go func() {
		for i := range n {
			_, _ = fmt.Fprintf(c.conn, "MKD d%d\r\nSIZE d%d\r\n", i, i)
		}
	}()
	for i := range n {
		if got := c.expect(257); !strings.Contains(got, fmt.Sprintf(`"/d%d"`, i)) {
			t.Fatalf("reply %d: %q", i, got)
		}
		c.expect(550)
	}
}

func TestLongLines(t *testing.T) {
	t.Parallel()
	h := start(t, Implicit)
	c := h.dial().login()
	c.send("RETR " + strings.Repeat("x", 64<<10) + "\r\n")
	c.expect(500)
	c.cmd(200, "NOOP")
	c.cmd(550, "SIZE %s", strings.Repeat("x", maxLine-len("SIZE \r\n"))) // the longest that passes
	c.cmd(500, "SIZE %s", strings.Repeat("x", maxLine-len("SIZE \r\n")+1))
	go func() { _, _ = io.WriteString(c.conn, strings.Repeat("x", 2*maxOverlong)) }()
	c.expect(421)
	c.expectEnd()

	c = h.dial().login()
	for range maxBadLines {
		c.cmd(500, "NONSENSE")
	}
	c.cmd(421, "NONSENSE")
	c.expectEnd()
}

func TestIdleSessionsEnd(t *testing.T) {
	t.Parallel()
	h := start(t, Implicit)
	c := h.dial().login()
	// A transfer is no idleness. The limit comes with it: a machine that is busy enough would take longer from command to command.
	c.epsv()
	d := tls.Client(c.open(), c.tls)
	c.cmd(150, "STOR f")
	h.vol.setPolicy(func(p *policy.Effective) { p.Session.Idle = time.Second })
	c.send("NOOP\r\n") // whoever reads commands looks at the limit; it is answered after the transfer
	for range 4 {
		if _, err := io.WriteString(d, "slow"); err != nil {
			t.Fatal(err)
		}
		if code, text, err := c.readSoon(350 * time.Millisecond); !isTimeout(err) {
			t.Fatalf("during the upload: %d %s %v", code, text, err)
		}
	}
	_ = d.Close()
	c.expect(226)
	c.expect(200)
	c.expect(421)
	c.expectEnd()
}

func TestShutdown(t *testing.T) {
	t.Parallel()
	h := start(t, Implicit)
	idle, busy, stuck := h.dial().login(), h.dial().login(), h.dial().login()
	open := func(c *client, name string) *tls.Conn {
		c.epsv()
		d := tls.Client(c.open(), c.tls)
		c.cmd(150, "STOR %s", name)
		if _, err := io.WriteString(d, "half"); err != nil {
			t.Fatal(err)
		}
		return d
	}
	d, _ := open(busy, "f"), open(stuck, "g")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.srv.Shutdown(ctx) }()
	idle.expect(421)
	idle.expectEnd()
	if conn, err := net.Dial("tcp", h.addr); err == nil {
		_ = conn.Close()
		t.Error("the listener still accepts")
	}
	if _, err := io.WriteString(d, " and half"); err != nil {
		t.Fatal(err)
	}
	_ = d.Close()
	busy.expect(226) // drained
	busy.expect(421)
	busy.expectEnd()
	cancel()
	if err := <-done; err == nil {
		t.Error("Shutdown does not tell that it cut a connection")
	}
	eventually(t, "the cut upload ends", func() bool { return len(h.vol.uploads()) == 2 })
	if got := h.vol.uploads(); got[0] != "complete /f 13" || !strings.HasPrefix(got[1], "interrupted /g") {
		t.Errorf("uploads: %q", got)
	}
}

func TestActiveMode(t *testing.T) {
	t.Parallel()
	h := start(t, Implicit, func(o *Options) { o.ActiveMode = true })
	h.vol.put("/f", 0o644, []byte("content"))
	c := h.dial().login()
	for _, form := range []string{"PORT", "EPRT"} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := addrPort(ln.Addr()).Port()
		if form == "PORT" {
			c.cmd(200, "PORT 127,0,0,1,%d,%d", port>>8, port&255)
		} else {
			c.cmd(200, "EPRT |1|127.0.0.1|%d|", port)
		}
		c.send("RETR f\r\n")
		raw, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		c.expect(150)
		if b, err := io.ReadAll(tls.Client(raw, c.tls)); err != nil || string(b) != "content" {
			t.Errorf("%s: %q, %v", form, b, err)
		}
		c.expect(226)
		_ = ln.Close()
	}
	// The server attacks nobody for a client.
	for _, command := range []string{"PORT 127,0,0,2,200,1", "PORT 127,0,0,1,0,25", "EPRT |1|10.0.0.1|51201|", "EPRT |2|::1|51201|", "EPRT |1|127.0.0.1|22|"} {
		c.cmd(501, "%s", command)
		c.cmd(425, "RETR f")
	}
	for _, command := range []string{"PORT 127,0,0,1,200", "PORT 127,0,0,1,300,1", "PORT x", "EPRT", "EPRT |1|127.0.0.1|99999|", "EPRT |3|127.0.0.1|51201|", "EPRT |1|127.0.0.1|51201"} {
		c.cmd(501, "%s", command)
	}
}

func TestIPv6(t *testing.T) {
	t.Parallel()
	if ln, err := net.Listen("tcp", "[::1]:0"); err != nil {
		t.Skip("no IPv6 loopback here")
	} else {
		_ = ln.Close()
	}
	h := startAt(t, Implicit, "[::1]:0")
	h.vol.put("/f", 0o644, []byte("content"))
	c := h.dial().login()
	c.cmd(425, "PASV")
	c.cmd(522, "EPSV 1")
	if got := c.retr("RETR f"); got != "content" {
		t.Errorf("got %q", got)
	}
}
