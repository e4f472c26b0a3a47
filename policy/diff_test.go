package policy

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestDiffMarks(t *testing.T) {
	t.Parallel()
	const base = `version: 1
site: {session: {max: 8}, allow_from: [10.0.0.0/8], lock: [transport.tls_min], limits: {backup.retention_days: {max: 30}}}
groups:
  g: {protocols: [sftp, ftps], session: {max: 4}}
  h: {protocols: [sftp]}
accounts:
  a: {groups: [g]}
  b: {groups: [g, h], paths: [{path: /in, allow: [list, write]}]}
  c: {session: {max: 2}}
exceptions: [{account: c, allow: ftp, from: [192.0.2.0/24], until: 2027-01-01, reason: x}]
`
	for _, c := range []struct {
		name string
		edit []Edit
		want string
	}{
		{"number up", []Edit{{Site, "session.max", "9"}}, "site.session.max 8 > 9 LOOSER"},
		{"number down", []Edit{{Site, "session.max", "7"}}, "site.session.max 8 > 7 tighter"},
		{"overridden by everybody below, but not by strangers", []Edit{{GroupTarget("g"), "session.max", ""}}, "groups.g.session.max 4 >  LOOSER"},
		{"explicit and as inherited", []Edit{{GroupTarget("h"), "session.max", "8"}}, "groups.h.session.max  > 8 "},
		{"an account gets what it had", []Edit{{AccountTarget("a"), "protocols", "[ftps, sftp]"}}, "accounts.a.protocols  > [ftps, sftp] "},
		{"a protocol more", []Edit{{GroupTarget("h"), "protocols", "[sftp, ftps]"}}, "groups.h.protocols [sftp] > [sftp, ftps] LOOSER"},
		{"network narrower", []Edit{{Site, "allow_from", "[10.1.0.0/16]"}}, "site.allow_from [10.0.0.0/8] > [10.1.0.0/16] tighter"},
		{"network gone", []Edit{{Site, "allow_from", "[]"}}, "site.allow_from [10.0.0.0/8] > [] LOOSER"},
		{"network of one", []Edit{{AccountTarget("a"), "allow_from", "[10.2.0.0/16]"}}, "accounts.a.allow_from  > [10.2.0.0/16] tighter"},
		{"denied", []Edit{{Site, "deny_from", "[10.9.0.0/16]"}}, "site.deny_from  > [10.9.0.0/16] tighter"},
		{"unlocked", []Edit{{Site, "lock", ""}}, "site.lock [transport.tls_min] >  LOOSER"},
		{"locked", []Edit{{Site, "lock", "[transport.tls_min, session.idle]"}}, "site.lock [transport.tls_min] > [transport.tls_min, session.idle] tighter"},
		{"limit raised", []Edit{{Site, "limits", "{backup.retention_days: {max: 60}}"}}, "site.limits {backup.retention_days: {max: 30}} > {backup.retention_days: {max: 60}} LOOSER"},
		{"limit that raises a default", []Edit{{Site, "limits", "{backup.retention_days: {max: 30}, session.idle: {min: 1h}}"}},
			"site.limits {backup.retention_days: {max: 30}} > {backup.retention_days: {max: 30}, session.idle: {min: 1h}} LOOSER"},
		{"right more", []Edit{{AccountTarget("b"), "paths", "[{path: /in, allow: [list, write, read]}]"}},
			"accounts.b.paths [{path: /in, allow: [list, write]}] > [{path: /in, allow: [list, write, read]}] LOOSER"},
		{"out of a group", []Edit{{AccountTarget("b"), "groups", "[g]"}}, "accounts.b.groups [g, h] > [g] LOOSER"},
		{"into a group", []Edit{{AccountTarget("a"), "groups", "[g, h]"}}, "accounts.a.groups [g] > [g, h] tighter"},
		{"order of groups", []Edit{{AccountTarget("b"), "groups", "[h, g]"}}, ""},
		{"new account", []Edit{{AccountTarget("z"), "session.max", "1"}}, "accounts.z  > {} ; accounts.z.session.max  > 1 tighter"},
		{"nothing", []Edit{{Site, "session.max", "8"}}, ""},
	} {
		d := mustParse(t, base)
		n, err := d.Edit(c.edit...)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var got []string
		for _, x := range Diff(d, n) {
			got = append(got, fmt.Sprintf("%s %s > %s %s", x.Key, x.Old, x.New, x.Mark))
		}
		if strings.Join(got, "; ") != c.want {
			t.Errorf("%s:\ngot  %s\nwant %s", c.name, strings.Join(got, "; "), c.want)
		}
	}
	d := mustParse(t, base)
	n, err := d.Without("c")
	if err != nil {
		t.Fatal(err)
	}
	list := Diff(d, n)
	if last := list[len(list)-1]; last.Key != "exceptions" || last.Mark != Tighter {
		t.Errorf("an exception that is gone: %+v", last)
	}
	if back := Diff(n, d); back[len(back)-1].Mark != Looser {
		t.Errorf("an exception that is new: %+v", back)
	}
}

