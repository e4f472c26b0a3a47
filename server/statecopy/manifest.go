package statecopy

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	manifestTitle = "sallyport state copy 1"
	titlePrefix   = "sallyport state copy "
	signLabel     = "sallyport.statecopy.v1\x00"
	maxLine       = 512
)

// Head is what a manifest says of the whole copy.
type Head struct {
	ID       string    `json:"id"` // 32 random hexadecimal digits; names the copy's own parts
	Made     time.Time `json:"made"`
	Program  string    `json:"program"` // version of the server that made it
	Seal     string    `json:"seal"`    // kind of seal that opens it
	Epoch    uint32    `json:"epoch"`   // of the root
	Records  uint64    `json:"records"` // number of the last record of the audit log
	Accounts uint64    `json:"accounts"`
	Blobs    uint64    `json:"blobs"`
	Bytes    uint64    `json:"bytes"`   // of the blobs' files
	Damaged  uint64    `json:"damaged"` // accounts that are not whole in it: Manifest.Damage says which
}

// Entry is a file of a copy.
type Entry struct {
	Name string
	Size int64
	Sum  [sha256.Size]byte
}

var (
	idPattern   = regexp.MustCompile(`^[0-9a-f]{32}$`)
	sumPattern  = regexp.MustCompile(`^[0-9a-f]{64}$`)
	wordPattern = regexp.MustCompile(`^[!-~]([ -~]{0,126}[!-~])?$`)
)

// ManifestWriter writes a manifest; its memory does not grow with the copy. What it writes comes in this order: Damage, Account,
// Add, Sign.
type ManifestWriter struct {
	w       io.Writer
	sum     hash.Hash
	last    string
	account AccountID
}

// NewManifest begins a manifest.
func NewManifest(w io.Writer, h *Head) (*ManifestWriter, error) {
	m := &ManifestWriter{w: w, sum: sha256.New()}
	if !wordPattern.MatchString(h.Program) || !wordPattern.MatchString(h.Seal) || !idPattern.MatchString(h.ID) {
		return nil, errors.New("statecopy: internal error: a head that cannot be written")
	}
	return m, m.print("%s\nid %s\nmade %s\nprogram %s\nseal %s\nepoch %d\nrecords %d\naccounts %d\nblobs %d %d\ndamaged %d\n", manifestTitle,
		h.ID, h.Made.UTC().Format(time.RFC3339Nano), h.Program, h.Seal, h.Epoch, h.Records, h.Accounts, h.Blobs, h.Bytes, h.Damaged)
}

func (m *ManifestWriter) print(format string, args ...any) error {
	line := fmt.Appendf(nil, format, args...)
	m.sum.Write(line)
	_, err := m.w.Write(line)
	return err
}

// Damage adds what is damaged of an account; accounts must come in ascending order.
func (m *ManifestWriter) Damage(d Damage) error { return m.print("%s\n", d.line()) }

// Account adds what is known of an account that is whole; they must come in ascending order of ids.
func (m *ManifestWriter) Account(a Account) error {
	if slices.Compare(a.ID[:], m.account[:]) <= 0 {
		return fmt.Errorf("statecopy: internal error: account %x after %x", a.ID[:], m.account[:])
	}
	m.account = a.ID
	return m.print("account %x %x %d %d\n", a.ID[:], a.Commit[:], a.Blobs, a.Bytes)
}

// Add adds a file; names must come in ascending order.
func (m *ManifestWriter) Add(e Entry) error {
	if e.Name <= m.last || !fileNames.MatchString(e.Name) {
		return fmt.Errorf("statecopy: internal error: file %q after %q", e.Name, m.last)
	}
	m.last = e.Name
	return m.print("file %x %d %s\n", e.Sum, e.Size, e.Name)
}

// Sign ends the manifest.
func (m *ManifestWriter) Sign(key crypto.Signer) error {
	sig, err := key.Sign(nil, m.sum.Sum([]byte(signLabel)), crypto.Hash(0)) // Ed25519 takes the message itself and needs no random numbers
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(m.w, "signature %s\n", base64.StdEncoding.EncodeToString(sig))
	return err
}

// Manifest is what was read of one.
type Manifest struct {
	Head
	Damage    []Damage
	Log       Entry // the last file of records of the audit log; of another state, or another server, it is another one
	sum       []byte
	signature []byte
}

// SignedBy says whether the manifest, and with it every file that it names, is from the server with this public key.
func (m *Manifest) SignedBy(key ed25519.PublicKey) bool {
	return len(key) == ed25519.PublicKeySize && ed25519.Verify(key, append([]byte(signLabel), m.sum...), m.signature)
}

// ReadManifest reads a manifest and hands out its files, in ascending order of names. Nothing is authentic before SignedBy.
func ReadManifest(r io.Reader, fn func(Entry) error) (*Manifest, error) {
	return ReadAccounts(r, func(Account) error { return nil }, fn)
}

// ReadAccounts is ReadManifest that hands out what it says of accounts, too, which comes first.
func ReadAccounts(r io.Reader, account func(Account) error, file func(Entry) error) (*Manifest, error) {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, maxLine), maxLine)
	s.Split(wholeLines)
	p := &manifestReader{lines: s, sum: sha256.New(), account: account, file: file}
	if err := p.head(&p.m.Head); err != nil {
		return nil, err
	}
	for {
		line, err := p.line()
		if err != nil {
			return nil, err
		}
		if sig, ok := strings.CutPrefix(line, "signature "); ok {
			return p.end(sig)
		}
		p.took(line)
		if err := p.take(line); err != nil {
			return nil, err
		}
	}
}

