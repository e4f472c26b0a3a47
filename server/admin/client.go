package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"syscall"
)

// Client calls a running server over its admin socket. Safe for concurrent use.
// Every method returns *Error.
type Client struct {
	socket string
	http   *http.Client
}

// NewClient makes a client of the socket at path. Nothing is dialled yet.
func NewClient(path string) *Client {
	return &Client{socket: path, http: &http.Client{Transport: &http.Transport{
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, path) },
		DisableKeepAlives: true,
	}}}
}

// Socket is the path that it was made with.
func (c *Client) Socket() string { return c.socket }

// call posts req to an operation and decodes the answer.
func call[Resp any](ctx context.Context, c *Client, op string, req any) (Resp, error) {
	var resp Resp
	body, err := c.post(ctx, op, req)
	if err != nil {
		return resp, err
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(&resp); err != nil {
		return resp, c.readError(ctx, err)
	}
	return resp, nil
}

// stream is call for an answer of one JSON value per line.
func stream[T any](ctx context.Context, c *Client, op string, req any, fn func(T) error) error {
	body, err := c.post(ctx, op, req)
	if err != nil {
		return err
	}
	defer body.Close()
	for d := json.NewDecoder(body); ; {
		var v T
		if err := d.Decode(&v); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return c.readError(ctx, err)
		}
		if err := fn(v); err != nil {
			return err
		}
	}
}

// post sends a request and returns the body of a good answer.
func (c *Client) post(ctx context.Context, op string, req any) (io.ReadCloser, error) {
	hr, err := c.request(ctx, op, req)
	if err != nil {
		return nil, err
	}
	res, err := c.do(ctx, hr)
	if err != nil {
		return nil, err
	}
	return res.Body, nil
}

func (c *Client) request(ctx context.Context, op string, req any) (*http.Request, error) {
	body, err := json.Marshal(req)
	if err != nil {
		return nil, newError(CodeInternal, "encoding the request: "+err.Error(), "")
	}
	hr, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://sallyport/v1/"+op, bytes.NewReader(body))
	if err != nil {
		return nil, newError(CodeInternal, err.Error(), "")
	}
	hr.Header.Set("Content-Type", "application/json")
	return hr, nil
}

// do sends a request and returns a good answer.
func (c *Client) do(ctx context.Context, hr *http.Request) (*http.Response, error) {
	res, err := c.http.Do(hr)
	if err != nil {
		return nil, c.transportError(ctx, err)
	}
	if res.StatusCode == http.StatusOK {
		return res, nil
	}
	defer res.Body.Close()
	var eb errorBody
	if err := json.NewDecoder(io.LimitReader(res.Body, maxBody)).Decode(&eb); err != nil || eb.Error == nil {
		return nil, newError(CodeInternal, "the server answered "+res.Status, "client and server may be of different versions: compare `sallyport version` and `sallyport status`")
	}
	return nil, eb.Error
}

func (c *Client) readError(ctx context.Context, err error) *Error {
	if ctx.Err() != nil {
		return c.transportError(ctx, err)
	}
	return &Error{Code: CodeInternal, Message: "reading the server's answer: " + err.Error(), cause: err}
}

func (c *Client) transportError(ctx context.Context, err error) *Error {
	e := &Error{Code: CodeUnreachable, cause: err}
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		e.Code, e.Message, e.Hint = CodeTimeout, "the server did not answer in time", "raise --timeout"
	case ctx.Err() != nil:
		e.Code, e.Message = CodeTimeout, "interrupted"
	case errors.Is(err, fs.ErrNotExist):
		e.Message, e.Hint = "no server is running: there is no admin socket "+c.socket, "start it with `sallyport serve`, or name the socket of a running one with --socket or --state"
	case errors.Is(err, syscall.ECONNREFUSED):
		e.Message, e.Hint = "no server is running: nobody answers at "+c.socket, "start it with `sallyport serve`"
	case errors.Is(err, fs.ErrPermission):
		e.Code, e.Message, e.Hint = CodeRefused, "this user may not use the admin socket "+c.socket, "run as root or as the server's own user, or add your uid to admin.uids in sallyport.yaml, and let it pass through every directory on the way to the socket"
	default:
		e.Message = "the admin socket " + c.socket + " does not answer: " + err.Error()
	}
	return e
}
