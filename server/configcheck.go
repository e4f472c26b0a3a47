package server

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// check finds everything wrong with the values, so that one run shows all.
func (l *Loaded) check() ConfigErrors {
	c := checker{l: l}
	c.paths()
	c.listeners()
	c.passive()
	c.tls()
	c.seal()
	c.algorithms()
	c.oneOf("log.level", l.Log.Level, "debug", "info", "warn", "error")
	c.oneOf("log.format", l.Log.Format, "auto", "text", "json")
	c.health()
	if l.Scrub.Interval < 0 || l.Scrub.Interval > 0 && l.Scrub.Interval < time.Second {
		c.fail("scrub.interval", "must be 0s (never) or at least 1s", "")
	}
	if l.Scrub.Rate < 0 {
		c.fail("scrub.rate", "must not be negative", "")
	}
	if l.Retention.Rate < 0 {
		c.fail("retention.rate", "must not be negative", "")
	}
	if l.Clock.MaxJump < time.Minute || l.Clock.MaxJump > 24*time.Hour {
		c.fail("clock.max_jump", "must be between 1m and 24h", "")
	}
	if l.Clock.MaxOff < l.Clock.MaxJump || l.Clock.MaxOff > 366*24*time.Hour {
		c.fail("clock.max_off", "must be between clock.max_jump and a year (8784h)", "")
	}
	c.audit()
	if l.State.IdleClose < time.Second || l.State.IdleClose > 24*time.Hour {
		c.fail("state.idle_close", "must be between 1s and 24h", "")
	}
	if l.Shutdown.Drain < 0 || l.Shutdown.Drain > 10*time.Minute {
		c.fail("shutdown.drain", "must be between 0s and 10m", "")
	}
	if _, ok := c.l.Shred.time(); !ok && l.Shred.At != never {
		c.fail("shred.at", `must be a time of day such as "03:30", or never`, "")
	}
	if l.Shred.Jitter < 0 || l.Shred.Jitter > 12*time.Hour {
		c.fail("shred.jitter", "must be between 0s and 12h", "")
	}
	for key, age := range map[string]time.Duration{"copies.max_age": l.Copies.MaxAge, "copies.drill_max_age": l.Copies.DrillMaxAge} {
		if age != 0 && age < time.Minute {
			c.fail(key, "must be 0s (never) or at least 1m", "")
		}
	}
	c.limits()
	slices.SortStableFunc(c.errs, func(a, b *ConfigError) int { return cmp.Or(a.Line-b.Line, a.Col-b.Col) })
	return c.errs
}

func (c *checker) algorithms() {
	a := c.l.Algorithms
	c.oneOf("algorithms.profile", a.Profile, ProfileModern, ProfileCompatible, ProfileLegacy)
	if a.Legacy.Until != "" && a.Legacy.end().IsZero() {
		c.fail("algorithms.legacy.until", fmt.Sprintf("%q is not a date", a.Legacy.Until), "write it as 2027-01-31")
		return
	}
	if a.Profile == ProfileLegacy && (strings.TrimSpace(a.Legacy.Reason) == "" || a.Legacy.Until == "") {
		c.fail("algorithms.profile", "legacy-insecure needs a reason and an end", "set algorithms.legacy.reason and algorithms.legacy.until: {reason: \"OPS-377 old scanner\", until: 2027-01-31}")
	}
}

func (c *checker) limits() {
	l := c.l.Limits
	for key, n := range map[string]int{
		"connections": l.Connections, "per_address": l.PerAddress,
		"unauthenticated": l.Unauthenticated, "unauthenticated_per_address": l.UnauthenticatedPerAddress,
	} {
		if n < 1 {
			c.fail("limits."+key, "must be at least 1", "")
		}
	}
	if l.LoginTime < time.Second {
		c.fail("limits.login_time", "must be at least 1s", "")
	}
	if l.WindowMemory < 4<<20 {
		c.fail("limits.window_memory", "must be at least 4194304 bytes, the window of one upload", "")
	}
	if l.OpenFiles < 0 || l.PasswordWorkers < 0 {
		c.fail("limits", "must not be negative", "")
	}
}

// minKeep keeps a wrong unit from emptying the log.
const minKeep = 24 * time.Hour

func (c *checker) audit() {
	a := c.l.Audit
	c.oneOf("audit.on_failure", a.OnFailure, AuditRefuse, AuditContinue)
	if a.Keep != 0 && a.Keep < minKeep {
		c.fail("audit.keep", "must be 0 (for ever) or at least 24h", "")
	}
	if a.MaxAge != 0 && a.MaxAge < time.Minute {
		c.fail("audit.max_age", "must be 0 (by size alone) or at least 1m", "")
	}
	if a.Reserve < 0 || a.Reserve > 1<<30 {
		c.fail("audit.reserve", "must be between 0 and 1073741824 bytes", "")
	}
}

type checker struct {
	l    *Loaded
	errs ConfigErrors
}

// fail places the error at the key, or at the nearest parent that has a place.
func (c *checker) fail(key, message, hint string) {
	e := &ConfigError{Key: key, Message: message, Hint: hint}
	for k := key; ; {
		if o, ok := c.l.Origins[k]; ok && o.Source != "default" {
			if o.Source == "file" {
				e.File, e.Line, e.Col = o.Name, o.Line, o.Col
			} else {
				e.Key = key + " (" + o.String() + ")"
			}
			break
		}
		cut := strings.LastIndexAny(k, ".[")
		if cut < 0 {
			break
		}
		k = k[:cut]
	}
	c.errs = append(c.errs, e)
}