// randomDoc makes some settings at random places.
func randomDoc(t *rapid.T, d *Document, most int, label string) *Document {
	targets := []Target{Site, GroupTarget("g"), GroupTarget("h"), AccountTarget("a"), AccountTarget("b")}
	for range rapid.IntRange(0, most).Draw(t, label) {
		target := rapid.SampledFrom(targets).Draw(t, "target")
		var e Edit
		switch rapid.IntRange(0, 9).Draw(t, "what") {
		case 0:
			e = Edit{AccountTarget("a"), "groups", rapid.SampledFrom([]string{"", "[g]", "[h]", "[g, h]", "[h, g]"}).Draw(t, "groups")}
		case 1:
			e = Edit{rapid.SampledFrom(targets[:3]).Draw(t, "at"), "lock", flowList(rapid.SliceOfNDistinct(rapid.SampledFrom(settingPaths()), 0, 2, rapid.ID).Draw(t, "lock"), quote)}
		case 2:
			e = Edit{rapid.SampledFrom(targets[:3]).Draw(t, "at"), "limits", rapid.SampledFrom([]string{"", "{session.max: {max: 2}}", "{session.max: {min: 2}}", "{protocols: {only: [sftp]}, session.idle: {max: 1m}}",
				"{transport.tls_min: {min: \"1.3\"}}", "{transport.ciphers: {max: compatible}}", "{session.idle: {min: 1m}}"}).Draw(t, "limits")}
		default:
			s := rapid.SampledFrom(table).Draw(t, "setting")
			e = Edit{target, s.Path, genValue(t, &s)}
			if rapid.IntRange(0, 4).Draw(t, "unset") == 0 {
				e.Value = ""
			}
		}
		if n, err := d.Edit(e); err == nil {
			d = n
		}
	}
	return d
}

const smallHouse = "version: 1\ngroups: {g: {}, h: {}}\naccounts: {a: {groups: [g, h]}, b: {}}\n" +
	"exceptions: [{account: a, allow: ftp, from: [192.0.2.0/24], until: 2026-12-01, reason: test}]\n"

// A change without the mark LOOSER admits and permits nothing that was refused.
func TestWhatIsNotMarkedLooserAdmitsNoMore(t *testing.T) {
	t.Parallel()
	tight := 0
	rapid.Check(t, func(t *rapid.T) {
		old := randomDoc(t, mustDoc(t, smallHouse), 10, "before")
		new := randomDoc(t, old, 3, "change")
		if IsLooser(Diff(old, new)) {
			return
		}
		tight++
		for _, account := range []string{"a", "b", "nobody", ""} {
			before, after := Resolve(old, account), Resolve(new, account)
			for range 5 {
				f := genFacts(t)
				if was := Admit(before, f, noon); was != nil && Admit(after, f, noon) == nil {
					t.Fatalf("%q: admits what was refused with %v (%s)\n%s\nbecame\n%s\n%+v", account, was, was.Rule, old.Text(), new.Text(), Diff(old, new))
				}
				op := Op(rapid.IntRange(int(OpList), int(opEnd)-1).Draw(t, "op"))
				path := rapid.SampledFrom([]string{"/", "/a", "/a/b", "/a/b/c/d", "/a/x", "/d/e", "/x"}).Draw(t, "path")
				if was := Permit(before, op, path); was != nil && Permit(after, op, path) == nil {
					t.Fatalf("%q: permits %s %s, refused with %v (%s) before\n%s\nbecame\n%s", account, op, path, was, was.Rule, old.Text(), new.Text())
				}
			}
		}
	})
	if tight < 10 {
		t.Errorf("only %d changes were not looser: nothing was shown", tight)
	}
}

