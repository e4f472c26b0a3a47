#!/usr/bin/env python3
"""Reads a Sallyport state directory with nothing but docs/FORMAT.md in hand.

    reader.py [--history | --keys] STATE KEYFILE
        prints, as JSON, every account's tree with the SHA-256 of each file,
        the policy, the audit log, the last known time and when the state was
        last copied; with --history also every version that is kept, the
        names that are gone, events not yet in the log, and up to when
        history was destroyed;
        with --keys nothing but the root epoch and the ids of the accounts

    KEYFILE is what opens the seal: the key file; a file with the passphrase;
    a file with enough shares, one after the other; or a recovery kit as
    `age -d` printed it. Seals of the kinds transit and helper open with a
    recovery kit only: their key is somewhere else.

It shares no code with the server, which must not be running. It is a check of
the document, and a way back to the files when everything else is gone; it is
slow. It verifies what a reader MUST verify, except bbolt's trees of pages.
It needs the package "cryptography"; for a passphrase one of version 44 or
later, or the package "argon2-cffi" besides.
"""
import base64
import hashlib
import hmac
import json
import pathlib
import struct
import sys
import unicodedata

try:
    from cryptography.exceptions import InvalidSignature, InvalidTag
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA256, SHA384
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
except ImportError:
    sys.exit("reader.py: needs the Python package cryptography")

NOBODY = bytes(16)
(ENTRY, PAST, INODE, VERSION, EXTENTS, BLOBKEY, WHEN, OUTBOX, DOOMED, HEAD, FOLD) = range(1, 12)
ROOTKEY, ACCOUNTKEY, POLICYKEY, AUDITKEY, DATAKEY, POLICY, ACCOUNTS, AUDIT, KEYRING, SEALKEY, NAMES = range(32, 43)
LASTCOPY, CLOCK = 45, 46
SEGMENT, PLAIN, OVERHEAD = 65568, 65536, 32


class Damaged(Exception):
    pass


def check(condition, what):
    if not condition:
        raise Damaged(what)


def be(value, size):
    return value.to_bytes(size, "big")


def num(data):
    return int.from_bytes(data, "big")


class Fields:
    """Takes fields off the front of a record."""

    def __init__(self, data):
        self.data = data

    def take(self, n):
        check(len(self.data) >= n, "record too short")
        head, self.data = self.data[:n], self.data[n:]
        return head

    def u8(self):
        return num(self.take(1))

    def u32(self):
        return num(self.take(4))

    def u64(self):
        return num(self.take(8))

    def signed(self):
        return int.from_bytes(self.take(8), "big", signed=True)

    def str(self):
        return self.take(num(self.take(2)))

    def bytes(self):
        return self.take(self.u32())

    def attr(self):
        return {"size": self.u64(), "mode": self.u32(), "mtime": self.signed(), "atime": self.signed(), "created": self.signed(), "state": self.u8()}

    def number(self):
        """7 bits to a byte, lowest first, in as few bytes as do."""
        value = shift = 0
        while True:
            byte = self.u8()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                check(value < 2**64 and (byte or not shift), "number in a page of extents")
                return value
            shift += 7

    def end(self):
        check(self.data == b"", "bytes left over")


# Algorithms

def mac(key, message):
    return hmac.new(key, message, hashlib.sha256).digest()


def expand(key, info, algorithm=SHA256, size=32):
    return HKDFExpand(algorithm=algorithm(), length=size, info=info).derive(key)


def aad_of(account, domain, place):
    return b"sallyport.rec.v1\0" + be(domain, 1) + account + be(len(place), 2) + place


def open_record(key, epoch, account, domain, place, sealed):
    check(len(sealed) >= 109 and (len(sealed) - 45) % 64 == 0, "size of a record")
    check(sealed[0] == 1 and num(sealed[1:5]) == epoch, "version or epoch of a record")
    aes = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    low = num(aes.update(bytes(16))) << 1
    k1 = (low ^ 0x87 if low >> 128 else low) & (1 << 128) - 1
    nonce = sealed[5:29]
    subkey = b"".join(aes.update(be(num(bytes([0, i]) + b"X\0" + nonce[:12]) ^ k1, 16)) for i in (1, 2))
    padded = AESGCM(subkey).decrypt(nonce[12:], sealed[29:], aad_of(account, domain, place))
    size = num(padded[:4])
    check(-(4 + size) % 64 + 4 + size == len(padded) and not any(padded[4 + size:]), "padding of a record")
    return padded[4:4 + size]


