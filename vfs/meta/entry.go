package meta

import (
	"math"
	"strings"
	"syscall"
	"time"

	"golang.org/x/text/unicode/norm"

	"sallyport/crypto/record"
)

// maxName is the longest name, bytes.
const maxName = 255

// maxFolded is how many names that are equal but for normalization are looked at. Of live ones the second decides; but a hostile client can have left
// very many past ones, and each lookup of another spelling would read them all.
const maxFolded = 256

// Entry is a live or past name.
type Entry struct {
	Dir          Inode
	Name         string
	Inode        Inode
	Since, Until int64 // instants, valid in [Since, Until); Until 0 = live
}

// encode leaves out Until, which stands in the key of a past entry.
func (en *Entry) encode() []byte {
	e := encoder{make([]byte, 0, 26+len(en.Name))}
	e.u64(uint64(en.Dir))
	e.u64(uint64(en.Inode))
	e.i64(en.Since)
	e.str(en.Name)
	return e.b
}

func decodeEntry(b []byte, until int64) (*Entry, error) {
	d := decoder{b: b}
	en := &Entry{Dir: Inode(d.u64()), Inode: Inode(d.u64()), Since: d.instant(), Name: d.str(maxName), Until: until}
	if !validName(en.Name) || until < 0 || until != 0 && until < en.Since {
		d.fail()
	}
	return en, d.end()
}

// validName admits any bytes but NUL and the slash.
func validName(name string) bool {
	return name != "" && len(name) <= maxName && !strings.ContainsAny(name, "\x00/")
}

// encodeFold is the value of a fold record.
func encodeFold(dir Inode, name string) []byte {
	e := encoder{make([]byte, 0, 10+len(name))}
	e.u64(uint64(dir))
	e.str(name)
	return e.b
}

func decodeFold(b []byte) (dir Inode, name string, err error) {
	d := decoder{b: b}
	dir, name = Inode(d.u64()), d.str(maxName)
	if !validName(name) || norm.NFC.IsNormalString(name) {
		d.fail()
	}
	return dir, name, d.end()
}

// tokens of a name in a directory.
func (tx *Tx) tokens(dir Inode, name string) (dirTok, nameTok token) {
	return tx.dirToken(dir), tx.db.keys.NameToken(uint64(dir), name)
}

func (tx *Tx) dirToken(dir Inode) token {
	if t, ok := tx.db.dirTokens.get(dir, tx.snap.seen); ok {
		return t
	}
	t := tx.db.keys.DirToken(uint64(dir))
	tx.db.dirTokens.add(dir, t, tx.snap.seen)
	return t
}

// Lookup finds a live name: exact bytes first, else the only name with the
// same NFC form. fs.ErrNotExist otherwise.
func (tx *Tx) Lookup(dir Inode, name string) (Entry, error) {
	return tx.resolve(dir, name, []byte{foldLive}, tx.liveEntry)
}

// LookupAt is Lookup as of an instant.
func (tx *Tx) LookupAt(dir Inode, name string, at int64) (Entry, error) {
	return tx.resolve(dir, name, []byte{foldLive, foldPast}, func(dir Inode, name string) (*Entry, error) {
		return tx.entryAt(dir, name, at)
	})
}

// resolve tries the exact name, then the names with the same NFC form: that
// form itself, and those that the fold records list.
func (tx *Tx) resolve(dir Inode, name string, states []byte, exact func(Inode, string) (*Entry, error)) (Entry, error) {
	if !validName(name) {
		return Entry{}, absent("name")
	}
	en, err := exact(dir, name)
	if err != nil || en != nil {
		return value(en), err
	}
	folded := norm.NFC.String(name)
	if folded != name {
		if en, err = exact(dir, folded); err != nil {
			return Entry{}, err
		}
	}
	if tx.head.folds > 0 {
		looked := 0
		for _, state := range states {
			prefix := foldPrefix(tx.dirToken(dir), tx.db.keys.FoldToken(uint64(dir), folded), state)
			for f := range tx.scan(record.DomainFold, prefix, nil) {
				if looked++; looked > maxFolded {
					return Entry{}, absent("very many names are or were equal but for normalization, none of them exactly this one")
				}
				other, err := tx.foldedEntry(f, dir, exact)
				switch {
				case err != nil:
					return Entry{}, err
				case other == nil || en != nil && other.Name == en.Name:
				case en != nil:
					return Entry{}, absent("several names are equal but for normalization, none of them exactly this one")
				default:
					en = other
				}
			}
		}
	}
	if en == nil {
		return Entry{}, absent("name")
	}
	return *en, nil
}

