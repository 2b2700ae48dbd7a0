//! Somebody who hears everything and may send anything, but knows no secret: forgeries, floods and replays.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use lisp::wire::{
    AfiAddress, AuthAlgorithm, Authentication, EidRecord, MapNotify, MapRegister, MapReply, MapRequest, Purpose,
    RequestRecord, sign,
};
use lisp::{CONTROL_PORT, Eid, EidPrefix, Locator, Mapping, Nonce, Rloc, Ttl};
use rand::{Rng, RngExt, rngs::StdRng};

use super::{
    Datagram, Node,
    world::{SERVER_V4, SERVER_V6},
};

/// Where the attacker would like packets to go. No node has this address.
pub const LAIR: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 18, 0, 66));
/// Datagrams that the attacker keeps for later.
const KEPT: usize = 64;

/// The attacker.
#[derive(Debug, Default)]
pub struct Attacker {
    kept: Vec<Datagram>,
}

impl Attacker {
    /// Overhears a datagram, and may keep it.
    pub fn hear(&mut self, rng: &mut StdRng, datagram: &Datagram) {
        if datagram.to.port() != CONTROL_PORT || !rng.random_ratio(1, 20) {
            return;
        }
        if self.kept.len() < KEPT {
            self.kept.push(datagram.clone());
        } else {
            let place = rng.random_range(0..KEPT);
            self.kept[place] = datagram.clone();
        }
    }

    /// What it sends in one second: replays of anything it kept, and forgeries against one node and the Map-Server.
    pub fn strike(&self, rng: &mut StdRng, nodes: &[Node], prefixes: &[EidPrefix]) -> Vec<Datagram> {
        let mut sent = Vec::new();
        for _ in 0..4 {
            if let Some(kept) = self.kept.get(rng.random_range(0..KEPT)) {
                sent.push(kept.clone());
            }
        }
        if nodes.is_empty() || prefixes.is_empty() {
            return sent;
        }
        let victim = &nodes[rng.random_range(0..nodes.len())];
        let prefix = prefixes[rng.random_range(0..prefixes.len())];
        let Some(address) = victim.addresses().next() else {
            return sent;
        };
        let server = if address.is_ipv4() { SERVER_V4 } else { SERVER_V6 };
        let to_victim = |payload| Datagram {
            from: SocketAddr::new(server, CONTROL_PORT),
            to: SocketAddr::new(address, CONTROL_PORT),
            payload,
        };
        sent.extend([reply(rng, prefix, false), reply(rng, prefix, true)].map(to_victim));
        sent.push(to_victim(request(rng, prefix, false)));
        sent.push(to_victim(request(rng, prefix, true)));
        // The nonces of Map-Registers can be read off the wire.
        let nonce = Nonce(victim.last_nonce.unwrap_or(0));
        sent.push(to_victim(notify(nonce, prefix)));
        sent.push(Datagram {
            from: SocketAddr::new(address, CONTROL_PORT),
            to: SocketAddr::new(server, CONTROL_PORT),
            payload: register(Nonce(nonce.0.saturating_add(1 << 40)), victim, prefix),
        });
        sent
    }
}

fn lie(prefix: EidPrefix) -> EidRecord {
    let mut mapping = Mapping::new(prefix, Ttl::DAY, vec![Locator::new(Rloc::new(LAIR), 0, 255)]);
    mapping.authoritative = true;
    EidRecord::from_mapping(&mapping)
}

/// A Map-Reply whose nonce is a guess.
fn reply(rng: &mut StdRng, prefix: EidPrefix, probe: bool) -> Vec<u8> {
    MapReply {
        probe,
        echo_nonce: false,
        nonce: Nonce(rng.next_u64()),
        records: vec![lie(prefix)],
        security: None,
    }
    .encode()
}

/// A Map-Request with a piggybacked lie, or an SMR. Answers would go to the Map-Server: somebody else's trouble.
fn request(rng: &mut StdRng, prefix: EidPrefix, smr: bool) -> Vec<u8> {
    let eid = Eid::new(prefix.instance_id(), prefix.net().addr());
    let record = RequestRecord {
        notify: false,
        mask_len: prefix.length(),
        eid: AfiAddress::from_eid(&eid),
    };
    let nonce = Nonce(rng.next_u64());
    let mut request = MapRequest::new(
        nonce,
        AfiAddress::from_eid(&eid),
        vec![AfiAddress::Ip(SERVER_V4)],
        record,
    );
    request.smr = smr;
    request.map_reply_record = (!smr).then(|| lie(prefix));
    request.encode()
}

fn notify(nonce: Nonce, prefix: EidPrefix) -> Vec<u8> {
    let authentication = Authentication::unsigned(1, AuthAlgorithm::HmacSha256_128);
    let mut bytes = MapNotify {
        nonce,
        authentication,
        records: vec![lie(prefix)],
        xtr: None,
    }
    .encode();
    let _ = sign(&mut bytes, Purpose::MapNotify, b"a guess");
    bytes
}

/// A Map-Register in the name of a node, with a nonce far ahead: if it were believed, the node could never register
/// again.
fn register(nonce: Nonce, victim: &Node, prefix: EidPrefix) -> Vec<u8> {
    let mut bytes = MapRegister {
        proxy_reply: false,
        security_capable: false,
        eid_notify: false,
        use_ttl: false,
        merge: false,
        mobile_node: false,
        want_map_notify: true,
        nonce,
        authentication: Authentication::unsigned(1, AuthAlgorithm::HmacSha256_128),
        records: vec![lie(prefix)],
        xtr: Some((victim.config.xtr_id, victim.config.site_id)),
    }
    .encode();
    let _ = sign(&mut bytes, Purpose::MapRegister, b"a guess");
    bytes
}