// Whatever way a document came about, what a lock or a limit above holds is held.
func TestLocksAndLimitsHoldAgainstEveryPath(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := randomDoc(t, mustDoc(t, smallHouse), 12, "edits")
		if rapid.Bool().Draw(t, "import") { // as text written by hand
			text := string(d.Text())
			for range rapid.IntRange(1, 4).Draw(t, "slips") {
				text = strings.Replace(text, rapid.SampledFrom([]string{"sftp", "\"1.3\"", "1m", "modern", "true", "1"}).Draw(t, "from"),
					rapid.SampledFrom([]string{"ftps", "\"1.2\"", "14d", "compatible", "false", "3"}).Draw(t, "to"), 1)
			}
			n, err := Parse(DefaultName, []byte(text))
			if err != nil {
				return
			}
			d = n
		}
		for _, account := range []string{"a", "b"} {
			chain := d.chain(account)
			for depth, rung := range chain {
				for _, l := range rung {
					checkHeld(t, d, account, chain[:depth+1], l)
				}
			}
		}
	})
}

func checkHeld(t *rapid.T, d *Document, account string, upTo []rung, l *Level) {
	chain := d.chain(account)
	for _, r := range l.lock {
		i := settingIndex(r.name)
		mine := append(slices.Clone(upTo[:len(upTo)-1]), rung{l})
		if held, is := resolveOne(d, mine, i), resolveOne(d, chain, i); table[i].resolvedLooser(is, held) {
			t.Fatalf("%s locks %s at %s, and %s has %s\n%s", l.name, r.name, table[i].format(held.value), account, table[i].format(is.value), d.Text())
		}
	}
	for _, m := range l.limits {
		i := settingIndex(m.path)
		if is := resolveOne(d, chain, i); !within(&m, &table[i], is.value) {
			t.Fatalf("%s limits %s to %v, and %s has %s\n%s", l.name, m.path, m.text, account, table[i].format(is.value), d.Text())
		}
	}
}

func within(m *limit, s *Setting, v any) bool {
	_, changed := m.clamp(s, v)
	return !changed
}

// Neither the order of groups, nor that of sections, levels and keys, changes what holds.
func TestOrderMeansNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := randomDoc(t, mustDoc(t, smallHouse), 12, "edits")
		rnd := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		root, p := parseYAML(d.render())
		if p != nil {
			t.Fatal(p.Message)
		}
		shuffle(root, rnd, "")
		n := mustDoc(t, strings.Trim(root.canonical(), "")+"\n")
		for _, account := range []string{"", "a", "b", "nobody"} {
			x, y := Resolve(d, account), Resolve(n, account)
			for i := range table {
				if table[i].resolvedLooser(x.values[i], y.values[i]) || table[i].resolvedLooser(y.values[i], x.values[i]) {
					t.Fatalf("%s of %q depends on the order\n%s\n%s", table[i].Path, account, d.Text(), n.Text())
				}
			}
			f := genFacts(t)
			if a, b := Admit(x, f, noon), Admit(y, f, noon); (a == nil) != (b == nil) || a != nil && a.Code != b.Code {
				t.Fatalf("%v or %v", a, b)
			}
		}
		if list := Diff(d, n); len(list) > 0 && IsLooser(list) {
			t.Fatalf("%+v", list)
		}
	})
}

// shuffle reorders mappings, and lists of groups.
func shuffle(n *node, rnd *rand.Rand, key string) {
	rnd.Shuffle(len(n.fields), func(i, j int) { n.fields[i], n.fields[j] = n.fields[j], n.fields[i] })
	for _, f := range n.fields {
		shuffle(f.value, rnd, f.key)
	}
	if key == "groups" {
		rnd.Shuffle(len(n.list), func(i, j int) { n.list[i], n.list[j] = n.list[j], n.list[i] })
	}
}

// What is found out once for accounts with the same groups is true of each of them.
func TestLikeAccountsAreMarkedAlike(t *testing.T) {
	t.Parallel()
	const many = "version: 1\ngroups: {g: {}, h: {}}\naccounts: {a: {groups: [g, h]}, b: {}, c: {groups: [h, g]}, d: {groups: [g]}, e: {groups: [g]}}\n"
	rapid.Check(t, func(t *rapid.T) {
		old := randomDoc(t, mustDoc(t, many), 8, "before")
		d := &differ{old: old, new: randomDoc(t, old, 6, "after"), changed: map[string]map[string]bool{}}
		for i := range table {
			for _, a := range []string{"a", "b", "c", "d", "e", "nobody", stranger} {
				if got, want := d.compare(a, i), d.compareLevels(d.old.chain(a), d.new.chain(a), i); got != want {
					t.Fatalf("%s of %s is marked %q, alone %q\n%s\n%s", table[i].Path, a, got, want, d.old.Text(), d.new.Text())
				}
			}
		}
	})
}
