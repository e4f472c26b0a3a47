#!/usr/bin/env python3
"""Writes seals of the kinds passphrase and shares (with a recovery kit) over
the root of keyring_vectors.py: seal-passphrase.json, seal-shares.json, and
seals.json with what opens them.

A second implementation, written from docs/FORMAT.md and not from the Go code.
It needs the package "cryptography" with Argon2 (44 or later) or "argon2-cffi";
the Go tests need only its output. Running it again changes nothing:

    python3 seal_vectors.py
"""
import hashlib
import hmac
import json
import unicodedata

from keyring_vectors import NOBODY, ROOT_KEY, be, epoch, expand, field, here, rnd, root, text, wrap

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

SEAL_KEY = 41
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def argon2id(passphrase, salt, m, t, p):
    try:
        from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
        return Argon2id(salt=salt, length=32, iterations=t, lanes=p, memory_cost=m).derive(passphrase)
    except ImportError:
        from argon2.low_level import Type, hash_secret_raw
        return hash_secret_raw(passphrase, salt, t, m, p, 32, Type.ID)


def key_pair(label):
    scalar = int.from_bytes(rnd(label, 40), "big") % (ORDER - 1) + 1
    return ec.derive_private_key(scalar, ec.SECP256R1()), be(scalar, 32)


def point(key):
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def wrap_public(label, recipient):
    ephemeral, _ = key_pair(label + " ephemeral")
    shared = ephemeral.exchange(ec.ECDH(), recipient.public_key())
    info = b"sallyport.publicwrap.v1\0" + point(ephemeral) + point(recipient)
    kek = HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(shared)
    return point(ephemeral) + wrap(label, kek, 0, NOBODY, ROOT_KEY, b"root", root)


# GF(2^8), by logarithms: not how the server does it
exp, log = [0] * 510, [0] * 256
x = 1
for i in range(255):
    exp[i] = exp[i + 255] = x
    log[x] = i
    x ^= (x << 1) ^ (0x11B if x & 0x80 else 0)


def mul(a, b):
    return exp[log[a] + log[b]] if a and b else 0


def split(secret, k, n, set_id):
    shares = []
    coefficients = [secret] + [rnd(f"coefficient {c}", 32) for c in range(1, k)]
    for number in range(1, n + 1):
        y = bytearray(32)
        for b in range(32):
            power = 1
            for c in coefficients:
                y[b] ^= mul(c[b], power)
                power = mul(power, number)
        body = b"S1" + set_id + bytes([k, n, number]) + bytes(y)
        shares.append(body + hashlib.sha256(b"sallyport.share.v1\0" + body).digest()[:4])
    return shares


ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def mul32(a, b):
    out = 0
    for i in range(5):
        if b >> i & 1:
            out ^= a << i
    for i in range(9, 4, -1):
        if out >> i & 1:
            out ^= 0x25 << (i - 5)
    return out


def share_text(share):
    bits = "".join(f"{byte:08b}" for byte in share)
    out = []
    for g in range(18):
        c = [int(bits[g * 20 + i * 5:g * 20 + i * 5 + 5], 2) for i in range(4)]
        sum_ = g + 1
        for i, v in enumerate(c):
            sum_ ^= mul32(1 << (i + 1), v)
        out.append("".join(ALPHABET[v] for v in c + [sum_]))
    return "\n".join("-".join(out[i:i + 6]) for i in (0, 6, 12))


def seal_json(kind, params, wrapped, kits):
    compact = json.dumps(params, separators=(",", ":")).encode()
    about = field(kind.encode()) + field(compact) + be(len(kits), 4)
    for k in kits:
        about += field(k["id"].encode()) + field(k["for"].encode()) + field(k["created"].encode()) + field(point(k["key"]))
    to_kits = [wrap_public("kit " + k["id"], k["key"]) for k in kits]
    authentic = b"sallyport.seal.auth.v1\0" + about + b"".join(field(w) for w in [wrapped] + to_kits)
    auth = hmac.new(expand(root, b"sallyport.root.v1", b"seal", epoch), authentic, hashlib.sha256).digest()
    commitment = expand(root, b"sallyport.root.v1", b"commit", epoch)
    check = b"sallyport.seal.v2\0" + about + be(1, 4) + be(epoch, 4) + field(wrapped) + field(commitment) + field(auth) + be(len(kits), 4)
    check += b"".join(field(w) for w in to_kits)
    one = {"epoch": epoch, "wrapped": text(wrapped), "commitment": text(commitment), "auth": text(auth)}
    out = {"format": "sallyport seal 2", "kind": kind, "params": params}
    if kits:
        out["recovery"] = [{"id": k["id"], "for": k["for"], "created": k["created"], "public": text(point(k["key"]))} for k in kits]
        one["kits"] = [text(w) for w in to_kits]
    out["roots"] = [one]
    out["check"] = text(hashlib.sha256(check).digest())
    return json.dumps(out, indent=2) + "\n"


passphrase, salt, m, t, p = "cafe\u0301 au lait demain matin", rnd("salt", 16), 65536, 3, 4
secret = argon2id(unicodedata.normalize("NFC", passphrase).encode(), salt, m, t, p)
pair, scalar = key_pair("passphrase pair")
params = {"public": text(point(pair)), "private": text(wrap("passphrase private", secret, 0, NOBODY, SEAL_KEY, b"passphrase", scalar)),
          "salt": text(salt), "m": m, "t": t, "p": p}
(here / "seal-passphrase.json").write_text(seal_json("passphrase", params, wrap_public("passphrase root", pair), []))

secret, set_id = rnd("shares secret", 32), rnd("set", 4)
shares = split(secret, 3, 5, set_id)
pair, scalar = key_pair("shares pair")
kit, kit_scalar = key_pair("recovery")
kit_id = rnd("kit", 8).hex()
params = {"public": text(point(pair)), "private": text(wrap("shares private", secret, 0, NOBODY, SEAL_KEY, b"shares", scalar)),
          "set": set_id.hex(), "k": 3, "n": 5}
(here / "seal-shares.json").write_text(seal_json("shares", params, wrap_public("shares root", pair), [
    {"id": kit_id, "for": hashlib.sha256(b"age1nobody").hexdigest()[:16], "created": "2026-11-27T12:00:00Z", "key": kit}]))

(here / "seals.json").write_text(json.dumps({
    "passphrase": passphrase,
    "secret": text(secret),
    "shares": [{"bytes": text(s), "text": share_text(s)} for s in shares],
    "kit": json.dumps({"format": "sallyport recovery kit 1", "id": kit_id, "private": text(kit_scalar)}),
}, indent=2) + "\n")
