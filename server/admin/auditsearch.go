package admin

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"sallyport/policy/policydb"
	"sallyport/server/audit"
)

// errEnough ends a search at its limit.
var errEnough = errors.New("enough")

// auditSearch sends the records that match, the oldest first. It holds one record at a time.
func (s *Server) auditSearch(ctx context.Context, who Peer, r AuditSearch) (func(func(AuditRecord) error) error, error) {
	if err := s.mayResolve(who, r.Resolve); err != nil {
		return nil, err
	}
	match, err := s.matcher(who, r)
	if err != nil {
		return nil, err
	}
	return func(send func(AuditRecord) error) error {
		sent := 0
		send2 := s.resolved(r.Resolve, send)
		err := s.o.Tail(ctx, -1, false, func(rec audit.Record) error {
			if !match(rec) {
				return nil
			}
			if err := send2(rec); err != nil {
				return err
			}
			if sent++; sent == r.Limit {
				return errEnough
			}
			return nil
		})
		if errors.Is(err, errEnough) {
			return nil
		}
		return err
	}, nil
}

// matcher checks what was asked for, so that a typing mistake does not look like "nothing happened".
func (s *Server) matcher(who Peer, r AuditSearch) (func(audit.Record) bool, error) {
	var tests []func(audit.Record) bool
	test := func(f func(audit.Record) bool) { tests = append(tests, f) }
	if r.Account != "" {
		id, err := s.accountID(who, r.Account)
		if err != nil {
			return nil, err
		}
		test(func(x audit.Record) bool { return x.Account == id })
	}
	if r.Action != "" {
		if !slices.Contains(audit.Actions(), audit.Action(r.Action)) {
			return nil, newError(CodeInvalid, fmt.Sprintf("there is no action %q", r.Action), "docs/reference/audit.md lists them")
		}
		test(func(x audit.Record) bool { return string(x.Action) == r.Action })
	}
	if r.Addr != "" {
		n, err := network(r.Addr)
		if err != nil {
			return nil, newError(CodeInvalid, fmt.Sprintf("%q is neither an address nor a network", r.Addr), "")
		}
		test(func(x audit.Record) bool { return n.Contains(x.Remote.Addr().Unmap()) })
	}
	if r.Code != "" {
		test(func(x audit.Record) bool { return x.Code == r.Code })
	}
	if r.Session != "" {
		test(func(x audit.Record) bool { return x.Session == r.Session })
	}
	if !r.Since.IsZero() {
		test(func(x audit.Record) bool { return !x.Time.Before(r.Since) })
	}
	if !r.Until.IsZero() {
		test(func(x audit.Record) bool { return !x.Time.After(r.Until) })
	}
	return func(x audit.Record) bool {
		return !slices.ContainsFunc(tests, func(f func(audit.Record) bool) bool { return !f(x) })
	}, nil
}

func network(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	n, err := netip.ParsePrefix(text)
	return n.Masked(), err
}

// accountID takes an id, or from who may know it a name.
func (s *Server) accountID(who Peer, text string) (audit.ID, error) {
	var id audit.ID
	if id.UnmarshalText([]byte(text)) == nil {
		return id, nil
	}
	if err := s.mayResolve(who, true); err != nil {
		return id, newError(CodeRefused, "this user may not search the audit log by name", "give the account's id, or add your uid to admin.resolve_uids in sallyport.yaml")
	}
	a, err := s.o.Policy.Account(text)
	if errors.Is(err, policydb.ErrNoAccount) {
		return id, newError(CodeNotFound, fmt.Sprintf("there is no account %q", text), "an account that was removed is found by its id")
	} else if err != nil {
		return id, err
	}
	return audit.ID(a.ID), nil
}

// auditExport sends the lines of an export. That it was made is recorded first, so that the export has it, too.
func (s *Server) auditExport(ctx context.Context, who Peer, r AuditExport) (func(func(AuditLine) error) error, error) {
	f := audit.Format(r.Format)
	if f != audit.JSONLines && f != audit.CEF {
		return nil, newError(CodeInvalid, fmt.Sprintf("there is no format %q", r.Format), "formats are json and cef")
	}
	if err := s.recordFirst(ctx, who, audit.Event{Action: audit.Export, Detail: join("as "+r.Format, r.Reason)}); err != nil {
		return nil, err
	}
	return func(send func(AuditLine) error) error {
		return s.o.ExportAudit(ctx, audit.ExportOptions{Format: f, Since: r.Since, Until: r.Until}, func(line []byte) error { return send(AuditLine{string(line)}) })
	}, nil
}

// auditKey is the public key of the checkpoints, in PEM.
func (s *Server) auditKey(context.Context, Peer, Empty) (AuditKey, error) {
	key, version := s.o.AuditKey()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return AuditKey{}, err
	}
	return AuditKey{Version: version, Public: string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))}, nil
}
