package meta

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"sallyport/crypto/record"
	"sallyport/vfs/pagecheck"
)

// relic is a record that authenticates at its place, wherever in the file it lay.
type relic struct {
	kind  record.Domain
	key   string
	plain []byte
}

func (r *relic) place() string { return string([]byte{byte(r.kind)}) + r.key }

// dig reads a database file whose pages may be damaged. bbolt never sees the file: each page is looked at on its own, every offset
// is checked against the file, and only what authenticates at its place counts. Pages that the tree of the newest commit
// leads to come first; the others are of earlier commits, and what they say may have been superseded since.
type dig struct {
	image []byte
	keys  *record.AccountKeys

	seen   map[uint64]bool
	found  map[string]*relic // of the tree
	spare  map[string]*relic // of other pages, the newest of each place
	treed  bool              // there is a tree to go by
	older  bool              // it is that of the commit before the newest
	failed [kinds]int        // records of the tree that do not authenticate
	broken []uint64          // pages of the tree that cannot be read

	records uint64
	sum     record.Sum
}

// readImage reads a file page by page. A page that cannot be read is left zero and counted: the others are still worth reading.
func readImage(ctx context.Context, f *os.File) (image []byte, unread int, err error) {
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%w: the database is no file", ErrIntegrity)
	}
	image = make([]byte, info.Size())
	const step = 256 * pagecheck.Size
	for at := 0; at < len(image); at += step {
		if err := ctx.Err(); err != nil {
			return nil, 0, err
		}
		part := image[at:min(at+step, len(image))]
		if _, err := f.ReadAt(part, int64(at)); err == nil || errors.Is(err, io.EOF) {
			continue
		}
		for p := 0; p < len(part); p += pagecheck.Size {
			page := part[p:min(p+pagecheck.Size, len(part))]
			if _, err := f.ReadAt(page, int64(at+p)); err != nil && !errors.Is(err, io.EOF) {
				clear(page)
				unread++
			}
		}
	}
	return image, unread, nil
}

// openForSalvage opens the file and keeps every server out of it: bbolt takes the same lock.
func openForSalvage(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, ErrLocked
		}
		return nil, err
	}
	return f, nil
}

// native is the byte order of bbolt's own structures: that of the machine.
var native = binary.NativeEndian

// Sizes and flags of bbolt's pages (docs/FORMAT.md "Metadata database" names the file format).
const (
	pageHeaderSize  = 16
	pageElementSize = 16
	bucketHeadSize  = 16
	pageBranch      = 0x01
	pageLeaf        = 0x02
	mostDepth       = 32
)

// walk goes down from the roots that the two beginnings of the file name: the newer one whose page can be read is the tree.
func (d *dig) walk() {
	for i, root := range pagecheck.Roots(d.image) {
		if _, ok := d.header(root); ok {
			d.treed, d.older = true, i > 0
			d.page(root, 0, true, 0)
			return
		}
		d.broken = append(d.broken, root)
	}
}

// header returns a page's flags and count if it is one of ours.
func (d *dig) header(id uint64) (p []byte, ok bool) {
	if id < 2 || id >= uint64(len(d.image)/pagecheck.Size) {
		return nil, false
	}
	p = d.image[id*pagecheck.Size:]
	flags := native.Uint16(p[8:])
	return p, native.Uint64(p) == id && (flags == pageBranch || flags == pageLeaf)
}

// page collects what lies below a page of the tree; kind is 0 at the top, where values are buckets.
func (d *dig) page(id uint64, kind record.Domain, top bool, depth int) {
	p, ok := d.header(id)
	if !ok || d.seen[id] || depth > mostDepth {
		d.broken = append(d.broken, id)
		return
	}
	d.seen[id] = true
	if native.Uint16(p[8:]) == pageLeaf {
		if !d.leaf(p, kind, top) {
			d.broken = append(d.broken, id)
		}
		return
	}
	for i := range int(native.Uint16(p[10:])) {
		at := pageHeaderSize + i*pageElementSize
		if at+pageElementSize > len(p) {
			d.broken = append(d.broken, id)
			return
		}
		d.page(native.Uint64(p[at+8:]), kind, top, depth+1)
	}
}

