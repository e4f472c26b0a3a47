#!/usr/bin/env python3
"""Writes the frozen state directory of format 1: key, seal.json, keyring (in its
format 1, and as keyring2 in its format 2), and expected.json, which says what must be found in them.

A second implementation, written from docs/FORMAT.md and not from the Go code.
It needs the package "cryptography"; the Go tests need only its output. Running
it again changes nothing:

    python3 keyring_vectors.py
"""
import base64
import hashlib
import json
import pathlib
import sys

here = pathlib.Path(__file__).parent
sys.path.insert(0, str(here.parent.parent / "record" / "testdata"))
sys.dont_write_bytecode = True
from record_vectors import HKDFExpand, SHA256, be, derive, mac, rnd, seal, wrap  # noqa: E402

NOBODY = bytes(16)
ROOT_KEY, ACCOUNT_KEY, POLICY_KEY, AUDIT_KEY, POLICY, AUDIT, KEYRING, NAMES = 32, 33, 34, 35, 37, 39, 40, 42


def expand(key, label, purpose, epoch):
    info = label + b"\0" + purpose + b"\0" + be(epoch, 4)
    return HKDFExpand(algorithm=SHA256(), length=32, info=info).derive(key)


def field(data):
    return be(len(data), 4) + data


def text(data):
    return base64.b64encode(data).decode()


epoch, seal_key, root = 3, rnd("seal key", 32), rnd("root", 32)
kek, set_key, head_key = (expand(root, b"sallyport.root.v1", p, epoch) for p in (b"wrap", b"set", b"head"))
policy, audit = rnd("policy", 32), rnd("audit", 32)
accounts = sorted((rnd(f"id {i}", 16), 1 + i % 2, rnd(f"account {i}", 32)) for i in range(3))

# seal.json
wrapped = wrap("root", seal_key, 0, NOBODY, ROOT_KEY, b"root", root)
commitment = expand(root, b"sallyport.root.v1", b"commit", epoch)
check = hashlib.sha256(b"sallyport.seal.v1\0" + field(b"keyfile") + be(epoch, 4) + field(wrapped) + field(commitment))
seal_json = {"format": "sallyport seal 1", "kind": "keyfile", "check": text(check.digest()),
             "roots": [{"epoch": epoch, "wrapped": text(wrapped), "commitment": text(commitment)}]}

# keyring, format 1
site = {b"policy": be(1, 4) + wrap("policy", kek, epoch, NOBODY, POLICY_KEY, be(1, 4), policy),
        b"audit": be(1, 4) + wrap("audit", kek, epoch, NOBODY, AUDIT_KEY, be(1, 4), audit)}
entries = [(i, be(v, 4) + wrap(f"account {v}", kek, epoch, i, ACCOUNT_KEY, be(v, 4), k)) for i, v, k in accounts]
elements = list(site.items()) + [(b"account" + i, e) for i, e in entries]
total = sum(int.from_bytes(mac(set_key, be(len(d), 2) + d + v), "big") for d, v in elements) % 2**256
head = seal("head", head_key, epoch, NOBODY, KEYRING, b"keyring", be(len(entries), 4) + be(total, 32))
ring = b"SPKEYR1\n" + be(epoch, 4) + be(len(entries), 4) + site[b"policy"] + site[b"audit"]
ring += b"".join(i + e for i, e in entries) + head

# keyring, format 2: every key and the root with the instant it was made
def dated(entry, made):
    return entry[:4] + be(made, 8) + entry[4:]


root_made, made = 1_700_000_000_000_000_000, [1_600_000_000_000_000_000 + i for i in range(5)]
site2 = {b"policy": dated(site[b"policy"], made[3]), b"audit": dated(site[b"audit"], made[4])}
entries2 = [(i, dated(e, m)) for (i, e), m in zip(entries, made)]
elements2 = list(site2.items()) + [(b"account" + i, e) for i, e in entries2]
total2 = sum(int.from_bytes(mac(set_key, be(len(d), 2) + d + v), "big") for d, v in elements2) % 2**256
head2 = seal("head 2", head_key, epoch, NOBODY, KEYRING, b"keyring", be(len(entries), 4) + be(total2, 32) + be(root_made, 8))
ring2 = b"SPKEYR2\n" + be(epoch, 4) + be(len(entries), 4) + site2[b"policy"] + site2[b"audit"]
ring2 += b"".join(i + e for i, e in entries2) + head2

policy_record, audit_record = (expand(k, b"sallyport.site.v1", b"record", 1) for k in (policy, audit))
token, names, name_token = (expand(policy, b"sallyport.site.v1", p, 1) for p in (b"token", b"names", b"nametoken"))
expected = {
    "epoch": epoch,
    "policy": text(seal("policy value", policy_record, 1, NOBODY, POLICY, b"place", b"a policy value")),
    "audit": text(seal("audit value", audit_record, 1, NOBODY, AUDIT, b"place", b"an audit value")),
    "token": text(mac(token, b"\x07account" + b"alice")[:16]),
    "name": text(seal("name value", names, 1, NOBODY, NAMES, b"place", b"a name")),
    "name_token": text(mac(name_token, b"\x04name" + b"alice")[:16]),
    "root_made": root_made,
    "made": made[:3],
    "accounts": [{"id": text(i), "version": v, "token": text(mac(derive(k, b"name", i, v), be(1, 8) + b"a")[:16])}
                 for i, v, k in accounts],
}

(here / "key").write_text(seal_key.hex() + "\n")
(here / "seal.json").write_text(json.dumps(seal_json, indent=2) + "\n")
(here / "keyring").write_bytes(ring)
(here / "keyring2").write_bytes(ring2)
(here / "expected.json").write_text(json.dumps(expected, indent=2) + "\n")
