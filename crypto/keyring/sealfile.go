package keyring

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sallyport/crypto/durable"
	"sallyport/crypto/locked"
)

const (
	sealFormatPrefix = "sallyport seal "
	sealFormat       = sealFormatPrefix + "1" // neither params nor recovery kits
	sealFormat2      = sealFormatPrefix + "2" // either or both
	sealFormat3      = sealFormatPrefix + "3" // a former seal, whatever else
	sealFormat4      = sealFormatPrefix + "4" // a former seal at a service that is known
	sealCheckLabel   = "sallyport.seal.v1\x00"
	sealCheckLabel2  = "sallyport.seal.v2\x00"
	sealCheckLabel3  = "sallyport.seal.v3\x00"
	sealCheckLabel4  = "sallyport.seal.v4\x00"
	sealAuthLabel    = "sallyport.seal.auth.v1\x00"
	sealAuthLabel3   = "sallyport.seal.auth.v3\x00"
	sealAuthLabel4   = "sallyport.seal.auth.v4\x00"

	// Limits on what is parsed before anything is authenticated.
	maxSealSize = 128 << 10
	maxRoots    = 2 // while the root is rotated: the old one and the new one
)

// sealFile is seal.json. It is never changed once made.
type sealFile struct {
	Format   string          `json:"format"`
	Kind     string          `json:"kind"`
	Params   json.RawMessage `json:"params,omitempty"`
	Recovery []kit           `json:"recovery,omitempty"`
	Former   *formerSeal     `json:"former,omitempty"`
	Roots    []sealedRoot    `json:"roots"`
	// Check is a plain hash over the rest. It authenticates nothing; it tells
	// a disk error from a wrong key, so that the operator looks in the right place.
	Check []byte `json:"check"`
}

// sealedRoot is the root of one epoch as the seal wrapped it.
type sealedRoot struct {
	Epoch      uint32 `json:"epoch"`
	Wrapped    []byte `json:"wrapped"`
	Commitment []byte `json:"commitment"`
	// Auth authenticates kind, params, recovery kits and what was wrapped under
	// the root: whoever could exchange a public key there would be given every
	// later root, and whoever spoils a kit should not go unnoticed until it is needed.
	Auth []byte `json:"auth,omitempty"`
	// Kits are the root wrapped to each recovery kit, in the order of Recovery.
	Kits [][]byte `json:"kits,omitempty"`
}

// sealRoot makes the seal.json of a new state directory.
func sealRoot(ctx context.Context, s Seal, root *root) (*sealFile, error) {
	return (&sealFile{}).resealed(ctx, s, root)
}

// resealed is f with the kind and the parameters of s and one root only. The
// recovery kits stay.
func (f *sealFile) resealed(ctx context.Context, s Seal, root *root) (*sealFile, error) {
	params, err := paramsOf(s)
	if err != nil {
		return nil, err
	}
	if err := checkParams(s.Kind(), params); err != nil { // what could not be read back must not be written
		return nil, err
	}
	next := &sealFile{Kind: s.Kind(), Params: params, Recovery: f.Recovery, Former: f.Former}
	wrapped, err := next.wrap(ctx, s, root)
	if err != nil {
		return nil, err
	}
	return next.withRoots(wrapped), nil
}

// wrap wraps a root for this file: by its seal and to every recovery kit.
func (f *sealFile) wrap(ctx context.Context, s Seal, root *root) (sealedRoot, error) {
	if f.Kind != s.Kind() {
		return sealedRoot{}, fmt.Errorf("keyring: internal error: wrapping by %q for %q", s.Kind(), f.Kind)
	}
	wrapped, err := s.Wrap(ctx, root.key())
	if err != nil {
		return sealedRoot{}, fmt.Errorf("sealing the root key: %w", err)
	}
	if err := tried(ctx, s, wrapped, root); err != nil {
		return sealedRoot{}, fmt.Errorf("trying what the seal made of the root key: %w", err)
	}
	return f.completed(sealedRoot{Epoch: root.epoch, Wrapped: wrapped, Commitment: root.commitment()}, root)
}

// tried unwraps what a seal made, before data depend on it and an older root is
// destroyed. A seal that people open cannot without them; it wraps with a public
// key, and no other program has a part in that.
func tried(ctx context.Context, s Seal, wrapped []byte, root *root) error {
	switch s.(type) {
	case *peopleSeal, *recoverySeal:
		return nil
	}
	again, err := s.Unwrap(ctx, wrapped)
	if err != nil {
		return err
	}
	defer clear(again)
	if subtle.ConstantTimeCompare(again, root.key()) != 1 {
		return fmt.Errorf("%w: it gives another root key back", ErrWrongKey)
	}
	return nil
}

