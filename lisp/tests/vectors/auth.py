#!/usr/bin/env python3
"""Test vectors for RFC 9301 section 5.6 authentication, made with hashlib, hmac and struct alone: nothing of Weft runs.

    python3 auth.py > auth.txt

Each line of auth.txt: name, purpose, scope, secret, message; secret and message in hex, the MAC in its place.
HKDF is RFC 5869 written out: IKM = nonce || secret, salt = the purpose's string, info = empty, 32 bytes.
"""
import hashlib
import hmac
import struct

NONCE = 0x0102030405060708
SECRET = b"the secret of site A"
IDS = b"xtr-id-of-node-a" + struct.pack(">Q", 0x1122334455667788)


def locator(address):
    return struct.pack(">BBBBHH", 1, 100, 255, 0, 0x0005, 1) + bytes(address)


def record():
    head = struct.pack(">IBBHHH", 1440, 1, 24, 0x1000, 0, 1) + bytes([10, 7, 0, 0])
    return head + locator([192, 0, 2, 1])


def hkdf(salt, ikm, length):
    prk = hmac.new(salt, ikm, hashlib.sha256).digest()
    out, block, counter = b"", b"", 1
    while len(out) < length:
        block = hmac.new(prk, block + bytes([counter]), hashlib.sha256).digest()
        out, counter = out + block, counter + 1
    return out[:length]


def check_hkdf():
    """RFC 5869, test case 3 (no info, like ours), so that the routine above is known to be HKDF."""
    case3 = hkdf(b"", b"\x0b" * 22, 42)
    assert case3.hex() == (
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
    ), case3.hex()


SALTS = {
    "map-register": b"Map-Register Authentication",
    "map-notify": b"Map-Notify Authentication",
    "map-notify-ack": b"Map-Notify-Ack Authentication",
    "info-request": b"Info-Request Authentication",
    "info-reply": b"Info-Reply Authentication",
}


def mac(algorithm, length, purpose, data):
    if algorithm == 1:
        tag = hmac.new(SECRET, data, hashlib.sha1).digest()
    elif algorithm == 2:
        tag = hmac.new(SECRET, data, hashlib.sha256).digest()
    else:
        key = hkdf(SALTS[purpose], struct.pack(">Q", NONCE) + SECRET, 32)
        tag = hmac.new(key, data, hashlib.sha256).digest()
    return tag[:length]


def vector(name, purpose, word, algorithm, length, body, ids=b"", scope="whole"):
    head = struct.pack(">IQBBH", word, NONCE, 3, algorithm, length)
    message = head + bytes(length) + body + (ids if scope == "whole" else b"")
    tag = mac(algorithm, length, purpose, message)
    message = head + tag + body + ids
    print(name, purpose, scope, SECRET.hex(), message.hex())


check_hkdf()
print("# name purpose scope secret message (see auth.py)")
REGISTER, REGISTER_IDS = 0x30000101, 0x32000101
for algorithm, length in [(1, 12), (1, 20), (2, 16), (2, 32), (3, 16)]:
    tail = f"alg{algorithm}-{length}"
    vector(f"register-{tail}", "map-register", REGISTER, algorithm, length, record())
    vector(f"register-ids-{tail}", "map-register", REGISTER_IDS, algorithm, length, record(), IDS)
    vector(f"register-ids-rfc-scope-{tail}", "map-register", REGISTER_IDS, algorithm, length, record(), IDS, "records")
    vector(f"notify-{tail}", "map-notify", 0x40000001, algorithm, length, record())
    vector(f"notify-ids-rfc-scope-{tail}", "map-notify", 0x40000001, algorithm, length, record(), IDS, "records")
    vector(f"notify-ack-{tail}", "map-notify-ack", 0x50000001, algorithm, length, record())
    info = struct.pack(">IBBH", 1440, 0, 32, 1) + bytes([10, 7, 0, 1])
    vector(f"info-request-{tail}", "info-request", 0x70000000, algorithm, length, info + bytes(2))
    nat = struct.pack(">HBBBBHHH", 16387, 0, 0, 7, 0, 22, 4342, 54321)
    nat += struct.pack(">H", 1) + bytes([198, 51, 100, 1]) + struct.pack(">H", 1) + bytes([192, 0, 2, 2])
    nat += struct.pack(">H", 1) + bytes([10, 0, 0, 2])
    vector(f"info-reply-{tail}", "info-reply", 0x78000000, algorithm, length, info + nat)
