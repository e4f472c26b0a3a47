package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"sallyport/crypto/keyring"
	"sallyport/crypto/sealhelper"
	"sallyport/crypto/transit"
	"sallyport/server/admin"
)

// ErrNeedsPeople means that the seal is opened by people: with a passphrase, or
// with shares.
var ErrNeedsPeople = errors.New("the seal is opened by people")

// HostSeal is the seal of the state directory if this host can open it without
// people: a key file, a transit engine, a helper. ErrNeedsPeople otherwise.
// Whether the key is the right one shows when the keyring is opened. log gets
// what a helper says.
func HostSeal(ctx context.Context, c *Config, log *slog.Logger) (keyring.Seal, error) {
	info, err := keyring.ReadSeal(c.State.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrNoState, c.State.Dir)
	} else if err != nil {
		return nil, err
	}
	return c.sealOfKind(ctx, info.Kind, log)
}

// SealOfKind is the seal of a kind that the configuration describes and that opens without people; ErrNeedsPeople for the others.
func (c *Config) SealOfKind(ctx context.Context, kind string) (keyring.Seal, error) {
	return c.sealOfKind(ctx, kind, nil)
}

// sealOfKind is the seal that the configuration describes.
func (c *Config) sealOfKind(ctx context.Context, kind string, log *slog.Logger) (keyring.Seal, error) {
	switch kind {
	case keyring.KindKeyFile:
		return &keyring.KeyFile{Path: c.KeyFile()}, nil
	case keyring.KindTransit:
		return transit.New(c.Seal.transit())
	case keyring.KindHelper:
		return sealhelper.New(ctx, c.Seal.helper(log))
	case keyring.KindPassphrase, keyring.KindShares:
		return nil, fmt.Errorf("%w: it is of kind %q", ErrNeedsPeople, kind)
	}
	return nil, fmt.Errorf("seal kind %q: %w", kind, errors.ErrUnsupported)
}

// formerSeal is the seal of that label, by what the configuration says now: a transit key may have another name there by now, at the
// same service and with the same token.
func (c *Config) formerSeal(ctx context.Context, kind, label string) (keyring.Seal, error) {
	if kind == keyring.KindTransit {
		if c.Seal.Transit.Address == "" {
			return nil, fmt.Errorf("seal.transit is not configured any more, and %s is needed", label)
		}
		return transit.New(c.Seal.transit().At(label))
	}
	return c.sealOfKind(ctx, kind, nil)
}

// sealConfig is the running configuration with the seal as sallyport.yaml describes it now. The next start opens the state with
// that: a change of seals that took the settings of the last start would leave the server sealed, under a key that its operator
// believes to be replaced.
func (s *Server) sealConfig() (*Config, error) {
	next, err := LoadConfig(s.o.Source)
	if err != nil {
		e := &admin.Error{Code: admin.CodeInvalid, Message: "the seal is as before: " + err.Error(), Hint: "`sallyport config check` checks the file"}
		if bad := (ConfigErrors{}); errors.As(err, &bad) && bad.Hint() != "" {
			e.Hint = bad.Hint()
		}
		return nil, e
	}
	c := *s.config.Config
	c.Seal = next.Seal
	return &c, nil
}

// openingConfig is sealConfig for a server that is sealed: what is mended in the file helps without a restart, and a file that
// is broken does not keep it sealed.
func (s *Server) openingConfig() *Config {
	c, err := s.sealConfig()
	if err != nil {
		return s.config.Config
	}
	return c
}

// formerSeal is by what the file says now, as whatever opens or changes the seal.
func (s *Server) formerSeal(ctx context.Context, kind, label string) (keyring.Seal, error) {
	return s.openingConfig().formerSeal(ctx, kind, label)
}

func (s *Seal) transit() transit.Config {
	t := s.Transit
	return transit.Config{
		Address: t.Address, Namespace: t.Namespace, Mount: t.Mount, Key: t.Key,
		TokenFile: credentialPath(t.TokenFile), CAFile: credentialPath(t.CAFile), Timeout: t.Timeout, KeepOld: t.KeepOld,
	}
}

func (s *Seal) helper(log *slog.Logger) sealhelper.Config {
	return sealhelper.Config{Command: s.Helper.Command, Timeout: s.Helper.Timeout, Log: log}
}

// seal checks what the chosen kind needs; what another kind needs may be there
// already, for a change of seals.
func (c *checker) seal() {
	s := &c.l.Seal
	c.oneOf("seal.kind", s.Kind, keyring.KindKeyFile, keyring.KindPassphrase, keyring.KindShares, keyring.KindTransit, keyring.KindHelper)
	if s.Kind == keyring.KindTransit || s.Transit.Address != "" {
		t := s.transit()
		if err := t.Check(); err != nil {
			c.fail("seal.transit", err.Error(), "seal.transit needs address, key and token_file")
		}
	}
	if s.Kind == keyring.KindHelper || len(s.Helper.Command) > 0 {
		h := s.helper(nil)
		if err := h.Check(); err != nil {
			c.fail("seal.helper", err.Error(), `write command: ["/path/of/program", "argument"]`)
		}
	}
}
