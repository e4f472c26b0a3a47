package keyring

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"sallyport/crypto/shamir"
)

// Kinds of seals, as seal.json, sallyport.yaml and `sallyport init --seal` name them.
const (
	KindKeyFile    = "keyfile"
	KindPassphrase = "passphrase"
	KindShares     = "shares"
	KindTransit    = "transit"
	KindHelper     = "helper"
)

// Labelled is a seal that has something to say about where its key is. The
// label is in seal.json, for people, in clear; it is authenticated.
type Labelled interface {
	Seal
	// Label is 1 … 255 printable ASCII characters.
	Label() string
}

// labelParams are the parameters of the kinds transit and helper.
type labelParams struct {
	Label string `json:"label"`
}

// params is what a kind keeps in seal.json beside the wrapped roots.
type params interface {
	// valid is called before anything is used; its errors complete a sentence.
	valid() error
}

// paramsOf are the parameters of a seal as they go into seal.json.
func paramsOf(s Seal) (json.RawMessage, error) {
	var p params
	switch s := s.(type) {
	case *peopleSeal:
		return s.raw, nil
	case Labelled:
		p = &labelParams{s.Label()}
	default:
		return nil, nil
	}
	if err := p.valid(); err != nil {
		return nil, fmt.Errorf("parameters of a seal: %w", err)
	}
	return encodeParams(p), nil
}

func encodeParams(p params) json.RawMessage {
	raw, err := json.Marshal(p)
	if err != nil {
		panic("keyring: internal error: " + err.Error()) // strings, numbers and bytes always marshal
	}
	return raw
}

// newParams is an empty value of the kind's parameters; nil where there are none.
func newParams(kind string) (params, error) {
	switch kind {
	case KindKeyFile:
		return nil, nil
	case KindPassphrase:
		return new(passphraseParams), nil
	case KindShares:
		return new(sharesParams), nil
	case KindTransit, KindHelper:
		return new(labelParams), nil
	}
	return nil, fmt.Errorf("%s: seal kind %q is unknown to this version: %w", sealName, kind, errors.ErrUnsupported)
}

func checkParams(kind string, raw json.RawMessage) error {
	p, err := newParams(kind)
	if err != nil {
		return err
	}
	if p == nil {
		if len(raw) > 0 {
			return damagedSeal("a seal of kind %q has no parameters", kind)
		}
		return nil
	}
	return decodeParams(kind, raw, p)
}

// decodeParams reads strictly: nothing unknown, nothing twice, nothing missing,
// and every member written as encodeParams would write it.
func decodeParams(kind string, raw json.RawMessage, p params) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(p); err != nil {
		return damagedSeal("the parameters of kind %q are not the JSON they should be", kind)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return damagedSeal("something follows the parameters")
	}
	if !bytes.Equal(encodeParams(p), compact(raw)) {
		return damagedSeal("the parameters of kind %q are not written as they should be", kind)
	}
	if err := p.valid(); err != nil {
		return damagedSeal("parameters of kind %q: %v", kind, err)
	}
	return nil
}

// compact is JSON without white space; nil for what is none.
func compact(raw json.RawMessage) []byte {
	var b bytes.Buffer
	if len(raw) == 0 || json.Compact(&b, raw) != nil {
		return nil
	}
	return b.Bytes()
}

func (p *labelParams) valid() error {
	if len(p.Label) == 0 || len(p.Label) > 255 {
		return fmt.Errorf("a label of %d characters", len(p.Label))
	}
	for _, c := range []byte(p.Label) {
		if c < ' ' || c > '~' {
			return errors.New("a label with characters that cannot be printed")
		}
	}
	return nil
}

// SealInfo is what seal.json says to somebody without any key. Nothing of it
// is authenticated until the root has been unwrapped.
type SealInfo struct {
	Kind   string
	Epochs []uint32      // of the roots in the file: one, or two while the root is replaced
	Label  string        // of kinds transit and helper: where the key is
	K, N   int           // K of N shares unseal, of kind shares
	Set    shamir.SetID  // of kind shares
	Argon2 Argon2        // of kind passphrase
	Kits   []RecoveryKit // recovery kits in force
	// Former is the seal that another took the place of and that has not destroyed yet what it wrapped; "" = none.
	Former, FormerLabel string

	file *sealFile
}

// ReadSeal reads and checks seal.json. Errors: fs.ErrNotExist, ErrDamaged, and
// errors.ErrUnsupported for a newer format or an unknown kind.
func ReadSeal(stateDir string) (*SealInfo, error) {
	f, err := readSeal(stateDir)
	if err != nil {
		return nil, err
	}
	return f.info()
}

func (f *sealFile) info() (*SealInfo, error) {
	i := &SealInfo{Kind: f.Kind, file: f}
	for _, r := range f.Roots {
		i.Epochs = append(i.Epochs, r.Epoch)
	}
	for _, k := range f.Recovery {
		i.Kits = append(i.Kits, k.public())
	}
	if f.Former != nil {
		i.Former, i.FormerLabel = f.Former.Kind, f.Former.Label
	}
	p, err := newParams(f.Kind)
	if err != nil || p == nil {
		return i, err
	}
	if err := decodeParams(f.Kind, f.Params, p); err != nil {
		return nil, err
	}
	switch p := p.(type) {
	case *passphraseParams:
		i.Argon2 = p.Argon2
	case *sharesParams:
		i.K, i.N, i.Set = p.K, p.N, p.set()
	case *labelParams:
		i.Label = p.Label
	}
	return i, nil
}
