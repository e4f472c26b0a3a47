package server

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"sync"

	"sallyport/crypto/durable"
	"sallyport/crypto/keyring"
	"sallyport/server/audit"
)

// The file of what happens while the audit log's key is sealed (docs/FORMAT.md "Notes").
const (
	notesFile   = "audit-pending"
	notesMagic  = "SPPEND1\n"
	notesIDAt   = len(notesMagic)
	notesKeyAt  = notesIDAt + 16
	notesLostAt = notesKeyAt + 65 + 7
	notesStart  = notesLostAt + 8
	maxNote     = 4 << 10 // bytes of an entry
)

// maxNotes bounds what strangers to the audit log can make the server remember.
const maxNotes = 1000

// notes keep what happens while nothing can be recorded, in a file that outlives
// the process, encrypted to the audit log's public key. Where there is none yet,
// or the disk fails, they are in memory. Safe for concurrent use.
type notes struct {
	path string
	log  *slog.Logger

	mu      sync.Mutex // guards what follows; held while the disk is written
	file    *os.File   // nil: in memory
	public  []byte
	id      [16]byte
	size    int64
	n       int               // entries of the file
	chain   [sha256.Size]byte // over the header without the count, and the entries
	lost    uint64            // beyond maxNotes
	damaged string            // why the file could not be gone on with
	memory  []audit.Event
}

// openNotes goes on with the file that is there. An entry that a crash cut off is cut off.
func openNotes(path string, log *slog.Logger) *notes {
	n := &notes{path: path, log: log}
	data, err := readNotes(path)
	if errors.Is(err, fs.ErrNotExist) {
		return n
	}
	if err == nil {
		err = n.parse(data, nil)
	}
	if err == nil {
		n.file, err = os.OpenFile(path, os.O_RDWR, 0o600)
	}
	if err == nil {
		err = n.file.Truncate(n.size)
	}
	if err != nil {
		n.damaged = err.Error()
		log.Error("attempts to unseal are kept in memory only", "error", err)
		n.close()
	}
	return n
}

// readNotes reads as much of a file as this program writes at most.
func readNotes(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, int64(notesStart+maxNotes*(4+maxNote))))
}

// parse reads a file, and hands each entry to fn with its place.
func (n *notes) parse(data []byte, fn func(place, sealed []byte)) error {
	if len(data) < notesStart || string(data[:notesIDAt]) != notesMagic || !bytes.Equal(data[notesKeyAt+65:notesLostAt], make([]byte, 7)) {
		return fmt.Errorf("%s is not a file of notes", n.path)
	}
	n.id, n.public = [16]byte(data[notesIDAt:]), bytes.Clone(data[notesKeyAt:notesKeyAt+65])
	if _, err := ecdh.P256().NewPublicKey(n.public); err != nil {
		return fmt.Errorf("%s: not a public key", n.path)
	}
	n.lost = binary.BigEndian.Uint64(data[notesLostAt:])
	n.chain, n.n, n.size = sha256.Sum256(data[:notesLostAt]), 0, int64(notesStart)
	for rest := data[notesStart:]; len(rest) >= 4 && n.n < maxNotes; {
		size := int(binary.BigEndian.Uint32(rest))
		if size > maxNote || len(rest) < 4+size {
			break
		}
		if fn != nil {
			fn(n.place(), rest[4:4+size])
		}
		n.counted(rest[:4+size])
		rest = rest[4+size:]
	}
	return nil
}

// place binds the next entry: file id ‖ number u64 ‖ hash of all before.
func (n *notes) place() []byte {
	place := binary.BigEndian.AppendUint64(bytes.Clone(n.id[:]), uint64(n.n))
	return append(place, n.chain[:]...)
}

func (n *notes) counted(entry []byte) {
	n.chain = sha256.Sum256(append(bytes.Clone(n.chain[:]), entry...))
	n.n++
	n.size += int64(len(entry))
}

// whole is the file as it is, for a copy of the state; nil = there is none.
func (n *notes) whole() ([]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.file == nil {
		return nil, nil
	}
	data := make([]byte, n.size)
	if _, err := n.file.ReadAt(data, 0); err != nil {
		return nil, err
	}
	return data, nil
}

// note keeps an event; in the file it is durable on return.
func (n *notes) note(e audit.Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.n+len(n.memory) >= maxNotes {
		n.lost++
		if n.file != nil { // not synced: it survives the process, and after a power loss the count is a little low
			_, _ = n.file.WriteAt(binary.BigEndian.AppendUint64(nil, n.lost), int64(notesLostAt))
		}
		return
	}
	if n.file != nil {
		err := n.write(e)
		if err == nil {
			return
		}
		n.log.Error("an attempt to unseal is kept in memory only", "error", err)
	}
	e.Origin = origin([]byte(rand.Text()))
	n.memory = append(n.memory, e)
}

