#!/usr/bin/env python3
"""Test vectors of the sealed mesh, computed without any of Weft's code: from ../mesh-security.md alone.

    python3 vectors.py                   prints vectors.json
    python3 vectors.py check [FILE]      compares: fails when FILE (vectors.json beside this script) differs by a byte
    python3 vectors.py sizes             prints the table of sizes that ../mesh-security.md shows

Needs Debian's python3-cryptography, any version since Debian 12's: it makes public keys, X25519 secrets and AEADs, and
verifies every signature that is made here. Signatures themselves are plain arithmetic (FIPS 186-5 section 6.4, nonces
after RFC 6979 section 3.2), because that package signs deterministically only since its version 42.
"""
import hashlib
import hmac
import ipaddress
import json
import os
import struct
import sys

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

# ---- P-256 -------------------------------------------------------------------------------------------------------

P = 2**256 - 2**224 + 2**192 + 2**96 - 1
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)


def add(one, two):
    """Sum of two points; None is the point at infinity. a of the curve is -3."""
    if one is None or two is None:
        return two if one is None else one
    if one[0] == two[0]:
        if (one[1] + two[1]) % P == 0:
            return None
        slope = (3 * one[0] * one[0] - 3) * pow(2 * one[1], -1, P)
    else:
        slope = (two[1] - one[1]) * pow(two[0] - one[0], -1, P)
    x = (slope * slope - one[0] - two[0]) % P
    return x, (slope * (one[0] - x) - one[1]) % P


def times(scalar, point):
    result = None
    while scalar:
        if scalar & 1:
            result = add(result, point)
        point = add(point, point)
        scalar >>= 1
    return result


def rfc6979_nonces(private, digest):
    """The candidates for k, in order."""
    mac = lambda key, data: hmac.new(key, data, hashlib.sha256).digest()
    seed = private.to_bytes(32, "big") + (int.from_bytes(digest, "big") % N).to_bytes(32, "big")
    key, value = bytes(32), b"\x01" * 32
    for step in (b"\0", b"\x01"):
        key = mac(key, value + step + seed)
        value = mac(key, value)
    while True:
        value = mac(key, value)
        candidate = int.from_bytes(value, "big")
        if 0 < candidate < N:
            yield candidate
        key = mac(key, value + b"\0")
        value = mac(key, value)


