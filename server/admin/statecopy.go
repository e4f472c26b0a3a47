package admin

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"time"

	"sallyport/crypto/keyring"
	"sallyport/policy/policydb"
	"sallyport/server/audit"
	"sallyport/server/copier"
	"sallyport/server/statecopy"
	"sallyport/vfs"
	"sallyport/vfs/blob"
)

// CopyBegun is the first line of the answer to backup/state/begin. The copy lives as long as that answer is not closed.
type CopyBegun struct {
	Lease string `json:"lease"`
}

// CopyRef names a copy under way.
type CopyRef struct {
	Lease string `json:"lease"`
}

// CopyNext are accounts that have to be copied; none = everything fits together.
type CopyNext struct {
	Accounts []CopyTodo `json:"accounts"`
}

// CopyTodo is an account by its id. Same: the manifest given to backup/state/have names what the server has.
type CopyTodo struct {
	ID   string `json:"id"`
	Same bool   `json:"same,omitempty"`
}

// CopyNotes tell what became of accounts at the target.
type CopyNotes struct {
	Lease string     `json:"lease"`
	Notes []CopyNote `json:"notes"`
}

// CopyNote is a statecopy.Note.
type CopyNote struct {
	Account  string `json:"account"`
	Kept     bool   `json:"kept,omitempty"`
	Retained bool   `json:"retained,omitempty"`
	What     string `json:"what,omitempty"`
}

// CopyAsk asks for an account, for blobs of it, or for a file.
type CopyAsk struct {
	Lease   string   `json:"lease"`
	Account string   `json:"account,omitempty"`
	Blobs   []string `json:"blobs,omitempty"` // at most 256
	File    string   `json:"file,omitempty"`
}

// CopyFinish says that the copy is whole at its place.
type CopyFinish struct {
	Lease string `json:"lease"`
	Blobs uint64 `json:"blobs"` // new ones
	Place string `json:"place"`
}

// CopyFinished has the number of the record in the audit log.
type CopyFinished struct {
	Audit   uint64        `json:"audit"`
	Damaged []CopyDamaged `json:"damaged,omitempty"` // what is not whole in the copy
}

// CopyDrilled tells that the restore of a copy was tried.
type CopyDrilled struct {
	ID       string    `json:"id"`
	Made     time.Time `json:"made"`
	Findings int       `json:"findings"`
	Deep     bool      `json:"deep"`
}

// CopyDamaged is an account of which something could not be copied.
type CopyDamaged struct {
	Account string    `json:"account"` // its name, or its id if nobody has it
	ID      string    `json:"id"`
	Last    time.Time `json:"last_good,omitzero"` // when the copy was made of which its last whole state is kept
	What    []string  `json:"what"`
}

const (
	maxCopyBlobs = 256
	copyStall    = 2 * time.Minute // that a client may take for the next piece
	copyPiece    = 256 << 10
)

// stateCopyRoutes binds what a copy of the whole state needs. Bodies of accounts, blobs and files are bytes:
//
//	have     (request) the manifest of the copy in force at the target
//	account  u32 version ‖ u64 size ‖ database ‖ u64 size ‖ list of blobs
//	blobs    for each: u64 size; 2^64-1: there is none; otherwise pieces: u32 length ‖ bytes, and at the end u32 0; u32 2^32-1 ‖
//	         u16 length ‖ text: the rest of it cannot be read
//	file     the file, of Content-Length
func (s *Server) stateCopyRoutes(mux *http.ServeMux) {
	handleStream(s, mux, "backup/state/begin", true, s.copyBegin)
	handle(s, mux, "backup/state/next", s.copyNext)
	handle(s, mux, "backup/state/note", s.copyNote)
	handle(s, mux, "backup/state/finish", s.copyFinish)
	handle(s, mux, "backup/state/drilled", s.copyDrilled)
	mux.HandleFunc("POST "+copyHavePath, s.copyHave)
	s.handleBytes(mux, "backup/state/account", s.copyAccount)
	s.handleBytes(mux, "backup/state/blobs", s.copyBlobs)
	s.handleBytes(mux, "backup/state/file", s.copyFile)
	mux.HandleFunc("POST /v1/backup/state/check", s.copyCheck)
}

func (s *Server) copyBegin(ctx context.Context, who Peer, r Change) (func(func(CopyBegun) error) error, error) {
	l, err := s.o.Copier.Begin(ctx, who.String(), r.Reason)
	if err != nil {
		return nil, err
	}
	return func(send func(CopyBegun) error) error {
		err := send(CopyBegun{l.Token})
		if err == nil {
			<-l.Context().Done() // the client went, the server stops, or it took too long
		}
		return errors.Join(err, l.End())
	}, nil
}

