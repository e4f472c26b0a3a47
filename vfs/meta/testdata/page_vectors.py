#!/usr/bin/env python3
"""Writes pages.json, the frozen vectors of pages of extents.

A second implementation, written from docs/FORMAT.md "Page of extents" and not
from the Go code. It needs nothing but the standard library. Running it again
changes nothing:

    python3 page_vectors.py > pages.json

An extent is [file offset, length, blob offset, blob index]. "form" is the
first byte of the packed form, or 0 for extents of 32 bytes each; "ok" says
whether the page must be read.
"""
import hashlib
import json

INLINE, BLOCK, LAST = 2**32 - 1, 4096, 2**63 - 1


def number(v):
    out = bytearray()
    while v > 127:
        out.append(v & 127 | 128)
        v >>= 7
    return bytes(out) + bytes([v])


def fields(extents):
    """Yields gap, length, source and step of each extent."""
    shifts, end = {}, 0
    for off, length, blob_off, blob in extents:
        source = 0 if blob == INLINE else blob + 1
        shift = blob_off - off
        step = (shift - shifts.get(source % 16, 0) + 2**63) % 2**64 - 2**63
        yield [off - end, length, source, 2 * step if step >= 0 else -2 * step - 1]
        shifts[source % 16], end = shift, off + length


def join(rows, form=0x81):
    return bytes([form]) + b"".join(number(v) for row in rows for v in row)


def packed(extents):
    return join(fields(extents))


def plain(extents):
    return b"".join(o.to_bytes(8, "big") + n.to_bytes(8, "big") + b.to_bytes(8, "big") + i.to_bytes(4, "big") + bytes(4)
                    for o, n, b, i in extents)


def overwritten(writes, blocks):
    """An old file of that many blocks in blob 0 after writes of one block each, at random, into blob 1."""
    taken, at = {}, 0
    for i in range(writes):
        block = int.from_bytes(hashlib.sha256(b"block %d" % i).digest()[:8], "big") % blocks
        taken[block] = i * BLOCK
    out = []
    for block in sorted(taken):
        if at < block:
            out.append([at * BLOCK, (block - at) * BLOCK, at * BLOCK, 0])
        out.append([block * BLOCK, BLOCK, taken[block], 1])
        at = block + 1
    return out + [[at * BLOCK, 5, at * BLOCK, 0]]


def pages():
    example = [[0, 8192, 0, 0], [8192, 4096, 20480, 1], [12288, 53248, 12288, 0], [69632, 100, 0, INLINE]]
    good = {
        "the example of FORMAT.md": example,
        "one byte": [[0, 1, 0, 0]],
        "the last byte of the largest file and blob": [[LAST - 1, 1, LAST - 1, 0]],
        "one extent of the largest file": [[0, LAST, 0, 2**32 - 3]],
        "first and last byte change places": [[0, 1, LAST - 1, 0], [LAST - 1, 1, 0, 0]],
        "a step beyond 2^63": [[0, 1, LAST - 1, 1], [LAST - 1, 1, 0, 1]],
        "lengths at the edges of a number": [[0, 127, 0, 0], [127, 128, 127, 0], [255, 16383, 1000, 0], [16638, 16384, 5, 0]],
        "gaps at the edges of a number": [[127, 1, 0, 0], [256, 1, 7, 0], [16640, 1, 9, 0], [33025, 1, 0, 0]],
        "seventeen blobs, of which two share a shift": [[i * 10, 10, 1000 + i * 3, i] for i in range(17)] + [[170, 10, 1, 0], [180, 10, 2, 16]],
        "inline and blob 15 share a shift": [[0, 10, 100, 15], [10, 5, 0, INLINE], [15, 10, 115, 15]],
        "random writes into an old file": overwritten(200, 1000),
        "as many as a page may have": [[i, 1, i, 0] for i in range(2000)],
    }
    for name, extents in good.items():
        yield name, 0x81, packed(extents), extents
        if len(extents) < 100:
            yield name + ", not packed", 0, plain(extents), extents
    rows, whole, rest = list(fields(example)), packed(example), packed(example[1:])[1:]
    one = bytes([0x81, 0, 1, 1, 0])
    bad = {
        "empty": b"", "no extent": b"\x81",
        "form 0x80": join(rows, 0x80), "form 0x82": join(rows, 0x82), "form 0xff": join(rows, 0xff),
        "the last number is missing": whole[:-1], "half an extent": one + bytes([0, 1]),
        "a number is cut off": one[:-1] + b"\x80", "one byte more": whole + b"\0",
        "a gap of two bytes that needs one": b"\x81\x80\0" + one[2:],
        "a length of two bytes that needs one": b"\x81\0\x81\0" + one[3:],
        "a source of two bytes that needs one": b"\x81\0\1\x81\0\0",
        "a step of two bytes that needs one": one[:-1] + b"\x80\0",
        "a number of ten bytes that needs nine": one[:-1] + b"\xff" * 8 + b"\xff\0",
        "a number beyond 2^64": one[:-1] + b"\x80" * 9 + b"\2",
        "a number of eleven bytes": one[:-1] + b"\x80" * 10 + b"\1",
        "empty extent": join([[0, 0, 1, 0]]), "empty extent at the end": whole + join([[0, 0, 1, 0]])[1:],
        "extent ends at 2^63": join([[1, LAST, 1, 1]]), "gap of 2^63": join([[2**63, 1, 1, 0]]),
        "length of 2^63": join([[0, 2**63, 1, 0]]), "length of 2^64 - 1": join([[1, 2**64 - 1, 1, 0]]),
        "gap that wraps round": join([[0, 100, 1, 0], [2**64 - 50, 10, 1, 0]]),
        "blob offset below 0": join([[0, 1, 1, 1]]), "blob range ends at 2^63": join([[0, 2, 1, 2 * (LAST - 1)]]),
        "blob 2^32 - 2, which means a hole": join([[0, 1, 2**32 - 1, 0]]), "source 2^32": join([[0, 1, 2**32, 0]]),
        "2,001 extents": join([[0, 1, 1, 0]] * 2001),
        "the older form, cut off": plain(example)[:-1], "the older form, reserved bytes": plain(example)[:-1] + b"\1",
        "the older form begins at 2^63": plain([[2**63, 1, 0, 0]]),
        "both forms": whole + plain(example), "the older form and more": plain(example) + rest,
    }
    for name, page in bad.items():
        yield name, 0, page, None


if __name__ == "__main__":
    rows = [{"name": n, "form": f, "page": p.hex(), "ok": x is not None, "extents": x or []} for n, f, p, x in pages()]
    print("[\n" + ",\n".join(json.dumps(r) for r in rows) + "\n]")