func (tx *Tx) foldedEntry(f found, dir Inode, exact func(Inode, string) (*Entry, error)) (*Entry, error) {
	plain, err := tx.openFound(record.DomainFold, f)
	if err != nil {
		return nil, err
	}
	_, name, err := decodeFold(plain)
	if err != nil {
		return nil, broken(record.DomainFold, err)
	}
	return exact(dir, name)
}

func value(en *Entry) Entry {
	if en == nil {
		return Entry{}
	}
	return *en
}

// liveEntry returns a shared entry, nil if the name is not live.
func (tx *Tx) liveEntry(dir Inode, name string) (*Entry, error) {
	dirTok, nameTok := tx.tokens(dir, name)
	var key [2 * tokenSize]byte
	copy(key[:], dirTok[:])
	copy(key[tokenSize:], nameTok[:])
	if p := tx.pending(record.DomainEntry, key[:]); p != nil {
		en, _ := p.obj.(*Entry)
		return en, nil
	}
	if en, ok := tx.db.entries.get(key, tx.snap.seen); ok {
		return en, nil
	}
	sealed := tx.snap.get(record.DomainEntry, key[:])
	if sealed == nil {
		return nil, nil
	}
	return tx.openEntry(key, sealed)
}

// openEntry decodes a live entry and remembers it.
func (tx *Tx) openEntry(key [2 * tokenSize]byte, sealed []byte) (*Entry, error) {
	en, err := tx.decodeSealedEntry(key[:], sealed)
	if err == nil {
		tx.db.entries.add(key, en, tx.snap.seen)
	}
	return en, err
}

func (tx *Tx) decodeSealedEntry(key, sealed []byte) (*Entry, error) {
	plain, err := tx.open(record.DomainEntry, key, sealed)
	if err != nil {
		return nil, err
	}
	en, err := decodeEntry(plain, 0)
	if err != nil {
		return nil, broken(record.DomainEntry, err)
	}
	return en, nil
}

// entryAt returns the entry of exactly that name that was valid at the instant, or nil.
func (tx *Tx) entryAt(dir Inode, name string, at int64) (*Entry, error) {
	if at < 0 {
		return nil, nil
	}
	if at < math.MaxInt64 {
		// Among the past entries of the name, the first that ended after the instant is the only one that can cover it.
		dirTok, nameTok := tx.tokens(dir, name)
		key := pastKey(dirTok, nameTok, at+1)
		for f := range tx.scan(record.DomainPast, key[:2*tokenSize], key) {
			en, err := tx.openPast(f)
			if err != nil {
				return nil, err
			}
			if en.Since <= at {
				return en, nil
			}
			return nil, nil // nor did the live one exist then
		}
	}
	en, err := tx.liveEntry(dir, name)
	if err != nil || en == nil || en.Since > at {
		return nil, err
	}
	return en, nil
}

func (tx *Tx) openPast(f found) (*Entry, error) {
	if len(f.key) != 2*tokenSize+8 {
		return nil, broken(record.DomainPast, errMalformed)
	}
	until := int64(be64(f.key[2*tokenSize:]))
	plain, err := tx.openFound(record.DomainPast, f)
	if err != nil {
		return nil, err
	}
	en, err := decodeEntry(plain, until)
	if err != nil || until == 0 {
		return nil, broken(record.DomainPast, errMalformed)
	}
	return en, nil
}

// Link gives an inode that has no live name the live name in dir; a live
// entry of that name is superseded (goes to history). Children counts, Parent and the
// directory's mtime follow. A rename is Unlink, then Link, in one Update.
//
// Errors: fs.ErrInvalid if the name is not allowed, the inode has a live name, or
// a directory would come to lie below itself; fs.ErrNotExist if dir or the inode does not exist,
// or dir is unlinked; syscall.ENOTDIR.
func (tx *Tx) Link(dir Inode, name string, id Inode) error {
	if !validName(name) {
		return invalid("name")
	}
	n, err := tx.edit(id)
	if err != nil {
		return err
	}
	if n.Parent != 0 {
		return invalid("inode has a live name")
	}
	if err := tx.checkHolder(dir, n); err != nil {
		return err
	}
	old, err := tx.liveEntry(dir, name)
	if err != nil {
		return err
	}
	if old != nil {
		if err := tx.supersede(old); err != nil {
			return err
		}
	}
	dirTok, nameTok := tx.tokens(dir, name)
	en := &Entry{Dir: dir, Name: name, Inode: id, Since: tx.instant}
	tx.put(record.DomainEntry, entryKey(dirTok, nameTok), en.encode(), en)
	if folded := norm.NFC.String(name); folded != name {
		tx.putFold(foldKey(dirTok, tx.db.keys.FoldToken(uint64(dir), folded), foldLive, nameTok), dir, name)
	}
	n.Parent, n.Changed = dir, tx.instant
	n.Home, n.Name, n.Left = dir, name, 0
	tx.putNode(n)
	if err := tx.count(n, +1); err != nil {
		return err
	}
	delete(tx.detached, id)
	return tx.touch(dir, +1)
}