func (c *checker) oneOf(key, value string, allowed ...string) {
	for _, a := range allowed {
		if value == a {
			return
		}
	}
	c.fail(key, fmt.Sprintf("%q is not one of %s", value, strings.Join(allowed, ", ")), "")
}

func (c *checker) paths() {
	abs := func(key, p string) {
		if p != "" && !filepath.IsAbs(p) && !strings.HasPrefix(p, "credential:") {
			c.fail(key, fmt.Sprintf("%q is not an absolute path", p), "a relative path would depend on where the server is started")
		}
	}
	if c.l.State.Dir == "" {
		c.fail("state.dir", "must not be empty", "")
	}
	abs("state.dir", c.l.State.Dir)
	abs("seal.key_file", c.l.Seal.KeyFile)
	abs("hostkeys.dir", c.l.HostKeys.Dir)
	abs("admin.socket", c.l.Admin.Socket)
	abs("seal.transit.token_file", c.l.Seal.Transit.TokenFile)
	abs("seal.transit.ca_file", c.l.Seal.Transit.CAFile)
	if within(c.l.State.Dir, c.l.KeyFile()) {
		c.fail("seal.key_file", "the seal key must not lie in the state directory",
			"whoever copies the state directory would have the key too; keep it elsewhere, e.g. "+strings.TrimRight(c.l.State.Dir, "/")+".key")
	}
}

// within tells whether path lies below dir, by name.
func within(dir, path string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

func (c *checker) listeners() {
	if len(c.l.Listeners) == 0 {
		c.fail("listeners", "needs at least one entry", "")
	}
	seen := map[string]int{}
	for i, ln := range c.l.Listeners {
		key := fmt.Sprintf("listeners[%d]", i)
		c.oneOf(key+".protocol", ln.Protocol, ProtocolSFTP, ProtocolFTPSExplicit, ProtocolFTPSImplicit)
		if err := checkAddress(ln.Address); err != nil {
			c.fail(key+".address", err.Error(), `write HOST:PORT, e.g. "0.0.0.0:2022", or "systemd:NAME"`)
			continue
		}
		if first, dup := seen[ln.Address]; dup && !strings.HasSuffix(ln.Address, ":0") {
			c.fail(key+".address", fmt.Sprintf("%s is taken by listeners[%d]", ln.Address, first), "")
		}
		seen[ln.Address] = i
	}
}

func checkAddress(a string) error {
	if name, ok := strings.CutPrefix(a, "systemd:"); ok {
		if name == "" {
			return fmt.Errorf("systemd: needs the name of a socket")
		}
		return nil
	}
	_, port, err := net.SplitHostPort(a)
	if err != nil {
		return fmt.Errorf("%q is not HOST:PORT", a)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%q is not a port", port)
	}
	return nil
}

func (c *checker) passive() {
	if _, err := ParsePorts(c.l.Passive.Ports); err != nil {
		c.fail("passive.ports", err.Error(), `write FIRST-LAST, e.g. "50000-50999", or "" for any`)
	}
	if _, err := parsePublic(c.l.Passive.PublicAddress); err != nil {
		c.fail("passive.public_address", err.Error(), `write "auto" or the IPv4 address that clients reach`)
	}
	for i, n := range c.l.Passive.Networks {
		key := fmt.Sprintf("passive.networks[%d]", i)
		if _, err := netip.ParsePrefix(n.From); err != nil {
			c.fail(key+".from", fmt.Sprintf("%q is not a network", n.From), "write it as 10.0.0.0/8")
		}
		if _, err := parsePublic(n.Address); err != nil {
			c.fail(key+".address", err.Error(), `write "auto" or an IPv4 address`)
		}
	}
}

// ParsePorts reads "A-B"; "" is {0, 0}, the kernel's choice.
func ParsePorts(s string) ([2]uint16, error) {
	if s == "" {
		return [2]uint16{}, nil
	}
	a, b, ok := strings.Cut(s, "-")
	first, err1 := strconv.ParseUint(strings.TrimSpace(a), 10, 16)
	last, err2 := strconv.ParseUint(strings.TrimSpace(b), 10, 16)
	if !ok || err1 != nil || err2 != nil || first == 0 || last < first {
		return [2]uint16{}, fmt.Errorf("%q is not a range of ports", s)
	}
	return [2]uint16{uint16(first), uint16(last)}, nil
}

// parsePublic reads "auto" (or "") as the invalid address, which stands for
// the local one.
func parsePublic(s string) (netip.Addr, error) {
	if s == "" || s == "auto" {
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil || !a.Unmap().Is4() {
		return netip.Addr{}, fmt.Errorf("%q is neither auto nor an IPv4 address", s)
	}
	return a.Unmap(), nil
}

func (c *checker) tls() {
	for i, p := range c.l.TLS.Certificates {
		key := fmt.Sprintf("tls.certificates[%d]", i)
		if p.Certificate == "" || p.Key == "" {
			c.fail(key, "needs both certificate and key", "")
		}
	}
}

func (c *checker) health() {
	a := c.l.Health.Address
	if a == "" {
		return
	}
	if p, ok := strings.CutPrefix(a, "unix:"); ok {
		if !filepath.IsAbs(p) {
			c.fail("health.address", fmt.Sprintf("%q is not an absolute path", p), "")
		}
		return
	}
	host, _, err := net.SplitHostPort(a)
	ip, ipErr := netip.ParseAddr(host)
	switch {
	case err != nil:
		c.fail("health.address", fmt.Sprintf("%q is not HOST:PORT", a), "")
	case host != "localhost" && (ipErr != nil || !ip.IsLoopback()):
		c.fail("health.address", "must be a loopback address", "it is plain HTTP; put a proxy in front of it to reach it from elsewhere, or use unix:PATH")
	}
}
