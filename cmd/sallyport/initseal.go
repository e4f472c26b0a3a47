package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/term"

	"sallyport/crypto/keyring"
	"sallyport/server"
	"sallyport/server/admin"
)

// sealFlags choose a seal and say what it needs.
type sealFlags struct {
	Kind         string // the template of sallyport.yaml reads these three
	Transit      server.SealTransit
	Helper       []string
	shares       shareFlags
	passphraseFD int
	memory       uint32 // MiB
}

func (o *sealFlags) register(f *pflag.FlagSet) {
	f.StringVar(&o.Kind, "seal", keyring.KindKeyFile, "`kind` of seal: keyfile, passphrase, shares, transit, helper")
	o.shares.register(f)
	f.IntVar(&o.passphraseFD, "passphrase-fd", -1, "read the passphrase from file descriptor `N` instead of the terminal")
	registerMemory(f, &o.memory)
	f.StringVar(&o.Transit.Address, "transit-address", "", "`https://HOST:PORT` of the Vault or OpenBao")
	f.StringVar(&o.Transit.Namespace, "transit-namespace", "", "`namespace` there")
	f.StringVar(&o.Transit.Mount, "transit-mount", "transit", "`path` of the transit engine")
	f.StringVar(&o.Transit.Key, "transit-key", "", "`name` of the key, which nothing else should use")
	f.StringVar(&o.Transit.TokenFile, "transit-token-file", "", "`file` with the token")
	f.StringVar(&o.Transit.CAFile, "transit-ca-file", "", "`file` with the authority of its certificate (default the system's)")
	f.StringArrayVar(&o.Helper, "helper", nil, "`program` of the seal helper; once more for each argument")
}

func registerMemory(f *pflag.FlagSet, memory *uint32) {
	f.Uint32Var(memory, "argon2-memory", keyring.DefaultArgon2.Memory>>10, "memory that each try of a passphrase takes, `MiB`")
}

// fill puts what the flags say into the configuration.
func (o *sealFlags) fill(s *server.Seal) {
	s.Kind = o.Kind
	s.Transit.Address, s.Transit.Namespace, s.Transit.Mount = o.Transit.Address, o.Transit.Namespace, o.Transit.Mount
	s.Transit.Key, s.Transit.TokenFile, s.Transit.CAFile = o.Transit.Key, o.Transit.TokenFile, o.Transit.CAFile
	s.Helper.Command = o.Helper
}

// newSeal makes a seal that people open. For other kinds it is nil: the
// configuration describes them. handOut gives the shares to whom they belong,
// when what they open is durable; it must be called once.
func (a *app) newSeal(o *sealFlags) (s keyring.Seal, handOut func() error, err error) {
	nothing := func() error { return nil }
	if (len(o.shares.recipients) > 0 || o.shares.out != "") && o.Kind != keyring.KindShares {
		return nil, nil, usage("--recipient and --out are for --seal shares", "")
	}
	switch o.Kind {
	case keyring.KindPassphrase:
		s, err = a.newPassphrase(o)
		return s, nothing, err
	case keyring.KindShares:
		return a.newShares(&o.shares)
	case keyring.KindKeyFile, keyring.KindTransit, keyring.KindHelper:
		return nil, nothing, nil
	}
	return nil, nil, usage(fmt.Sprintf("%q is no kind of seal", o.Kind), "one of keyfile, passphrase, shares, transit, helper")
}

func (a *app) newPassphrase(o *sealFlags) (keyring.Seal, error) {
	pass, err := a.readNewPassphrase(o.passphraseFD)
	if err != nil {
		return nil, err
	}
	defer clear(pass)
	cost, err := keyring.Argon2Of(o.memory)
	if err != nil {
		return nil, usage("--argon2-memory: "+err.Error(), "")
	}
	s, err := keyring.NewPassphrase(pass, cost)
	if errors.Is(err, keyring.ErrWeakPassphrase) {
		return nil, &admin.Error{Code: admin.CodeInvalid, Message: err.Error()}
	}
	return s, err
}

// readNewPassphrase asks twice on the terminal, or reads a file descriptor, up
// to its end or to the first newline.
func (a *app) readNewPassphrase(fd int) ([]byte, error) {
	if fd >= 0 {
		f := os.NewFile(uintptr(fd), "passphrase")
		if f == nil {
			return nil, usage(fmt.Sprintf("--passphrase-fd %d is not open", fd), "")
		}
		defer f.Close()
		text, err := io.ReadAll(io.LimitReader(f, 2048))
		if err != nil {
			return nil, fmt.Errorf("reading the passphrase: %w", err)
		}
		line, _, _ := bytes.Cut(text, []byte("\n"))
		return bytes.TrimSuffix(line, []byte("\r")), nil
	}
	f, ok := a.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil, usage("no terminal to ask for the passphrase", "pass it with --passphrase-fd N")
	}
	ask := func(prompt string) ([]byte, error) {
		fmt.Fprint(a.stderr, prompt)
		p, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(a.stderr)
		return p, err
	}
	first, err := ask("New passphrase: ")
	if err != nil {
		return nil, err
	}
	second, err := ask("Again: ")
	defer clear(second)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(first, second) {
		clear(first)
		return nil, &admin.Error{Code: admin.CodeInvalid, Message: "the two passphrases differ"}
	}
	return first, nil
}

func (a *app) newShares(o *shareFlags) (keyring.Seal, func() error, error) {
	k, n, to, err := o.parse()
	if err != nil {
		return nil, nil, err
	}
	s, set, err := admin.NewShares(k, n, to)
	if err != nil {
		return nil, nil, err
	}
	return s, func() error {
		if err := a.handOut(set, o.out); err != nil {
			return fmt.Errorf("handing out the shares, without which nobody opens what was made: remove it, and begin again: %w", err)
		}
		return nil
	}, nil
}

// createState makes the state directory under the chosen seal.
func (a *app) createState(ctx context.Context, c *server.Config, o *sealFlags) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	s, handOut, err := a.newSeal(o)
	if err != nil {
		return err
	}
	if s == nil {
		return server.CreateState(ctx, c)
	}
	if err := server.CreateSealedState(ctx, c, s); err != nil {
		return err
	}
	return handOut()
}
