#!/usr/bin/env python3
"""Writes floe.json, the frozen vectors of FLOE (https://c2sp.org/FLOE).

This is a second implementation, written from the specification and not from
the Go code, so that both would have to make the same mistake. It needs the
package "cryptography"; the Go tests need only its output. Everything random is
drawn from a fixed stream, so that running it again changes nothing:

    python3 floe_vectors.py > floe.json
"""
import base64
import hashlib
import json
import sys

try:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA384
    from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
except ImportError:
    sys.exit("floe_vectors.py: needs the Python package cryptography")

AEAD_IV, AEAD_TAG, FLOE_IV = 12, 16, 32
OVERHEAD = 4 + AEAD_IV + AEAD_TAG
OK, HEADER = -1, -2  # values of "bad"; otherwise the number of the first bad segment


def rnd(label, n):
    return hashlib.shake_256(b"sallyport floe vectors\0" + label.encode()).digest(n)


class Floe:
    def __init__(self, key, aad, segment, rotation, iv):
        self.aad, self.segment, self.rotation, self.iv = aad, segment, rotation, iv
        self.params = bytes([0, 0]) + segment.to_bytes(4, "big") + FLOE_IV.to_bytes(4, "big")
        self.header = self.params + iv + self.kdf(key, b"HEADER_TAG:", 32)
        self.message_key = self.kdf(key, b"MESSAGE_KEY:", 48)

    def kdf(self, key, purpose, n):
        info = self.params + self.iv + purpose + self.aad
        return HKDFExpand(algorithm=SHA384(), length=n, info=info).derive(key)

    def seal(self, plain, position, final, nonce):
        masked = position & ~((1 << self.rotation) - 1)
        key = self.kdf(self.message_key, b"DEK:" + masked.to_bytes(8, "big"), 32)
        tail = b"\x01" if final else b"\x00"
        body = AESGCM(key).encrypt(nonce, plain, position.to_bytes(8, "big") + tail)
        size = OVERHEAD + len(plain) if final else 0xFFFFFFFF
        return size.to_bytes(4, "big") + nonce + body


def stream(label, size, segment, rotation, **other):
    """Seals `size` bytes and returns one vector: a whole stream, or the end of one from segment `first` on."""
    key, aad = other.get("key", rnd("key", 32)), other.get("aad", b"an AAD")
    f = Floe(key, aad, segment, rotation, rnd(label + " iv", FLOE_IV))
    plain, full = rnd(label + " plain", size), segment - OVERHEAD
    parts = [plain[i:i + full] for i in range(0, size, full)] or [b""]
    if other.get("empty_final") and parts[-1]:
        parts.append(b"")
    first = other.get("first", 0)
    segments = [f.seal(p, first + i, i == len(parts) - 1, rnd(f"{label} nonce {i}", AEAD_IV)) for i, p in enumerate(parts)]
    return {"name": label, "segment": segment, "rotation": rotation, "first": first, "key": key, "aad": aad,
            "header": f.header, "plain": plain, "segments": segments, "bad": OK}


def flip(data, at, mask=1):
    return data[:at] + bytes([data[at] ^ mask]) + data[at + 1:]


def vectors():
    for size in (0, 1, 31, 32, 33, 64, 100):
        yield stream(f"64: {size} bytes", size, 64, 20)
    yield stream("64: full segments, then an empty final one", 64, 64, 20, empty_final=True)
    yield stream("rotation every 4 segments", 77, 40, 2)
    yield stream("no associated data", 50, 64, 20, aad=b"")
    yield stream("a key ends at segment 2^20", 100, 64, 20, first=2**20 - 2)
    yield stream("segment 2^20 + 2^19 and its successors", 100, 64, 20, first=2**20 + 2**19)
    yield stream("the last segments there may be", 60, 64, 20, first=2**40 - 2)
    for size in (0, 1, 5000):
        yield stream(f"64 KiB: {size} bytes", size, 65568, 20)

    base = stream("base", 100, 64, 20)  # three full segments and 4 bytes

    def bad(name, at, **changes):
        return {**base, "name": name, "bad": at, **changes}

    s, h = base["segments"], base["header"]
    other = stream("another stream of the same key", 100, 64, 20)
    yield bad("header: other AEAD", HEADER, header=flip(h, 0))
    yield bad("header: other KDF", HEADER, header=flip(h, 1))
    yield bad("header: other segment length", HEADER, header=flip(h, 5))
    yield bad("header: other IV length", HEADER, header=flip(h, 9))
    yield bad("header: IV", HEADER, header=flip(h, 10))
    yield bad("header: tag", HEADER, header=flip(h, 73))
    yield bad("header: one byte short", HEADER, header=h[:-1])
    yield bad("header: one byte long", HEADER, header=h + b"\0")
    yield bad("header: empty", HEADER, header=b"")
    yield bad("other key", HEADER, key=flip(base["key"], 31))
    yield bad("other associated data", HEADER, aad=b"an AAd")
    yield bad("associated data shortened", HEADER, aad=b"an AA")
    yield bad("header of another stream", 0, header=other["header"])
    yield bad("segment of another stream", 1, segments=[s[0], other["segments"][1], *s[2:]])
    yield bad("nonce flipped", 1, segments=[s[0], flip(s[1], 4), *s[2:]])
    yield bad("ciphertext flipped", 1, segments=[s[0], flip(s[1], 16), *s[2:]])
    yield bad("tag flipped", 1, segments=[s[0], flip(s[1], 63, 0x80), *s[2:]])
    yield bad("length of an inner segment", 1, segments=[s[0], flip(s[1], 3), *s[2:]])
    yield bad("length of the final segment", 3, segments=[*s[:3], flip(s[3], 3)])
    yield bad("segments swapped", 0, segments=[s[1], s[0], *s[2:]])
    yield bad("segment repeated", 1, segments=[s[0], s[0], *s[1:]])
    yield bad("first segment removed", 0, segments=s[1:])
    yield bad("cut at a segment boundary", 2, segments=s[:3])
    yield bad("cut inside the final segment", 3, segments=[*s[:3], s[3][:-1]])
    yield bad("byte after the final segment", 3, segments=[*s[:3], s[3] + b"\0"])
    yield bad("segment after the final one", 3, segments=[*s, s[3]])
    yield bad("segment zeroed", 1, segments=[s[0], bytes(64), *s[2:]])
    yield bad("final segment empty", 3, segments=[*s[:3], b""])
    relabelled = len(s[2]).to_bytes(4, "big") + s[2][4:]
    yield bad("inner segment relabelled as final", 2, segments=[s[0], s[1], relabelled])
    wide = Floe(base["key"], base["aad"], 64, 20, h[10:42])
    yield bad("final segment sealed in the middle", 1,
              segments=[s[0], wide.seal(bytes(32), 1, True, rnd("middle", 12)), *s[2:]])


def text(v):
    if isinstance(v, bytes):
        return base64.b64encode(v).decode()
    return [text(x) for x in v] if isinstance(v, list) else v


print("[")
rows = [json.dumps({k: text(x) for k, x in v.items()}, ensure_ascii=True) for v in vectors()]
print(",\n".join(rows))
print("]")