// leaf takes the elements of a leaf page; false if one lies outside the file.
func (d *dig) leaf(p []byte, kind record.Domain, top bool) (ok bool) {
	ok = true
	for i := range int(native.Uint16(p[10:])) {
		key, value, bucket, inside := element(p, i)
		switch {
		case !inside, top != bucket:
			ok = false
		case !top:
			d.take(kind, key, value)
		case len(key) != 1 || key[0] < 1 || int(key[0]) >= kinds || len(value) < bucketHeadSize:
			ok = false
		default:
			if root := native.Uint64(value); root != 0 {
				d.page(root, record.Domain(key[0]), false, 1)
			} else if in := value[bucketHeadSize:]; len(in) >= pageHeaderSize {
				ok = d.leaf(in, record.Domain(key[0]), false) && ok
			}
		}
	}
	return ok
}

// element is the ith of a leaf page, whose position is relative to its own header.
func element(p []byte, i int) (key, value []byte, bucket, ok bool) {
	at := pageHeaderSize + i*pageElementSize
	if at+pageElementSize > len(p) {
		return nil, nil, false, false
	}
	from := uint64(at) + uint64(native.Uint32(p[at+4:]))
	mid := from + uint64(native.Uint32(p[at+8:]))
	to := mid + uint64(native.Uint32(p[at+12:]))
	if to > uint64(len(p)) {
		return nil, nil, false, false
	}
	return p[from:mid], p[mid:to], native.Uint32(p[at:]) == 1, true
}

// take opens a record of the tree and sums it up.
func (d *dig) take(kind record.Domain, key, sealed []byte) {
	if !fits(kind, len(key)) {
		d.records++
		d.failed[kind]++
		return
	}
	dbkey := append([]byte{byte(kind)}, key...)
	if kind != record.DomainHead {
		d.records++
		d.keys.Set().Add(&d.sum, dbkey, sealed)
	}
	plain, err := d.keys.Box().Open(nil, kind, dbkey, sealed)
	if err != nil {
		d.failed[kind]++
		return
	}
	keep(d.found, &relic{kind, string(key), plain})
}

// strays collects what authenticates on the pages that the tree does not lead to.
func (d *dig) strays() {
	for id := uint64(2); id < uint64(len(d.image)/pagecheck.Size); id++ {
		if p, ok := d.header(id); ok && !d.seen[id] && native.Uint16(p[8:]) == pageLeaf {
			d.strayLeaf(p, 0)
		}
	}
}

func (d *dig) strayLeaf(p []byte, known record.Domain) {
	for i := range int(native.Uint16(p[10:])) {
		key, value, bucket, inside := element(p, i)
		if !inside {
			continue
		}
		if bucket {
			if in := value[min(len(value), bucketHeadSize):]; known == 0 && len(key) == 1 && key[0] >= 1 && int(key[0]) < kinds && len(in) >= pageHeaderSize && native.Uint64(value) == 0 {
				d.strayLeaf(in, record.Domain(key[0]))
			}
			continue
		}
		for _, kind := range buckets() {
			if known != 0 && kind != known || !fits(kind, len(key)) {
				continue
			}
			plain, err := d.keys.Box().Open(nil, kind, append([]byte{byte(kind)}, key...), value)
			if err == nil {
				keep(d.spare, &relic{kind, string(key), plain})
				break
			}
		}
	}
}

// fits says whether a key of n bytes may be of that kind.
func fits(kind record.Domain, n int) bool {
	switch kind {
	case record.DomainHead:
		return n == len(headKey)
	case record.DomainWhen:
		return n == 1+2*tokenSize+8 || n == 10+2*tokenSize || n == 10+16
	}
	return n == keySizes[kind]
}

// keep keeps the newer of two records of one place, where they tell.
func keep(all map[string]*relic, r *relic) {
	if old := all[r.place()]; old == nil || newer(r, old) {
		all[r.place()] = r
	}
}

func newer(a, b *relic) bool {
	switch a.kind {
	case record.DomainInode:
		x, xerr := decodeNode(0, a.plain)
		y, yerr := decodeNode(0, b.plain)
		return xerr == nil && (yerr != nil || x.Changed > y.Changed)
	case record.DomainEntry:
		x, xerr := decodeEntry(a.plain, 0)
		y, yerr := decodeEntry(b.plain, 0)
		return xerr == nil && (yerr != nil || x.Since > y.Since)
	case record.DomainHead:
		x, xerr := decodeHead(a.plain)
		y, yerr := decodeHead(b.plain)
		return xerr == nil && (yerr != nil || x.generation > y.generation)
	case record.DomainBlobKey:
		x, xerr := decodeBlobKey([16]byte{}, a.plain)
		y, yerr := decodeBlobKey([16]byte{}, b.plain)
		return xerr == nil && (yerr != nil || x.State > y.State)
	}
	return false // they never change
}
