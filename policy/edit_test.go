package policy

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

const commented = `# house rules, see wiki/42
version: 1
site:
  # agreed with the auditors
  transport:
    tls_min: "1.2" # until June
  allow_from:
    - 10.0.0.0/8   # head office
    - 192.0.2.0/24 # warehouse
  session: {max: 4} # was 16

groups:
  partners: {protocols: [sftp]} # outside
accounts: # one line each
  acme: {groups: [partners], # since 2024
         session: {max: 2}}
  bob:
    # leaves in May
    protocols: [sftp]
exceptions:
  - {account: bob, allow: ftp, from: [192.0.2.17/32], until: 2027-01-31, reason: copier} # OPS-377
  - {account: acme, allow: ftp, from: [192.0.2.18/32], until: 2027-01-31, reason: copier}
`

// Only the bytes of what is edited change.
func TestEditKeepsEverythingElse(t *testing.T) {
	t.Parallel()
	d := mustParse(t, commented)
	for _, c := range []struct {
		name     string
		edit     Edit
		old, new string
	}{
		{"value in a block", Edit{Site, "transport.tls_min", `"1.3"`}, `tls_min: "1.2" # until`, `tls_min: "1.3" # until`},
		{"value in a flow", Edit{Site, "session.max", "8"}, "{max: 4} # was", "{max: 8} # was"},
		{"key in a flow", Edit{Site, "session.idle", "5m"}, "{max: 4} # was", "{max: 4, idle: 5m} # was"},
		{"key in a block section", Edit{Site, "transport.ciphers", "compatible"}, "# until June\n", "# until June\n    ciphers: compatible\n"},
		{"section of a block", Edit{Site, "quota.files", "7"}, "# was 16\n", "# was 16\n  quota: {files: 7}\n"},
		{"entry of a list", Edit{Site, "allow_from", "[10.0.0.0/8, 192.0.2.0/24, 198.51.100.0/24]"}, "# warehouse\n", "# warehouse\n    - 198.51.100.0/24\n"},
		{"entry gone", Edit{Site, "allow_from", "[192.0.2.0/24]"}, "    - 10.0.0.0/8   # head office\n", ""},
		{"list emptied", Edit{Site, "allow_from", "[]"}, "    - 10.0.0.0/8   # head office\n    - 192.0.2.0/24 # warehouse\n", "    []   # head office\n"},
		{"section of a flow account", Edit{AccountTarget("acme"), "quota.files", "7"}, "{max: 2}}", "{max: 2}, quota: {files: 7}}"},
		{"new account", Edit{AccountTarget("zoe"), "session.max", "1"}, "    protocols: [sftp]\nexc", "    protocols: [sftp]\n  zoe:\n    session: {max: 1}\nexc"},
		{"new group", Edit{GroupTarget("staff"), "", "{}"}, "# outside\n", "# outside\n  staff: {}\n"},
		{"removed", Edit{Site, "session.max", ""}, "  session: {max: 4} # was 16\n", ""},
		{"last of an account", Edit{AccountTarget("bob"), "protocols", ""}, "  bob:\n    # leaves in May\n    protocols: [sftp]\n", "  bob: {}\n    # leaves in May\n"},
		{"one of a flow", Edit{AccountTarget("acme"), "session.max", ""}, "{groups: [partners], # since 2024\n         session: {max: 2}}", "{groups: [partners]}"},
		{"lock", Edit{Site, "lock", "[transport.tls_min]"}, "# was 16\n", "# was 16\n  lock: [transport.tls_min]\n"},
	} {
		got, err := d.Edit(c.edit)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if want := strings.Replace(commented, c.old, c.new, 1); string(got.Text()) != want || want == commented {
			t.Errorf("%s: got\n%s", c.name, got.Text())
		}
	}
	gone, err := d.Without("bob")
	if err != nil {
		t.Fatal(err)
	}
	if text := string(gone.Text()); strings.Contains(text, "bob") || !strings.Contains(text, "# one line each") || !strings.Contains(text, "account: acme") {
		t.Errorf("without bob:\n%s", text)
	}
}

