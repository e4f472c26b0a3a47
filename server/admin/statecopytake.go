package admin

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strconv"
	"time"

	"sallyport/crypto/keyring"
	"sallyport/server/statecopy"
	"sallyport/vfs"
	"sallyport/vfs/blob"
)

// copyHavePath is the only request that may be longer than maxBody: a manifest has some 500 bytes for each account.
const (
	copyHavePath = "/v1/backup/state/have"
	maxManifest  = 1 << 30
)

// manifestRest is more than the manifest of 100,000 accounts, bytes.
const manifestRest = 256 << 20

// copyHave reads the manifest of the copy that the client has; it may be larger than other requests.
func (s *Server) copyHave(w http.ResponseWriter, r *http.Request) {
	const name = "backup/state/have"
	body := &arriving{r.Body, http.NewResponseController(w)}
	l, err := s.o.Copier.Lease(r.URL.Query().Get("lease"))
	if err == nil {
		err = l.Have(r.Context(), body)
	}
	// What is no manifest is given up before its end. Its rest is taken all the same: who is still sending would find a broken
	// connection, and not the answer.
	_, _ = io.CopyN(io.Discard, body, manifestRest)
	s.taken(w, name, err)
}

// taken answers a request whose body was bytes.
func (s *Server) taken(w http.ResponseWriter, name string, err error) {
	if err != nil {
		writeError(w, s.explain(name, err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if _, err := io.WriteString(w, "{}\n"); err != nil {
		s.undelivered(name, err)
	}
}

// arriving reads from a client that must send each piece in time.
type arriving struct {
	r  io.Reader
	rc *http.ResponseController
}

func (a *arriving) Read(p []byte) (int, error) {
	_ = a.rc.SetReadDeadline(time.Now().Add(copyStall)) // a unix socket always can
	return a.r.Read(p)
}

// copyHeader is what comes before the segments of a check: the beginning of the blob's file.
const copyHeader = 128

// copyCheck authenticates segments that the client has read back. Its body is the header of the blob's file and then
// whole segments, at most 16 MiB; the query says of what.
func (s *Server) copyCheck(w http.ResponseWriter, r *http.Request) {
	const name = "backup/state/check"
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(copyStall))
	q := r.URL.Query()
	l, err := s.o.Copier.Lease(q.Get("lease"))
	if err != nil {
		s.taken(w, name, err)
		return
	}
	account, aerr := parseAccount(q.Get("account"))
	id, berr := blob.ParseID(q.Get("blob"))
	first, ferr := strconv.ParseUint(q.Get("first"), 10, 64)
	size := r.ContentLength
	if size < copyHeader || size > maxBody {
		s.taken(w, name, newError(CodeInvalid, fmt.Sprintf("a check of %d bytes", size), "client and server may be of different versions"))
		return
	}
	body := make([]byte, size) // at once: growing it would cost more than the check
	_, rerr := io.ReadFull(r.Body, body)
	if err := errors.Join(aerr, berr, ferr, rerr); err != nil {
		s.taken(w, name, newError(CodeInvalid, "the request does not parse", "client and server may be of different versions"))
		return
	}
	err = l.Check(r.Context(), account, id, body[:copyHeader], body[copyHeader:], first, q.Get("final") == "true")
	switch {
	case errors.Is(err, vfs.ErrIntegrity):
		err = &Error{Code: CodeFindings, Message: fmt.Sprintf("in or after segment %d", first), cause: statecopy.ErrDamaged}
	case errors.Is(err, vfs.ErrPurged), errors.Is(err, fs.ErrNotExist), errors.Is(err, keyring.ErrNoAccount):
		err = newError(CodeNotFound, "purged since it was copied", "")
	}
	s.taken(w, name, err)
}