def unwrap(kek, epoch, account, domain, place, wrapped):
    commitment = expand(kek, b"sallyport.commit.v1" + aad_of(account, domain, place))
    check(len(wrapped) == 141 and hmac.compare_digest(commitment, wrapped[:32]), "wrapped under another key")
    return open_record(kek, epoch, account, domain, place, wrapped[32:])


def set_hash(key, elements):
    total = sum(num(mac(key, be(len(place), 2) + place + value)) for place, value in elements)
    return be(total % 2**256, 32)


# Seals

def field(data):
    return be(len(data), 4) + data


def argon2id(passphrase, salt, m, t, p):
    try:
        from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
        return Argon2id(salt=salt, length=32, iterations=t, lanes=p, memory_cost=m).derive(passphrase)
    except ImportError:
        try:
            from argon2.low_level import Type, hash_secret_raw
        except ImportError:
            sys.exit("reader.py: needs the Python package argon2-cffi, or cryptography 44")
        return hash_secret_raw(passphrase, salt, t, m, p, 32, Type.ID)


DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def times(a, b, modulus):
    """Multiplies in the field of polynomials over GF(2) modulo modulus."""
    out, top = 0, modulus.bit_length() - 1
    while b:
        if b & 1:
            out ^= a
        a, b = a << 1, b >> 1
        if a >> top:
            a ^= modulus
    return out


def read_shares(text):
    """Returns the shares of a text, 90 characters each."""
    text = text.upper().translate(str.maketrans("OIL", "011", " \t\r\n-"))
    shares = []
    for start in range(0, len(text), 90):
        bits = ""
        for g in range(18):
            c = [DIGITS.index(d) for d in text[start + 5 * g:start + 5 * g + 5]]
            check(len(c) == 5, "a share is cut off")
            total = g + 1
            for i in range(4):
                total ^= times(2 << i, c[i], 0x25)
            check(total == c[4], "share %d: mistake in group %d" % (len(shares) + 1, g + 1))
            bits += "".join("{:05b}".format(v) for v in c[:4])
        share = be(int(bits, 2), 45)
        check(share[:2] == b"S1" and hashlib.sha256(b"sallyport.share.v1\0" + share[:41]).digest()[:4] == share[41:], "not a share")
        shares.append(share)
    return shares


def combine(shares, params):
    check(all(s[2:6].hex() == params["set"] and s[6] == params["k"] and s[7] == params["n"] for s in shares), "shares of another set")
    points = {s[8]: s[9:41] for s in shares}
    check(len(points) >= params["k"], "too few shares")
    points = dict(list(points.items())[:params["k"]])
    secret = bytearray(32)
    for x, y in points.items():
        weight = 1
        for other in points:
            if other != x:
                inverse = x ^ other
                for _ in range(6):  # a^254 = 1/a
                    inverse = times(times(inverse, inverse, 0x11B), x ^ other, 0x11B)
                weight = times(weight, times(other, times(inverse, inverse, 0x11B), 0x11B), 0x11B)
        for b in range(32):
            secret[b] ^= times(weight, y[b], 0x11B)
    return bytes(secret)


def point(key):
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def private_key(scalar, public):
    key = ec.derive_private_key(num(scalar), ec.SECP256R1())
    check(point(key) == base64.b64decode(public), "public key of another private key")
    return key


def unwrap_public(key, wrapped):
    check(len(wrapped) == 206, "size of a wrapping to a public key")
    shared = key.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), wrapped[:65]))
    info = b"sallyport.publicwrap.v1\0" + wrapped[:65] + point(key)
    return unwrap(HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(shared), 0, NOBODY, ROOTKEY, b"root", wrapped[65:])


def about(seal):
    params = json.dumps(seal["params"], separators=(",", ":"), ensure_ascii=False).encode() if "params" in seal else b""
    kits = seal.get("recovery", [])
    return field(seal["kind"].encode()) + field(params) + be(len(kits), 4) + b"".join(
        field(k["id"].encode()) + field(k["for"].encode()) + field(k["created"].encode()) + field(base64.b64decode(k["public"])) for k in kits) + about_former(seal)


def about_former(seal):
    if "former" not in seal:
        return b""
    f = seal["former"]
    return field(f["kind"].encode()) + field(f["label"].encode()) + be(len(f["wrapped"]), 4) + b"".join(field(base64.b64decode(w)) for w in f["wrapped"]) + (
        field(f["service"].encode()) if "service" in f else b"")


