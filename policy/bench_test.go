package policy

import (
	"fmt"
	"strings"
	"testing"
)

// manyAccounts is a policy of n accounts in 20 groups, as an operator would have it.
func manyAccounts(n int) []byte {
	var b strings.Builder
	b.WriteString("version: 1\nsite:\n  transport: {tls_min: \"1.2\"}\n  lock: [transport.tls_min]\n  limits: {backup.retention_days: {max: 30}}\ngroups:\n")
	for g := range 20 {
		fmt.Fprintf(&b, "  g%02d:\n    protocols: [sftp, ftps]\n    allow_from: [10.%d.0.0/16, 192.0.2.0/24]\n    paths: [{path: /in, allow: [list, write]}, {path: /out, allow: [list, read]}]\n", g, g)
	}
	b.WriteString("accounts:\n")
	for i := range n {
		fmt.Fprintf(&b, "  account%05d: {groups: [g%02d], session: {max: %d}, backup: {retention_days: %d}} # customer %d\n", i, i%20, 1+i%16, 7+i%20, i)
	}
	return []byte(b.String())
}

func BenchmarkParse10000(b *testing.B) {
	text := manyAccounts(10_000)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := Parse(DefaultName, text); err != nil {
			b.Fatal(err)
		}
	}
}

// benchPolicy is a policy with everything that a decision looks at.
func benchPolicy(b *testing.B) *Effective {
	b.Helper()
	d, err := Parse(DefaultName, manyAccounts(100))
	if err != nil {
		b.Fatal(err)
	}
	d, err = d.Edit(Edit{Site, "allow_from", "[10.0.0.0/8, 192.0.2.0/24]"}, Edit{Site, "deny_from", "[10.66.0.0/16, 10.67.0.0/16]"}, Edit{AccountTarget("account00007"), "allow_from", "[10.7.0.0/24, 192.0.2.0/28]"})
	if err != nil {
		b.Fatal(err)
	}
	return Resolve(d, "account00007")
}

func BenchmarkAdmit(b *testing.B) {
	p, f := benchPolicy(b), Facts{Protocol: FTPS, Remote: from("192.0.2.7"), TLS: true, TLSVersion: tls12, Cipher: aead12, Method: "password", Since: noon, LastActive: noon}
	if d := Admit(p, f, noon); d != nil {
		b.Fatal(d)
	}
	b.ReportAllocs()
	for b.Loop() {
		Admit(p, f, noon)
	}
}

func BenchmarkAdmitRefuses(b *testing.B) {
	p := benchPolicy(b)
	for _, c := range []struct {
		code string
		f    Facts
	}{
		{CodeNotAllowed, Facts{Protocol: SFTP, Remote: from("203.0.113.7"), Method: "publickey"}},
		{CodeCipher, Facts{Protocol: FTPS, Remote: from("192.0.2.7"), TLS: true, TLSVersion: tls12, Cipher: cbc12, Method: "password"}},
		{CodeMethod, Facts{Protocol: SFTP, Remote: from("192.0.2.7"), Method: "password"}},
		{CodeSessions, Facts{Protocol: SFTP, Remote: from("192.0.2.7"), Method: "publickey", Sessions: 99}},
	} {
		b.Run(c.code, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if d := Admit(p, c.f, noon); d == nil || d.Code != c.code {
					b.Fatal(d)
				}
			}
		})
	}
}

func BenchmarkPermit(b *testing.B) {
	p := benchPolicy(b)
	if d := Permit(p, OpWrite, "/in/2026/11/orders.csv"); d != nil {
		b.Fatal(d)
	}
	b.ReportAllocs()
	for b.Loop() {
		Permit(p, OpWrite, "/in/2026/11/orders.csv")
	}
}

// The rest is what an operator waits for, with 10,000 accounts.
func manyDocs(b *testing.B) (old, new *Document) {
	b.Helper()
	old, err := Parse(DefaultName, manyAccounts(10_000))
	if err != nil {
		b.Fatal(err)
	}
	new, err = old.Edit(Edit{Site, "session.idle", "5m"}, Edit{GroupTarget("g07"), "session.max", "3"}, Edit{AccountTarget("account04711"), "quota.files", "7"})
	if err != nil {
		b.Fatal(err)
	}
	return old, new
}

func BenchmarkSet10000(b *testing.B) {
	old, _ := manyDocs(b)
	for b.Loop() {
		if _, err := old.Set(AccountTarget("account04711"), "quota.files", "8"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDiff10000(b *testing.B) {
	old, new := manyDocs(b)
	for b.Loop() {
		if len(Diff(old, new)) != 3 {
			b.Fatal("other differences")
		}
	}
}

func BenchmarkExplain10000(b *testing.B) {
	_, d := manyDocs(b)
	for b.Loop() {
		p := Resolve(d, "account04711")
		q, err := Case{Do: "put /in/x"}.Question(p, noon)
		if err != nil || Explain(p, q, noon).Denial != nil {
			b.Fatal(err)
		}
	}
}