func TestEditOfSparseDocuments(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"version: 1\n", "version: 1", "version: 1 # x\nsite:\n", "{version: 1}\n", "version: 1\nsite: {}\naccounts: {} # none yet\n", "version: 1\r\nsite: {session: {}}\r\n",
		"version: 1\naccounts: {a: }\n", "version: 1\naccounts:\n  a: # later\n  b: ~\n", "version: 1\nsite: {session.max: 9}\n"} {
		d := mustParse(t, text)
		for _, e := range []Edit{{Site, "session.max", "3"}, {AccountTarget("a"), "session.max", "3"}, {AccountTarget("b"), "protocols", "[sftp]"}, {GroupTarget("g"), "", "{}"}} {
			got, err := d.Edit(e)
			if err != nil {
				t.Errorf("%q, %+v: %v", text, e, err)
				continue
			}
			if rewritten(d, got) {
				t.Errorf("%q, %+v: written anew:\n%s", text, e, got.Text())
			}
		}
	}
}

// rewritten: the fallback was taken.
func rewritten(from, to *Document) bool {
	return bytes.Equal(to.text, append(commentsOf(from.text), to.render()...)) && bytes.Contains(from.text, []byte("#"))
}

// No edit of a value loses a comment, in any layout, and the document says what was wanted.
func TestEditKeepsComments(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := mustDoc(t, genLayout(t))
		for i := range rapid.IntRange(1, 6).Draw(t, "edits") {
			s := rapid.SampledFrom(table).Draw(t, "setting")
			target := rapid.SampledFrom([]Target{Site, GroupTarget("g"), GroupTarget("new"), AccountTarget("a"), AccountTarget("new")}).Draw(t, "target")
			n, err := d.Set(target, s.Path, genValue(t, &s))
			if err != nil {
				continue
			}
			had, has := commentWords(d.text), commentWords(n.text)
			for c := range had {
				if s.Kind != KindNetworks && s.Kind != KindPaths && s.Kind != KindSet && s.Kind != KindNames && !has[c] {
					t.Fatalf("edit %d, %s of %s, lost %q\n%s\nbecame\n%s", i, s.Path, target, c, d.text, n.text)
				}
			}
			if want, _ := n.Get(target, s.Path); want == "" {
				t.Fatalf("%s of %s is not set", s.Path, target)
			}
			d = n
		}
	})
}

func commentWords(text []byte) map[string]bool {
	words := map[string]bool{}
	for w := range strings.FieldsSeq(string(text)) {
		if strings.HasPrefix(w, "#c") {
			words[w] = true
		}
	}
	return words
}

// genLayout draws a document with a comment at every place where one may stand.
func genLayout(t *rapid.T) string {
	n := 0
	c := func() string {
		if n++; rapid.Bool().Draw(t, "comment") {
			return fmt.Sprintf(" #c%d", n)
		}
		return ""
	}
	level := func(pad string) string {
		return rapid.SampledFrom([]string{
			" {session: {max: 3}, protocols: [sftp]}" + c() + "\n",
			c() + "\n" + pad + "session:" + c() + "\n" + pad + "  max: 3" + c() + "\n" + pad + " #c" + fmt.Sprint(n+1000) + "\n" + pad + "protocols:" + c() + "\n" + pad + "- sftp" + c() + "\n",
			" {session: {max: 3," + c() + "\n" + pad + "   idle: 1m}," + c() + "\n" + pad + " protocols: [sftp]}" + c() + "\n",
			" {}" + c() + "\n", c() + "\n",
			c() + "\n" + pad + "allow_from:" + c() + "\n" + pad + "  - 10.0.0.0/8" + c() + "\n" + pad + "quota: {files: 3}" + c() + "\n",
		}).Draw(t, "level")
	}
	return "#c\nversion: 1" + c() + "\nsite:" + level("  ") + "groups:" + c() + "\n  g:" + level("    ") + "#c0\naccounts:" + c() + "\n  a:" + level("      ") + "  b: {groups: [g]}" + c() + "\n"
}