class Key:
    """A P-256 key pair."""

    def __init__(self, private):
        self.private = private
        self.secret = int.from_bytes(private, "big")
        self.public = ec.derive_private_key(self.secret, ec.SECP256R1()).public_key()
        encode = lambda encoding, form: self.public.public_bytes(encoding, form)
        self.point = encode(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)
        self.spki = encode(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        self.id = hashlib.sha256(self.spki).digest()[:16]

    def sign(self, words):
        digest = hashlib.sha256(words).digest()
        e = int.from_bytes(digest, "big")
        for k in rfc6979_nonces(self.secret, digest):
            r = times(k, G)[0] % N
            s = pow(k, -1, N) * (e + r * self.secret) % N
            if r and s:
                break
        s = min(s, N - s)
        self.public.verify(utils.encode_dss_signature(r, s), words, ec.ECDSA(hashes.SHA256()))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def shown(self):
        return {"private": self.private, "public": self.point, "spki": self.spki, "key_id": self.id}


def check_rfc6979():
    """RFC 6979 A.2.5, SHA-256, "sample": the nonce and the signature (before its s is lowered)."""
    private = 0xC9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721
    digest = hashlib.sha256(b"sample").digest()
    k = next(rfc6979_nonces(private, digest))
    assert k == 0xA6E3C57DD01ABE90086538398355DD4C3B17AA873382B0F24D6129493D8AAD60
    r = 0xEFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716
    s = 0xF7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8
    assert times(k, G)[0] % N == r
    signed = Key(private.to_bytes(32, "big")).sign(b"sample")
    assert signed == r.to_bytes(32, "big") + (N - s).to_bytes(32, "big"), "s is the lower of the two"


# ---- addresses and LCAFs -----------------------------------------------------------------------------------------

AUTHORITY, EID_KEY = 2, 1
LOCAL_REACHABLE = 0x0005


def address(text):
    ip = ipaddress.ip_address(text)
    return struct.pack(">H", 1 if ip.version == 4 else 2) + ip.packed


def lcaf(kind, body):
    return struct.pack(">HBBBBH", 16387, 0, 0, kind, 0, len(body)) + body


def in_instance(instance, text):
    return lcaf(2, struct.pack(">I", instance) + address(text))


def security_key(suite, value, inner):
    """LCAF 11 with one key: key count, reserved, suite, R-bit; length and key; the address."""
    return lcaf(11, struct.pack(">BBBBH", 1, 0, suite, 0, len(value)) + value + address(inner))


def vendor(payload):
    return lcaf(255, b"\0\x02WF" + payload)


def crypto_eid(instance, key):
    digest = hashlib.sha256(struct.pack(">I", instance) + b"\xfd" + key.spki).digest()
    return str(ipaddress.IPv6Address(b"\xfd" + digest[:15]))


def prefix_bytes(instance, text):
    net = ipaddress.ip_network(text)
    return struct.pack(">IBB", instance, net.version, net.prefixlen) + net.network_address.packed


# ---- statements --------------------------------------------------------------------------------------------------


class Binding:
    def __init__(self, instance, prefix, node, epoch, not_after, issuer, signer):
        self.instance, self.prefix, self.node = instance, prefix, node
        self.epoch, self.not_after, self.issuer = epoch, not_after, issuer
        self.words = b"weft mesh binding 1\0" + prefix_bytes(instance, prefix) + node.point
        self.words += struct.pack(">QQ", epoch, not_after)
        self.signature = signer.sign(self.words)
        who = b"\x01" + signer.point if issuer == EID_KEY else b"\x02"
        self.statement = struct.pack(">QQ", epoch, not_after) + who + self.signature
        self.bytes = prefix_bytes(instance, prefix) + node.point + self.statement

    def shown(self):
        return {
            "instance_id": self.instance,
            "prefix": self.prefix,
            "node": self.node.point,
            "epoch": self.epoch,
            "not_after": self.not_after,
            "issuer": "eid-key" if self.issuer == EID_KEY else "authority",
            "words": self.words,
            "signature": self.signature,
            "bytes": self.bytes,
        }


class Membership:
    def __init__(self, instance, node, not_after, authority):
        self.instance, self.node, self.not_after = instance, node, not_after
        self.words = b"weft mesh membership 1\0" + struct.pack(">I", instance) + node.point + struct.pack(">Q", not_after)
        self.signature = authority.sign(self.words)
        self.permit = struct.pack(">Q", not_after) + self.signature
        self.bytes = struct.pack(">I", instance) + node.point + self.permit

    def shown(self):
        return {
            "instance_id": self.instance,
            "node": self.node.point,
            "not_after": self.not_after,
            "words": self.words,
            "signature": self.signature,
            "bytes": self.bytes,
        }


# ---- payloads of the Vendor LCAFs --------------------------------------------------------------------------------


def indices(numbers):
    return bytes([len(numbers)]) + b"".join(number.to_bytes(3, "big") for number in numbers)


def optional(permit):
    return b"\0" if permit is None else b"\x01" + permit


def offer(suites, own, counter, node, mask, statement, permit, locators, signature):
    out = bytes([1, 1, len(suites)]) + bytes(suites) + b"\0" + indices(own) + struct.pack(">Q", counter)
    out += node.point + bytes([mask]) + statement + optional(permit)
    return out + bytes([len(locators)]) + b"".join(bytes(pair) for pair in locators) + signature


def answer(suite, own, node, statement, permit, signature):
    return bytes([1, 2, suite, 0]) + indices(own) + node.point + statement + optional(permit) + signature


def proof(statement):
    return b"\x01\x03" + statement


def seal(node, signature):
    return b"\x01\x04" + node.point + signature


# ---- messages ----------------------------------------------------------------------------------------------------

UNSIGNED = bytes(64)


def sort_key(rloc):
    """AFI, then the address; of an LCAF its type."""
    afi = rloc[:2]
    return afi, rloc[4:5] if afi == b"\x40\x03" else rloc[2:]


def rloc_record(rloc, priority, weight, flags=LOCAL_REACHABLE):
    return sort_key(rloc), struct.pack(">BBBBH", priority, weight, 255, 0, flags) + rloc


def eid_record(ttl, mask, eid, locators):
    locators = [record for _, record in sorted(locators, key=lambda one: one[0])]
    return struct.pack(">IBBHH", ttl, len(locators), mask, 0x1000, 0) + eid + b"".join(locators)


def map_request(nonce, source, rlocs, mask, eid):
    first = 1 << 28 | (len(rlocs) - 1) << 8 | 1
    return struct.pack(">IQ", first, nonce) + source + b"".join(rlocs) + bytes([0, mask]) + eid


def map_reply(nonce, records):
    return struct.pack(">IQ", 2 << 28 | len(records), nonce) + b"".join(records)


HMAC_SHA256_128_HKDF = 3


def map_register(nonce, key_id, mac, records, xtr_id, site_id):
    """I: xTR-ID and Site-ID; M: a Map-Notify is wanted."""
    head = struct.pack(">IQBBH", 3 << 28 | 0x02000000 | 0x100 | len(records), nonce, key_id, HMAC_SHA256_128_HKDF, len(mac))
    return head + mac + b"".join(records) + xtr_id + struct.pack(">Q", site_id)


def register_mac(secret, nonce, message):
    """RFC 9301 section 5.6, algorithm 3: HKDF (RFC 5869) of nonce and secret, HMAC-SHA-256 cut to 128 bits."""
    extracted = hmac.new(b"Map-Register Authentication", struct.pack(">Q", nonce) + secret, hashlib.sha256).digest()
    key = hmac.new(extracted, b"\x01", hashlib.sha256).digest()
    return hmac.new(key, message, hashlib.sha256).digest()[:16]


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def udp6(source, destination, ports, payload):
    """An IPv6 packet with a UDP datagram."""
    ends = ipaddress.ip_address(source).packed + ipaddress.ip_address(destination).packed
    datagram = struct.pack(">HHHH", *ports, 8 + len(payload), 0) + payload
    total = checksum(ends + struct.pack(">II", len(datagram), 17) + datagram) or 0xFFFF
    datagram = datagram[:6] + struct.pack(">H", total) + datagram[8:]
    return struct.pack(">IHBB", 6 << 28, len(datagram), 17, 64) + ends + datagram


def ecm(source, destination, message):
    return struct.pack(">I", 8 << 28) + udp6(source, destination, (4342, 4342), message)


# ---- key schedule and data packets -------------------------------------------------------------------------------


def traffic_key(secret, transcript, direction, worker):
    number = 16 * direction + worker
    block = lambda index: hmac.new(
        secret, struct.pack(">H", index) + b"lisp-crypto" + transcript + struct.pack(">H", 0x4000), hashlib.sha256
    ).digest()
    return block(2 * number + 1), block(2 * number + 2)[:12]


def sealed_packet(suite, key, salt, index, instance, sender, counter, plain):
    """N, I and KK=1 in the flags; the receiver's SA index in the nonce field; no locator-status-bits."""
    header = b"\x89" + index.to_bytes(3, "big") + (instance << 8).to_bytes(4, "big")
    iv = bytes([sender]) + counter.to_bytes(11 if suite == 5 else 7, "big")
    padded = iv.rjust(12, b"\0")
    nonce = bytes(one ^ two for one, two in zip(salt, padded))
    aead = AESGCM(key[:16]) if suite == 5 else ChaCha20Poly1305(key)
    sealed = aead.encrypt(nonce, plain, header + iv)
    return {
        "suite": suite,
        "index": index,
        "instance_id": instance,
        "sending_worker": sender,
        "counter": counter,
        "plaintext": plain,
        "header": header,
        "iv": iv,
        "aad": header + iv,
        "nonce": nonce,
        "ciphertext": sealed[:-16],
        "tag": sealed[-16:],
        "packet": header + iv + sealed,
    }


# ---- the vectors -------------------------------------------------------------------------------------------------

INSTANCE = 7
NOT_AFTER = 1_900_000_000
KEYS = {
    "authority": Key(b"\x0a" * 32),
    "initiator_node": Key(b"\x01" * 32),
    "initiator_eid": Key(b"\x02" * 32),
    "responder_node": Key(b"\x03" * 32),
    "responder_eid": Key(b"\x04" * 32),
}
INITIATOR_SECRET, RESPONDER_SECRET = b"\x21" * 32, b"\x43" * 32
INITIATOR_INDICES, RESPONDER_INDICES = [0xA10000, 0xA10001], [0xB20010, 0xB20011]
INITIATOR_RLOCS = ["192.0.2.1", "2001:db8::1"]
RESPONDER_RLOCS = ["203.0.113.2", "2001:db8:2::2"]
REQUEST_NONCE, REGISTER_NONCE = 0x0102030405060708, 0x1112131415161718
REGISTER_SECRET = b"the secret of site A"
XTR_ID, SITE_ID = b"xtr-id-of-node-a", 0x1122334455667788
COUNTER = 0x0000018BCFE56800


def x25519_public(secret):
    private = x25519.X25519PrivateKey.from_private_bytes(secret)
    return private.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def signed(label, prior, build, node):
    """Signs what `build` makes of a signature; gives words and signature."""
    words = label + prior + build(UNSIGNED)
    return words, node.sign(words)


def statements():
    keys = KEYS
    eids = {name: crypto_eid(INSTANCE, keys[name + "_eid"]) for name in ("initiator", "responder")}
    bind = lambda prefix, node, epoch, issuer, signer: Binding(INSTANCE, prefix, keys[node], epoch, NOT_AFTER, issuer, keys[signer])
    bindings = {
        "initiator": bind(eids["initiator"] + "/128", "initiator_node", 5, EID_KEY, "initiator_eid"),
        "responder": bind(eids["responder"] + "/128", "responder_node", 2, EID_KEY, "responder_eid"),
        "initiator_ipv4": bind("10.7.2.0/24", "initiator_node", 9, AUTHORITY, "authority"),
        "responder_ipv6": bind("fd00:7::/64", "responder_node", 1, AUTHORITY, "authority"),
    }
    memberships = {
        name: Membership(INSTANCE, keys[name + "_node"], NOT_AFTER, keys["authority"]) for name in ("initiator", "responder")
    }
    return eids, bindings, memberships


def build_request(eids, binding, membership, own=INITIATOR_INDICES, rlocs=INITIATOR_RLOCS, suites=(5, 6)):
    """A function from a signature to the Map-Request."""
    node = KEYS["initiator_node"]
    locators = [(1, 100), (2, 50), (3, 1), (4, 1)][: len(rlocs)]
    key_material = security_key(suites[0], x25519_public(INITIATOR_SECRET), rlocs[0])

    def payload(signature):
        return offer(suites, own, COUNTER, node, 128, binding.statement, membership and membership.permit, locators, signature)

    def build(signature):
        places = [key_material] + [address(rloc) for rloc in rlocs[1:]] + [vendor(payload(signature))]
        source, target = (in_instance(INSTANCE, eids[name]) for name in ("initiator", "responder"))
        return map_request(REQUEST_NONCE, source, places, 128, target)

    return payload, build


def build_reply(eids, binding, membership, suite):
    node = KEYS["responder_node"]
    key_material = security_key(suite, x25519_public(RESPONDER_SECRET), RESPONDER_RLOCS[0])

    def payload(signature):
        return answer(suite, RESPONDER_INDICES, node, binding.statement, membership.permit, signature)

    def build(signature):
        locators = [
            rloc_record(key_material, 1, 100),
            rloc_record(address(RESPONDER_RLOCS[1]), 2, 50),
            rloc_record(vendor(payload(signature)), 255, 0, 0),
        ]
        return map_reply(REQUEST_NONCE, [eid_record(1440, 128, in_instance(INSTANCE, eids["responder"]), locators)])

    return payload, build


def build_register(eids, bindings):
    node = KEYS["initiator_node"]

    def build(signature, mac=bytes(16)):
        plain = [rloc_record(address(rloc), *pair) for rloc, pair in zip(INITIATOR_RLOCS, [(1, 100), (2, 50)])]
        vendors = lambda *payloads: [rloc_record(vendor(payload), 255, 0, 0) for payload in payloads]
        first = vendors(proof(bindings["initiator"].statement), seal(node, signature))
        second = vendors(proof(bindings["initiator_ipv4"].statement))
        records = [
            eid_record(1440, 128, in_instance(INSTANCE, eids["initiator"]), plain + first),
            eid_record(1440, 24, in_instance(INSTANCE, "10.7.2.0"), plain + second),
        ]
        return map_register(REGISTER_NONCE, 1, mac, records, XTR_ID, SITE_ID)

    return build


def messages(eids, bindings, memberships):
    sha256 = lambda data: hashlib.sha256(data).digest()
    nodes = KEYS["initiator_node"], KEYS["responder_node"]
    suite = 6
    offered, request = build_request(eids, bindings["initiator"], memberships["initiator"])
    request_words, request_signature = signed(b"weft mesh Map-Request 1\0", b"", request, nodes[0])
    request_bytes = request(request_signature)
    answered, reply = build_reply(eids, bindings["responder"], memberships["responder"], suite)
    reply_words, reply_signature = signed(b"weft mesh Map-Reply 1\0", sha256(request_bytes), reply, nodes[1])
    reply_bytes = reply(reply_signature)
    register = build_register(eids, bindings)
    register_words, register_signature = signed(b"weft mesh Map-Register 1\0", b"", register, nodes[0])
    mac = register_mac(REGISTER_SECRET, REGISTER_NONCE, register(register_signature))
    register_bytes = register(register_signature, mac)
    payloads = {
        "offer": offered(request_signature),
        "answer": answered(reply_signature),
        "proof": proof(bindings["initiator_ipv4"].statement),
        "seal": seal(nodes[0], register_signature),
    }
    shown = lambda words, signature, data: {"words": words, "signature": signature, "bytes": data, "sha256": sha256(data)}
    return payloads, {
        "map_request": shown(request_words, request_signature, request_bytes),
        "map_request_in_ecm": {"bytes": ecm(eids["initiator"], eids["responder"], request_bytes)},
        "map_reply": shown(reply_words, reply_signature, reply_bytes),
        "map_register": {**shown(register_words, register_signature, register_bytes), "mac": mac, "secret": REGISTER_SECRET},
    }


def exchange(of_request, of_reply):
    publics = x25519_public(INITIATOR_SECRET), x25519_public(RESPONDER_SECRET)
    private = x25519.X25519PrivateKey.from_private_bytes(INITIATOR_SECRET)
    secret = private.exchange(x25519.X25519PublicKey.from_public_bytes(publics[1]))
    transcript = hashlib.sha256(of_request + of_reply).digest()
    shown = {
        "initiator_secret": INITIATOR_SECRET,
        "initiator_public": publics[0],
        "responder_secret": RESPONDER_SECRET,
        "responder_public": publics[1],
        "shared_secret": secret,
        "transcript": transcript,
    }
    keys = []
    for direction, name in enumerate(("to-responder", "to-initiator")):
        for worker in (0, 1):
            key, salt = traffic_key(secret, transcript, direction, worker)
            keys.append({"direction": name, "worker": worker, "key": key, "salt": salt})
    return shown, keys


def packets(eids, keys):
    """Both suites under keys of the one exchange above, which chose 6: the key of suite 5 is the first half."""
    there = udp6(eids["initiator"], eids["responder"], (1000, 2000), b"from the initiator's guest")
    back = udp6(eids["responder"], eids["initiator"], (2000, 1000), b"and back")
    probe = b"\x01" + bytes.fromhex("00c0ffee00c0ffee")
    message = b"\x03" + b"for the other side's control"
    control = 0xFFFFFF
    table = [
        ("aes-128-gcm", 5, 1, RESPONDER_INDICES[1], INSTANCE, 0, 0x0102030405, there),
        ("chacha20-poly1305", 6, 2, INITIATOR_INDICES[0], INSTANCE, 15, 1, back),
        ("probe", 6, 0, RESPONDER_INDICES[0], control, 1, 2**56 - 1, probe),
        ("probe-answer", 6, 2, INITIATOR_INDICES[0], control, 0, 7, b"\x02" + probe[1:]),
        ("message", 5, 3, INITIATOR_INDICES[1], control, 3, 2, message),
    ]
    out = []
    for name, suite, number, index, instance, sender, counter, plain in table:
        chosen = keys[number]
        head = {"name": name, "direction": chosen["direction"], "worker": chosen["worker"]}
        out.append({**head, **sealed_packet(suite, chosen["key"], chosen["salt"], index, instance, sender, counter, plain)})
    return out


def vectors():
    eids, bindings, memberships = statements()
    payloads, shown = messages(eids, bindings, memberships)
    made, keys = exchange(shown["map_request"]["sha256"], shown["map_reply"]["sha256"])
    return {
        "instance_id": INSTANCE,
        "keys": {name: key.shown() for name, key in KEYS.items()},
        "crypto_eids": [{"key": name + "_eid", "eid": eid} for name, eid in eids.items()],
        "bindings": {name: binding.shown() for name, binding in bindings.items()},
        "memberships": {name: membership.shown() for name, membership in memberships.items()},
        "payloads": payloads,
        "messages": shown,
        "exchange": made,
        "traffic_keys": keys,
        "packets": packets(eids, keys),
    }


def sizes():
    """A line for each kind of Map-Request: bytes of the message, and of the IP packet around its ECM."""
    eids, bindings, memberships = statements()
    four, six = INITIATOR_RLOCS
    rows = []
    for workers in (1, 2, 4, 8, 16):
        rows.append((f"IPv4 and IPv6 locator, membership, {workers} worker{'s' * (workers > 1)}", [four, six], workers, True))
    rows += [
        ("IPv4 and IPv6 locator, no membership, 16 workers", [four, six], 16, False),
        ("one IPv4 locator, membership, 16 workers", [four], 16, True),
        ("two IPv4, two IPv6 locators, membership, 1 worker", [four, six, "192.0.2.9", "2001:db8::9"], 1, True),
    ]
    print("| Map-Request | bytes | its ECM, sent over IPv4 | over IPv6 |")
    print("|---|---|---|---|")
    for name, rlocs, workers, member in rows:
        own = list(range(1, workers + 1))
        permit = memberships["initiator"] if member else None
        _, build = build_request(eids, bindings["initiator"], permit, own, rlocs)
        message = build(UNSIGNED)
        inside = len(ecm(eids["initiator"], eids["responder"], message))
        print(f"| {name} | {len(message)} | {20 + 8 + inside} | {40 + 8 + inside} |")


def text():
    hexed = lambda value: value.hex() if isinstance(value, bytes) else value
    walk = lambda value: (
        {name: walk(part) for name, part in value.items()}
        if isinstance(value, dict)
        else [walk(part) for part in value] if isinstance(value, list) else hexed(value)
    )
    return json.dumps(walk(vectors()), indent=1) + "\n"


def main(arguments):
    check_rfc6979()
    if arguments[:1] == ["sizes"]:
        sizes()
    elif arguments[:1] == ["check"]:
        path = (arguments + [os.path.join(os.path.dirname(os.path.abspath(__file__)), "vectors.json")])[1]
        with open(path, encoding="utf-8") as file:
            if file.read() != text():
                sys.exit(f"{path} is not what vectors.py computes")
        print("vectors.json is what vectors.py computes")
    else:
        sys.stdout.write(text())


if __name__ == "__main__":
    main(sys.argv[1:])
