package copier

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"sallyport/server/statecopy"
)

// TestIndependentReaderSaysWhenTheStateWasCopied holds testdata/reader.py, which was written from docs/FORMAT.md alone, against the
// record that the copier keeps.
func TestIndependentReaderSaysWhenTheStateWasCopied(t *testing.T) {
	t.Parallel()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("needs python3")
	}
	if err := exec.CommandContext(t.Context(), python, "-c", "import cryptography").Run(); err != nil {
		t.Skip("needs the Python package cryptography")
	}
	h := newHouse(t)
	h.account(map[string][]byte{"one": noise(10_000, 1)})
	must(h.copyTo(t.TempDir(), statecopy.Options{}, nil))(t)
	must(h.c.Drilled(t.Context(), "uid:7", Drill{ID: h.c.Last().Copy.ID, Made: time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC), Deep: true}))(t)
	want := h.c.Last()
	out, err := exec.CommandContext(t.Context(), python, filepath.Join("..", "..", "testdata", "reader.py"), h.dir, h.key.Path).Output()
	if err != nil {
		t.Fatalf("reader.py: %v", err)
	}
	var got struct {
		Last Last `json:"last_copy"`
	}
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	if got.Last.Copy == nil || got.Last.Copy.ID != want.Copy.ID || !got.Last.Copy.At.Equal(want.Copy.At) || got.Last.Copy.Damaged != 0 {
		t.Errorf("of the copy: read %+v, want %+v", got.Last.Copy, want.Copy)
	}
	if got.Last.Drill == nil || got.Last.Drill.ID != want.Drill.ID || !got.Last.Drill.At.Equal(want.Drill.At) || !got.Last.Drill.Made.Equal(want.Drill.Made) {
		t.Errorf("of the drill: read %+v, want %+v", got.Last.Drill, want.Drill)
	}
}
