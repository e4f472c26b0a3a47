package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"sallyport/crypto/approved"
	"sallyport/server/admin"
	"sallyport/server/clock"
)

// Result of one check of the doctor.
type Result string

const (
	OK   Result = "ok"
	Warn Result = "warn" // works, but should be looked at
	Fail Result = "fail"
)

// Finding is one line of the doctor's report.
type Finding struct {
	Check  string `json:"check"`
	Result Result `json:"result"`
	Detail string `json:"detail"`
	Hint   string `json:"hint,omitempty"` // how to mend it
}

// Thresholds of the doctor.
const (
	certWarnBefore = 30 * 24 * time.Hour
	diskFailBytes  = 256 << 20 // below it uploads are about to fail
	diskWarnShare  = 10        // percent free
)

// Doctor examines the host and the state directory. running is the status of
// the server that works on it, nil if none answers. It changes nothing.
func Doctor(ctx context.Context, l *Loaded, running *admin.Status, now time.Time) []Finding {
	d := &doctor{c: l.Config, running: running, now: now}
	if running != nil && l.Origins["listeners"].Source == "default" {
		// Nobody said what should be open (a demo has it from flags): what is open is taken as meant.
		d.c = new(*l.Config)
		d.c.Listeners = nil
		for _, r := range running.Listeners {
			d.c.Listeners = append(d.c.Listeners, Listener(r))
		}
	}
	d.fips()
	d.state()
	d.seal(ctx)
	d.certificates()
	d.algorithms()
	d.hostKeys()
	d.ports(ctx)
	d.sockets()
	d.user()
	d.maximum()
	d.clock()
	d.disk()
	d.audit()
	d.copies()
	return d.out
}

// audit looks at how the log is kept, and at what a running server says of it.
func (d *doctor) audit() {
	if d.running != nil {
		for _, w := range d.running.Audit {
			d.add("audit", Fail, w, "make space on the disk of "+d.c.State.Dir+"; after an error other than a full disk, restart the server")
		}
		if len(d.running.Audit) > 0 {
			return
		}
	}
	switch {
	case d.c.Audit.OnFailure == AuditContinue:
		d.add("audit", Warn, "the server goes on when the audit log cannot be written", "set audit.on_failure: refuse, unless being reachable is worth more than knowing what happened")
	case d.c.Audit.Reserve == 0:
		d.add("audit", Warn, "no disk space is reserved for the audit log", "set audit.reserve")
	default:
		d.add("audit", OK, fmt.Sprintf("refuses without its log; %d bytes of disk are reserved for it", d.c.Audit.Reserve), "")
	}
}

type doctor struct {
	c       *Config
	running *admin.Status
	now     time.Time
	out     []Finding
}

// fips says what the running server may use, or what this process may if none runs.
func (d *doctor) fips() { d.add("fips140", OK, d.mode(), "") }

func (d *doctor) mode() string {
	if d.running != nil && d.running.FIPS140 != "" {
		return d.running.FIPS140
	}
	return approved.Mode()
}

// approvedOnly says whether nothing else than what FIPS 140-3 approves may be used there.
func (d *doctor) approvedOnly() bool { return strings.HasPrefix(d.mode(), "only") }

func (d *doctor) add(check string, r Result, detail, hint string) {
	if r == OK {
		hint = ""
	}
	d.out = append(d.out, Finding{check, r, detail, hint})
}

// private checks that path is no more open than mode.
func (d *doctor) private(check, path string, mode fs.FileMode) bool {
	fi, err := os.Stat(path)
	if err != nil {
		d.add(check, Fail, err.Error(), "run as root or as the server's own user; if it is really missing, restore it")
		return false
	}
	if extra := fi.Mode().Perm() &^ mode; extra != 0 {
		d.add(check, Fail, fmt.Sprintf("%s has mode %04o: others may use it", path, fi.Mode().Perm()), fmt.Sprintf("chmod %04o %s", fi.Mode().Perm()&mode, path))
		return false
	}
	return true
}

func (d *doctor) state() {
	if !Initialised(d.c.State.Dir) {
		d.add("state", Fail, "no initialised state directory at "+d.c.State.Dir, "make it with `sallyport init`, or name the right one with --state")
		return
	}
	if d.private("state", d.c.State.Dir, 0o700) {
		d.add("state", OK, d.c.State.Dir+" is private", "")
	}
}

func sameFilesystem(a, b string) bool {
	var sa, sb unix.Stat_t
	return unix.Stat(a, &sa) == nil && unix.Stat(b, &sb) == nil && sa.Dev == sb.Dev
}

func (d *doctor) certificates() {
	pairs, own := d.c.Certificates()
	for _, p := range pairs {
		cert, err := loadPair(p)
		switch {
		case err != nil:
			d.add("certificate", Fail, err.Error(), "the server does not start with it, and a running one keeps the old certificate")
			continue
		case !d.private("certificate", p.Key, 0o640):
			continue
		}
		left := cert.Leaf.NotAfter.Sub(d.now)
		detail := fmt.Sprintf("%s, %s, until %s", p.Certificate, describeCert("", cert.Leaf).Key, cert.Leaf.NotAfter.Format(time.DateOnly))
		renew := "put a new certificate in place: it is taken over without a restart"
		if own {
			renew = "`sallyport cert rotate` makes a new self-signed certificate"
		}
		switch {
		case left <= 0:
			d.add("certificate", Fail, detail+": expired", renew)
		case d.now.Before(cert.Leaf.NotBefore):
			d.add("certificate", Fail, detail+": not valid yet", "check the clock")
		case left < certWarnBefore:
			d.add("certificate", Warn, fmt.Sprintf("%s: expires in %d days", detail, int(left.Hours()/24)), renew)
		case own:
			d.add("certificate", Warn, detail+": self-signed", "clients must be given it by hand; set tls.certificates to one that they trust already")
		default:
			d.add("certificate", OK, detail, "")
		}
	}
}

