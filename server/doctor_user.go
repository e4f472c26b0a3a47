package server

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"
)

// adviceRoot is what to do about a server that runs as root.
const adviceRoot = "run it as a user of its own: the units of `sallyport init` do, with the one capability that low ports need"

// user looks at whom the server runs as. Nothing in it needs root, and a defect
// in it would then be one of the whole host.
func (d *doctor) user() {
	what, uid, err := "the server runs as", 0, error(nil)
	if d.running != nil {
		uid, err = processUID(d.running.PID)
	} else {
		what = "the state directory belongs to"
		uid, err = ownerOf(d.c.State.Dir)
	}
	switch {
	case err != nil:
		d.add("user", Warn, "not known: "+err.Error(), "run the doctor as root or as the server's own user")
	case uid == 0:
		d.add("user", Warn, what+" root", adviceRoot)
	default:
		d.add("user", OK, fmt.Sprintf("%s uid %d", what, uid), "")
	}
}

// processUID is the effective user of a process. Not the owner of /proc/PID:
// that is root for every process that renounced core dumps (proc(5)).
func processUID(pid int) (int, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) == 5 && f[0] == "Uid:" {
			return strconv.Atoi(f[2]) // real, effective, saved, filesystem
		}
	}
	return 0, fmt.Errorf("/proc/%d/status names no user", pid)
}

func ownerOf(path string) (int, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return int(fi.Sys().(*syscall.Stat_t).Uid), nil
}

// credentialOf is the user to whom path belongs, with the groups that the system knows; nil if that is root.
func credentialOf(path string) (*syscall.Credential, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	st := fi.Sys().(*syscall.Stat_t)
	if st.Uid == 0 {
		return nil, nil
	}
	c := &syscall.Credential{Uid: st.Uid, Gid: st.Gid}
	who, err := user.LookupId(strconv.Itoa(int(st.Uid)))
	if err != nil {
		return c, nil // a user without a name has no groups
	}
	ids, err := who.GroupIds()
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		if n, err := strconv.ParseUint(id, 10, 32); err == nil {
			c.Groups = append(c.Groups, uint32(n))
		}
	}
	return c, nil
}
