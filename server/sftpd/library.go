package sftpd

import (
	"encoding/binary"
	"io"

	"github.com/pkg/sftp"
)

// library runs pkg/sftp's RequestServer for the requests that name things. The
// filter's order lets through one request at a time, so the next reply belongs
// to the last request.
type library struct {
	toServer   *io.PipeWriter
	fromClient *io.PipeReader
	replies    chan packet
	partial    []byte        // owned by the library's sending goroutine
	ended      chan struct{} // closed when Serve has returned
}

func newLibrary(f *filter) *library {
	r, w := io.Pipe()
	l := &library{toServer: w, fromClient: r, replies: make(chan packet, 1), ended: make(chan struct{})}
	h := names{f}
	server := sftp.NewRequestServer(l, sftp.Handlers{FileGet: h, FilePut: h, FileCmd: h, FileList: h})
	// Ends when close ends the pipe.
	go func() {
		defer close(l.ended)
		_ = server.Serve()
	}()
	return l
}

// do hands the library one packet body and returns its reply.
func (l *library) do(body []byte) (packet, error) {
	var head [4]byte
	binary.BigEndian.PutUint32(head[:], uint32(len(body)))
	if _, err := l.toServer.Write(head[:]); err != nil {
		return nil, errGone
	}
	if _, err := l.toServer.Write(body); err != nil {
		return nil, errGone
	}
	select {
	case p := <-l.replies:
		return p, nil
	case <-l.ended:
		return nil, errGone
	}
}

// close ends the library's server and waits for it. Nothing is under way.
func (l *library) close() {
	_ = l.toServer.Close()
	<-l.ended
}

// Read, Write and Close are the library's connection.

func (l *library) Read(p []byte) (int, error) { return l.fromClient.Read(p) }

// Write gathers the library's two writes per packet into one reply.
func (l *library) Write(p []byte) (int, error) {
	l.partial = append(l.partial, p...)
	if len(l.partial) >= 4 {
		if n := 4 + int(binary.BigEndian.Uint32(l.partial)); len(l.partial) >= n {
			l.replies <- l.partial[:n:n]
			l.partial = nil
		}
	}
	return len(p), nil
}

func (l *library) Close() error { return l.fromClient.Close() }

// names are the library's handlers, on the guarded tree of the session. Each
// survives a panic: the library runs them in goroutines that recover from none.
type names struct{ f *filter }

var (
	_ sftp.RealPathFileLister = names{}
	_ sftp.ReadlinkFileLister = names{}
)

// guarded turns the outcome of fn into an error that the library passes on as
// it is.
func (n names) guarded(op string, fn func() error) error {
	if s := n.f.guarded(op, fn); s != nil {
		return s
	}
	return nil
}

// Filecmd serves REMOVE, RMDIR, RENAME and SYMLINK. RENAME of version 3 does
// not replace (draft-ietf-secsh-filexfer-02, section 6.5). SYMLINK's arguments
// are in OpenSSH's order, target first, as every client sends them; Filepath is
// the target then, as it came.
func (n names) Filecmd(r *sftp.Request) error {
	t := n.f.tree
	switch r.Method {
	case "Remove":
		return n.guarded("remove", func() error { return t.Remove(r.Filepath) })
	case "Rmdir":
		return n.guarded("rmdir", func() error { return t.Rmdir(r.Filepath) })
	case "Rename":
		return n.guarded("rename", func() error { return t.RenameNew(r.Filepath, r.Target) })
	case "Symlink":
		return n.guarded("symlink", func() error { return t.Symlink(r.Filepath, r.Target) })
	}
	return errUnknownOp
}

// RealPath serves REALPATH.
func (n names) RealPath(name string) (real string, err error) {
	err = n.guarded("realpath", func() (err error) {
		real, err = n.f.tree.Resolve(clean(name))
		return err
	})
	return real, err
}

// Readlink serves READLINK.
func (n names) Readlink(name string) (target string, err error) {
	err = n.guarded("readlink", func() (err error) {
		target, err = n.f.tree.Readlink(name)
		return err
	})
	return target, err
}

// What the filter never forwards.

func (names) Filelist(*sftp.Request) (sftp.ListerAt, error) { return nil, errUnknownOp }
func (names) Fileread(*sftp.Request) (io.ReaderAt, error)   { return nil, errUnknownOp }
func (names) Filewrite(*sftp.Request) (io.WriterAt, error)  { return nil, errUnknownOp }
