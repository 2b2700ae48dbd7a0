//! What one packet alone does not show: nonces that come again.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    net::IpAddr,
};

use lisp::{XtrId, wire::Message};

/// Entries of each table; beyond it starts anew.
const MOST: usize = 200_000;

/// What was seen so far.
#[derive(Default)]
pub struct History {
    /// Nonce of a Map-Request: what the request was, and its packet.
    requests: HashMap<u64, (u64, u64)>,
    /// Of each xTR and key: the highest nonce of its Map-Registers, what that one was, and its packet.
    registers: HashMap<(Registrant, u8), (u64, u64, u64)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Registrant {
    Xtr(XtrId),
    Address(Option<IpAddr>),
}

impl History {
    /// Remembers a message; what is wrong with its nonce.
    pub fn note(&mut self, packet: u64, from: Option<IpAddr>, message: &Message, bytes: &[u8]) -> Option<String> {
        let what = hash(bytes);
        match message {
            Message::MapRequest(request) => {
                if self.requests.len() >= MOST {
                    self.requests.clear();
                }
                // The same Map-Request comes by again when a Map-Server forwards it: that is no finding.
                let (first, earlier) = *self.requests.entry(request.nonce.0).or_insert((what, packet));
                (first != what).then(|| format!("its nonce is that of another Map-Request, packet {earlier}"))
            }
            Message::MapRegister(register) => {
                if self.registers.len() >= MOST {
                    self.registers.clear();
                }
                let registrant = match register.xtr {
                    Some((xtr_id, _)) => Registrant::Xtr(xtr_id),
                    None => Registrant::Address(from),
                };
                let key = (registrant, register.authentication.key_id);
                let nonce = register.nonce.0;
                let last = self.registers.get(&key).copied();
                if last.is_none_or(|(highest, _, _)| nonce > highest) {
                    self.registers.insert(key, (nonce, what, packet));
                    return None;
                }
                let (highest, before, earlier) = last?;
                Some(if nonce == highest && what == before {
                    format!("the very bytes of packet {earlier} again: a copy or a replay")
                } else {
                    format!("its nonce is not above {highest:016x} of packet {earlier}: a replay is refused")
                })
            }
            _ => None,
        }
    }
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}
