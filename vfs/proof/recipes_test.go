package proof

import (
	"context"
	"fmt"
	"io/fs"
	"os"

	"sallyport/vfs"
)

// buildSizes makes files of every size at which something changes.
func buildSizes(b *builder) {
	for _, n := range []int{0, 1, 4096, 4097, 65_535, 65_536, 65_537, 131_072} {
		b.put(fmt.Sprintf("/%d", n), n)
	}
	b.put("/hole", 10)
	b.edit("/hole", 300_000, 150_000, 5000)
	b.put("/all hole", 0)
	b.edit("/all hole", 200_000, 0, 0)
	b.last()
}

// buildTidied makes a history of which a part was purged, and what was left was folded and repacked.
func buildTidied(b *builder) {
	b.mkdir("/dir")
	b.put("/dir/gone", 70_000)
	b.remove("/dir/gone")
	for i := range 3 {
		b.put("/kept", 80_000+i)
		b.edit("/kept", -1, 20_000*i+7, 9000)
	}
	b.put("/folded", 140_000)
	for i := range 4 {
		b.edit("/folded", -1, 30_000*i+5, 5000)
	}
	ctx := context.Background()
	plan, err := b.vol.PlanPurge(ctx, func(s vfs.Superseded) bool { return s.Path != "/kept" || s.Version%2 == 1 })
	b.must(err)
	b.must(plan.Execute(ctx, func(vfs.PurgeReceipt) []byte { return []byte("purge") }))
	r, err := b.vol.Tidy(ctx, vfs.TidyOptions{FoldAll: true, RepackAll: true})
	b.must(err)
	if r.Folded < 2 || r.Repacked < 1 {
		b.t.Fatalf("tidied %+v", r)
	}
	b.past = nil // what databases from before say cannot be kept any more
	b.snap()
	b.edit("/folded", -1, 100, 10)
	b.last()
}

// buildHistory makes records of every kind, and older values of most of them.
func buildHistory(b *builder) {
	b.mkdir("/dir")
	b.mkdir("/dir/e\u0301") // not in NFC
	b.put("/dir/e\u0301/file", 5000)
	b.symlink("../dir", "/dir/link")
	for i := range 6 {
		b.put("/versions", 3000*i+1)
	}
	for i := range 4 {
		b.edit("/versions", -1, 15_001+i*9000, 9000) // appends: blobs are shared by versions
	}
	b.edit("/versions", 20_000, 100, 300)
	b.put("/scattered", 70_000)
	f := b.open("/scattered", os.O_RDWR) // more extents than a version holds: pages
	data := append([]byte(nil), b.truth["/scattered"].content...)
	for i := range 150 {
		p := b.noise(20)
		_, err := f.WriteAt(p, int64(i*450+7))
		b.must(err)
		copy(data[i*450+7:], p)
	}
	b.must(f.Close())
	b.truth["/scattered"] = node{content: data}
	b.snap()
	b.put("/moved", 6000)
	b.rename("/moved", "/dir/moved")
	b.put("/target", 7000)
	b.rename("/dir/moved", "/target")
	b.put("/gone", 5001)
	b.remove("/gone")
	b.put("/gone", 12)
	b.remove("/gone")
	b.put("/synced", 0)
	f = b.open("/synced", os.O_RDWR)
	data = b.noise(150_000)
	for at := 0; at < len(data); at += 50_000 {
		_, err := f.Write(data[at : at+50_000])
		b.must(err)
		b.must(f.Sync())
	}
	b.must(f.Close())
	b.truth["/synced"] = node{content: data}
	b.snap()
	f = b.open("/partial", os.O_WRONLY|os.O_CREATE)
	data = b.noise(100_000)
	_, err := f.Write(data)
	b.must(err)
	f.TransferError(fs.ErrClosed)
	f.Close() // its error is the point
	b.truth["/partial"] = node{content: data}
	b.snap()
	b.put("/broken", 8000)
	f = b.open("/broken", os.O_WRONLY|os.O_TRUNC)
	_, err = f.Write(b.noise(90_000))
	b.must(err)
	f.TransferError(fs.ErrClosed)
	f.Close()
	b.snap()
	b.last()
}

// buildSegments makes blobs of many segments.
func buildSegments(b *builder) {
	for i, n := range []int{12 * segment, 7*segment + 1234, 5*segment + 65_535} {
		b.put(fmt.Sprintf("/%d", i), n)
	}
	b.last()
}

// buildMany makes so many files that the database has branch pages, and so many blobs that each whole-blob attack finds a hundred.
func buildMany(b *builder) {
	for d := range 4 {
		dir := fmt.Sprintf("/directory %d", d)
		b.mkdir(dir)
		for i := range 35 {
			b.put(fmt.Sprintf("%s/file %d", dir, i), 4100+i)
		}
	}
	b.last()
}

func buildPeer(b *builder) {
	b.put("/peer", 66_000)
	b.put("/small", 100)
	for i := range 110 { // as many databases of another account, and as many blobs
		b.put("/changing", 4100+i)
	}
}
