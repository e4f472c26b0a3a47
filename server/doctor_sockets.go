package server

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// sockets compares what the server's process really listens on with what the
// configuration says: a door that nobody configured must not be open.
func (d *doctor) sockets() {
	if d.running == nil {
		return
	}
	have, err := listeningPorts(d.running.PID)
	if err != nil {
		d.add("sockets", Warn, "cannot be compared with the configuration: "+err.Error(), "run the doctor as root")
		return
	}
	var wanted []uint16
	add := func(address string) {
		if ap, err := netip.ParseAddrPort(address); err == nil {
			wanted = append(wanted, ap.Port())
		} else if _, port, err := net.SplitHostPort(address); err == nil {
			n, _ := strconv.ParseUint(port, 10, 16)
			wanted = append(wanted, uint16(n))
		}
	}
	for _, l := range d.running.Listeners {
		add(l.Address)
	}
	add(d.c.Health.Address)
	passive, _ := ParsePorts(d.c.Passive.Ports)
	var extra []string
	for _, port := range have {
		inPassive := port >= passive[0] && port <= passive[1] && passive[0] > 0
		if !slices.Contains(wanted, port) && !inPassive && passive[0] > 0 {
			extra = append(extra, strconv.Itoa(int(port)))
		}
	}
	if len(extra) > 0 {
		d.add("sockets", Fail, "the server listens on ports that are not configured: "+strings.Join(extra, ", "), "restart it; if they come back, report it")
		return
	}
	d.add("sockets", OK, fmt.Sprintf("%d listening ports, all of them configured", len(have)), "")
}

// tcpListen is TCP_LISTEN of the kernel (include/net/tcp_states.h), as in /proc/net/tcp.
const tcpListen = "0A"

// listeningPorts are the TCP ports on which a process listens.
func listeningPorts(pid int) ([]uint16, error) {
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		return nil, err
	}
	inodes := map[string]bool{}
	for _, fd := range fds {
		target, err := os.Readlink(fd)
		if inode, ok := strings.CutPrefix(target, "socket:["); err == nil && ok {
			inodes[strings.TrimSuffix(inode, "]")] = true
		}
	}
	if len(inodes) == 0 {
		return nil, fmt.Errorf("the descriptors of process %d cannot be read", pid)
	}
	var ports []uint16
	for _, table := range []string{"tcp", "tcp6"} {
		f, err := os.Open(fmt.Sprintf("/proc/%d/net/%s", pid, table))
		if err != nil {
			continue // a host without IPv6 has no tcp6
		}
		for s := bufio.NewScanner(f); s.Scan(); {
			if port, ok := listening(s.Text(), inodes); ok && !slices.Contains(ports, port) {
				ports = append(ports, port)
			}
		}
		f.Close()
	}
	slices.Sort(ports)
	return ports, nil
}

// listening reads one line of /proc/net/tcp (proc(5)): "sl local_address
// rem_address st … inode …", addresses in hex.
func listening(line string, inodes map[string]bool) (uint16, bool) {
	f := strings.Fields(line)
	if len(f) < 10 || f[3] != tcpListen || !inodes[f[9]] {
		return 0, false
	}
	_, port, ok := strings.Cut(f[1], ":")
	raw, err := hex.DecodeString(port)
	if !ok || err != nil || len(raw) != 2 {
		return 0, false
	}
	return uint16(raw[0])<<8 | uint16(raw[1]), true
}
