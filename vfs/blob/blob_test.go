package blob_test

import (
	"strings"
	"testing"

	"sallyport/vfs/blob"
)

func TestParseID(t *testing.T) {
	t.Parallel()
	id := blob.ID{0xab, 0xcd, 15: 0xef}
	if got, err := blob.ParseID(id.String()); err != nil || got != id {
		t.Fatalf("got %v, %v; want %v", got, err, id)
	}
	for _, bad := range []string{"", "ab", strings.Repeat("A", 32), strings.Repeat("g", 32), strings.Repeat("0", 31), strings.Repeat("0", 34), "../../" + strings.Repeat("0", 26)} {
		if id, err := blob.ParseID(bad); err == nil {
			t.Errorf("%q parsed as %v", bad, id)
		}
	}
}