// take reads a line between the head and the signature.
func (p *manifestReader) take(line string) error {
	kind, rest, _ := strings.Cut(line, " ")
	if at := slices.Index([]string{"damage", "account", "file"}, kind); at < p.section {
		return damaged("a line of the manifest cannot be read")
	} else {
		p.section = at
	}
	switch kind {
	case "damage":
		d, err := parseDamage(rest)
		if n := len(p.m.Damage); err == nil && (n >= maxDamage || n > 0 && slices.Compare(d.Account[:], p.m.Damage[n-1].Account[:]) < 0) {
			err = damaged("the manifest tells of damage out of order")
		}
		p.m.Damage = append(p.m.Damage, d)
		return err
	case "account":
		a, err := parseAccount(rest)
		if err == nil && slices.Compare(a.ID[:], p.id[:]) <= 0 {
			err = damaged("the manifest names account %x after %x", a.ID[:], p.id[:])
		}
		if err != nil {
			return err
		}
		p.id = a.ID
		return p.account(a)
	}
	e, err := parseEntry(line)
	if err == nil && e.Name <= p.name {
		err = damaged("the manifest names %s after %s", e.Name, p.name)
	}
	if err != nil {
		return err
	}
	p.name = e.Name
	if isLog(e.Name) { // in ascending order
		p.m.Log = e
	}
	return p.file(e)
}

// end reads the signature, behind which there is nothing.
func (p *manifestReader) end(sig string) (*Manifest, error) {
	var err error
	if p.m.signature, err = base64.StdEncoding.Strict().DecodeString(sig); err != nil || len(p.m.signature) != ed25519.SignatureSize ||
		len(sig) != base64.StdEncoding.EncodedLen(ed25519.SignatureSize) { // the decoder passes over line ends
		return nil, damaged("the signature of the manifest cannot be read")
	}
	if p.lines.Scan() || p.lines.Err() != nil {
		return nil, damaged("something follows the signature of the manifest")
	}
	p.m.sum = p.sum.Sum(nil)
	return &p.m, nil
}

type manifestReader struct {
	lines   *bufio.Scanner
	sum     hash.Hash
	account func(Account) error
	file    func(Entry) error

	m       Manifest
	section int // of the line before
	id      AccountID
	name    string
}

// wholeLines is bufio.ScanLines that takes no line without its end, and leaves every byte of the others in.
func wholeLines(data []byte, atEOF bool) (int, []byte, error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i], nil
	}
	if atEOF && len(data) > 0 {
		return 0, nil, io.ErrUnexpectedEOF
	}
	return 0, nil, nil
}

func (p *manifestReader) line() (string, error) {
	if p.lines.Scan() {
		return p.lines.Text(), nil
	}
	if err := p.lines.Err(); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, bufio.ErrTooLong) {
		return "", err
	}
	return "", damaged("the manifest ends before its signature")
}

// took counts a line as signed.
func (p *manifestReader) took(line string) { p.sum.Write(append([]byte(line), '\n')) }

func (p *manifestReader) head(h *Head) error {
	title, err := p.line()
	if err != nil {
		return err
	}
	if strings.HasPrefix(title, titlePrefix) && title != manifestTitle {
		return fmt.Errorf("%q is a form of copy that this program does not know: %w", title, errors.ErrUnsupported)
	}
	if title != manifestTitle {
		return damaged("this is no manifest of a copy")
	}
	p.took(title)
	number := func(bits int, text string) (n uint64) {
		if err == nil {
			n, err = strconv.ParseUint(text, 10, bits)
		}
		return n
	}
	for _, f := range []struct {
		name string
		set  func(text string)
	}{
		{"id", func(v string) { h.ID = v }},
		{"made", func(v string) { h.Made, err = time.Parse(time.RFC3339Nano, v) }},
		{"program", func(v string) { h.Program = v }},
		{"seal", func(v string) { h.Seal = v }},
		{"epoch", func(v string) { h.Epoch = uint32(number(32, v)) }},
		{"records", func(v string) { h.Records = number(64, v) }},
		{"accounts", func(v string) { h.Accounts = number(64, v) }},
		{"blobs", func(v string) {
			n, bytes, _ := strings.Cut(v, " ")
			h.Blobs, h.Bytes = number(64, n), number(64, bytes)
		}},
		{"damaged", func(v string) { h.Damaged = number(64, v) }},
	} {
		line, lerr := p.line()
		if lerr != nil {
			return lerr
		}
		value, ok := strings.CutPrefix(line, f.name+" ")
		if ok {
			f.set(value)
		}
		if !ok || err != nil || !wordPattern.MatchString(value) {
			return damaged("the line %q of the manifest cannot be read", f.name)
		}
		p.took(line)
	}
	if !idPattern.MatchString(h.ID) {
		return damaged("the line \"id\" of the manifest cannot be read")
	}
	return nil
}

func parseEntry(line string) (e Entry, err error) {
	parts := strings.Split(line, " ")
	if len(parts) != 4 || parts[0] != "file" || len(parts[1]) != 2*sha256.Size || !fileNames.MatchString(parts[3]) {
		return e, damaged("a line of the manifest cannot be read")
	}
	if _, err := hex.Decode(e.Sum[:], []byte(parts[1])); err != nil {
		return e, damaged("a line of the manifest cannot be read")
	}
	if e.Size, err = strconv.ParseInt(parts[2], 10, 64); err != nil || e.Size < 0 {
		return e, damaged("a line of the manifest cannot be read")
	}
	e.Name = parts[3]
	return e, nil
}
