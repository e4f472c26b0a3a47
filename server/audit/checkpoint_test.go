package audit

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// signed makes a log of six records in two files, with a checkpoint after the second, the fourth and the sixth.
func signed(t testing.TB) (image, Options) {
	t.Helper()
	o := options(t)
	o.MaxFile = 700
	for i := range 3 {
		l := open(t, o)
		appendN(t, l, 2*i+1, 2*i+2)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	img := load(t, o.Dir)
	if n := len(img[checkpointName]); n != len(checkpointMagic)+3*checkpointSize {
		t.Fatalf("checkpoints of %d bytes", n)
	}
	return img, o
}

// Every change of the checkpoints is found, with the number of the checkpoint and of the first record that nothing proves.
func TestEveryTamperingWithCheckpointsIsFound(t *testing.T) {
	t.Parallel()
	img, o := signed(t)
	dir := filepath.Join(t.TempDir(), "tampered")
	data := img[checkpointName]
	try := func(what string, bad []byte, want uint64) {
		t.Helper()
		img.with(checkpointName, bad).store(t, dir)
		for who, check := range map[string]func() (*Result, error){
			"server":   func() (*Result, error) { return Verify(dir, o.Box, testKey) },
			"outsider": func() (*Result, error) { return VerifyCopy(dir, testKey) },
			"start": func() (*Result, error) {
				o.Dir = dir
				l, err := Open(o)
				if err == nil {
					l.Close()
				}
				return nil, err
			},
		} {
			if who == "outsider" && strings.HasPrefix(what, "cut") {
				continue // who sees only a prefix cannot know of more
			}
			_, err := check()
			var d *DamageError
			if !errors.As(err, &d) || d.Checkpoint != want || d.Record != 2*want-1 && d.Record != 2*want {
				t.Errorf("%s, %s: %v, want checkpoint %d", what, who, err, want)
			}
		}
	}
	at := func(i int) uint64 { return uint64(max(0, i-len(checkpointMagic))/checkpointSize) + 1 }
	for i := range data {
		bad := bytes.Clone(data)
		bad[i] ^= 0x10
		img.with(checkpointName, bad).store(t, dir)
		_, err := Verify(dir, o.Box, testKey)
		var d *DamageError
		// A changed number or hash breaks the link behind it; then it is the next one that does not follow.
		if !errors.As(err, &d) || d.Checkpoint != at(i) && d.Checkpoint != at(i)+1 {
			t.Errorf("byte %d: %v", i, err)
		}
		if _, err := VerifyCopy(dir, testKey); !errors.Is(err, ErrDamaged) {
			t.Errorf("byte %d, outsider: %v", i, err)
		}
	}
	entry := func(i int) []byte { return data[len(checkpointMagic)+i*checkpointSize:][:checkpointSize] }
	build := func(list ...[]byte) []byte { return append([]byte(checkpointMagic), bytes.Join(list, nil)...) }
	try("drop", build(entry(1), entry(2)), 1)
	try("drop", build(entry(0), entry(2)), 2)
	try("exchange", build(entry(0), entry(2), entry(1)), 2)
	try("double", build(entry(0), entry(0), entry(1), entry(2)), 2)
	try("cut", build(entry(0), entry(1)), 3)
	try("cut", build(entry(0)), 2)
	try("cut", nil, 1)
	forged := decodeCheckpoint(entry(2))
	forged.sign(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)))
	try("signed by another", build(entry(0), entry(1), forged.encode()), 3)
}

// The tail cut off back to an earlier checkpoint, with the later checkpoints: the head knows better. And the whole log of
// another server is not this one's.
func TestTheHeadFindsATailCutToACheckpoint(t *testing.T) {
	t.Parallel()
	img, o := signed(t)
	dir := filepath.Join(t.TempDir(), "cut")
	list := frames(img[fileName(1)])
	short := img.with(fileName(4), nil).with(fileName(1), join(list[:2])).with(checkpointName, img[checkpointName][:len(checkpointMagic)+checkpointSize])
	short.store(t, dir)
	var d *DamageError
	if _, err := Verify(dir, o.Box, testKey); !errors.As(err, &d) || d.Checkpoint != 2 || d.Record != 3 {
		t.Errorf("cut to a checkpoint: %v", err)
	}
	if r, err := VerifyCopy(dir, testKey); err != nil || r.Records != 2 || r.Signed != 2 {
		t.Errorf("the prefix by itself: %+v, %v", r, err)
	}
	// Records gone that a checkpoint names, without the head's help.
	img.with(fileName(4), join(frames(img[fileName(4)])[:2])).store(t, dir)
	if _, err := VerifyCopy(dir, testKey); !errors.As(err, &d) || d.Record != 6 {
		t.Errorf("cut below the last checkpoint: %v", err)
	}
	other, _ := signed(t) // same signer, another box
	other.store(t, dir)
	if _, err := Verify(dir, o.Box, testKey); !errors.Is(err, ErrDamaged) {
		t.Errorf("the log of another server: %v", err)
	}
	other.with(headName, img[headName]).with(checkpointName, img[checkpointName]).store(t, dir)
	if _, err := Verify(dir, o.Box, testKey); !errors.As(err, &d) || d.Record != 1 {
		t.Errorf("the records of another server: %v", err)
	}
	if _, err := VerifyCopy(dir, testKey); !errors.As(err, &d) || d.Record != 2 {
		t.Errorf("the records of another server, without a secret: %v", err)
	}
}

