// Package admin is the operator's way in: HTTP and JSON over a unix socket.
// The kernel's peer credentials decide who may: root, the server's own user
// and the uids named in the configuration; nobody else gets an answer beyond
// "refused". There is no password and no token, and the socket is the only
// door: it is never served over TCP.
//
// A request is POST /v1/<operation> with a JSON body; the answer is 200 with
// the JSON result or an error {"error":{"code","message","hint"}}. Types of
// both are in api.go and shared with Client.
package admin
