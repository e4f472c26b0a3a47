package ftpd

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"sallyport/policy"
	"sallyport/server/session"
	"sallyport/vfs"
)

// TestRealHistory: /.backups over FTP, and SITE RESTORE.
func TestRealHistory(t *testing.T) {
	t.Parallel()
	h := startReal(t, Implicit)
	c := h.dial().login()
	c.cmd(257, "MKD docs")
	c.stor("STOR docs/my report.csv", "first")
	c.stor("STOR docs/other", "other")
	c.stor("STOR kept", "kept")
	then := session.FormatInstant(time.Now())
	c.stor("STOR docs/my report.csv", "the second")
	c.cmd(250, "DELE docs/other")
	c.stor("STOR docs/later", "later")
	dir := "/.backups/" + then

	lines := func(command string) []string {
		list := strings.Fields(c.retr(command))
		slices.Sort(list)
		return list
	}
	if got := lines("NLST " + dir); !slices.Equal(got, []string{dir + "/docs", dir + "/kept"}) {
		t.Errorf("NLST: %q", got)
	}
	c.cmd(250, "CWD %s/docs", dir)
	if got := c.cmd(257, "PWD"); !strings.Contains(got, dir+"/docs") {
		t.Errorf("PWD: %q", got)
	}
	if got := c.retr("RETR my report.csv"); got != "first" {
		t.Errorf("RETR: %q", got)
	}
	if got := c.cmd(213, "SIZE my report.csv"); got != "213 5" {
		t.Errorf("SIZE: %q", got)
	}
	c.cmd(213, "MDTM my report.csv")
	if got := c.cmd(213, "HASH my report.csv"); !strings.Contains(got, "a7937b64b8caa58f03721bb6bacf5c78cb235febe0e70b1b84cd99541461a08e") {
		t.Errorf("HASH: %q", got)
	}
	mlsd := c.retr("MLSD " + dir + "/docs")
	if !strings.Contains(mlsd, "Perm=r;") || strings.Contains(mlsd, "Unique=") || !strings.Contains(mlsd, "Size=5;") {
		t.Errorf("MLSD: %q", mlsd)
	}
	if list := c.retr("LIST /.backups"); !strings.Contains(list, " versions\r\n") {
		t.Errorf("LIST: %q", list)
	}
	versions := lines("NLST /.backups/versions/docs/other")
	if len(versions) != 1 || c.retr("RETR "+versions[0]) != "other" {
		t.Errorf("versions: %q", versions)
	}
	c.cmd(250, "CWD /")
	c.cmd(350, "RNFR kept")
	if got := c.cmd(550, "RNTO %s/x", dir); !strings.Contains(got, policy.CodeReserved) {
		t.Errorf("RNTO: %q", got)
	}
	for _, cmd := range []string{"DELE %s/kept", "MKD %s/new", "RMD %s/docs", "SITE CHMOD 600 %s/kept", "SITE SYMLINK x %s/l", "MFMT 20200101000000 %s/kept"} {
		c.refused(550, fmt.Sprintf(cmd, dir), "["+policy.CodeReserved+"]")
	}
	c.refused(550, "STOR "+dir+"/new", "["+policy.CodeReserved+"]")
	c.refused(550, "RETR /.backups/2199-01-01/kept", "not come yet")
	c.refused(550, "RETR /.backups/2001-01-01/kept", "Older than what is kept")

	// Restoring.
	if got := c.cmd(250, "SITE RESTORE /docs %s", then); !strings.HasPrefix(got, "250 Restored: 1 made, ") { // and one or two changed: the directory, if a second has passed
		t.Errorf("restored a directory: %q", got)
	}
	for name, want := range map[string]string{"docs/my report.csv": "first", "docs/other": "other", "docs/later": "later"} {
		if got := c.retr("RETR " + name); got != want {
			t.Errorf("%s holds %q", name, got)
		}
	}
	c.stor("STOR docs/my report.csv", "third")
	c.cmd(250, "SITE RESTORE docs/my report.csv %s", then)
	if got := c.retr("RETR docs/my report.csv"); got != "first" {
		t.Errorf("restored a file: %q", got)
	}
	c.cmd(250, "DELE kept")
	c.cmd(250, "SITE RESTORE %s/kept", dir)
	if got := c.retr("RETR kept"); got != "kept" {
		t.Errorf("restored by its path in the history: %q", got)
	}
	c.stor("STOR kept", "other")
	if got := c.cmd(550, "SITE RESTORE /.backups/versions/kept"); !strings.Contains(got, "name one of them") {
		t.Errorf("restoring a list of versions: %q", got)
	}
	if got := c.cmd(550, "SITE RESTORE /never %s", session.FormatInstant(time.Now())); !strings.Contains(got, "at that time") {
		t.Errorf("restoring what never was: %q", got)
	}
	c.cmd(250, "SITE RESTORE %s", lines("NLST /.backups/versions/kept")[0])
	if got := c.retr("RETR kept"); got != "kept" {
		t.Errorf("restored a version: %q", got)
	}
	for _, wrong := range []string{"SITE RESTORE", "SITE RESTORE kept"} {
		c.cmd(501, "%s", wrong)
	}
	c.refused(550, "SITE RESTORE kept yesterday", "No such")
	c.refused(550, "SITE RESTORE nothing "+then, "No such")
	c.refused(550, "SITE RESTORE kept 2001-01-01", "Older than")
	if got := c.cmd(214, "SITE HELP"); !strings.Contains(got, "RESTORE <path> <instant>") {
		t.Errorf("SITE HELP: %q", got)
	}

	// Under the rights and the quota of the account.
	h.set(policy.AccountTarget("alice"), "quota.bytes", "10")
	c.cmd(250, "DELE kept")
	c.refused(552, "SITE RESTORE kept "+then, "["+policy.CodeQuotaBytes+"]")
	h.set(policy.AccountTarget("alice"), "quota.bytes", "0")
	h.set(policy.AccountTarget("alice"), "paths", "[{path: /, allow: [list, read]}]")
	c.refused(550, "SITE RESTORE kept "+then, "["+policy.CodeWrite+"]")
	h.set(policy.AccountTarget("alice"), "paths", "[{path: /, allow: [all]}, {path: /docs/other, allow: [list]}]")
	c.refused(550, "SITE RESTORE docs "+then, "[SP-P")
	h.set(policy.AccountTarget("alice"), "upload.deny_names", `["*.csv"]`)
	h.set(policy.AccountTarget("alice"), "paths", "[{path: /, allow: [all]}]")
	c.stor("STOR docs/other", "changed")
	c.cmd(250, "DELE docs/my report.csv")
	c.refused(553, "SITE RESTORE docs "+then, "["+policy.CodeName+"]")
	h.set(policy.AccountTarget("alice"), "backup.retention_days", "0")
	c.refused(550, "SITE RESTORE kept "+then, "keeps nothing of the past")
	c.refused(550, "CWD /.backups", "keeps nothing of the past")
	c.refused(550, "RETR "+dir+"/kept", "keeps nothing of the past")
	h.set(policy.AccountTarget("alice"), "backup.retention_days", "7")
	h.set(policy.AccountTarget("alice"), "backup.self_service", "false")
	c.refused(550, "SITE RESTORE kept "+then, "["+policy.CodeHistory+"]")
	eventually(t, "the restores are in the log", func() bool { return h.records()["restore ftps-implicit "] >= 5 })
	c.cmd(221, "QUIT")
}

