package admin

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"sallyport/server/statecopy"
	"sallyport/vfs/blob"
)

// StateCopy is a copy under way, as a statecopy.Source. It ends with the context of StateCopy, with Close, or with the
// server. Used by one goroutine.
type StateCopy struct {
	c     *Client
	lease string
	hold  io.Closer
}

var _ statecopy.Source = (*StateCopy)(nil)

// StateCopy begins a copy of the whole state.
func (c *Client) StateCopy(ctx context.Context, r Change) (*StateCopy, error) {
	body, err := c.post(ctx, "backup/state/begin", r)
	if err != nil {
		return nil, err
	}
	var begun CopyBegun
	if err := json.NewDecoder(body).Decode(&begun); err != nil {
		body.Close()
		return nil, c.readError(ctx, err)
	}
	return &StateCopy{c, begun.Lease, body}, nil
}

// Close ends it.
func (s *StateCopy) Close() error { return s.hold.Close() }

// Have implements statecopy.Source.
func (s *StateCopy) Have(ctx context.Context, manifest io.Reader) error {
	hr, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://sallyport"+copyHavePath+"?"+url.Values{"lease": {s.lease}}.Encode(), manifest)
	if err != nil {
		return newError(CodeInternal, err.Error(), "")
	}
	res, err := s.c.do(ctx, hr)
	if err != nil {
		return err
	}
	return res.Body.Close()
}

// Next implements statecopy.Source.
func (s *StateCopy) Next(ctx context.Context) ([]statecopy.Todo, error) {
	r, err := call[CopyNext](ctx, s.c, "backup/state/next", CopyRef{s.lease})
	if err != nil {
		return nil, err
	}
	list := make([]statecopy.Todo, len(r.Accounts))
	for i, x := range r.Accounts {
		list[i].Same = x.Same
		if list[i].ID, err = parseAccount(x.ID); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// Note implements statecopy.Source.
func (s *StateCopy) Note(ctx context.Context, notes []statecopy.Note) error {
	ask := CopyNotes{Lease: s.lease}
	for _, n := range notes {
		ask.Notes = append(ask.Notes, CopyNote{Account: hexID(n.Account), Kept: n.Kept, Retained: CopyRetained(n.Retained), What: n.What})
	}
	_, err := call[Empty](ctx, s.c, "backup/state/note", ask)
	return err
}

// body has fn read the bytes of an answer, to the end.
func (s *StateCopy) body(ctx context.Context, op string, req CopyAsk, fn func(size int64, r io.Reader) error) error {
	hr, err := s.c.request(ctx, op, req)
	if err != nil {
		return err
	}
	res, err := s.c.do(ctx, hr)
	if err != nil {
		var e *Error
		if errors.As(err, &e) && e.Code == CodeNotFound {
			return statecopy.ErrGone
		}
		if errors.As(err, &e) && e.Code == CodeFindings && op == "backup/state/account" {
			return fmt.Errorf("%w: %s", statecopy.ErrAtSource, e.Message)
		}
		return err
	}
	defer res.Body.Close()
	r := &answer{s.c, ctx, res.Body}
	if err := fn(res.ContentLength, r); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, r)
	return err
}

// answer has the errors of reading the server's answer say so.
type answer struct {
	c   *Client
	ctx context.Context
	r   io.Reader
}

func (a *answer) Read(p []byte) (int, error) {
	n, err := a.r.Read(p)
	if err != nil && err != io.EOF {
		err = a.c.readError(a.ctx, err)
	}
	return n, err
}

// Account implements statecopy.Source.
func (s *StateCopy) Account(ctx context.Context, id statecopy.AccountID, fn func(version uint32, treeSize int64, tree io.Reader, listSize int64, list io.Reader) error) error {
	return s.body(ctx, "backup/state/account", CopyAsk{Lease: s.lease, Account: hexID(id)}, func(total int64, r io.Reader) error {
		var head [12]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return err
		}
		size := int64(binary.BigEndian.Uint64(head[4:]))
		listSize := total - 4 - 8 - size - 8
		return fn(binary.BigEndian.Uint32(head[:]), size, io.LimitReader(r, size), listSize, &after{r: r, skip: 8})
	})
}

// after reads what comes after some bytes.
type after struct {
	r    io.Reader
	skip int64
}

func (a *after) Read(p []byte) (int, error) {
	if a.skip > 0 {
		n, err := io.CopyN(io.Discard, a.r, a.skip)
		if a.skip -= n; err != nil {
			return 0, err
		}
	}
	return a.r.Read(p)
}

