//go:build !linux

package ftpd

import "net"

// unlisten cannot be had here: the library's listener stays until the transfer begins. Nobody accepts from it.
func unlisten(net.Listener) {}
