package stream

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha512"
	"encoding/binary"
	"runtime"
	"sync"
	"sync/atomic"

	"sallyport/crypto/locked"
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
func (p params) kdf(key []byte, iv *[ivSize]byte, purpose string, aad []byte, size int) *locked.Secret {
	info := append(p.encode(), iv[:]...)
	info = append(info, purpose...)
	info = append(info, aad...)
	return locked.Expand(sha512.New384, key, info, size)
}

// keys are what one stream's segments are sealed and opened with.
type keys struct {
	params     params
	messageKey *locked.Secret
	iv         [ivSize]byte
	aad        []byte

	// last is the AEAD key used last. A stream up to 64 GiB has only one, and
	// readers of a longer one mostly stay near where they are.
	last atomic.Pointer[segmentKey]

	// aads recycles the associated data of segments, which would otherwise
	// escape to the heap once per segment through the cipher.AEAD interface.
	aads sync.Pool
}

// segmentKey is the AEAD of 2^rotation consecutive segments. It is overwritten
// when the segmentKey is collected, which must be kept for as long as it is used.
type segmentKey struct {
	group uint64 // index >> rotation
	aead  cipher.AEAD
}

func newKeys(p params, key *[32]byte, aad []byte, iv *[ivSize]byte) (*keys, error) {
	k := &keys{params: p, messageKey: p.kdf(key[:], iv, purposeMessageKey, aad, messageKeySize), iv: *iv, aad: append([]byte(nil), aad...)}
	if _, err := k.segment(0); err != nil {
		return nil, err
	}
	return k, nil
}

// segment returns the key of a segment.
func (k *keys) segment(index uint64) (*segmentKey, error) {
	group := index >> k.params.rotation
	if s := k.last.Load(); s != nil && s.group == group {
		return s, nil
	}
	purpose := binary.BigEndian.AppendUint64([]byte(purposeSegmentKey), group<<k.params.rotation)
	var key *locked.Secret
	k.messageKey.Use(func(message []byte) { key = k.params.kdf(message, &k.iv, string(purpose), k.aad, aeadKeySize) })
	defer key.Wipe()
	s := &segmentKey{group: group}
	var err error
	key.Use(func(b []byte) { s.aead, err = newGCM(b) })
	if err != nil {
		return nil, err
	}
	runtime.AddCleanup(s, func(a cipher.AEAD) { locked.GCM(a) }, s.aead)
	k.last.Store(s)
	return s, nil
}

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	defer locked.Block(block) // the GCM has its own
	return cipher.NewGCMWithRandomNonce(block)
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
