package admin

import (
	"context"
	"errors"
	"net/http"

	"sallyport/server/copier"
	"sallyport/server/statecopy"
	"sallyport/vfs/blob"
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
		notes[i] = statecopy.Note{Account: id, Kept: n.Kept, Retained: statecopy.Retained(n.Retained), What: n.What}
	}
	return Empty{}, l.Note(ctx, notes)
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
			one := CopyDamaged{Account: hexID(d.Account), ID: hexID(d.Account), Last: d.Last, Lacking: d.Lacking, Newest: d.Newest}
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