// completed is r with what depends on the kits and the parameters of f made anew.
func (f *sealFile) completed(r sealedRoot, root *root) (sealedRoot, error) {
	r.Kits, r.Auth = nil, nil
	for _, k := range f.Recovery {
		wrapped, err := k.wrap(root.key())
		if err != nil {
			return sealedRoot{}, fmt.Errorf("wrapping the root key to recovery kit %s: %w", k.ID, err)
		}
		r.Kits = append(r.Kits, wrapped)
	}
	if f.extended() {
		r.Auth = f.auth(root, &r)
	}
	return r, nil
}

// withRoots is f with these roots, its format and its check value.
func (f *sealFile) withRoots(roots ...sealedRoot) *sealFile {
	next := *f
	next.Format, next.Roots = next.format(), roots
	next.Check = next.check()
	return &next
}

// sameParams tells whether s can wrap roots for this file. A recovery kit
// stands in for the seal of the file, whatever its parameters.
func (f *sealFile) sameParams(s Seal) bool {
	if _, ok := s.(*recoverySeal); ok {
		return true
	}
	params, err := paramsOf(s)
	return err == nil && bytes.Equal(params, compact(f.Params))
}

// extended tells whether format 1 is not enough.
func (f *sealFile) extended() bool {
	return len(f.Params) > 0 || len(f.Recovery) > 0 || f.Former != nil
}

// format is the lowest that is enough.
func (f *sealFile) format() string {
	switch {
	case f.Former != nil && f.Former.Service != "":
		return sealFormat4
	case f.Former != nil:
		return sealFormat3
	case f.extended():
		return sealFormat2
	}
	return sealFormat
}

// fields collects what is hashed: each field with its length.
type fields []byte

func (b *fields) add(v []byte) {
	*b = append(binary.BigEndian.AppendUint32(*b, uint32(len(v))), v...)
}

func (b *fields) number(n int) { *b = binary.BigEndian.AppendUint32(*b, uint32(n)) }

// about adds what people and programs chose: all but the roots.
func (f *sealFile) about(b *fields) {
	b.add([]byte(f.Kind))
	b.add(compact(f.Params))
	b.number(len(f.Recovery))
	for _, k := range f.Recovery {
		b.add([]byte(k.ID))
		b.add([]byte(k.For))
		b.add([]byte(k.Created))
		b.add(k.Public)
	}
	if f.Former != nil {
		f.Former.about(b)
	}
}

// check is SHA-256 over label ‖ each field with its length.
func (f *sealFile) check() []byte {
	b := fields(sealCheckLabel)
	if f.extended() {
		b = fields(map[string]string{sealFormat2: sealCheckLabel2, sealFormat3: sealCheckLabel3, sealFormat4: sealCheckLabel4}[f.format()])
		f.about(&b)
		b.number(len(f.Roots))
	} else {
		b.add([]byte(f.Kind))
	}
	for _, r := range f.Roots {
		b = binary.BigEndian.AppendUint32(b, r.Epoch)
		b.add(r.Wrapped)
		b.add(r.Commitment)
		if f.extended() {
			b.add(r.Auth)
			b.number(len(r.Kits))
			for _, k := range r.Kits {
				b.add(k)
			}
		}
	}
	sum := sha256.Sum256(b)
	return sum[:]
}

// auth is HMAC-SHA-256 under the root's key "seal".
func (f *sealFile) auth(root *root, r *sealedRoot) []byte {
	b := fields(map[string]string{sealFormat2: sealAuthLabel, sealFormat3: sealAuthLabel3, sealFormat4: sealAuthLabel4}[f.format()])
	f.about(&b)
	b.add(r.Wrapped)
	for _, k := range r.Kits {
		b.add(k)
	}
	var sum []byte
	expand(root.key(), rootLabel, "seal", root.epoch).Use(func(key []byte) {
		mac := hmac.New(sha256.New, key)
		defer locked.Hash(mac)
		mac.Write(b)
		sum = mac.Sum(nil)
	})
	return sum
}

func (f *sealFile) encode() []byte {
	text, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		panic("keyring: internal error: " + err.Error()) // strings, numbers and bytes always marshal
	}
	return append(text, '\n')
}

// write makes f the seal.json of the directory, durably.
func (f *sealFile) write(stateDir string) error {
	return durable.WriteFile(filepath.Join(stateDir, sealName), f.encode(), fileMode)
}

// readSeal reads and checks seal.json; fs.ErrNotExist if there is none.
func readSeal(stateDir string) (*sealFile, error) {
	file, err := os.Open(filepath.Join(stateDir, sealName))
	if err != nil {
		return nil, fmt.Errorf("reading the seal: %w", err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxSealSize+1))
	if err != nil {
		return nil, fmt.Errorf("reading the seal: %w", err)
	}
	return decodeSeal(text)
}

func damagedSeal(format string, args ...any) error {
	return fmt.Errorf("%w: %s: %s", ErrDamaged, sealName, fmt.Sprintf(format, args...))
}