// algorithms tells what the listeners offer to strangers.
func (d *doctor) algorithms() {
	if text, hint := d.c.Algorithms.advice(d.now); text != "" {
		d.add("algorithms", Warn, text, hint)
		return
	}
	d.add("algorithms", OK, "the listeners offer the profile "+d.c.Algorithms.Profile, "")
}

func (d *doctor) hostKeys() {
	dir := d.c.HostKeyDir()
	found := 0
	for _, kind := range hostKeyKinds {
		path := (&HostKeySet{dir: dir}).path(kind)
		s, err := readHostKey(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			d.add("host key", Fail, err.Error(), "`sallyport hostkey rotate "+kind+"` makes a new one")
			continue
		}
		found++
		if d.private("host key", path, 0o600) {
			kind, _ := checkStrength(s.PublicKey().(ssh.CryptoPublicKey).CryptoPublicKey())
			d.add("host key", OK, path+", "+kind, "")
		}
	}
	if found == 0 {
		d.add("host key", Fail, "no usable host key in "+dir, "the server makes the missing ones when it starts")
	}
}

// ports asks whether each listener is open, or could be.
func (d *doctor) ports(ctx context.Context) {
	for _, l := range d.c.Listeners {
		check := "port"
		if strings.HasPrefix(l.Address, "systemd:") {
			d.add(check, OK, l.Protocol+" uses the socket that systemd passes as "+l.Address[len("systemd:"):], "")
			continue
		}
		if d.running != nil {
			if d.serves(l) {
				d.add(check, OK, l.Protocol+" is served on "+l.Address, "")
			} else {
				d.add(check, Fail, "the running server does not serve "+l.Protocol+" on "+l.Address, "restart it: listeners are not changed by a reload")
			}
			continue
		}
		var lc net.ListenConfig
		ln, err := lc.Listen(ctx, "tcp", l.Address)
		if err != nil {
			le := &ListenError{l, err}
			d.add(check, Fail, le.Error(), le.Hint())
			continue
		}
		ln.Close()
		d.add(check, OK, l.Address+" is free for "+l.Protocol, "")
	}
}

// serves tells whether the running server has a listener of l's protocol and port.
func (d *doctor) serves(l Listener) bool {
	_, want, _ := net.SplitHostPort(l.Address)
	return slices.ContainsFunc(d.running.Listeners, func(r admin.Listener) bool {
		_, have, _ := net.SplitHostPort(r.Address)
		return r.Protocol == l.Protocol && (want == "0" || want == have)
	})
}

// maximum says how far the policy is from the preset of that name. Not holding all of it is no fault: only what is missing
// is told. Without a running server nobody can say: the policy is sealed.
func (d *doctor) maximum() {
	if d.running == nil || d.running.Maximum == nil {
		return
	}
	m := d.running.Maximum
	detail := fmt.Sprintf("%d of %d settings of the preset maximum hold for the site", m.Held, m.Of)
	if len(m.Missing) > 0 {
		d.add("policy", Warn, detail+"; missing: "+strings.Join(m.Missing, ", "), "`sallyport policy plan --preset maximum` shows what `sallyport policy preset maximum` would change")
		return
	}
	d.add("policy", OK, detail, "")
}

// clock asks the server what it makes of the clock, and the kernel whether anything keeps it right.
func (d *doctor) clock() {
	if d.running != nil && d.running.Clock != "" {
		d.add("clock", Fail, d.running.Clock, "`sallyport backup clock` says what to do")
	}
	if names, err := clock.Aside(filepath.Join(d.c.State.Dir, clockFile)); err == nil && len(names) > 0 {
		d.add("clock", Warn, "records that could not be read were put aside in "+d.c.State.Dir+": "+strings.Join(names, ", "),
			"keep them until everything that was deleted before is past its retention: what they know of the clock is nowhere else; then remove them")
	}
	var t unix.Timex
	state, err := unix.Adjtimex(&t) // modes 0: reads only (adjtimex(2))
	switch {
	case err != nil:
		d.add("clock", Warn, "cannot be asked: "+err.Error(), "")
	case state == unix.TIME_ERROR || t.Status&unix.STA_UNSYNC != 0:
		d.add("clock", Warn, "is not synchronised", "run systemd-timesyncd or chrony: retention, bans and certificates go by the clock")
	default:
		d.add("clock", OK, "is synchronised", "")
	}
}

func (d *doctor) disk() {
	var s unix.Statfs_t
	if err := unix.Statfs(d.c.State.Dir, &s); err != nil {
		d.add("disk", Fail, err.Error()+": "+d.c.State.Dir, "see the check of the state directory")
		return
	}
	free := s.Bavail * uint64(s.Bsize)
	percent := uint64(100)
	if s.Blocks > 0 {
		percent = s.Bavail * 100 / s.Blocks
	}
	detail := fmt.Sprintf("%d MiB free (%d %%) below %s", free>>20, percent, d.c.State.Dir)
	const hint = "make room or move the state directory to a larger disk"
	switch {
	case free < diskFailBytes:
		d.add("disk", Fail, detail, hint)
	case percent < diskWarnShare || s.Files > 0 && s.Ffree*100/s.Files < diskWarnShare:
		d.add("disk", Warn, fmt.Sprintf("%s, %d of %d inodes free", detail, s.Ffree, s.Files), hint)
	default:
		d.add("disk", OK, detail, "")
	}
}