func (n *notes) write(e audit.Event) error {
	const most = 1024
	e.Detail = e.Detail[:min(len(e.Detail), most)]
	plain, err := json.Marshal(e)
	if err != nil {
		return err
	}
	sealed, err := keyring.SealPending(n.public, n.place(), plain)
	if err != nil {
		return err
	}
	if len(sealed) > maxNote {
		return fmt.Errorf("a note of %d bytes", len(sealed))
	}
	entry := append(binary.BigEndian.AppendUint32(nil, uint32(len(sealed))), sealed...)
	_, err = n.file.WriteAt(entry, n.size)
	if err == nil {
		err = n.file.Sync()
	}
	if err != nil {
		return errors.Join(err, n.file.Truncate(n.size))
	}
	n.counted(entry)
	return nil
}

// fold hands all notes to record and begins a new file if it succeeds. A crash
// between the two has them handed over again, with the same origins, by which the
// audit log knows them. No note is taken meanwhile.
func (n *notes) fold(k *keyring.Keyring, record func(events []audit.Event) error) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	events, unread, file := n.read(k)
	for i := range events {
		events[i].Detail = "noted while sealed: " + events[i].Detail // whoever could write to the disk could write that, too
	}
	if n.damaged != "" || unread > 0 {
		n.log.Error("notes of attempts to unseal are damaged", "unread", unread, "reason", n.damaged)
		events = append(events, audit.Event{Action: audit.UnsealRefused, Count: uint64(unread), Origin: file + ":damaged",
			Detail: "notes of attempts while sealed do not open: the file was damaged or changed"})
	}
	if n.lost > 0 {
		events = append(events, audit.Event{Action: audit.UnsealRefused, Count: n.lost, Origin: file + ":lost", Detail: "refused attempts beyond those recorded singly"})
	}
	if err := record(events); err != nil {
		return err
	}
	public, err := k.PendingPublic()
	if err == nil {
		err = n.begin(public)
	}
	if err != nil { // they are recorded, and will be handed over once more
		n.log.Error("beginning a new file of notes", "error", err)
	}
	return nil
}

// read are the notes of the file and those in memory; file is the origin of what is said of the file as a whole.
func (n *notes) read(k *keyring.Keyring) (events []audit.Event, unread int, file string) {
	data, err := readNotes(n.path)
	file = origin(data)
	if len(data) == 0 { // it says nothing of itself
		file = origin([]byte(rand.Text()))
	}
	if n.file != nil {
		if err == nil {
			err = n.parse(data, func(place, sealed []byte) {
				plain, err := k.OpenPending(place, sealed)
				e, ok := believed(plain)
				if err != nil || !ok {
					unread++
					return
				}
				e.Origin = origin(sealed)
				events = append(events, e)
			})
		}
		if err != nil {
			n.damaged = err.Error()
		}
	}
	return append(events, n.memory...), unread, file
}

// origin names something that is noted. No two notes are alike once they are sealed.
func origin(data []byte) string {
	sum := sha256.Sum256(data)
	return "note:" + hex.EncodeToString(sum[:16])
}

// believed is what a note can say, which anybody may have written who could write to the disk: that somebody tried to unseal.
// A note that told of logins, or had the origin of an event of a volume, would be taken for one; of a time that cannot be
// written the log would die at each unsealing.
func believed(plain []byte) (audit.Event, bool) {
	var e audit.Event
	if json.Unmarshal(plain, &e) != nil || e.Action != audit.UnsealRefused && e.Action != audit.UnsealShare {
		return audit.Event{}, false
	}
	if year := e.Time.UTC().Year(); !e.Time.IsZero() && (year < 1970 || year > 9999) {
		return audit.Event{}, false
	}
	return audit.Event{Time: e.Time, Action: e.Action, Who: e.Who, Detail: e.Detail}, true
}

// begin makes an empty file for notes to that key. It is durable on return.
func (n *notes) begin(public []byte) error {
	header := append([]byte(notesMagic), make([]byte, notesStart-len(notesMagic))...)
	rand.Read(header[notesIDAt:notesKeyAt]) // never fails
	copy(header[notesKeyAt:], public)
	if err := durable.WriteFile(n.path, header, 0o600); err != nil {
		return err
	}
	n.close()
	n.memory, n.damaged = nil, ""
	if err := n.parse(header, nil); err != nil {
		return err
	}
	var err error
	n.file, err = os.OpenFile(n.path, os.O_RDWR, 0o600)
	return err
}

func (n *notes) close() {
	if n.file != nil {
		n.file.Close() // what is in it was synced
		n.file = nil
	}
}