// checkHolder tells whether dir can hold n.
func (tx *Tx) checkHolder(dir Inode, n *Node) error {
	d, err := tx.node(dir)
	if err != nil {
		return err
	}
	if d.Kind != Dir {
		return syscall.ENOTDIR
	}
	for up := d; ; {
		if up.ID == n.ID {
			return invalid("a directory cannot lie below itself")
		}
		if up.Parent == 0 {
			return absent("directory has no live name")
		}
		// Only a directory with entries can be above dir, and then the whole way up must be seen.
		if up.ID == Root || n.Kind != Dir || n.Children == 0 {
			return nil
		}
		if up, err = tx.node(up.Parent); err != nil {
			return dangling(record.DomainInode)
		}
	}
}

// Unlink supersedes without a successor. A directory that still has
// entries must be linked again by the end of the transaction, or the whole
// Update fails with syscall.ENOTEMPTY.
func (tx *Tx) Unlink(dir Inode, name string) error {
	if !validName(name) {
		return absent("name")
	}
	en, err := tx.liveEntry(dir, name)
	if err != nil {
		return err
	}
	if en == nil {
		return absent("name")
	}
	return tx.supersede(en)
}

// supersede takes a live entry out and writes it to history. What this same
// transaction made gets a past entry too, of no duration: nobody can see it at any
// instant, but retention finds the inode by it.
func (tx *Tx) supersede(en *Entry) error {
	dirTok, nameTok := tx.tokens(en.Dir, en.Name)
	tx.remove(record.DomainEntry, entryKey(dirTok, nameTok))
	past := *en
	past.Until = tx.instant
	n, err := tx.edit(en.Inode)
	if err != nil {
		return dangling(record.DomainInode)
	}
	if key := pastKey(dirTok, nameTok, past.Until); !tx.exists(record.DomainPast, key) { // else the name went twice in this transaction: the first time counts
		tx.put(record.DomainPast, key, past.encode(), nil)
		tx.indexPast(dirTok, nameTok, &past)
		n.Past++
	}
	if folded := norm.NFC.String(en.Name); folded != en.Name {
		foldTok := tx.db.keys.FoldToken(uint64(en.Dir), folded)
		tx.remove(record.DomainFold, foldKey(dirTok, foldTok, foldLive, nameTok))
		tx.head.folds--
		tx.putFold(foldKey(dirTok, foldTok, foldPast, nameTok), en.Dir, en.Name)
	}
	if err := tx.count(n, -1); err != nil {
		return err
	}
	n.Parent, n.Changed, n.Left = 0, tx.instant, tx.instant
	tx.putNode(n)
	if n.Kind == Dir && n.Children > 0 {
		if tx.detached == nil {
			tx.detached = map[Inode]struct{}{}
		}
		tx.detached[n.ID] = struct{}{}
	}
	return tx.touch(en.Dir, -1)
}

func (tx *Tx) putFold(key []byte, dir Inode, name string) {
	if !tx.exists(record.DomainFold, key) {
		tx.head.folds++
	}
	tx.put(record.DomainFold, key, encodeFold(dir, name), nil)
}

// touch counts a directory's entries and sets its mtime, at most once a second: the mtime of a directory is part of
// what it was at an instant, so each one is a version, and one for every file of a bulk upload would be history of nothing.
func (tx *Tx) touch(dir Inode, by int) error {
	d, err := tx.edit(dir)
	if err != nil {
		return dangling(record.DomainInode)
	}
	d.Children += uint64(by)
	d.Changed = tx.instant
	tx.putNode(d)
	if sameSecond(d.Mtime, tx.instant) {
		return nil
	}
	v := &Version{Attr: d.Attr}
	v.Mtime = tx.instant
	return tx.AddVersion(d, v)
}

// sameSecond says whether two instants are shown as the same one by protocols that know no fractions.
func sameSecond(a, b int64) bool {
	return time.Unix(0, a).Unix() == time.Unix(0, b).Unix()
}

// count moves an inode between live and history in the Stats.
func (tx *Tx) count(n *Node, by int) error {
	switch n.Kind {
	case File:
		used, err := tx.usedBy(n)
		if err != nil {
			return err
		}
		tx.head.kept -= uint64(by) * used
		tx.head.files += uint64(by)
		tx.head.live += uint64(by) * n.Size
		tx.head.history -= uint64(by) * n.Size
	case Dir:
		tx.head.dirs += uint64(by)
	}
	return nil
}
