#!/usr/bin/env python3
"""Inner checksums of the ECM samples in tests/common/messages.rs, by nobody's code but Python's integers."""
import ipaddress
import struct

payload = bytes.fromhex("10000001" "0102030405060708" "0000" "0001c0000201" "00200001" "0a070101")


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def udp(source, destination, source_port, destination_port):
    source, destination = (ipaddress.ip_address(a).packed for a in (source, destination))
    length = 8 + len(payload)
    pseudo = source + destination + struct.pack(">II" if len(source) == 16 else ">HH", length, 17)
    return checksum(pseudo + struct.pack(">HHHH", source_port, destination_port, length, 0) + payload) or 0xFFFF


print("payload", len(payload))
addresses = bytes.fromhex("0a070001" "0a070101")
total = 28 + len(payload)
print(f"ipv4 header {checksum(struct.pack('>BBHHHBBH', 0x45, 0, total, 0, 0x4000, 64, 17, 0) + addresses):04x}")
print(f"ipv4 udp {udp('10.7.0.1', '10.7.1.1', 4342, 4342):04x}")
print(f"ipv6 udp {udp('fd00::1', 'fd00::2', 50000, 4342):04x}")
