package policydb

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"sallyport/policy"
)

// doors in a form to compare.
func doors(m policy.Means) []string {
	var list []string
	for _, d := range m.Doors {
		text := fmt.Sprintf("%s/%d%v", d.Method, d.Over, d.From)
		if d.TwoFactor {
			text += " two"
		}
		if d.Possible {
			text += " possible"
		}
		list = append(list, text)
	}
	slices.Sort(list)
	return list
}

// What has ended, is revoked, or is of another protocol opens nothing, and a certificate of an authority counts once it was seen.
func TestMeansAreWhatOpensSomething(t *testing.T) {
	t.Parallel()
	o := options(t)
	now := noon
	o.Now = func() time.Time { return now }
	db := open(t, o)
	if _, err := db.CreateAccount(t.Context(), NewAccount{Name: "alice", ID: id(1), Who: "test"}); err != nil {
		t.Fatal(err)
	}
	want := func(what string, list ...string) {
		t.Helper()
		slices.Sort(list)
		if got := doors(db.Means(account(t, db), now)); !slices.Equal(got, list) {
			t.Errorf("%s: %q, want %q", what, got, list)
		}
	}
	want("nothing yet")
	line := string(ssh.MarshalAuthorizedKey(signer(t).PublicKey()))
	k, err := ParseKey(`from="192.0.2.0/24",expiry-time="20300101" ` + line)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.AddKey(t.Context(), "alice", k, "test"); err != nil {
		t.Fatal(err)
	}
	key := "publickey/1[192.0.2.0/24]"
	want("a key", key)
	if err := db.Revoke(t.Context(), k.Fingerprint(), "test"); err != nil {
		t.Fatal(err)
	}
	want("the key is revoked")
	if err := db.Unrevoke(t.Context(), k.Fingerprint()); err != nil {
		t.Fatal(err)
	}
	if err := db.SetPassword(t.Context(), "alice", "kestrel-tulip-93", "test"); err != nil {
		t.Fatal(err)
	}
	want("and a password", key, "password/0[]")

	root, _ := signedBy(t, nil, nil, asCA("root", nil))
	x := Authority{Kind: x509Type, Blob: root.Raw}
	s := Authority{Kind: "ssh", Blob: signer(t).PublicKey().Marshal()}
	for _, a := range []Authority{x, s} {
		if err := db.AddAuthority(t.Context(), a, "test"); err != nil {
			t.Fatal(err)
		}
	}
	possible := []string{key, "password/0[]", "certificate/1[] possible", "certificate/2[] possible", "password/2[] two possible"}
	want("authorities", possible...)
	if got := doors(db.Means(account(t, db), now).Seen()); !slices.Equal(got, []string{"password/0[]", key}) {
		t.Errorf("seen: %q", got)
	}
	if err := db.NoteCertificate(t.Context(), account(t, db), x.Fingerprint()); err != nil {
		t.Fatal(err)
	}
	want("in by a TLS certificate", key, "password/0[]", "certificate/1[] possible", "certificate/2[]", "password/2[] two")
	before := account(t, db)
	now = now.Add(time.Hour)
	if err := db.NoteCertificate(t.Context(), before, x.Fingerprint()); err != nil || !account(t, db).Certified[0].At.Equal(noon) {
		t.Errorf("written twice a day: %v, %+v", err, account(t, db).Certified)
	}
	now = noon.Add(certifiedFor)
	want("long ago; the authority has ended, too", key, "password/0[]", "certificate/1[] possible")
	if err := db.NoteCertificate(t.Context(), account(t, db), s.Fingerprint()); err != nil || len(account(t, db).Certified) != 1 {
		t.Errorf("old ones stay: %v, %+v", err, account(t, db).Certified)
	}
	now = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	want("the key has ended", "password/0[]", "certificate/1[] possible")
}
