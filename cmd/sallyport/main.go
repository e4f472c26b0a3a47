// Command sallyport is a secure FTPS and SFTP server over an encrypted,
// versioned volume, and the operator's client of it.
package main

import "os"

func main() {
	os.Exit(run(untilInterrupted(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
