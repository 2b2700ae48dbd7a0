//! Sample messages, their bytes written by hand from the RFCs beside the value they mean. Also the seed of the fuzz
//! corpora (`examples/fuzz_corpus.rs`) and of what tshark judges (`tests/tshark.rs`).

#![allow(dead_code, reason = "every test binary uses a part of this")]

pub mod lcafs;
pub mod mesh;
pub mod messages;
pub mod pcap;
pub mod seeds;

use std::net::IpAddr;

use lisp::wire::{AfiAddress, Authentication, EidRecord, Lcaf, RlocRecord};
use lisp::{NegativeAction, Nonce, SiteId, Ttl, XtrId};

/// Bytes from hex; white space is skipped, and so is everything from `;` to the end of a line.
pub fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .lines()
        .flat_map(|line| line.split(';').next().unwrap().chars())
        .filter(|c| !c.is_whitespace())
        .map(|c| u8::try_from(c.to_digit(16).unwrap()).unwrap())
        .collect();
    assert!(digits.len().is_multiple_of(2), "odd number of hex digits in {text}");
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// Hex of bytes.
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An address from its text.
pub fn ip(text: &str) -> AfiAddress {
    AfiAddress::Ip(text.parse::<IpAddr>().unwrap())
}

/// An address in an Instance-ID.
pub fn in_instance(instance_id: u32, address: &str) -> AfiAddress {
    Lcaf::InstanceId {
        mask_len: 0,
        instance_id,
        address: ip(address),
    }
    .into()
}

/// The nonce of the samples.
pub const NONCE: Nonce = Nonce(0x0102_0304_0506_0708);

/// The IDs of the samples.
pub fn ids() -> (XtrId, SiteId) {
    (XtrId(*b"xtr-id-of-node-a"), SiteId(0x1122_3344_5566_7788))
}

/// The bytes of [`ids`].
pub const IDS_HEX: &str = "7874722d69642d6f662d6e6f64652d61 1122334455667788";

/// A reachable locator, L set.
pub fn local(rloc: AfiAddress, priority: u8, weight: u8) -> RlocRecord {
    RlocRecord {
        priority,
        weight,
        m_priority: 255,
        m_weight: 0,
        local: true,
        probed: false,
        reachable: true,
        rloc,
    }
}

/// A record with the given EID and locators.
pub fn record(eid: AfiAddress, mask_len: u8, locators: Vec<RlocRecord>) -> EidRecord {
    EidRecord {
        ttl: Ttl::DAY,
        mask_len,
        action: NegativeAction::NoAction,
        authoritative: true,
        version: 0,
        eid,
        locators,
    }
}

/// Authentication with a MAC of counting bytes.
pub fn mac(key_id: u8, algorithm_id: u8, len: u8) -> Authentication {
    Authentication {
        key_id,
        algorithm_id,
        mac: (0..len).collect(),
    }
}
