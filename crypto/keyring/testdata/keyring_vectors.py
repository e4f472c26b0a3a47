#!/usr/bin/env python3
"""Writes the frozen state directory of format 1: key, seal.json, keyring (in its
format 1, as keyring2 in its format 2, and as keyring2-owed in that of today), expected.json, which says what must be found in them, and
keyring-bad.json: keyrings that must be refused, though all but what each is named after is right.

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

# keyring, format 2 of today: with what the root owes
owed = 2
counts = be(len(entries), 4)
times = be(root_made, 8)


def head_of(label, plain, key=head_key, e=epoch, place=b"keyring"):
    return seal(label, key, e, NOBODY, KEYRING, place, plain)


def ring_of(entries, head, magic=b"SPKEYR2\n", e=epoch, n=None, site=site2):
    out = magic + be(e, 4) + be(len(entries) if n is None else n, 4) + site[b"policy"] + site[b"audit"]
    return out + b"".join(i + x for i, x in entries) + head


def sum_of(entries, site=site2):
    elements = list(site.items()) + [(b"account" + i, x) for i, x in entries]
    return sum(int.from_bytes(mac(set_key, be(len(d), 2) + d + v), "big") for d, v in elements) % 2**256


owed_plain = counts + be(total2, 32) + times + be(owed, 4)
head_owed = head_of("head owed", owed_plain)
ring_owed = ring_of(entries2, head_owed)

one, two, three = entries2
other_key = rnd("another root", 32)
other_head = expand(other_key, b"sallyport.root.v1", b"head", epoch)
exchanged = [(one[0], two[1]), (two[0], one[1]), three]
versioned = [(one[0], be(int.from_bytes(one[1][:4], "big") + 1, 4) + one[1][4:]), two, three]
redated = [(one[0], one[1][:4] + be(made[0] + 1, 8) + one[1][12:]), two, three]
unsorted = [two, one, three]
doubled = [one, one, two, three]
swapped_site = {b"policy": site2[b"audit"], b"audit": site2[b"policy"]}


def sealed_as(label, entries, n=None, site=site2):
    """A head that is right for other entries than the file has."""
    return head_of(label, be(len(entries) if n is None else n, 4) + be(sum_of(entries, site), 32) + times + be(owed, 4))


bad = {
    "an account dropped": ring_of([one, two], head_owed),
    "an account dropped, and counted": ring_of([one, two], head_owed, n=3),
    "an account twice": ring_of(doubled, sealed_as("twice", doubled)),
    "accounts out of order": ring_of(unsorted, sealed_as("order", unsorted)),
    "keys of two accounts exchanged": ring_of(exchanged, head_owed),
    "another version": ring_of(versioned, head_owed),
    "another instant": ring_of(redated, head_owed),
    "policy and audit exchanged": ring_of(entries2, head_owed, site=swapped_site),
    "another set hash": ring_of(entries2, head_of("sum", counts + be((total2 + 1) % 2**256, 32) + times + be(owed, 4))),
    "another count in the head": ring_of(entries2, head_of("count", be(2, 4) + be(total2, 32) + times + be(owed, 4))),
    "the head of format 1": ring_of(entries2, head),
    "format 1 with the head of format 2": ring_of(entries, head_owed, magic=b"SPKEYR1\n", site=site),
    "format 1 with the name of format 2": ring_of(entries, head, site=site),
    "an unknown format": ring_of(entries2, head_owed, magic=b"SPKEYR3\n"),
    "a head of four bytes more": ring_of(entries2, head_of("long", owed_plain + be(0, 4))),
    "a head of two bytes less": ring_of(entries2, head_of("short", owed_plain[:-2])),
    "the head under another root": ring_of(entries2, head_of("root", owed_plain, key=other_head)),
    "the head at another place": ring_of(entries2, head_of("place", owed_plain, place=b"keyrinG")),
    "the head of another epoch": ring_of(entries2, head_of("epoch", owed_plain, e=epoch + 1)),
    "another epoch": ring_of(entries2, head_owed, e=epoch + 1),
    "a byte more": ring_owed + b"\0",
    "a byte less": ring_owed[:-1],
    "no head": ring_of(entries2, b""),
    "a count that does not fit": ring_of(entries2, head_owed, n=2**32 - 1),
}

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
(here / "keyring2-owed").write_bytes(ring_owed)
(here / "keyring-bad.json").write_text(json.dumps({name: text(data) for name, data in bad.items()}, indent=2) + "\n")
(here / "expected.json").write_text(json.dumps(expected, indent=2) + "\n")
