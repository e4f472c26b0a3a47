package server

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"sallyport/crypto/keyring"
	"sallyport/server/admin"
	"sallyport/server/ftpd"
	"sallyport/server/sftpd"
)

// frontEnds builds what strangers and operators talk to.
func (s *Server) frontEnds() error {
	sealed, err := sealedSessions(s.config.Config, s.log)
	if err != nil {
		return err
	}
	s.door.admit(sealed)
	ports, err := ParsePorts(s.config.Passive.Ports)
	if err != nil {
		return err
	}
	legacy := func() bool { return s.config.Algorithms.offersLegacy(time.Now()) }
	if text, _ := s.config.Algorithms.advice(time.Now()); text != "" {
		s.log.Warn(text)
	}
	if s.ftp, err = ftpd.New(ftpd.Options{
		Sessions: &s.door, Certificate: s.certs.Get, Log: s.log.With("front_end", "ftpd"),
		PassivePorts: ports, PublicAddress: publicAddress(s.config.Passive), Ciphers: s.config.Algorithms.Profile, Legacy: legacy, LoginTime: s.config.Limits.LoginTime,
	}); err != nil {
		return fmt.Errorf("FTPS front-end: %w", err)
	}
	if s.sftp, err = sftpd.New(sftpd.Options{
		Sessions: &s.door, HostKeys: s.hostKeys.Signers, Log: s.log.With("front_end", "sftpd"), Profile: s.config.Algorithms.Profile, Legacy: legacy,
		Limits: sftpLimits(s.config.Limits),
	}); err != nil {
		return fmt.Errorf("SFTP front-end: %w", err)
	}
	s.admin = admin.NewDoor(s.doorOptions())
	return nil
}

// sftpLimits are the walls behind the session manager's caps before login:
// twice those, so that its fairer rule (the oldest of the busiest address goes)
// always acts first.
func sftpLimits(l Limits) sftpd.Limits {
	return sftpd.Limits{PreAuth: l.LoginTime, Handshakes: 2 * l.Unauthenticated, HandshakesPerNet: 2 * l.UnauthenticatedPerAddress}
}

// doorOptions are what operators can do with a sealed server, too.
func (s *Server) doorOptions() admin.DoorOptions {
	a := s.config.Admin
	return admin.DoorOptions{
		Log: s.log.With("front_end", "admin"), UIDs: a.UIDs, Unsealers: admin.Unsealers{UIDs: a.UnsealUIDs, GIDs: a.UnsealGIDs},
		Status: s.status, Reload: s.reload, HostKeys: s.hostKeys.List, Certs: s.certs.List,
		SealState: s.sealState, Unseal: s.unsealBy, Attempt: s.refusedAttempt,
	}
}

// adminOptions are what they can do with the parts of an unsealed one.
func (s *Server) adminOptions(p *parts) admin.Options {
	return admin.Options{
		Log:    s.log.With("front_end", "admin"),
		Policy: p.policy, Keyring: p.keyring, Volumes: p.volumes,
		HostKeys: s.hostKeys.List, RotateHostKeys: s.rotateHostKeys,
		Certs: s.certs.List, RotateCerts: s.rotateCerts,
		Scrub:    p.scrub.now,
		Copier:   p.copier,
		Sessions: p.listSessions, Kill: p.kill, Bans: p.bans, Ban: p.ban, Unban: p.unban, Unlock: p.sessions.Unlock,
		WouldEnd: p.wouldEnd, Facts: p.sessions.Facts,
		Shred: p.shredder.Run, Finish: p.finisher, Token: s.token.say, Record: p.audit.Append, RecordSeq: p.audit.AppendSeq, Tail: p.tail, ReadAudit: p.audit.Read, VerifyAudit: p.audit.Verify,
		ExportAudit: p.exportAudit, AuditKey: p.audit.PublicKey, ResolveUIDs: s.config.Admin.ResolveUIDs,
		WouldPurge: p.wouldPurge, HoldsChanged: p.retention.HoldsChanged, HoldNames: p.sessions.HoldNames, Clock: p.clock,
		SealOf: func(ctx context.Context, kind string) (keyring.Seal, error) {
			c, err := s.sealConfig()
			if err != nil {
				return nil, err
			}
			return c.sealOfKind(ctx, kind, s.log)
		},
		SealHint: SealHint,
		Seal:     func(ctx context.Context, who admin.Peer, why string) error { return s.seal(ctx, who.String(), why) },
	}
}

func (s *Server) rotateHostKeys(kinds ...string) error {
	err := s.hostKeys.Rotate(kinds...)
	if errors.Is(err, ErrNoSuchKey) {
		return &admin.Error{Code: admin.CodeNotFound, Message: err.Error(), Hint: "kinds are " + strings.Join(hostKeyKinds, ", ")}
	}
	return err
}

// rotateCerts makes a new self-signed certificate if the server uses its own,
// and otherwise takes over the operator's files if they changed.
func (s *Server) rotateCerts() error {
	if pairs, own := s.config.Certificates(); own {
		if err := SelfSign(pairs[0], s.config.certNames(), time.Now()); err != nil {
			return err
		}
	}
	return s.certs.Reload()
}

// publicAddress is what PASV tells: the network's address of the client if one
// fits, else the general one; the invalid address means the local one.
func publicAddress(p Passive) func(local, remote netip.Addr) netip.Addr {
	general, _ := parsePublic(p.PublicAddress) // the configuration check accepted both
	type override struct {
		from netip.Prefix
		addr netip.Addr
	}
	var overrides []override
	for _, n := range p.Networks {
		from, _ := netip.ParsePrefix(n.From)
		addr, _ := parsePublic(n.Address)
		overrides = append(overrides, override{from, addr})
	}
	return func(_, remote netip.Addr) netip.Addr {
		for _, o := range overrides {
			if o.from.Contains(remote.Unmap()) {
				return o.addr
			}
		}
		return general
	}
}