// A copy proves its chain without the key of the records: each byte flipped in any frame is found with its number.
func TestACopyProvesItselfWithoutASecret(t *testing.T) {
	t.Parallel()
	img, _ := signed(t)
	dir := filepath.Join(t.TempDir(), "copy")
	copied := img.with(headName, nil) // an outsider cannot read it, so need not have it
	copied.store(t, dir)
	r, err := VerifyCopy(dir, testKey)
	if err != nil || r.Records != 6 || r.Signed != 6 || r.Checkpoints != 3 {
		t.Fatalf("%+v, %v", r, err)
	}
	if _, err := VerifyCopy(dir, ed25519.NewKeyFromSeed(make([]byte, 32)).Public().(ed25519.PublicKey)); !errors.Is(err, ErrDamaged) {
		t.Errorf("with another key: %v", err)
	}
	for _, name := range []string{fileName(1), fileName(4)} {
		for i := range img[name] {
			bad := bytes.Clone(img[name])
			bad[i] ^= 1
			copied.with(name, bad).store(t, dir)
			if _, err := VerifyCopy(dir, testKey); !errors.Is(err, ErrDamaged) {
				t.Errorf("%s byte %d: %v", name, i, err)
			}
		}
	}
}

// What is not signed is signed ten minutes later without a further record, and after 4,096 records at once.
func TestCheckpointsComeInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := options(t)
		o.Now = time.Now
		l := open(t, o)
		defer l.Close()
		appendN(t, l, 1, 3)
		if got := l.Stats().Signed; got != 0 {
			t.Errorf("signed %d at once", got)
		}
		time.Sleep(checkpointInterval + tendEvery)
		synctest.Wait()
		if got := l.Stats().Signed; got != 3 {
			t.Errorf("signed %d after %v", got, checkpointInterval)
		}
		batch := make([]Event, checkpointRecords)
		for i := range batch {
			batch[i] = event(i)
		}
		if err := l.AppendAll(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := l.Stats().Signed; got != 3+checkpointRecords {
			t.Errorf("signed %d after %d records", got, checkpointRecords)
		}
	})
}

// A power loss may leave an incomplete checkpoint behind the one that the head names; it is cut off and the next follows.
func TestATornCheckpointIsRepaired(t *testing.T) {
	t.Parallel()
	img, o := signed(t)
	data := img[checkpointName]
	next := decodeCheckpoint(data[len(data)-checkpointSize:])
	next.Prev = next.sum()
	next.Number++
	if err := next.sign(signer); err != nil {
		t.Fatal(err)
	}
	torn := next.encode()
	clear(torn[100:])
	for what, end := range map[string][]byte{"half": next.encode()[:77], "zeroes": make([]byte, checkpointSize), "half zeroes": torn, "signature missing": append(next.encode()[:150], make([]byte, 46)...)} {
		o.Dir = filepath.Join(t.TempDir(), "torn")
		img.with(checkpointName, append(bytes.Clone(data), end...)).store(t, o.Dir)
		l := open(t, o)
		appendN(t, l, 7, 7)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if r, err := Verify(o.Dir, o.Box, testKey); err != nil || r.Checkpoints != 4 || r.Signed != 7 {
			t.Errorf("%s: %+v, %v", what, r, err)
		}
	}
}

// Old files go when all in them is old, a record and a signed checkpoint say so first, and the log verifies as before.
func TestOldRecordsGoAndTheLogSaysSo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := options(t)
		o.Now, o.MaxAge, o.Keep = time.Now, 24*time.Hour, 72*time.Hour
		l := open(t, o)
		for i := range 6 {
			appendN(t, l, i+1, i+1)
			time.Sleep(25 * time.Hour)
			synctest.Wait()
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		r, err := Verify(o.Dir, o.Box, testKey)
		if err != nil || r.First < 3 || r.Signed != r.Records {
			t.Fatalf("%+v, %v", r, err)
		}
		if c, err := VerifyCopy(o.Dir, testKey); err != nil || c.First != r.First {
			t.Errorf("without a secret: %+v, %v", c, err)
		}
		l = open(t, o)
		defer l.Close()
		list := all(t, l)
		if list[0].Seq != r.First || uint64(len(list)) != r.Records-r.First+1 {
			t.Errorf("records %d to %d", list[0].Seq, list[len(list)-1].Seq)
		}
		gone := uint64(0)
		for _, rec := range list {
			if rec.Action == Expire {
				gone += rec.Count
			}
			if age := time.Since(rec.Time); age > 72*time.Hour+2*25*time.Hour {
				t.Errorf("record %d is %v old", rec.Seq, age)
			}
		}
		if gone == 0 {
			t.Error("no record says what is gone")
		}
		l.Close()
		// What is gone by policy is no hole that anybody may widen.
		files, _ := listFiles(o.Dir)
		if err := os.Remove(filepath.Join(o.Dir, files[0].name)); err != nil {
			t.Fatal(err)
		}
		var d *DamageError
		if _, err := Verify(o.Dir, o.Box, testKey); !errors.As(err, &d) || d.Record != r.First {
			t.Errorf("one more file removed: %v", err)
		}
	})
}

// A crash between the checkpoint that says what goes and the removal: the next start finishes it.
func TestAnInterruptedRemovalIsFinished(t *testing.T) {
	t.Parallel()
	img, o := signed(t)
	l := open(t, o)
	frame := frames(img[fileName(4)])[0]
	l.first, l.before = 4, hash(frame[12:4+headerSize])
	if err := l.Close(); err != nil { // signs it; the files stay
		t.Fatal(err)
	}
	if r, err := Verify(o.Dir, o.Box, testKey); err != nil || r.First != 4 || r.Records != 6 {
		t.Fatalf("before: %+v, %v", r, err)
	}
	l = open(t, o)
	if list := all(t, l); len(list) != 3 || list[0].Seq != 4 {
		t.Errorf("%d records", len(list))
	}
	if _, err := os.Stat(filepath.Join(o.Dir, fileName(1))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the old file: %v", err)
	}
}