def seal_version(seal):
    if "former" in seal:
        return 4 if "service" in seal["former"] else 3
    return 2 if "params" in seal or "recovery" in seal else 1


def check_of(seal):
    old = seal["format"] == "sallyport seal 1"
    out = b"sallyport.seal.v1\0" + field(seal["kind"].encode()) if old else b"sallyport.seal.v%d\0" % seal_version(seal) + about(seal) + be(len(seal["roots"]), 4)
    for r in seal["roots"]:
        out += be(r["epoch"], 4) + field(base64.b64decode(r["wrapped"])) + field(base64.b64decode(r["commitment"]))
        if not old:
            out += field(base64.b64decode(r["auth"])) + be(len(r.get("kits", [])), 4)
            out += b"".join(field(base64.b64decode(k)) for k in r.get("kits", []))
    return hashlib.sha256(out).digest()


def unseal(seal, sealed, text):
    """Returns the root, whose commitment the caller checks."""
    wrapped, params = base64.b64decode(sealed["wrapped"]), seal.get("params", {})
    if text.lstrip().startswith("{"):
        kit = json.loads(text)
        check(kit["format"] == "sallyport recovery kit 1", "recovery kit")
        i = [k["id"] for k in seal.get("recovery", [])].index(kit["id"])
        key = private_key(base64.b64decode(kit["private"]), seal["recovery"][i]["public"])
        return unwrap_public(key, base64.b64decode(sealed["kits"][i]))
    if seal["kind"] == "keyfile":
        return unwrap(bytes.fromhex(text.strip()), 0, NOBODY, ROOTKEY, b"root", wrapped)
    if seal["kind"] == "passphrase":
        check(65536 <= params["m"] <= 4194304 and 3 <= params["t"] <= 16 and 1 <= params["p"] <= 16, "cost of Argon2id")
        phrase = unicodedata.normalize("NFC", text.rstrip("\r\n")).encode()
        secret = argon2id(phrase, base64.b64decode(params["salt"]), params["m"], params["t"], params["p"])
    elif seal["kind"] == "shares":
        secret = combine(read_shares(text), params)
    else:
        raise Damaged("a seal of kind %s opens with a recovery kit only" % seal["kind"])
    scalar = unwrap(secret, 0, NOBODY, SEALKEY, seal["kind"].encode(), base64.b64decode(params["private"]))
    return unwrap_public(private_key(scalar, params["public"]), wrapped)


# bbolt

def bolt(path):
    """Returns {bucket name: {key: value}}."""
    data = path.read_bytes()
    metas = []
    for page in (0, 1):
        at = page * 4096 + 16
        magic, version, page_size, _, root, _, _, _, txid, check_sum = struct.unpack("=IIIIQQQQQQ", data[at:at + 64])
        if magic == 0xED0CDAED and version == 2 and check_sum == fnv(data[at:at + 56]):
            metas.append((txid, root, page_size))
    check(metas, "no meta page of %s" % path)
    _, root, page_size = max(metas)

    def pairs(page):
        _, flags, count, _ = struct.unpack("=QHHI", page[:16])
        for i in range(count):
            at = 16 + 16 * i
            if flags & 1:
                child = struct.unpack("=Q", page[at + 8:at + 16])[0]
                yield from pairs(data[child * page_size:])
            else:
                flag, pos, klen, vlen = struct.unpack("=IIII", page[at:at + 16])
                start = at + pos
                yield flag, page[start:start + klen], page[start + klen:start + klen + vlen]

    buckets = {}
    for flag, name, value in pairs(data[root * page_size:]):
        check(flag == 1, "a value where a bucket belongs")
        child = struct.unpack("=Q", value[:8])[0]
        page = data[child * page_size:] if child else value[16:]
        buckets[name] = {bytes(k): bytes(v) for _, k, v in pairs(page)}
    return buckets


def fnv(data):
    h = 0xCBF29CE484222325
    for byte in data:
        h = (h ^ byte) * 0x100000001B3 & 2**64 - 1
    return h


# Keys