// Blobs implements statecopy.Source.
func (s *StateCopy) Blobs(ctx context.Context, account statecopy.AccountID, ids []blob.ID, fn func(id blob.ID, size int64, r io.Reader) error) error {
	ask := CopyAsk{Lease: s.lease, Account: hexID(account)}
	for _, id := range ids {
		ask.Blobs = append(ask.Blobs, id.String())
	}
	return s.body(ctx, "backup/state/blobs", ask, func(_ int64, r io.Reader) error {
		for _, id := range ids {
			var size [8]byte
			if _, err := io.ReadFull(r, size[:]); err != nil {
				return err
			}
			n := int64(binary.BigEndian.Uint64(size[:]))
			body := &pieces{r: r, done: n < 0}
			if err := fn(id, n, body); err != nil {
				return err
			}
			if _, err := io.Copy(io.Discard, body); err != nil && !errors.Is(err, statecopy.ErrAtSource) {
				return err
			}
		}
		return nil
	})
}

// pieces reads one blob out of an answer, to its end.
type pieces struct {
	r    io.Reader
	left uint32
	done bool
	lost error // why the server cannot read on
}

func (p *pieces) Read(b []byte) (int, error) {
	if p.left == 0 && !p.done {
		if err := p.next(); err != nil {
			return 0, err
		}
	}
	switch {
	case p.lost != nil:
		return 0, p.lost
	case p.done:
		return 0, io.EOF
	}
	n, err := p.r.Read(b[:min(len(b), int(p.left))])
	p.left -= uint32(n)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// next reads the length of the next piece.
func (p *pieces) next() error {
	var head [4]byte
	if _, err := io.ReadFull(p.r, head[:]); err != nil {
		return unexpected(err)
	}
	switch p.left = binary.BigEndian.Uint32(head[:]); p.left {
	case 0:
		p.done = true
	case lostPiece:
		var size [2]byte
		if _, err := io.ReadFull(p.r, size[:]); err != nil {
			return unexpected(err)
		}
		text := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(p.r, text); err != nil {
			return unexpected(err)
		}
		p.left, p.done, p.lost = 0, true, fmt.Errorf("%w: %s", statecopy.ErrAtSource, text)
	}
	return nil
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// File implements statecopy.Source.
func (s *StateCopy) File(ctx context.Context, name string, fn func(size int64, r io.Reader) error) error {
	err := s.body(ctx, "backup/state/file", CopyAsk{Lease: s.lease, File: name}, fn)
	if errors.Is(err, statecopy.ErrGone) {
		return &Error{Code: CodeConflict, Message: name + " went while it was copied", Hint: "make the copy again"}
	}
	return err
}

// Check implements statecopy.Source.
func (s *StateCopy) Check(ctx context.Context, account statecopy.AccountID, id blob.ID, header, sealed []byte, first uint64, final bool) error {
	q := url.Values{"lease": {s.lease}, "account": {hexID(account)}, "blob": {id.String()}, "first": {strconv.FormatUint(first, 10)}, "final": {strconv.FormatBool(final)}}
	body := io.MultiReader(bytes.NewReader(header), bytes.NewReader(sealed))
	hr, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://sallyport/v1/backup/state/check?"+q.Encode(), body)
	if err != nil {
		return newError(CodeInternal, err.Error(), "")
	}
	hr.ContentLength = int64(len(header) + len(sealed))
	res, err := s.c.do(ctx, hr)
	if err != nil {
		var e *Error
		switch {
		case errors.As(err, &e) && e.Code == CodeNotFound:
			return statecopy.ErrPurged
		case errors.As(err, &e) && e.Code == CodeFindings:
			return fmt.Errorf("%w: %s", statecopy.ErrDamaged, e.Message)
		}
		return err
	}
	return res.Body.Close()
}

// Drilled tells the server that the restore of a copy was tried.
func (c *Client) Drilled(ctx context.Context, r CopyDrilled) error {
	_, err := call[CopyFinished](ctx, c, "backup/state/drilled", r)
	return err
}

// Finish records that the copy is in force; what is not whole in it.
func (s *StateCopy) Finish(ctx context.Context, d *statecopy.Done, place string) ([]CopyDamaged, error) {
	r, err := call[CopyFinished](ctx, s.c, "backup/state/finish", CopyFinish{Lease: s.lease, Blobs: d.Copied, Place: place})
	if err != nil {
		return nil, fmt.Errorf("the copy is whole and in force, but: %w", err)
	}
	d.Audit = r.Audit
	return r.Damaged, nil
}
