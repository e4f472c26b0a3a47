// Package admin serves the operator over a unix socket: HTTP and JSON, peer credentials decide who.
package admin
