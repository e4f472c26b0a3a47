package keyring

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"sallyport/crypto/record"
)

const (
	sealFormatPrefix = "sallyport seal "
	sealFormat       = sealFormatPrefix + "1"
	sealCheckLabel   = "sallyport.seal.v1\x00"

	// Limits on what is parsed before anything is authenticated.
	maxSealSize = 64 << 10
	maxRoots    = 2 // while the root is rotated: the old one and the new one
)

// sealFile is seal.json.
type sealFile struct {
	Format string       `json:"format"`
	Kind   string       `json:"kind"`
	Roots  []sealedRoot `json:"roots"`
	// Check is a plain hash over the rest. It authenticates nothing; it tells
	// a disk error from a wrong key, so that the operator looks in the right place.
	Check []byte `json:"check"`
}

// sealedRoot is the root of one epoch as the seal wrapped it.
type sealedRoot struct {
	Epoch      uint32 `json:"epoch"`
	Wrapped    []byte `json:"wrapped"`
	Commitment []byte `json:"commitment"`
}

// sealRoot wraps the root.
func sealRoot(ctx context.Context, s Seal, root *root) (*sealFile, error) {
	wrapped, err := s.Wrap(ctx, root.key())
	if err != nil {
		return nil, fmt.Errorf("sealing the root key: %w", err)
	}
	f := &sealFile{Format: sealFormat, Kind: s.Kind(), Roots: []sealedRoot{{root.epoch, wrapped, root.commitment()}}}
	f.Check = f.check()
	return f, nil
}

// check is SHA-256 over label ‖ each field with its length.
func (f *sealFile) check() []byte {
	b := []byte(sealCheckLabel)
	field := func(v []byte) {
		b = binary.BigEndian.AppendUint32(b, uint32(len(v)))
		b = append(b, v...)
	}
	field([]byte(f.Kind))
	for _, r := range f.Roots {
		b = binary.BigEndian.AppendUint32(b, r.Epoch)
		field(r.Wrapped)
		field(r.Commitment)
	}
	sum := sha256.Sum256(b)
	return sum[:]
}

func (f *sealFile) encode() []byte {
	text, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		panic("keyring: internal error: " + err.Error()) // strings, numbers and bytes always marshal
	}
	return append(text, '\n')
}

func decodeSeal(text []byte) (*sealFile, error) {
	damaged := func(why string) error { return fmt.Errorf("%w: %s: %s", ErrDamaged, sealName, why) }
	if len(text) > maxSealSize {
		return nil, damaged("too long")
	}
	var f sealFile
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		// A newer format may have other fields; say so rather than "damaged".
		var any struct{ Format string }
		if json.Unmarshal(text, &any) == nil && newerFormat(any.Format) {
			return nil, unknownFormat(any.Format)
		}
		return nil, damaged("not the JSON it should be")
	}
	if newerFormat(f.Format) {
		return nil, unknownFormat(f.Format)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, damaged("something follows the JSON")
	}
	if f.Format != sealFormat || len(f.Roots) == 0 || len(f.Roots) > maxRoots {
		return nil, damaged("not a seal")
	}
	if !bytes.Equal(f.Check, f.check()) {
		return nil, damaged("its check value does not match")
	}
	return &f, nil
}

func newerFormat(format string) bool {
	return strings.HasPrefix(format, sealFormatPrefix) && format != sealFormat
}

func unknownFormat(format string) error {
	return fmt.Errorf("%s: format %q is unknown to this version: %w", sealName, format, errors.ErrUnsupported)
}

// unseal returns the root of that epoch.
func (f *sealFile) unseal(ctx context.Context, s Seal, epoch uint32) (*root, error) {
	if f.Kind != s.Kind() {
		return nil, fmt.Errorf("%w: it is sealed by %q, not by %q", ErrWrongKey, f.Kind, s.Kind())
	}
	for _, r := range f.Roots {
		if r.Epoch == epoch {
			return r.unseal(ctx, s)
		}
	}
	return nil, fmt.Errorf("%w: %s is of root epoch %d, which %s does not have", ErrDamaged, keyringName, epoch, sealName)
}

func (r *sealedRoot) unseal(ctx context.Context, s Seal) (*root, error) {
	raw, err := s.Unwrap(ctx, r.Wrapped)
	if err != nil {
		return nil, fmt.Errorf("unsealing the root key: %w", err)
	}
	defer clear(raw)
	if len(raw) != keySize {
		return nil, fmt.Errorf("%w: the seal gave %d bytes for a root key", ErrWrongKey, len(raw))
	}
	key := record.Key(raw)
	root, err := newRoot(&key, r.Epoch)
	if err != nil {
		return nil, err
	}
	if !hmac.Equal(root.commitment(), r.Commitment) {
		root.destroy()
		return nil, fmt.Errorf("%w: the seal gave another root key", ErrWrongKey)
	}
	return root, nil
}
