package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"sallyport/server/admin"
)

func (a *app) hostkeyCommand() *cobra.Command {
	list := &cobra.Command{Use: "list", Short: "List the SSH host keys", Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.call(c.Context(), shortCall, func(ctx context.Context, cl *admin.Client) error {
				k, err := cl.HostKeyList(ctx)
				if err != nil {
					return err
				}
				return a.showHostKeys(k)
			})
		}}
	rotate := &cobra.Command{Use: "rotate [KIND...]", Short: "Replace SSH host keys (ed25519, ecdsa, rsa; all if none is named)",
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.confirm("Every SFTP client will see changed host keys and must be told the new fingerprints."); err != nil {
				return err
			}
			return a.call(c.Context(), shortCall, func(ctx context.Context, cl *admin.Client) error {
				k, err := cl.HostKeyRotate(ctx, admin.HostKeyRotate{Change: a.change(), Kinds: args})
				if err != nil {
					return err
				}
				return a.showHostKeys(k)
			})
		}}
	return group("hostkey", "SSH host keys", list, rotate)
}

func (a *app) showHostKeys(k admin.HostKeys) error {
	v := view{value: k, header: []string{"KIND", "FINGERPRINT", "PUBLIC KEY"}}
	for _, x := range k.Keys {
		v.rows = append(v.rows, []string{x.Kind, x.Fingerprint, x.Public})
	}
	return a.show(v)
}

func (a *app) certCommand() *cobra.Command {
	list := &cobra.Command{Use: "list", Short: "List the TLS certificates in use", Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.call(c.Context(), shortCall, func(ctx context.Context, cl *admin.Client) error {
				certs, err := cl.CertList(ctx)
				if err != nil {
					return err
				}
				return a.showCerts(certs)
			})
		}}
	rotate := &cobra.Command{Use: "rotate", Short: "Make a new self-signed certificate, or load changed files now", Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := a.confirm("Clients that trust the present certificate itself must be given the new one."); err != nil {
				return err
			}
			return a.call(c.Context(), shortCall, func(ctx context.Context, cl *admin.Client) error {
				certs, err := cl.CertRotate(ctx, a.change())
				if err != nil {
					return err
				}
				return a.showCerts(certs)
			})
		}}
	return group("cert", "TLS certificates", list, rotate)
}

func (a *app) showCerts(certs admin.Certs) error {
	v := view{value: certs, header: []string{"FILE", "KEY", "NAMES", "NOT AFTER", "SELF-SIGNED", "SHA-256"}}
	for _, x := range certs.Certs {
		v.rows = append(v.rows, []string{x.File, x.Key, strings.Join(x.Names, ","), stamp(x.NotAfter), yesNo(x.SelfSigned), x.Fingerprint})
	}
	return a.show(v)
}
