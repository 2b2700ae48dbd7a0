//! A capture file, built by hand: raw IP packets that carry UDP.

use std::net::IpAddr;

/// LINKTYPE_RAW: a packet begins with its IP header.
const RAW_IP: u32 = 101;

/// A pcap file of raw IP packets, a second apart.
pub fn file(packets: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(0xa1b2_c3d4_u32.to_le_bytes());
    out.extend(2u16.to_le_bytes());
    out.extend(4u16.to_le_bytes());
    out.extend([0; 8]);
    out.extend(65535u32.to_le_bytes());
    out.extend(RAW_IP.to_le_bytes());
    for (second, packet) in packets.iter().enumerate() {
        let length = u32::try_from(packet.len()).unwrap();
        out.extend(u32::try_from(second).unwrap().to_le_bytes());
        out.extend(0u32.to_le_bytes());
        out.extend(length.to_le_bytes());
        out.extend(length.to_le_bytes());
        out.extend(packet);
    }
    out
}

/// An IP packet with a UDP datagram, checksums right.
pub fn udp(source: (&str, u16), destination: (&str, u16), payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len() + 8).unwrap();
    let mut datagram = [source.1, destination.1, length, 0].map(u16::to_be_bytes).concat();
    datagram.extend(payload);
    let addresses: [IpAddr; 2] = [source.0, destination.0].map(|text| text.parse().unwrap());
    let octets: Vec<u8> = addresses
        .iter()
        .flat_map(|address| match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        })
        .collect();
    let pseudo = [octets.as_slice(), &[0, 17], &length.to_be_bytes(), &datagram].concat();
    datagram[6..8].copy_from_slice(&checksum(&pseudo).to_be_bytes());
    ip(addresses[0].is_ipv4(), &octets, &datagram)
}

fn ip(four: bool, addresses: &[u8], payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap();
    let mut header = Vec::new();
    if four {
        header.extend([0x45, 0]);
        header.extend((length + 20).to_be_bytes());
        header.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
        header.extend(addresses);
        let sum = checksum(&header).to_be_bytes();
        header[10..12].copy_from_slice(&sum);
    } else {
        header.extend([0x60, 0, 0, 0]);
        header.extend(length.to_be_bytes());
        header.extend([17, 64]);
        header.extend(addresses);
    }
    header.extend(payload);
    header
}

fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}
