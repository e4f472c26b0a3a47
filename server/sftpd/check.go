package sftpd

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"hash"
	"math"
	"strings"
)

// check is a check-file request: draft-ietf-secsh-filexfer-extensions-00,
// section 3.
type check struct {
	algorithms  string // names, comma-separated, the client's order
	start       uint64
	length      uint64 // 0 is to the end
	blockLength uint32 // 0 is one hash over everything
}

func readCheck(in *fields) check {
	return check{in.string(), in.uint64(), in.uint64(), in.uint32()}
}

const (
	// minBlock is the draft's smallest block, in bytes.
	minBlock = 256
	// maxHashes bounds the hashes of one reply, in bytes.
	maxHashes = maxData
)

// newHash picks the first algorithm that is known. MD5 and SHA-1 are here for
// comparison with files elsewhere; nothing is trusted because of them.
func newHash(names string) (string, func() hash.Hash) {
	for name := range strings.SplitSeq(names, ",") {
		switch name {
		case "sha256":
			return name, sha256.New
		case "sha512":
			return name, sha512.New
		case "sha384":
			return name, sha512.New384
		case "sha224":
			return name, sha256.New224
		case "sha1":
			return name, sha1.New
		case "md5":
			return name, md5.New
		}
	}
	return "", nil
}

// check answers with the hashes of from, one per block.
func (f *filter) check(r *request, from file, q check) error {
	name, algorithm := newHash(q.algorithms)
	switch {
	case algorithm == nil:
		return errHash
	case q.blockLength != 0 && q.blockLength < minBlock:
		return errBlockSize
	case q.start > math.MaxInt64:
		return errOffset
	}
	n := int64(min(q.length, math.MaxInt64))
	if n == 0 {
		n = math.MaxInt64
	}
	sums := blockHasher{sum: algorithm(), block: int64(q.blockLength)}
	if err := f.scan(from, int64(q.start), n, sums.write); err != nil {
		return err
	}
	// The reply begins with the name "check-file" whatever the request was
	// called: section 3.
	p := newPacket(nil, fxpExtendedReply, r.id).string("check-file").string(name)
	return f.reply(r, append(p, sums.finish()...))
}

// blockHasher hashes a stream in blocks; block 0 is the whole.
type blockHasher struct {
	sum   hash.Hash
	block int64
	in    int64 // bytes in the current block
	out   []byte
}

func (b *blockHasher) write(p []byte) error {
	for len(p) > 0 {
		n := len(p)
		if b.block > 0 {
			n = int(min(int64(n), b.block-b.in))
		}
		b.sum.Write(p[:n])
		b.in += int64(n)
		p = p[n:]
		if b.block > 0 && b.in == b.block {
			b.out = b.sum.Sum(b.out)
			b.sum.Reset()
			b.in = 0
			if len(b.out) > maxHashes {
				return errBlockSize
			}
		}
	}
	return nil
}

func (b *blockHasher) finish() []byte {
	if b.in > 0 || b.block == 0 {
		b.out = b.sum.Sum(b.out)
	}
	return b.out
}
