package vfs

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	"sallyport/crypto/record"
	"sallyport/vfs/meta"
	"sallyport/vfs/pagecheck"
)

// TestAWrongCountRefusesNobody: what the head counts wrong is told, by the scrub too, and no account loses its files over it.
func TestAWrongCountRefusesNobody(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	put(t, w, "f", noise(1, 100_000))
	put(t, w, "f", noise(2, 100_000))
	var keys *record.AccountKeys
	ok(t, b.vol.do(t.Context(), func(c *core) error {
		return c.db.View(func(tx *meta.Tx) error { keys = tx.Keys(); return nil })
	}))
	c := b.crash()
	for _, off := range []int{82, 154} { // files, kept
		c.close()
		db, err := bbolt.Open(filepath.Join(c.dir(), treeName(1)), 0o600, &bbolt.Options{NoFreelistSync: true, PageSize: pagecheck.Size})
		ok(t, err)
		ok(t, db.Update(func(tx *bbolt.Tx) error {
			bucket, dbkey := tx.Bucket([]byte{byte(record.DomainHead)}), append([]byte{byte(record.DomainHead)}, "head"...)
			head, err := keys.Box().Open(nil, record.DomainHead, dbkey, bytes.Clone(bucket.Get(dbkey[1:])))
			if err != nil {
				return err
			}
			binary.BigEndian.PutUint64(head[off:], binary.BigEndian.Uint64(head[off:])+1)
			return bucket.Put(dbkey[1:], keys.Box().Seal(nil, record.DomainHead, dbkey, head))
		}))
		ok(t, db.Close())
		c.open()
		found := ""
		_, condemned, err := c.vol.Scrub(t.Context(), 0, func(f string) { found += f + "\n" })
		if err != nil || condemned || !strings.Contains(found, "the head counts") {
			t.Fatalf("at %d: condemned %v, %v, found %q", off, condemned, err, found)
		}
		w := c.view()
		wantContent(t, w, "f", noise(2, 100_000))
		put(t, w, "g", noise(3, 10))
		ok(t, w.Remove("g"))
		ok(t, w.Close())
	}
	c.discard()
}

// TestVerifyTellsWhatRecoveryDidNotFind: of an upload that was synced and then lost bytes on the disk, the file cannot be read to the end. Recovery
// ends the blob where it ends; that there was more, and that a version relies on it, is told as long as that is so.
func TestVerifyTellsWhatRecoveryDidNotFind(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	w := b.view()
	f := openFile(t, w, "f", wr)
	write(t, f, noise(1, 400_000))
	ok(t, f.Sync())
	c := &bench{t: t, state: t.TempDir(), ring: b.ring, id: b.id, crashed: true}
	ok(t, os.CopyFS(filepath.Join(c.state, "accounts"), os.DirFS(filepath.Join(b.state, "accounts"))))
	ok(t, f.Close())
	c.start(Options{})
	cut := 0
	for _, name := range c.blobFiles() {
		if info := must(os.Stat(name))(t); info.Size() > 128+2*65568 {
			ok(t, os.Truncate(name, 128+2*65568))
			cut++
		}
	}
	if cut != 1 {
		t.Fatalf("%d blobs were cut off", cut)
	}
	c.open()
	w = c.view()
	if _, err := readWholeFile(w, "f"); err == nil {
		t.Fatal("the file can be read")
	}
	var found []string
	_, condemned, err := c.vol.Scrub(t.Context(), 0, func(f string) { found = append(found, f) })
	if err != nil || condemned || len(found) != 1 || !strings.Contains(found[0], "it has 131072 bytes, a version relies on 393216") {
		t.Errorf("condemned %v, %v, found %q", condemned, err, found)
	}
	put(t, w, "f", noise(2, 5000))
	ok(t, w.Close())
	must(c.vol.Purge(t.Context(), PurgeOptions{Before: endOfTime}))(t)
	c.verify()
}
