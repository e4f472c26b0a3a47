package statecopy

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sallyport/vfs/blob"
)

// TestAListHasOneForm: what is cut, doubled, out of order or impossible is damage.
func TestAListHasOneForm(t *testing.T) {
	t.Parallel()
	entry := func(id byte, size int64, kind byte) string {
		b := append([]byte{id}, make([]byte, 15)...)
		return string(append(binary.BigEndian.AppendUint64(b, uint64(size)), kind))
	}
	for what, text := range map[string]string{
		"nothing": "", "half a beginning": "SPBL", "another beginning": "SPBLIST2", "half an entry": listMagic + entry(1, 2, 0)[:20],
		"a blob twice": listMagic + entry(1, 2, 0) + entry(1, 2, 0), "order": listMagic + entry(2, 2, 0) + entry(1, 2, 0),
		"a negative size": listMagic + entry(1, -1, 0), "a third kind": listMagic + entry(1, 1, 2), "no id": listMagic + entry(0, 1, 0),
	} {
		if err := ReadList(strings.NewReader(text), func(Blob) error { return nil }); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		}
	}
	var got []Blob
	err := ReadList(strings.NewReader(listMagic+entry(1, math.MaxInt64, 0)+entry(2, 0, 1)), func(b Blob) error { got = append(got, b); return nil })
	if err != nil || len(got) != 2 || got[0].Size != math.MaxInt64 || !got[1].Open {
		t.Errorf("a good one: %+v, %v", got, err)
	}
	stop := errors.New("stop")
	if err := ReadList(strings.NewReader(listMagic+entry(1, 1, 0)), func(Blob) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("the reader's error: %v", err)
	}
}

// TestAManifestHasOneForm: every line that is doubled, out of order, of another section, longer, or climbs out is damage.
func TestAManifestHasOneForm(t *testing.T) {
	t.Parallel()
	id, sum := strings.Repeat("0b", 16), strings.Repeat("ab", 32)
	good := "sallyport state copy 1\nid " + id + "\nmade 2027-01-02T03:04:05Z\nprogram 1\nseal keyfile\nepoch 1\nrecords 2\naccounts 1\nblobs 1 2\ndamaged 1\n" +
		"damage " + id + " - blob 1\ndamage " + id + " 2027-01-01T00:00:00Z blob 2\naccount " + strings.Repeat("0c", 16) + " " + sum + " 1 2\n" +
		"file " + sum + " 6 kept/" + id + "/tree-3.db\nfile " + sum + " 5 keyring\nfile " + sum + " 7 policy.db\nsignature " + strings.Repeat("A", 86) + "==\n"
	read := func(text string) (*Manifest, error) {
		return ReadManifest(strings.NewReader(text), func(Entry) error { return nil })
	}
	m, err := read(good)
	if err != nil || len(m.Damage) != 2 || m.Damage[1].What != "blob 2" || len(m.DamagedAccounts()) != 1 || m.Damaged != 1 {
		t.Fatalf("the good one: %+v, %v", m, err)
	}
	lines := strings.SplitAfter(good, "\n")
	for i := range lines[:len(lines)-1] { // each line once more, gone, and cut
		for what, text := range map[string]string{
			"twice": strings.Join(lines[:i+1], "") + strings.Join(lines[i:], ""),
			"gone":  strings.Join(lines[:i], "") + strings.Join(lines[i+1:], ""),
			"cut":   strings.Join(lines[:i], "") + lines[i][:len(lines[i])-1],
			"long":  strings.Join(lines[:i], "") + strings.Repeat("x", 600) + strings.Join(lines[i:], ""),
			"crlf":  strings.Join(lines[:i], "") + strings.TrimSuffix(lines[i], "\n") + "\r\n" + strings.Join(lines[i+1:], ""),
			"blank": strings.Join(lines[:i], "") + "\n" + strings.Join(lines[i:], ""),
		} {
			kind, _, _ := strings.Cut(lines[i], " ")
			optional := kind == "file" || kind == "account" || kind == "damage"
			if what == "gone" && optional || what == "twice" && kind == "damage" || what == "crlf" && i == 0 {
				continue
			}
			if _, err := read(text); !errors.Is(err, ErrDamaged) {
				t.Errorf("line %q %s: %v", strings.TrimSpace(lines[i])[:min(20, len(lines[i])-1)], what, err)
			}
		}
	}
	one := func(file string) string { // with no other file, so that order is no reason
		return strings.Join(lines[:len(lines)-5], "") + "file " + sum + " " + file + "\n" + lines[len(lines)-2]
	}
	if _, err := read(one("5 keyring")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"../keyring", "/keyring", "keyring/", "accounts/" + id + "/../../x", "kept/" + id + "/x", "accounts/" + strings.ToUpper(id) + "/tree-1.db", "audit/../keyring",
		"identity/../../x", "manifest", "lock", "blobs/" + id + "/ab/" + id[2:], "accounts/" + id + "/tree-12345678901.db", "keyring\x00", "",
	} {
		if _, err := read(one("5 " + name)); !errors.Is(err, ErrDamaged) {
			t.Errorf("a file %q: %v", name, err)
		}
	}
	for _, size := range []string{"-1", "9223372036854775808", "0x5", "", "5.0"} {
		if _, err := read(one(size + " keyring")); !errors.Is(err, ErrDamaged) {
			t.Errorf("a size %q: %v", size, err)
		}
	}
	if _, err := read(strings.Replace(good, "copy 1", "copy 2", 1)); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("another form: %v", err)
	}
}