func (s *Server) copyNext(ctx context.Context, _ Peer, r CopyRef) (CopyNext, error) {
	out := CopyNext{Accounts: []CopyTodo{}}
	l, err := s.o.Copier.Lease(r.Lease)
	if err != nil {
		return out, err
	}
	list, err := l.Next(ctx)
	for _, x := range list {
		out.Accounts = append(out.Accounts, CopyTodo{x.ID.String(), x.Same})
	}
	return out, copyError(err)
}

func (s *Server) copyNote(ctx context.Context, _ Peer, r CopyNotes) (Empty, error) {
	l, err := s.o.Copier.Lease(r.Lease)
	if err != nil {
		return Empty{}, err
	}
	notes := make([]statecopy.Note, len(r.Notes))
	for i, n := range r.Notes {
		id, err := parseAccount(n.Account)
		if err != nil {
			return Empty{}, err
		}
		notes[i] = statecopy.Note{Account: id, Kept: n.Kept, Retained: n.Retained, What: n.What}
	}
	return Empty{}, l.Note(ctx, notes)
}

// copyHave reads the manifest of the copy that the client has; it may be larger than other requests.
func (s *Server) copyHave(w http.ResponseWriter, r *http.Request) {
	const name = "backup/state/have"
	l, err := s.o.Copier.Lease(r.URL.Query().Get("lease"))
	if err == nil {
		err = l.Have(r.Context(), &arriving{r: r.Body, rc: http.NewResponseController(w), l: l})
	}
	if err != nil {
		writeError(w, s.explain(name, err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if _, err := io.WriteString(w, "{}\n"); err != nil {
		s.undelivered(name, err)
	}
}

// arriving reads from a client that must send each piece in time, and keeps the copy alive meanwhile.
type arriving struct {
	r  io.Reader
	rc *http.ResponseController
	l  *copier.Lease
}

func (a *arriving) Read(p []byte) (int, error) {
	_ = a.rc.SetReadDeadline(time.Now().Add(copyStall)) // a unix socket always can
	return a.r.Read(p)
}

func (s *Server) copyFinish(ctx context.Context, _ Peer, r CopyFinish) (CopyFinished, error) {
	l, err := s.o.Copier.Lease(r.Lease)
	if err != nil {
		return CopyFinished{}, err
	}
	seq, damaged, err := l.Finish(ctx, copier.Result{Blobs: r.Blobs, Place: r.Place})
	if err == nil {
		err = l.End() // and not when the server sees the client go: the next copy may begin at once
	}
	return CopyFinished{seq, s.named(damaged)}, err
}

func (s *Server) copyDrilled(ctx context.Context, who Peer, r CopyDrilled) (CopyFinished, error) {
	if id, err := blob.ParseID(r.ID); err != nil || id.String() != r.ID || r.Findings < 0 {
		return CopyFinished{}, newError(CodeInvalid, "that is no copy", "client and server may be of different versions")
	}
	seq, err := s.o.Copier.Drilled(ctx, who.String(), copier.Drill(r))
	return CopyFinished{Audit: seq}, err
}

// named puts damage together by account, under names: the operator is told, and the copy and the logs are not.
func (s *Server) named(damage []statecopy.Damage) (list []CopyDamaged) {
	for _, d := range damage { // in order of accounts
		if n := len(list); n == 0 || list[n-1].ID != hexID(d.Account) {
			one := CopyDamaged{Account: hexID(d.Account), ID: hexID(d.Account), Last: d.Last}
			if a, err := s.o.Policy.AccountByID(d.Account); err == nil {
				one.Account = a.Name
			}
			list = append(list, one)
		}
		last := &list[len(list)-1]
		last.What = append(last.What, d.What)
	}
	return list
}

// handleBytes makes the route of an operation whose answer is bytes. fn refuses before it returns; what fails after that breaks
// the answer off visibly.
func (s *Server) handleBytes(mux *http.ServeMux, name string, fn func(context.Context, *copier.Lease, CopyAsk) (size int64, body func(io.Writer) error, err error)) {
	mux.HandleFunc("POST /v1/"+name, func(w http.ResponseWriter, r *http.Request) {
		var req CopyAsk
		if err := decode(r.Body, &req); err != nil {
			writeError(w, newError(CodeInvalid, "the request does not parse: "+err.Error(), "client and server may be of different versions"))
			return
		}
		rc := http.NewResponseController(w)
		_ = rc.SetReadDeadline(time.Time{})
		l, err := s.o.Copier.Lease(req.Lease)
		if err != nil {
			writeError(w, s.explain(name, err))
			return
		}
		size, body, err := fn(r.Context(), l, req)
		if err != nil {
			writeError(w, s.explain(name, err))
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		if size >= 0 {
			w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
		}
		if err := body(&living{w: w, rc: rc, l: l}); err != nil {
			s.o.Log.Warn("a copy was broken off", "operation", name, "error", err)
			panic(http.ErrAbortHandler)
		}
	})
}

// living writes to a client that must take each piece in time, and keeps the copy alive meanwhile.
type living struct {
	w  io.Writer
	rc *http.ResponseController
	l  *copier.Lease
}

func (v *living) Write(p []byte) (n int, err error) {
	for len(p) > 0 && err == nil {
		piece := p[:min(len(p), copyPiece)]
		_ = v.rc.SetWriteDeadline(time.Now().Add(copyStall)) // a unix socket always can
		var k int
		k, err = v.w.Write(piece)
		n, p = n+k, p[k:]
		v.l.Alive()
	}
	return n, err
}

// copyWhole copies exactly that many bytes.
func copyWhole(w io.Writer, r io.Reader, size int64) error {
	n, err := io.CopyBuffer(struct{ io.Writer }{w}, io.LimitReader(r, size), make([]byte, copyPiece))
	if err == nil && n != size {
		err = io.ErrUnexpectedEOF
	}
	return err
}

func (s *Server) copyAccount(ctx context.Context, l *copier.Lease, r CopyAsk) (int64, func(io.Writer) error, error) {
	id, err := parseAccount(r.Account)
	if err != nil {
		return 0, nil, err
	}
	p, err := l.Account(ctx, id)
	if err != nil {
		if !errors.Is(err, statecopy.ErrAtSource) {
			err = copyError(err)
		}
		return 0, nil, err
	}
	return 4 + 8 + p.TreeSize + 8 + p.ListSize, func(w io.Writer) error {
		head := binary.BigEndian.AppendUint32(nil, p.Version)
		if _, err := w.Write(binary.BigEndian.AppendUint64(head, uint64(p.TreeSize))); err != nil {
			return err
		}
		if err := copyWhole(w, p.Read, p.TreeSize); err != nil {
			return err
		}
		if _, err := w.Write(binary.BigEndian.AppendUint64(nil, uint64(p.ListSize))); err != nil {
			return err
		}
		return copyWhole(w, p.Read, p.ListSize)
	}, nil
}

func (s *Server) copyBlobs(ctx context.Context, l *copier.Lease, r CopyAsk) (int64, func(io.Writer) error, error) {
	account, err := parseAccount(r.Account)
	if err != nil {
		return 0, nil, err
	}
	if len(r.Blobs) > maxCopyBlobs {
		return 0, nil, newError(CodeInvalid, fmt.Sprintf("%d blobs at once", len(r.Blobs)), "")
	}
	ids := make([]blob.ID, len(r.Blobs))
	for i, text := range r.Blobs {
		if ids[i], err = blob.ParseID(text); err != nil {
			return 0, nil, newError(CodeInvalid, err.Error(), "")
		}
	}
	return -1, func(w io.Writer) error {
		for _, id := range ids {
			if err := copyBlob(ctx, l, w, account, id); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

// lostPiece is the length of a piece that tells why there are no more.
const lostPiece = ^uint32(0)

func copyBlob(ctx context.Context, l *copier.Lease, w io.Writer, account keyring.AccountID, id blob.ID) error {
	size, r, err := l.Blob(ctx, account, id)
	if errors.Is(err, fs.ErrNotExist) {
		_, err := w.Write(binary.BigEndian.AppendUint64(nil, ^uint64(0)))
		return err
	}
	if err != nil && !errors.Is(err, statecopy.ErrAtSource) {
		return err
	}
	if _, werr := w.Write(binary.BigEndian.AppendUint64(nil, uint64(size))); werr != nil {
		return werr
	}
	if err == nil {
		defer r.Close()
		err = copyPieces(w, r)
	}
	if !errors.Is(err, statecopy.ErrAtSource) {
		return err
	}
	text := strings.TrimPrefix(err.Error(), statecopy.ErrAtSource.Error()+": ")
	text = text[:min(len(text), 500)]
	lost := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint32(nil, lostPiece), uint16(len(text)))
	_, err = w.Write(append(lost, text...))
	return err
}

// copyPieces copies to the end, each piece with its length.
func copyPieces(w io.Writer, r io.Reader) error {
	piece := make([]byte, 4+copyPiece)
	for {
		n, err := io.ReadFull(r, piece[4:])
		end := err == io.EOF || err == io.ErrUnexpectedEOF
		if err != nil && !end {
			return err
		}
		if n > 0 {
			binary.BigEndian.PutUint32(piece, uint32(n))
			if _, err := w.Write(piece[:4+n]); err != nil {
				return err
			}
		}
		if end {
			_, err := w.Write([]byte{0, 0, 0, 0})
			return err
		}
	}
}

func (s *Server) copyFile(ctx context.Context, l *copier.Lease, r CopyAsk) (int64, func(io.Writer) error, error) {
	size, body, err := l.File(ctx, r.File)
	if err != nil {
		return 0, nil, err
	}
	return size, func(w io.Writer) error { defer body.Close(); return copyWhole(w, body, size) }, nil
}

func parseAccount(text string) (keyring.AccountID, error) {
	id, err := blob.ParseID(text)
	if err != nil {
		return keyring.AccountID{}, newError(CodeInvalid, "that is no account id", "")
	}
	return keyring.AccountID(id), nil
}

// copyHavePath is the only request that may be longer than maxBody: a manifest has some 500 bytes for each account.
const (
	copyHavePath = "/v1/backup/state/have"
	maxManifest  = 1 << 30
)

// copyHeader is what comes before the segments of a check: the beginning of the blob's file.
const copyHeader = 128

// copyCheck authenticates segments that the client has read back. Its body is the header of the blob's file and then
// whole segments, at most 16 MiB; the query says of what.
func (s *Server) copyCheck(w http.ResponseWriter, r *http.Request) {
	const name = "backup/state/check"
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(copyStall))
	answer := func(err error) {
		if err != nil {
			writeError(w, s.explain(name, err))
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if _, err := io.WriteString(w, "{}\n"); err != nil {
			s.undelivered(name, err)
		}
	}
	q := r.URL.Query()
	l, err := s.o.Copier.Lease(q.Get("lease"))
	if err != nil {
		answer(err)
		return
	}
	account, aerr := parseAccount(q.Get("account"))
	id, berr := blob.ParseID(q.Get("blob"))
	first, ferr := strconv.ParseUint(q.Get("first"), 10, 64)
	size := r.ContentLength
	if size < copyHeader || size > maxBody {
		answer(newError(CodeInvalid, fmt.Sprintf("a check of %d bytes", size), "client and server may be of different versions"))
		return
	}
	body := make([]byte, size) // at once: growing it would cost more than the check
	_, rerr := io.ReadFull(r.Body, body)
	if err := errors.Join(aerr, berr, ferr, rerr); err != nil {
		answer(newError(CodeInvalid, "the request does not parse", "client and server may be of different versions"))
		return
	}
	err = l.Check(r.Context(), account, id, body[:copyHeader], body[copyHeader:], first, q.Get("final") == "true")
	switch {
	case errors.Is(err, vfs.ErrIntegrity):
		err = &Error{Code: CodeFindings, Message: fmt.Sprintf("in or after segment %d", first), cause: statecopy.ErrDamaged}
	case errors.Is(err, vfs.ErrPurged), errors.Is(err, fs.ErrNotExist), errors.Is(err, keyring.ErrNoAccount):
		err = newError(CodeNotFound, "purged since it was copied", "")
	}
	answer(err)
}

// hexID is an account id as it travels.
func hexID(id keyring.AccountID) string { return hex.EncodeToString(id[:]) }

// explainCopy explains what only a copy of the state can meet.
func explainCopy(e *Error, err error) bool {
	var damage *audit.DamageError
	switch {
	case errors.Is(err, copier.ErrRunning):
		e.Code, e.Message, e.Hint = CodeConflict, "a copy of the state is being made already", "wait for its end; `sallyport audit search --action state-copy` says who makes it"
	case errors.Is(err, copier.ErrNoLease):
		e.Code, e.Message, e.Hint = CodeConflict, strings.TrimPrefix(err.Error(), "copier: "), "make the copy again: it goes on with what is there"
	case errors.Is(err, copier.ErrUnsteady):
		e.Code, e.Message, e.Hint = CodeConflict, strings.TrimPrefix(err.Error(), "copier: "), "make the copy when no keys are being rotated"
	case errors.Is(err, statecopy.ErrOther):
		e.Code, e.Message, e.Hint = CodeRefused, err.Error(), "copy to another directory; or, if nobody will ever restore that copy, add --replace"
	case errors.Is(err, statecopy.ErrGone):
		e.Code, e.Message = CodeNotFound, "the account is gone"
	case errors.Is(err, statecopy.ErrAtSource):
		e.Code, e.Message = CodeFindings, strings.TrimPrefix(err.Error(), statecopy.ErrAtSource.Error()+": ")
	case errors.As(err, &damage):
		e.Code, e.Message, e.Hint = CodeFindings, damage.Error(), "`sallyport audit verify` says more"
	default:
		return false
	}
	return true
}

// copyError has damage of what was to be copied say so: nothing was put in force, and the copy before stays.
func copyError(err error) error {
	if errors.Is(err, vfs.ErrIntegrity) || errors.Is(err, policydb.ErrDamaged) || errors.Is(err, keyring.ErrDamaged) || errors.Is(err, fs.ErrNotExist) {
		return &Error{Code: CodeFindings, Message: strings.TrimPrefix(err.Error(), "vfs: "), Hint: "the copy before stays in force; mend this first: `sallyport vfs verify` says what is damaged", cause: err}
	}
	return err
}
