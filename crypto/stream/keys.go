package stream

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha512"
	"encoding/binary"
	"sync"
	"sync/atomic"
)

const (
	ivSize         = 32 // FLOE_IV_LEN
	headerTagSize  = 32
	messageKeySize = 48 // KDF_KEY_LEN of HKDF-EXPAND-SHA-384
	aeadKeySize    = 32
	segmentAADSize = 9          // position u64 ‖ final u8
	notFinal       = 0xFFFFFFFF // length field of every segment but the last

	purposeHeaderTag  = "HEADER_TAG:"
	purposeMessageKey = "MESSAGE_KEY:"
	purposeSegmentKey = "DEK:"
)

// params are the parameters of FLOE that can vary. Only floe64K leaves this
// package; the others exist so that the published vectors can be checked.
type params struct {
	segment  int  // ENC_SEG_LEN: bytes of a full sealed segment
	rotation uint // AEAD_ROTATION_MASK: 2^rotation segments share one AEAD key
}

var floe64K = params{segment: SegmentSize, rotation: 20}

func (p params) plain() int { return p.segment - Overhead }

// encode is PARAM_ENCODE: AEAD id ‖ KDF id ‖ segment length u32 ‖ IV length u32.
func (p params) encode() []byte {
	b := make([]byte, 2, HeaderSize)
	b = binary.BigEndian.AppendUint32(b, uint32(p.segment))
	return binary.BigEndian.AppendUint32(b, ivSize)
}

// kdf is FLOE_KDF.
func (p params) kdf(key []byte, iv *[ivSize]byte, purpose string, aad []byte, size int) ([]byte, error) {
	info := append(p.encode(), iv[:]...)
	info = append(info, purpose...)
	info = append(info, aad...)
	return hkdf.Expand(sha512.New384, key, string(info), size)
}

// keys are what one stream's segments are sealed and opened with.
type keys struct {
	params     params
	messageKey []byte
	iv         [ivSize]byte
	aad        []byte

	// last is the AEAD key used last. A stream up to 64 GiB has only one, and
	// readers of a longer one mostly stay near where they are.
	last atomic.Pointer[segmentKey]

	// aads recycles the associated data of segments, which would otherwise
	// escape to the heap once per segment through the cipher.AEAD interface.
	aads sync.Pool
}

// segmentKey is the AEAD of 2^rotation consecutive segments.
type segmentKey struct {
	group uint64 // index >> rotation
	aead  cipher.AEAD
}

func newKeys(p params, key *[32]byte, aad []byte, iv *[ivSize]byte) (*keys, error) {
	message, err := p.kdf(key[:], iv, purposeMessageKey, aad, messageKeySize)
	if err != nil {
		return nil, err
	}
	k := &keys{params: p, messageKey: message, iv: *iv, aad: append([]byte(nil), aad...)}
	if _, err := k.aead(0); err != nil {
		return nil, err
	}
	return k, nil
}

// aead returns the AEAD of a segment.
func (k *keys) aead(index uint64) (cipher.AEAD, error) {
	group := index >> k.params.rotation
	if s := k.last.Load(); s != nil && s.group == group {
		return s.aead, nil
	}
	purpose := binary.BigEndian.AppendUint64([]byte(purposeSegmentKey), group<<k.params.rotation)
	key, err := k.params.kdf(k.messageKey, &k.iv, string(purpose), k.aad, aeadKeySize)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, err
	}
	k.last.Store(&segmentKey{group, aead})
	return aead, nil
}

// segmentAAD returns the associated data of a segment; the caller puts it back into k.aads.
func (k *keys) segmentAAD(index uint64, final bool) *[segmentAADSize]byte {
	aad, _ := k.aads.Get().(*[segmentAADSize]byte)
	if aad == nil {
		aad = new([segmentAADSize]byte)
	}
	binary.BigEndian.PutUint64(aad[:], index)
	aad[8] = 0
	if final {
		aad[8] = 1
	}
	return aad
}
