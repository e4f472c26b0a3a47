package admin

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"time"

	"sallyport/crypto/keyring"
	"sallyport/server/copier"
	"sallyport/server/statecopy"
	"sallyport/vfs/blob"
)

// copyStall is how long a client may take for the next piece.
const copyStall = 2 * time.Minute

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

const copyPiece = 256 << 10

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
