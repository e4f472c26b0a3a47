// Command sallyport is a secure FTPS and SFTP server over an encrypted, versioned volume.
package main

func main() {}
