#!/usr/bin/env python3
"""A seal helper for PKCS#11 tokens: HSMs, smart cards, SoftHSM.

Each root key gets an RSA key pair of its own, made on the token, whose private
half never leaves it. To destroy an old root is to delete its key pair.

It needs pkcs11-tool (OpenSC) and openssl:

    seal.helper.command: [/usr/local/lib/sallyport/seal-helper-pkcs11.py,
                          --module, /usr/lib/softhsm/libsofthsm2.so, --token, sallyport, --pin-file, /etc/sallyport/pin]

Protocol: docs/SEAL-HELPER.md.
"""
import argparse
import base64
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile

BITS = 3072
LABEL = "sallyport root"


class Refused(Exception):
    """Carries the code and the message of the answer."""


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--module", required=True)
    p.add_argument("--token", required=True)
    p.add_argument("--pin-file", required=True)
    p.add_argument("--env", action="append", default=[], help="NAME=VALUE for the module, such as SOFTHSM2_CONF=…")
    args = p.parse_args()
    try:
        request = json.load(sys.stdin)
        if request.get("protocol") != 1:
            raise Refused("failed", "unknown protocol")
        op = {"info": info, "wrap": wrap, "unwrap": unwrap, "destroy": destroy}.get(request.get("op"))
        if op is None:
            raise Refused("failed", "unknown operation")
        data = [base64.b64decode(request[name]) for name in ("data", "keep") if name in request]
        answer = op(args, *(data or [b""]))
    except Refused as r:
        answer = {"error": {"code": r.args[0], "message": r.args[1]}}
    json.dump({"protocol": 1, **answer}, sys.stdout)


def tool(args, *command, data=b""):
    """Runs pkcs11-tool; the PIN goes by the environment, which other users cannot see."""
    try:
        with open(args.pin_file, encoding="ascii") as f:
            if os.fstat(f.fileno()).st_mode & 0o027:  # the group may read: so it shows for a systemd credential
                raise Refused("denied", "the PIN file lets others at it: run chmod 600 on it")
            pin = f.read().strip()
    except OSError as e:
        raise Refused("unavailable", "the PIN file cannot be read: " + (e.strerror or "error"))
    env = {"PATH": os.environ["PATH"], "SALLYPORT_PIN": pin, **dict(e.split("=", 1) for e in args.env)}
    if shutil.which("pkcs11-tool") is None:
        raise Refused("unavailable", "pkcs11-tool (OpenSC) is not installed")
    r = subprocess.run(["pkcs11-tool", "--module", args.module, "--token-label", args.token, "--login", "--pin", "env:SALLYPORT_PIN", *command],
                       input=data, env=env, capture_output=True)
    if r.returncode != 0:
        words = r.stderr.decode(errors="replace")
        print(words, file=sys.stderr)
        if "CKR_PIN_" in words:
            raise Refused("denied", "the token refuses the PIN")
        if "No slot" in words or "not found" in words.lower() and "token" in words.lower():
            raise Refused("unavailable", "the token is not there")
        raise Refused("failed", "pkcs11-tool failed: " + command[0])
    return r.stdout


def info(args, _):
    tool(args, "--list-objects", "--type", "privkey")  # says now if token or PIN are wrong
    return {"label": "PKCS#11 token " + args.token, "destroys": True}


def wrap(args, root):
    key = secrets.token_hex(8)
    tool(args, "--keypairgen", "--key-type", f"RSA:{BITS}", "--id", key, "--label", LABEL, "--usage-decrypt")
    public = tool(args, "--read-object", "--type", "pubkey", "--id", key)
    with tempfile.NamedTemporaryFile() as f:
        f.write(public)
        f.flush()
        r = subprocess.run(["openssl", "pkeyutl", "-encrypt", "-pubin", "-keyform", "DER", "-inkey", f.name, "-pkeyopt", "rsa_padding_mode:oaep"],
                           input=root, capture_output=True)
    if r.returncode != 0:
        raise Refused("failed", "openssl could not encrypt")
    return {"data": base64.b64encode(bytes.fromhex(key) + r.stdout).decode()}


def split(wrapped):
    if len(wrapped) != 8 + BITS // 8:
        raise Refused("damaged", "not what this helper wrapped")
    return wrapped[:8].hex(), wrapped[8:]


def exists(args, key):
    listing = tool(args, "--list-objects", "--type", "privkey").decode(errors="replace")
    return key in re.findall(r"ID:\s*([0-9a-f]+)", listing)


def unwrap(args, wrapped):
    key, sealed = split(wrapped)
    if not exists(args, key):
        raise Refused("wrong-key", "the token does not have this key: it is another token, or the key was destroyed")
    root = tool(args, "--decrypt", "--mechanism", "RSA-PKCS-OAEP", "--hash-algorithm", "SHA-1", "--id", key, "--input-file", "/dev/stdin", data=sealed)
    return {"data": base64.b64encode(root).decode()}


def destroy(args, wrapped, keep=b""):
    key, _ = split(wrapped)
    if keep[:8].hex() == key:
        raise Refused("damaged", "this key is in use")
    if exists(args, key):  # repeating it is harmless
        tool(args, "--delete-object", "--type", "privkey", "--id", key)
        tool(args, "--delete-object", "--type", "pubkey", "--id", key)
    if exists(args, key):
        raise Refused("failed", "the token still has the key")
    return {}


if __name__ == "__main__":
    main()
