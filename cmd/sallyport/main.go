// Command sallyport is a secure FTPS and SFTP server over an encrypted,
// versioned volume, and the operator's client of it.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	// The first SIGINT or SIGTERM ends ctx, so that the server drains and a client's
	// call is given up. After it the default disposition is back: the second
	// SIGINT kills at once, which the on-disk formats are made to survive.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	go func() { // ends with the process
		<-ctx.Done()
		stop()
	}()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
