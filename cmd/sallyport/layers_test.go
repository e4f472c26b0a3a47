package main

import (
	"encoding/json"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// floors is the house of docs/DESIGN.md: a package imports only packages of a
// lower floor, never of its own.
var floors = map[string]int{
	"sallyport/crypto/durable": 0, "sallyport/crypto/stream": 0, "sallyport/crypto/record": 0, "sallyport/crypto/shamir": 0, "sallyport/crypto/escrow": 0,
	"sallyport/crypto/approved":              -1, // what the process may use at all
	"sallyport/crypto/locked":                -1, // memory for keys
	"sallyport/crypto/approved/approvedtest": 0,  // tests only
	"sallyport/policy":                       0, "sallyport/policy/breached": 0, "sallyport/vfs/blob": 0, "sallyport/vfs/extent": 0,
	"sallyport/vfs/rawtest":   0,                                        // tests only
	"sallyport/vfs/pagecheck": 0, "sallyport/vfs/pagecheck/pagetest": 1, // tests only
	"sallyport/crypto/keyring": 1, "sallyport/policy/policydb": 1, "sallyport/vfs/blob/blobdir": 1, "sallyport/vfs/blob/blobtest": 1,
	"sallyport/vfs/content": 1, "sallyport/vfs/meta": 1, "sallyport/server/audit": 1, "sallyport/server/clock": 1,
	"sallyport/server/statecopy": 1, "sallyport/server/copier": 3,
	"sallyport/crypto/transit": 2, "sallyport/crypto/transit/transittest": 1, // tests only
	"sallyport/crypto/sealhelper": 2,
	"sallyport/vfs":               2,
	"sallyport/vfs/proof":         3, // tests only
	"sallyport/server/session":    3, "sallyport/server/retention": 3, "sallyport/server/shred": 3,
	"sallyport/server/ftpd": 4, "sallyport/server/sftpd": 4, "sallyport/server/admin": 4,
	"sallyport/server":          5,
	"sallyport/cmd/sallyport":   6,
	"sallyport/cmd/bench":       6, // measuring, not serving: may look into any floor
	"sallyport/server/facetest": 6, // tests only: the faces of a volume side by side
	"sallyport/cmd/e2e":         6, // drives the real binary from outside
}

// libraries that only one package may know, so that each can be replaced.
var confined = map[string][]string{
	"go.etcd.io/bbolt":                  {"sallyport/vfs/meta", "sallyport/policy/policydb"},
	"github.com/fclairamb/ftpserverlib": {"sallyport/server/ftpd", "sallyport/cmd/bench"},
	"github.com/pkg/sftp":               {"sallyport/server/sftpd", "sallyport/cmd/bench", "sallyport/server/facetest"},
	"github.com/spf13/cobra":            {"sallyport/cmd/sallyport"},
	"filippo.io/age":                    {"sallyport/crypto/escrow"},
	"golang.org/x/crypto/argon2":        {"sallyport/crypto/keyring", "sallyport/policy/policydb"},
}

func TestImportsOnlyGoDown(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", "sallyport/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	seen := 0
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; seen++ {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		floor, ok := floors[p.ImportPath]
		if !ok {
			t.Errorf("%s stands on no floor: add it to the table and to docs/DESIGN.md", p.ImportPath)
			continue
		}
		for _, im := range p.Imports {
			if strings.HasPrefix(im, "sallyport/") {
				if below, ok := floors[im]; !ok || below >= floor {
					t.Errorf("%s (floor %d) imports %s (floor %d): imports only go down", p.ImportPath, floor, im, below)
				}
			}
			for lib, allowed := range confined {
				if (im == lib || strings.HasPrefix(im, lib+"/")) && !slices.Contains(allowed, p.ImportPath) {
					t.Errorf("%s imports %s, which is confined to %v", p.ImportPath, im, allowed)
				}
			}
		}
	}
	if seen < 15 {
		t.Fatalf("only %d packages seen: the check did not look at the house", seen)
	}
}