// archiveOf is a tar of files in order; a size of −1 is that of the data.
func archiveOf(t *testing.T, files ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: files[i], Size: int64(len(files[i+1])), Format: tar.FormatPAX})
		if err == nil {
			_, err = w.Write([]byte(files[i+1]))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestAnArchiveThatIsCutOrTooLarge: at whatever byte it ends nothing is in force; a file that claims to be larger than what comes fills no disk.
func TestAnArchiveThatIsCutOrTooLarge(t *testing.T) {
	t.Parallel()
	f, _ := someState()
	var archive bytes.Buffer
	if _, err := Run(t.Context(), f.again(), NewStream(&archive), Options{}); err != nil {
		t.Fatal(err)
	}
	whole := archive.Bytes()
	end := bytes.LastIndex(whole, []byte("signature "))
	try := func(data []byte) error {
		d := must(OpenDir(filepath.Join(t.TempDir(), "copy"), true))
		defer d.Close()
		err := Unpack(t.Context(), bytes.NewReader(data), d)
		if err != nil {
			if _, none := d.Current(); !errors.Is(none, ErrNoCopy) {
				t.Errorf("%d bytes: in force: %v", len(data), none)
			}
		}
		return err
	}
	for at := 0; at < end; at += 7919 {
		if err := try(whole[:at]); !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNoCopy) {
			t.Errorf("cut at %d: %v", at, err)
		}
	}
	if err := try(whole); err != nil {
		t.Fatal(err)
	}
	huge := archiveOf(t, "policy.db", strings.Repeat("x", 600))
	copy(huge[124:135], "77777777777") // 8 GiB, in octal digits
	sum := 8 * int(' ')
	for i, c := range huge[:512] {
		if i < 148 || i >= 156 {
			sum += int(c)
		}
	}
	copy(huge[148:156], fmt.Sprintf("%06o\x00 ", sum))
	if err := try(huge); !errors.Is(err, ErrDamaged) {
		t.Errorf("8 GiB: %v", err)
	}
}

