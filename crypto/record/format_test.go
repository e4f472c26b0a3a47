package record

import (
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestFormatDocument holds docs/FORMAT.md against the code: domain numbers, labels and worked sizes.
func TestFormatDocument(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	doc := string(text)
	_, table, ok := strings.Cut(doc, "### Domains\n")
	if !ok {
		t.Fatal("no section Domains")
	}
	table, _, _ = strings.Cut(table, "\n#")
	documented := map[string]Domain{}
	for _, row := range regexp.MustCompile(`(?m)^\| (\d+) \| (\w+) \|`).FindAllStringSubmatch(table, -1) {
		n, err := strconv.ParseUint(row[1], 10, 8)
		if err != nil {
			t.Fatal(err)
		}
		documented[row[2]] = Domain(n)
	}
	domains := map[string]Domain{
		"entry": DomainEntry, "past": DomainPast, "inode": DomainInode, "version": DomainVersion, "extents": DomainExtents,
		"blobkey": DomainBlobKey, "when": DomainWhen, "outbox": DomainOutbox, "doomed": DomainDoomed, "head": DomainHead, "fold": DomainFold,
		"rootkey": DomainRootKey, "accountkey": DomainAccountKey, "policykey": DomainPolicyKey, "auditkey": DomainAuditKey,
		"datakey": DomainDataKey, "policy": DomainPolicy, "accounts": DomainAccounts, "audit": DomainAudit, "keyring": DomainKeyring,
		"sealkey": DomainSealKey, "names": DomainNames, "identity": DomainIdentity, "pending": DomainPending,
		"lastcopy": DomainLastCopy, "clock": DomainClock,
	}
	for name, n := range domains {
		if documented[name] != n {
			t.Errorf("domain %s is %d in the code, %d in the document", name, n, documented[name])
		}
	}
	if len(documented) != len(domains) {
		t.Errorf("%d domains in the document, %d in the code", len(documented), len(domains))
	}
	for _, label := range []string{aadLabel, commitLabel, accountLabel} {
		if quoted := `"` + strings.ReplaceAll(label, "\x00", `\0`) + `"`; !strings.Contains(doc, quoted) {
			t.Errorf("the document has no %s", quoted)
		}
	}
	sizes := map[int]int{0: 109, 60: 109, 61: 173, 124: 173, 200: 301, 5000: 5101}
	for plain, want := range sizes {
		if SealedSize(plain) != want {
			t.Errorf("a plaintext of %d bytes takes %d, the document says %d", plain, SealedSize(plain), want)
		}
	}
	if !strings.Contains(doc, "a plaintext of 0 … 60 bytes takes 109 bytes, 61 … 124 takes 173, 200 takes 301, 5,000 takes 5,101") {
		t.Error("the worked sizes in the document are others than in this test")
	}
}