class Site:
    def __init__(self, state, key_file):
        text = key_file.read_text()
        seal = json.loads((state / "seal.json").read_text())
        version = seal_version(seal)
        check(seal["format"] == "sallyport seal %d" % version, "format of seal.json")
        check(check_of(seal) == base64.b64decode(seal["check"]), "check value of seal.json")
        ring = (state / "keyring").read_bytes()
        check(ring[:8] in (b"SPKEYR1\n", b"SPKEYR2\n"), "keyring")
        dated = 8 if ring[:8] == b"SPKEYR2\n" else 0  # bytes of the instant that format 2 keeps with each key
        self.epoch, count = num(ring[8:12]), num(ring[12:16])
        sealed = [r for r in seal["roots"] if r["epoch"] == self.epoch][0]
        root = unseal(seal, sealed, text)
        commit, kek, set_key, head_key = (
            expand(root, b"sallyport.root.v1\0" + p + b"\0" + be(self.epoch, 4)) for p in (b"commit", b"wrap", b"set", b"head"))
        check(commit == base64.b64decode(sealed["commitment"]), "root commitment")
        if version > 1:
            authentic = about(seal) + b"".join(field(base64.b64decode(w)) for w in [sealed["wrapped"]] + sealed.get("kits", []))
            auth = mac(expand(root, b"sallyport.root.v1\0seal\0" + be(self.epoch, 4)), b"sallyport.seal.auth.v%d\0" % (1 if version == 2 else version) + authentic)
            check(auth == base64.b64decode(sealed["auth"]), "parameters of seal.json changed")

        f = Fields(ring[16:])
        elements = [(b"policy", f.take(145 + dated)), (b"audit", f.take(145 + dated))]
        accounts = [(f.take(16), f.take(145 + dated)) for _ in range(count)]
        elements += [(b"account" + i, e) for i, e in accounts]
        head = open_record(head_key, self.epoch, NOBODY, KEYRING, b"keyring", f.data)
        check(len(head) in ((44, 48) if dated else (36,)) and head[:36] == be(count, 4) + set_hash(set_key, elements), "set hash of the keyring")

        def key(account, domain, e):
            return num(e[:4]), unwrap(kek, self.epoch, account, domain, e[:4], e[4 + dated:])

        self.policy = key(NOBODY, POLICYKEY, elements[0][1])
        self.audit = key(NOBODY, AUDITKEY, elements[1][1])
        self.accounts = {i: key(i, ACCOUNTKEY, e) for i, e in accounts}


def site_key(pair, purpose):
    version, key = pair
    return expand(key, b"sallyport.site.v1\0" + purpose + b"\0" + be(version, 4))


# Volumes

