#!/usr/bin/env python3
"""Writes record.json, the frozen vectors of sealed records and account keys.

A second implementation, written from docs/FORMAT.md and c2sp.org/XAES-256-GCM
and not from the Go code. It needs the package "cryptography"; the Go tests
need only its output. Running it again changes nothing:

    python3 record_vectors.py > record.json
"""
import base64
import hashlib
import hmac
import json
import sys

try:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
except ImportError:
    sys.exit("record_vectors.py: needs the Python package cryptography")


def rnd(label, n):
    return hashlib.shake_256(b"sallyport record vectors\0" + label.encode()).digest(n)


def be(value, size):
    return value.to_bytes(size, "big")


def xaes_seal(key, nonce, plain, aad):
    aes = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    low = int.from_bytes(aes.update(bytes(16)), "big") << 1
    k1 = (low ^ 0x87 if low >> 128 else low) & (1 << 128) - 1
    blocks = [int.from_bytes(bytes([0, i]) + b"X\0" + nonce[:12], "big") ^ k1 for i in (1, 2)]
    subkey = b"".join(aes.update(be(b, 16)) for b in blocks)
    return AESGCM(subkey).encrypt(nonce[12:], plain, aad)


def rec_aad(account, domain, dbkey):
    return b"sallyport.rec.v1\0" + be(domain, 1) + account + be(len(dbkey), 2) + dbkey


def pad(plain):
    body = be(len(plain), 4) + plain
    return body + bytes(-len(body) % 64)


def seal(label, key, epoch, account, domain, dbkey, plain, body=None, version=1):
    nonce = rnd(label + " nonce", 24)
    padded = pad(plain) if body is None else body
    return be(version, 1) + be(epoch, 4) + nonce + xaes_seal(key, nonce, padded, rec_aad(account, domain, dbkey))


def derive(key, purpose, account, version):
    info = b"sallyport.account.v1\0" + purpose + b"\0" + account + be(version, 4)
    return HKDFExpand(algorithm=SHA256(), length=32, info=info).derive(key)


def mac(key, message):
    return hmac.new(key, message, hashlib.sha256).digest()


def wrap(label, kek, epoch, account, domain, dbkey, key):
    info = b"sallyport.commit.v1" + rec_aad(account, domain, dbkey)
    commit = HKDFExpand(algorithm=SHA256(), length=32, info=info).derive(kek)
    return commit + seal(label, kek, epoch, account, domain, dbkey, key)


def flip(data, at, mask=1):
    return data[:at] + bytes([data[at] ^ mask]) + data[at + 1:]


def records():
    key, account, epoch, dbkey = rnd("record key", 32), rnd("account", 16), 7, b"entry/0123456789abcdef"

    def row(name, plain, sealed, ok, **other):
        return {"name": name, "key": key, "epoch": epoch, "account": account, "domain": 1, "dbkey": dbkey,
                "plain": plain, "sealed": sealed, "ok": ok, **other}

    for size in (0, 1, 59, 60, 61, 124, 125, 200, 5000):
        plain, name = rnd("plain", size), f"{size} bytes"
        yield row(name, plain, seal(name, key, epoch, account, 1, dbkey, plain), True)
    yield row("empty database key", b"x", seal("e", key, epoch, account, 1, b"", b"x"), True, dbkey=b"")
    yield row("zero account", b"x", seal("z", key, epoch, bytes(16), 1, dbkey, b"x"), True, account=bytes(16))
    yield row("epoch 2^32-1", b"x", seal("m", key, 2**32 - 1, account, 1, dbkey, b"x"), True, epoch=2**32 - 1)

    plain = rnd("plain", 100)
    good = seal("good", key, epoch, account, 1, dbkey, plain)
    bad = {
        "version 0": flip(good, 0), "version 2": seal("v", key, epoch, account, 1, dbkey, plain, version=2),
        "header epoch": flip(good, 4), "nonce, subkey half": flip(good, 5), "nonce, cipher half": flip(good, 28),
        "ciphertext": flip(good, 29), "tag": flip(good, len(good) - 1, 0x80), "one byte short": good[:-1],
        "64 bytes short": good[:-64], "one byte long": good + b"\0", "empty": b"", "header only": good[:5],
        "no body": seal("nb", key, epoch, account, 1, dbkey, b"", body=b""),
        "padding not zero": seal("p", key, epoch, account, 1, dbkey, b"", body=flip(pad(plain), 127)),
        "padding a step too long": seal("s", key, epoch, account, 1, dbkey, b"", body=pad(plain) + bytes(64)),
        "length beyond the record": seal("l", key, epoch, account, 1, dbkey, b"", body=be(61, 4) + bytes(60)),
        "length 2^32-1": seal("ll", key, epoch, account, 1, dbkey, b"", body=be(2**32 - 1, 4) + bytes(60)),
        "not padded": seal("np", key, epoch, account, 1, dbkey, b"", body=be(3, 4) + b"abc"),
        "other domain": seal("d", key, epoch, account, 2, dbkey, plain),
        "other account": seal("a", key, epoch, flip(account, 0), 1, dbkey, plain),
        "other database key": seal("k", key, epoch, account, 1, flip(dbkey, 0), plain),
        "other key": seal("o", flip(key, 0), epoch, account, 1, dbkey, plain),
    }
    for name, sealed in bad.items():
        yield row(name, plain, sealed, False)


def accounts():
    for version in (1, 2):
        key, account, blob, inode = rnd("account key", 32), rnd("account", 16), rnd("blob", 16), 2**40 + 5
        k = {p.decode(): derive(key, p, account, version) for p in (b"name", b"dir", b"record", b"set", b"wrap", b"journal")}
        name, data = "r\u00e9sum\u00e9.txt", rnd("data key", 32)
        wrapped = wrap(f"wrap {version}", k["wrap"], version, account, 36, blob, data)
        elements = [(rnd(f"k{i}", 5 + i), rnd(f"v{i}", 109)) for i in range(20)]
        total = sum(int.from_bytes(mac(k["set"], be(len(d), 2) + d + v), "big") for d, v in elements) % 2**256
        yield {"key": key, "account": account, "version": version, "derived": k, "inode": inode,
               "dir_token": mac(k["dir"], be(inode, 8))[:16], "name": name,
               "name_token": mac(k["name"], be(inode, 8) + name.encode())[:16],
               "fold_token": mac(k["name"], b"nfc" + be(inode, 8) + name.encode())[:16],
               "blob": blob, "data_key": data, "wrapped": wrapped,
               "wrong_key": flip(wrapped, 0), "damaged": flip(wrapped, 32 + 40),
               "elements": [{"dbkey": d, "value": v} for d, v in elements], "sum": be(total, 32)}


def text(v):
    if isinstance(v, bytes):
        return base64.b64encode(v).decode()
    if isinstance(v, dict):
        return {k: text(x) for k, x in v.items()}
    return [text(x) for x in v] if isinstance(v, list) else v


if __name__ == "__main__":
    print(json.dumps({"records": text(list(records())), "accounts": text(list(accounts()))}, indent=1))