func decodeSeal(text []byte) (*sealFile, error) {
	if len(text) > maxSealSize {
		return nil, damagedSeal("too long")
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
		return nil, damagedSeal("not the JSON it should be")
	}
	if newerFormat(f.Format) {
		return nil, unknownFormat(f.Format)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, damagedSeal("something follows the JSON")
	}
	if f.Format != f.format() || len(f.Roots) == 0 || len(f.Roots) > maxRoots {
		return nil, damagedSeal("not a seal")
	}
	if !bytes.Equal(f.Check, f.check()) {
		return nil, damagedSeal("its check value does not match")
	}
	return &f, f.valid()
}

// valid checks what the check value cannot promise, because anybody can make one.
func (f *sealFile) valid() error {
	if err := checkParams(f.Kind, f.Params); err != nil {
		return err
	}
	if f.Former != nil {
		if err := f.Former.valid(); err != nil {
			return err
		}
	}
	if len(f.Recovery) > maxKits {
		return damagedSeal("%d recovery kits", len(f.Recovery))
	}
	for i, k := range f.Recovery {
		if err := k.valid(); err != nil {
			return err
		}
		if slices.ContainsFunc(f.Recovery[:i], func(o kit) bool { return o.ID == k.ID }) {
			return damagedSeal("recovery kit %s twice", k.ID)
		}
	}
	for i, r := range f.Roots {
		if i > 0 && f.Roots[0].Epoch == r.Epoch {
			return damagedSeal("root epoch %d twice", r.Epoch)
		}
		if len(r.Kits) != len(f.Recovery) || (len(r.Auth) == sha256.Size) != f.extended() || (len(r.Auth) == 0) == f.extended() {
			return damagedSeal("root epoch %d does not fit its recovery kits", r.Epoch)
		}
	}
	return nil
}

func newerFormat(format string) bool {
	return strings.HasPrefix(format, sealFormatPrefix) && !slices.Contains([]string{sealFormat, sealFormat2, sealFormat3, sealFormat4}, format)
}

func unknownFormat(format string) error {
	return fmt.Errorf("%s: format %q is unknown to this version: %w", sealName, format, errors.ErrUnsupported)
}

// unseal returns the root of that epoch.
func (f *sealFile) unseal(ctx context.Context, s Seal, epoch uint32) (*root, error) {
	if f.Kind != s.Kind() {
		return nil, fmt.Errorf("%w: it is sealed by %q, not by %q", ErrWrongKey, f.Kind, s.Kind())
	}
	if p, ok := s.(*peopleSeal); ok && !bytes.Equal(p.raw, compact(f.Params)) {
		return nil, fmt.Errorf("%w: %s has changed since its parameters were read; try again", ErrWrongKey, sealName)
	}
	for i := range f.Roots {
		if f.Roots[i].Epoch == epoch {
			return f.unsealRoot(ctx, s, &f.Roots[i])
		}
	}
	return nil, fmt.Errorf("%w: %s is of root epoch %d, which %s does not have", ErrDamaged, keyringName, epoch, sealName)
}

func (f *sealFile) unsealRoot(ctx context.Context, s Seal, r *sealedRoot) (*root, error) {
	wrapped := r.Wrapped
	if rec, ok := s.(*recoverySeal); ok {
		i := slices.IndexFunc(f.Recovery, func(k kit) bool { return k.ID == rec.kit.ID && bytes.Equal(k.Public, rec.kit.Public) })
		if i < 0 {
			return nil, fmt.Errorf("%w: recovery kit %s is unknown here or was revoked", ErrWrongKey, rec.kit.ID)
		}
		wrapped = r.Kits[i]
	}
	root, err := r.unseal(ctx, s, wrapped)
	if err != nil {
		return nil, err
	}
	if f.extended() && !hmac.Equal(f.auth(root, r), r.Auth) {
		root.destroy()
		return nil, damagedSeal("its parameters, recovery kits or former seal were changed by somebody without the key")
	}
	return root, nil
}

func (r *sealedRoot) unseal(ctx context.Context, s Seal, wrapped []byte) (*root, error) {
	raw, err := s.Unwrap(ctx, wrapped)
	if err != nil {
		return nil, fmt.Errorf("unsealing the root key: %w", err)
	}
	defer clear(raw)
	if len(raw) != keySize {
		return nil, fmt.Errorf("%w: the seal gave %d bytes for a root key", ErrWrongKey, len(raw))
	}
	root, err := newRoot(raw, r.Epoch)
	if err != nil {
		return nil, err
	}
	if !hmac.Equal(root.commitment(), r.Commitment) {
		root.destroy()
		return nil, fmt.Errorf("%w: the seal gave another root key", ErrWrongKey)
	}
	return root, nil
}