// TestRealPurgedTime: who asks for an instant of which something was purged is told the oldest that is whole.
func TestRealPurgedTime(t *testing.T) {
	t.Parallel()
	h := startReal(t, Implicit)
	c := h.dial().login()
	c.stor("STOR f", "one")
	then := session.FormatInstant(time.Now())
	c.stor("STOR f", "two")
	v, err := h.fs.Volume(t.Context(), h.ids["alice"])
	if err != nil {
		t.Fatal(err)
	}
	r, err := v.Purge(t.Context(), vfs.PurgeOptions{Before: time.Now().Add(time.Hour)})
	if err != nil || r.Versions == 0 {
		t.Fatalf("purged %+v, %v", r, err)
	}
	oldest := session.FormatInstant(r.Newest.Add(time.Second - 1).Truncate(time.Second))
	for _, cmd := range []string{"RETR /.backups/" + then + "/f", "SITE RESTORE f " + then, "MLST /.backups/" + then} {
		c.refused(550, cmd, "the oldest that is whole is "+oldest+".")
	}
	if got := c.retr("RETR /.backups/" + session.FormatInstant(r.Newest) + "/f"); got != "two" {
		t.Errorf("the first whole instant holds %q", got)
	}
	if got := strings.Fields(c.retr("NLST /.backups/versions/f")); len(got) != 1 || c.retr("RETR "+got[0]) != "two" {
		t.Errorf("versions: %q", got)
	}
}