// TestAFileThatComesTwiceCountsAsItCameLast, and parts of another copy of the same server, or of another server, do not fit the manifest.
func TestPartsOfOthersDoNotFit(t *testing.T) {
	t.Parallel()
	f, ids := someState()
	path := filepath.Join(t.TempDir(), "copy")
	f.wantCopy(t, path)
	old := filesIn(t, path)
	f.accounts[ids[0]].tree = bytes.Repeat([]byte{9}, 5000)
	gone := blob.ID{3, 1}
	delete(f.accounts[ids[0]].blobs, gone)
	f.wantCopy(t, path)
	later := filesIn(t, path)
	parts := func(files map[string][]byte) (meta string) {
		for name := range files {
			if dir, _, ok := strings.Cut(name, "/"); ok && strings.HasPrefix(dir, metaPrefix) {
				return dir
			}
		}
		return ""
	}
	write := func(files map[string][]byte) string {
		dir := filepath.Join(t.TempDir(), "mixed")
		for name, data := range files {
			if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700), os.WriteFile(filepath.Join(dir, name), data, 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	findings := func(files map[string][]byte) (found []string, err error) {
		_, err = restore(t, write(files), filepath.Join(t.TempDir(), "new"), RestoreOptions{Report: func(s string) { found = append(found, s) }})
		return found, err
	}

	// the manifest and parts of the older copy, with the blobs of the newer
	mixed := map[string][]byte{}
	for name, data := range later {
		if strings.HasPrefix(name, "blobs/") {
			mixed[name] = data
		}
	}
	for name, data := range old {
		if !strings.HasPrefix(name, "blobs/") {
			mixed[name] = data
		}
	}
	if found, err := findings(mixed); err != nil || len(found) != 1 || !strings.Contains(found[0], gone.String()) || !strings.Contains(found[0], "is missing") {
		t.Errorf("an older manifest with newer blobs: %q, %v", found, err)
	}

	// the newer manifest with parts of the older copy
	mixed = map[string][]byte{}
	for name, data := range later {
		if rest, ok := strings.CutPrefix(name, parts(later)+"/"); ok {
			if was, ok := old[parts(old)+"/"+rest]; ok {
				data = was
			}
		}
		mixed[name] = data
	}
	if found, err := findings(mixed); err != nil || len(found) != 2 || !strings.Contains(strings.Join(found, " "), "is not the one that the manifest names") {
		t.Errorf("a newer manifest with an older tree and list: %q, %v", found, err)
	}
	mixed[parts(later)+"/policy.db"] = []byte("POLICY")
	if _, err := findings(mixed); !errors.Is(err, ErrDamaged) {
		t.Errorf("another policy: %v", err)
	}

	// an archive in which things come twice
	text := string(later["manifest"])
	files := []string{"keyring", "another"}
	for name, data := range later {
		if rest, ok := strings.CutPrefix(name, parts(later)+"/"); ok {
			files = append(files, rest, string(data))
		} else if name != "manifest" && name != lockName {
			files = append(files, name, string(data))
		}
	}
	d := must(OpenDir(filepath.Join(t.TempDir(), "copy"), true))
	if err := errors.Join(Unpack(t.Context(), bytes.NewReader(archiveOf(t, append(files, "manifest", text)...)), d), d.Close()); err != nil {
		t.Fatal(err)
	}
	got, err := restore(t, d.path, filepath.Join(t.TempDir(), "new"), RestoreOptions{})
	if err != nil {
		t.Fatal(err)
	}
	same(t, got, f.want())
	d = must(OpenDir(filepath.Join(t.TempDir(), "copy"), true))
	if err := errors.Join(Unpack(t.Context(), bytes.NewReader(archiveOf(t, append(files, "keyring", "another", "manifest", text)...)), d), d.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := restore(t, d.path, filepath.Join(t.TempDir(), "new"), RestoreOptions{}); !errors.Is(err, ErrDamaged) {
		t.Errorf("the last one was another: %v", err)
	}
}

// TestADirectoryIsForOneAtATime, for nothing else, and no way to somewhere else.
func TestADirectoryIsForOneAtATime(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a", "copy")
	if _, err := OpenDir(path, false); !errors.Is(err, ErrNoCopy) {
		t.Errorf("without a copy: %v", err)
	}
	d := must(OpenDir(path, true))
	if _, err := OpenDir(path, true); !errors.Is(err, ErrInUse) {
		t.Errorf("twice: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"precious", "manifest.old", "Blobs"} {
		file := filepath.Join(path, name)
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenDir(path, true); !errors.Is(err, ErrNotEmpty) || !strings.Contains(err.Error(), name) {
			t.Errorf("beside %s: %v", name, err)
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(path, "manifest")); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenDir(path, true); !errors.Is(err, ErrNotEmpty) {
		t.Errorf("a manifest that is a symlink: %v", err)
	}
}

// TestARestoreWantsAPlaceOfItsOwn: nothing is written over what is there, nor over the rest of another restore.
func TestARestoreWantsAPlaceOfItsOwn(t *testing.T) {
	t.Parallel()
	to := filepath.Join(t.TempDir(), "new")
	for _, id := range []string{"", "one", "one", ""} { // an archive tells when it is unpacked
		if err := Prepare(to, id); err != nil {
			t.Fatalf("%q: %v", id, err)
		}
	}
	if err := Prepare(to, "two"); !errors.Is(err, ErrOtherRestore) {
		t.Errorf("over the rest of another: %v", err)
	}
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Prepare(full, "one"); !errors.Is(err, ErrNotEmpty) {
		t.Errorf("over a file: %v", err)
	}
	if list := filesIn(t, full); len(list) != 1 {
		t.Errorf("it left %d files", len(list))
	}
}
