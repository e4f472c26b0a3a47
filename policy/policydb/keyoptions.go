package policydb

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// x509Type is the Type of a pinned TLS client certificate: Blob is then the SHA-256 of the certificate (DER).
const x509Type = "x509"

// harmless options of sshd(8) forbid what this server does not have.
var harmless = []string{"restrict", "no-pty", "no-port-forwarding", "no-agent-forwarding", "no-x11-forwarding", "no-user-rc"}

// ParseKey reads one line of an authorized_keys file, with the options expiry-time, from, cert-authority and principals (sshd(8),
// AUTHORIZED_KEYS FILE FORMAT); or a TLS certificate in PEM. Options that would forbid something unknown here are refused:
// dropping one would grant more than the line says.
func ParseKey(text string) (PublicKey, error) {
	if block, _ := pem.Decode([]byte(text)); block != nil {
		return parsePinned(block)
	}
	key, comment, options, rest, err := ssh.ParseAuthorizedKey([]byte(text))
	if err != nil || len(strings.TrimSpace(string(rest))) > 0 {
		return PublicKey{}, fmt.Errorf("%w: not one line of an authorized_keys file", ErrBadKey)
	}
	k := PublicKey{Blob: key.Marshal(), Comment: comment}
	for _, o := range options {
		if err := k.option(o); err != nil {
			return PublicKey{}, err
		}
	}
	if len(k.Principals) > 0 && !k.Authority {
		return PublicKey{}, fmt.Errorf("%w: principals= is for a cert-authority", ErrBadKey)
	}
	return k, nil
}

func parsePinned(block *pem.Block) (PublicKey, error) {
	if block.Type != "CERTIFICATE" {
		return PublicKey{}, fmt.Errorf("%w: PEM block %q", ErrBadKey, block.Type)
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return PublicKey{}, fmt.Errorf("%w: the certificate cannot be read", ErrBadKey)
	}
	if err := strongX509(c); err != nil {
		return PublicKey{}, err
	}
	sum := sha256.Sum256(c.Raw)
	return PublicKey{Type: x509Type, Blob: sum[:], Comment: c.Subject.String(), Expires: c.NotAfter.UTC()}, nil
}

func (k *PublicKey) option(o string) error {
	name, value, has := strings.Cut(o, "=")
	value = strings.Trim(value, `"`)
	switch name = strings.ToLower(name); {
	case slices.Contains(harmless, name):
		return nil
	case name == "cert-authority" && !has:
		k.Authority = true
		return nil
	case name == "principals" && value != "":
		k.Principals = strings.Split(value, ",")
		return nil
	case name == "expiry-time":
		t, err := parseExpiry(value)
		if err != nil {
			return err
		}
		k.Expires = t
		return nil
	case name == "from" && value != "":
		for _, n := range strings.Split(value, ",") {
			p, err := parseFrom(n)
			if err != nil {
				return err
			}
			k.From = append(k.From, p)
		}
		return nil
	}
	return fmt.Errorf("%w: the option %q is not supported; those that are: expiry-time, from, cert-authority, principals, restrict", ErrBadKey, name)
}

// parseExpiry reads YYYYMMDD[Z] or YYYYMMDDHHMM[SS][Z]. Always UTC: what the server's zone is must not decide when a key ends.
func parseExpiry(s string) (time.Time, error) {
	s = strings.TrimSuffix(s, "Z")
	for _, layout := range []string{"20060102", "200601021504", "20060102150405"} {
		if len(s) == len(layout) {
			if t, err := time.Parse(layout, s); err == nil {
				return t, nil
			}
		}
	}
	return time.Time{}, fmt.Errorf("%w: expiry-time %q is not YYYYMMDD or YYYYMMDDHHMM", ErrBadKey, s)
}

// parseFrom reads an address or a network; patterns and negations are refused.
func parseFrom(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Addr().Is4In6() {
		return p, fmt.Errorf("%w: from=%q is neither an address nor a network", ErrBadKey, s)
	}
	return p.Masked(), nil
}