def page_of_extents(page):
    """Returns the extents of a page of either form, 32 bytes each, as a version itself has them."""
    check(page, "empty page of extents")
    if page[0] < 0x80:
        extents = [page[at:at + 32] for at in range(0, len(page), 32)]
        check(len(extents) <= 2000 and all(len(e) == 32 and not any(e[28:]) for e in extents), "page of extents")
        return page
    check(page[0] == 0x81, "form of a page of extents")
    f, out, end, shifts = Fields(page[1:]), [], 0, {}
    while f.data or not out:
        off, length, source, step = end + f.number(), f.number(), f.number(), f.number()
        shifts[source % 16] = shifts.get(source % 16, 0) + (-(step + 1) // 2 if step & 1 else step // 2)
        from_, end = (off + shifts[source % 16]) % 2**64, off + length
        check(length and end < 2**63 and from_ + length < 2**63 and source < 2**32 - 1 and len(out) < 2000, "extent in a page")
        out.append(be(off, 8) + be(length, 8) + be(from_, 8) + be((source - 1) % 2**32, 4) + bytes(4))
    return b"".join(out)


class Volume:
    def __init__(self, directory, account, version, key):
        self.blobs, self.account, self.version = directory / "blobs", account, version
        self.key = {p: expand(key, b"sallyport.account.v1\0" + p.encode() + b"\0" + account + be(version, 4))
                    for p in ("name", "dir", "record", "set", "wrap")}
        buckets = bolt(directory / f"tree-{version}.db")
        check(sorted(buckets) == [bytes([d]) for d in range(1, 12)], "buckets")
        self.records = {name[0]: records for name, records in buckets.items()}
        head = Fields(self.get(HEAD, b"head"))
        self.format = num(head.take(2))
        check(self.format in (1, 2, 3, 4), "format of the database")
        head.take(8)
        elements = [(bytes([d]) + k, v) for d, r in self.records.items() if d != HEAD for k, v in r.items()]
        check(head.u64() == len(elements), "number of records")
        check(head.take(32) == set_hash(self.key["set"], elements), "set hash of the database")
        last = head.u64()
        head.take(8 * (9 if self.format == 1 else 10))
        self.purged, self.lacking = (head.u64(), head.u64()) if self.format > 2 else (0, 0)
        check(max(self.purged, self.lacking) <= last, "marks of what was destroyed")
        if self.format > 3:
            check(head.u64() == self.kept() % 2**64, "bytes kept for history alone")
        head.end()

    def get(self, domain, key):
        sealed = self.records[domain][key]
        return open_record(self.key["record"], self.version, self.account, domain, bytes([domain]) + key, sealed)

    def inode(self, number):
        f = Fields(self.get(INODE, be(number, 8)))
        n = {"kind": f.u8(), "changed": f.u64(), "version": f.u64(), "versions": f.u64(),
             "children": f.u64(), "parent": f.u64(), **f.attr(), "interrupted": f.u8(), "target": f.str()}
        if self.format > 1:
            n.update(home=f.u64(), left=f.u64(), past=f.u64(), name=f.str())
        f.end()
        return n

    def names(self, directory):
        """Returns the live entries of a directory, found by its token."""
        token = mac(self.key["dir"], be(directory, 8))[:16]
        for key in self.records[ENTRY]:
            if key[:16] != token:
                continue
            f = Fields(self.get(ENTRY, key))
            parent, inode, _, name = f.u64(), f.u64(), f.u64(), f.str()
            f.end()
            check(parent == directory and key[16:] == mac(self.key["name"], be(parent, 8) + name)[:16], "name token")
            yield name, inode

    def kept(self):
        """Returns how many bytes are stored that the current version of no live file uses."""
        blobs = {}
        for key in self.records[BLOBKEY]:
            f = Fields(self.get(BLOBKEY, key))
            f.bytes()
            state, relied, size = f.u8(), f.u64(), f.u64()
            blobs[key] = relied if state == 1 else max(size, relied)
        kept = sum(blobs.values())
        for key in self.records[VERSION]:
            n = self.inode(num(key[:8]))
            listed, extents, inline = self.layout(num(key[:8]), num(key[8:]))[2:5]
            kept += len(inline)
            if n["kind"] != 1 or n["parent"] == 0 or n["version"] != num(key[8:]):
                continue
            used = {}
            for at in range(0, len(extents), 32):
                e = Fields(extents[at:at + 32])
                _, length, _, index = e.u64(), e.u64(), e.u64(), e.u32()
                used[index] = used.get(index, 0) + length
            kept -= len(inline) + sum(min(used.get(i, 0), relied) for i, (b, relied, _, _) in enumerate(listed) if b in blobs)
        return kept

    def content(self, inode, n):
        return self.read_version(inode, n)[1]

    def layout(self, inode, n):
        """Returns where the bytes of a version lie, with its attributes."""
        f = Fields(self.get(VERSION, be(inode, 8) + be(n, 8)))
        at, _, attr, writer = f.u64(), f.u64(), f.attr(), f.str()
        layout = Fields(f.bytes())
        pages = [(f.u64(), f.u32(), f.u32(), f.take(16)) for _ in range(f.u32())]
        f.end()
        check(layout.take(4) == be(1, 1) + bytes(3), "version of a layout")
        blobs, extents, inline, size = layout.u32(), layout.u32(), layout.u32(), layout.u64()
        blobs = [(layout.take(16), layout.u64(), layout.u8(), layout.take(7)) for _ in range(blobs)]
        extents = layout.take(32 * extents)
        for first, page, count, digest in pages:
            data = self.get(EXTENTS, be(inode, 8) + be(first, 8) + be(page, 4))
            listed = page_of_extents(data)
            check(len(listed) == 32 * count and hashlib.sha256(data).digest()[:16] == digest, "page of extents")
            extents += listed
        inline = layout.take(inline)
        layout.end()
        check(attr["size"] == size, "size of a version")
        return at, attr, blobs, extents, inline, writer

    def read_version(self, inode, n):
        """Returns the attributes and the bytes of one version."""
        at, attr, blobs, extents, inline, writer = self.layout(inode, n)
        size = attr["size"]
        plain = [self.blob(i, relied, state == 1) for i, relied, state, _ in blobs]
        out = bytearray(size)
        for at in range(0, len(extents), 32):
            e = Fields(extents[at:at + 32])
            off, length, from_, index = e.u64(), e.u64(), e.u64(), e.u32()
            source = inline if index == 0xFFFFFFFF else plain[index]
            check(off + length <= size and from_ + length <= len(source), "extent")
            out[off:off + length] = source[from_:from_ + length]
        return {**attr, "n": n, "at": at, "writer": writer.decode("utf-8", "surrogateescape")}, bytes(out)

    def blob(self, blob, relied, is_open):
        key = unwrap(self.key["wrap"], self.version, self.account, DATAKEY, blob, Fields(self.get(BLOBKEY, blob)).bytes())
        name = blob.hex()
        data = (self.blobs / name[:2] / name[2:]).read_bytes()
        check(data[:8] == b"SPBLOB1\n" and data[8:24] == blob and not any(data[98:128]), "header of a blob")
        params, iv, tag = data[24:34], data[34:66], data[66:98]
        check(params == bytes(2) + be(SEGMENT, 4) + be(32, 4), "parameters of a stream")
        aad = b"sallyport.blob.v1\0" + self.account + blob

        def kdf(k, purpose, size):
            return expand(k, params + iv + purpose + aad, SHA384, size)

        check(kdf(key, b"HEADER_TAG:", 32) == tag, "header tag of a stream")
        message, full, rest = kdf(key, b"MESSAGE_KEY:", 48), relied >> 16, relied & 0xFFFF
        if not is_open:
            check(len(data) == 160 + relied + 32 * full, "size of a blob")
        plain = bytearray()
        for i in range(full if is_open else full + 1):
            final = i == full
            size = OVERHEAD + rest if final else SEGMENT
            s = data[128 + i * SEGMENT:][:size]
            check(len(s) == size and num(s[:4]) == (size if final else 0xFFFFFFFF), "length of a segment")
            dek = kdf(message, b"DEK:" + be(i >> 20 << 20, 8), 32)
            plain += AESGCM(dek).decrypt(s[4:16], s[16:], be(i, 8) + be(final, 1))
        return bytes(plain)

    def versions(self, inode):
        """Returns every version of a file that is kept, the oldest first."""
        found = []
        for key in sorted(self.records[VERSION]):
            if key[:8] == be(inode, 8):
                attr, data = self.read_version(inode, num(key[8:]))
                found.append({**{k: attr[k] for k in ("n", "at", "size", "state", "writer")}, "sha256": hashlib.sha256(data).hexdigest()})
        return found

    def gone(self):
        """Returns the names that are history, in the order of their ends."""
        found = []
        for key in self.records[PAST]:
            f = Fields(self.get(PAST, key))
            directory, inode, since, name = f.u64(), f.u64(), f.u64(), f.str()
            f.end()
            check(key[:16] == mac(self.key["dir"], be(directory, 8))[:16], "directory token of a past name")
            check(key[16:32] == mac(self.key["name"], be(directory, 8) + name)[:16], "token of a past name")
            n = {"directory": directory, "name": name.decode("utf-8", "surrogateescape"), "since": since, "until": num(key[32:]), "inode": inode}
            if self.inode(inode)["kind"] == 1:
                n["versions"] = self.versions(inode)
            found.append(n)
        return sorted(found, key=lambda n: n["until"])

    def outbox(self):
        return [Fields(self.get(OUTBOX, key)).bytes().decode("utf-8", "surrogateescape") for key in sorted(self.records[OUTBOX])]

    def tree(self, directory=1, path="", history=False):
        found = {}
        for name, number in self.names(directory):
            n = self.inode(number)
            # Names are bytes; what is not UTF-8 shows as \udcXX.
            where = path + "/" + name.decode("utf-8", "surrogateescape")
            found[where] = {k: n[k] for k in ("kind", "size", "mode", "mtime", "created", "state")}
            if history and n["kind"] == 1:
                found[where]["versions"] = self.versions(number)
            if n["kind"] == 1 and n["version"]:
                data = self.content(number, n["version"])
                check(len(data) == n["size"], "size of a file")
                found[where]["sha256"] = hashlib.sha256(data).hexdigest()
            elif n["kind"] == 2:
                found.update(self.tree(number, where, history))
            elif n["kind"] == 3:
                found[where]["target"] = n["target"].decode("utf-8", "surrogateescape")
        return found


def policy(state, site):
    if not (state / "policy.db").exists():
        return None
    record, token_key = site_key(site.policy, b"record"), site_key(site.policy, b"token")
    names_key, name_token_key = site_key(site.policy, b"names"), site_key(site.policy, b"nametoken")

    def token(kind, name, key=token_key):
        return mac(key, be(len(kind), 1) + kind + name)[:16]

    buckets = bolt(state / "policy.db")
    records, old = buckets[b"policy1"], b"names1" not in buckets
    of_accounts = b"ai" if old else b"al"
    plain = {k: open_record(record, site.policy[0], NOBODY, ACCOUNTS if k[:1] in of_accounts else POLICY, k, v)
             for k, v in records.items()}
    head = json.loads(plain.pop(b"h"))
    check(head["format"] == (1 if old else 2), "format of the policy")
    names = {}
    if not old:
        check(all(k[:1] in b"ni" for k in buckets[b"names1"]) and not any(k[:1] in b"ni" for k in records), "record in the wrong table")
        names = {k: open_record(names_key, site.policy[0], NOBODY, NAMES, k, v) for k, v in buckets[b"names1"].items()}
    set_key = token(b"policydb set key", b"left") + token(b"policydb set key", b"right")
    elements = [(k, v) for k, v in records.items() if k != b"h"] + list(buckets.get(b"names1", {}).items())
    check(head["count"] == len(elements) and bytes(head["sum"]) == set_hash(set_key, elements), "set hash of the policy")
    accounts, details, holds = {}, {}, {}
    for k, v in plain.items():
        if k[:1] == b"l":
            h = json.loads(v)
            check(k[1:] == token(b"holds of account", h["id"].encode()), "holds token")
            check(all(0 < x["n"] <= h["last"] for x in h["holds"]), "number of a hold")
            holds[h["id"]] = h["holds"]
        if k[:1] == b"a":
            a = json.loads(v)
            if old:
                check(k[1:] == token(b"account", a["name"].encode()), "account token")
                check(plain[b"i" + token(b"account id", a["id"].encode())] == a["name"].encode(), "account id")
            else:
                check(k[1:] == token(b"account record", a["id"].encode()), "account token")
                a["name"] = names[b"i" + token(b"id", a["id"].encode(), name_token_key)].decode()
                back = names[b"n" + token(b"name", a["name"].encode(), name_token_key)]
                check(back.hex() == a["id"], "name of another account")
            accounts[a["name"]], details[a["name"]] = a["id"], a
    check(len(names) == (0 if old else 2 * len(accounts)), "number of names")
    check(all(i in accounts.values() for i in holds), "holds of an account that is not there")
    revisions = [json.loads(plain[b"r" + be(n, 8)]) for n in range(1, head["revision"] + 1)]
    texts = [base64.b64decode(r["text"]).decode() for r in revisions]
    return {"revision": head["revision"], "accounts": accounts, "text": texts[-1] if texts else "", "texts": texts, "details": details, "holds": holds}


def checkpoints(state, site):
    """The checkpoints by the number of the record that each names: (number, hash of the record, first, before, sum)."""
    path = state / "audit" / "checkpoints"
    data = path.read_bytes() if path.exists() else b""
    if len(data) < 8:
        return []
    check(data[:8] == b"SPAUDCP1", "file of checkpoints")
    public = Ed25519PrivateKey.from_private_bytes(site_key(site.audit, b"checkpoint")).public_key()
    found, before = [], bytes(32)
    for at in range(8, len(data) - 195, 196):
        c = data[at:at + 196]
        check(num(c[:8]) == len(found) + 1 and c[96:128] == before, "chain of checkpoints")
        check(num(c[128:132]) == site.audit[0], "key of a checkpoint")
        public.verify(c[132:], b"sallyport.audit.checkpoint.v1\0" + c[:132])
        before = hashlib.sha256(c).digest()
        found.append({"seq": num(c[16:24]), "hash": c[24:56], "first": num(c[56:64]), "before": c[64:96], "sum": before})
    return found


def audit(state, site):
    if not (state / "audit").exists():
        return None
    record = site_key(site.audit, b"record")
    sealed = (state / "audit" / "head").read_bytes()
    head = json.loads(open_record(record, site.audit[0], NOBODY, AUDIT, b"head", sealed))
    points = checkpoints(state, site)
    if head.get("checkpoint"):
        check(len(points) >= head["checkpoint"] and points[head["checkpoint"] - 1]["sum"] == bytes(head["checkpoint_hash"]), "checkpoint of the head")
    number, last, events = 0, bytes(32), []
    if points:
        number, last = points[-1]["first"] - 1, points[-1]["before"]
    first, hashes = number + 1, {number: last}
    for path in sorted((state / "audit").glob("*.log")):
        if int(path.stem) < first:
            continue  # gone by the policy of retention, only not yet removed
        data = path.read_bytes()
        check(data[:8] == b"SPAUDIT1" and int(path.stem) == number + 1, "file of the audit log")
        at = 8
        while len(data) - at >= 4 and any(data[at:]):
            size = 4 + num(data[at:at + 4])
            if len(data) - at < size:
                break  # not complete: never acknowledged
            frame = data[at:at + size]
            number += 1
            check(frame[4:44] == be(number, 8) + last, "chain of the audit log")
            events.append(json.loads(open_record(record, site.audit[0], NOBODY, AUDIT, frame[4:44], frame[44:])))
            last = hashes[number] = hashlib.sha256(frame).digest()
            at += size
    check(hashes.get(head["seq"]) == bytes(head["hash"]), "head of the audit log")
    for c in points:
        check(c["seq"] < first or hashes.get(c["seq"]) == c["hash"], "record of a checkpoint")
    return events


def site_record(state, site, name, domain):
    """Returns what a file with one record of the site says; None if there is none."""
    if not (state / name).exists():
        return None
    return open_record(site_key(site.policy, b"record"), site.policy[0], NOBODY, domain, name.encode(), (state / name).read_bytes())


def clock(state, site):
    plain = site_record(state, site, "clock", CLOCK)
    if plain is None:
        return None
    f = Fields(plain)
    version = f.u8()
    check(version in (1, 2, 3), "version of the last known time")
    flags = f.u8()
    check(flags < 8, "flags of the last known time")
    found = {"ahead": bool(flags & 1), "confirmed_behind": bool(flags & 2), "doubt": bool(flags & 4),
             "now": f.signed(), "wall": f.signed(), "since": f.signed(), "leaps": []}
    if version >= 2:
        found |= {"count": f.take(16).hex(), "counted": f.signed(), "base": f.signed(), "unproven": f.signed()}
        check(min(found["counted"], found["base"], found["unproven"]) >= 0, "evidence of the last known time")
    if version >= 3:
        found["known"] = f.signed()
        check(found["known"] >= 0, "since when leaps of the last known time are known")
    check(found["now"] > 0 and found["wall"] >= 0 and found["since"] >= 0, "instant of the last known time")
    before = 0
    for _ in range(num(f.take(2))):
        leap = {"since": f.signed(), "from": f.signed(), "to": f.signed()}
        check(before <= leap["since"] <= leap["from"] < leap["to"], "leaps of the last known time")
        before = leap["to"]
        found["leaps"].append(leap)
    f.end()
    return found


def last_copy(state, site):
    plain = site_record(state, site, "last-copy", LASTCOPY)
    if plain is None:
        return None
    found = json.loads(plain)
    check(isinstance(found, dict) and set(found) <= {"copy", "drill"}, "when the state was copied")
    check(set(found.get("copy", {})) <= {"at", "id", "damaged"} and set(found.get("drill", {})) <= {"at", "id", "made"}, "when the state was copied")
    return found


def read(state, key_file, history=False):
    site = Site(state, key_file)
    volumes, past = {}, {}
    for account, (version, key) in site.accounts.items():
        directory = state / "accounts" / account.hex()
        if directory.exists():
            v = Volume(directory, account, version, key)
            volumes[account.hex()] = v.tree(history=history)
            if history:
                past[account.hex()] = {"gone": v.gone(), "outbox": v.outbox(), "purged": v.purged, "lacking": v.lacking}
    found = {"epoch": site.epoch, "accounts": volumes, "policy": policy(state, site), "audit": audit(state, site),
             "clock": clock(state, site), "last_copy": last_copy(state, site)}
    return {**found, "history": past} if history else found


def main():
    history, keys = "--history" in sys.argv[1:], "--keys" in sys.argv[1:]
    state, key_file = (pathlib.Path(p) for p in sys.argv[1:] if p not in ("--history", "--keys"))
    try:
        if keys:
            ring = Site(state, key_file)
            found = {"epoch": ring.epoch, "accounts": sorted(i.hex() for i in ring.accounts)}
        else:
            found = read(state, key_file, history)
    except (Damaged, InvalidSignature, InvalidTag, LookupError, ValueError, struct.error, OSError) as e:
        sys.exit("reader.py: damaged: %s: %s" % (type(e).__name__, e))
    json.dump(found, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
