//! The sealed packet path of a simulated node, in a few lines: mesh SAs by index, "sealing" by naming the key. A packet opens
//! when the key that it names is the one that its receiver holds under the index that it names: whoever does not have the
//! key cannot name it, and two ends that do not agree on keys do not understand each other.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use lisp::{
    Eid, EidPrefix,
    mesh::{KeyId, SaIndex, Suite, TrafficKey},
};
use xtr::SaParameters;

use super::node::Data;

/// Age at which an SA ends.
const LIFE: Duration = Duration::from_secs(180);

/// What travels sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A guest's packet.
    Data {
        /// Whom it says it is from.
        source: Eid,
        /// The packet.
        data: Data,
    },
    /// A message of control to control.
    Message(Vec<u8>),
    /// "Are you there?"
    Probe(u64),
    /// "I am."
    Answer(u64),
}

/// A pair of SAs.
#[derive(Debug)]
struct Sa {
    node: KeyId,
    suite: Suite,
    inbound: Vec<(SaIndex, TrafficKey)>,
    outbound: Vec<(SaIndex, TrafficKey)>,
    initiator: bool,
    confirmed: bool,
    created: Instant,
    /// Order of arrival: the newest is sent under.
    number: u64,
    sealed: u64,
}

/// A packet as it was opened.
#[derive(Debug)]
pub struct Opened {
    /// Who sealed it.
    pub node: KeyId,
    /// What.
    pub content: Content,
    /// It is the first under this SA.
    pub first: Option<SaIndex>,
    /// Its inner source is not bound to who sealed it: nothing of it may be taken.
    pub unbound: Option<Eid>,
}

/// All SAs and bindings of a node.
#[derive(Debug, Default)]
pub struct Sealed {
    sas: Vec<Sa>,
    bindings: BTreeMap<EidPrefix, KeyId>,
    number: u64,
    /// Packets that no SA opened.
    pub unopened: u64,
    /// Packets from an inner source that is not bound to who sealed them.
    pub unbound: u64,
}

impl Sealed {
    /// An exchange made a pair.
    pub fn put(&mut self, now: Instant, parameters: SaParameters) {
        self.number += 1;
        self.sas.retain(|sa| now - sa.created < LIFE);
        self.sas.push(Sa {
            node: parameters.node,
            suite: parameters.suite,
            inbound: parameters.inbound,
            outbound: parameters.outbound,
            initiator: parameters.initiator,
            confirmed: false,
            created: now,
            number: self.number,
            sealed: 0,
        });
    }

    /// `node` may send from `prefix`.
    pub fn bind(&mut self, prefix: EidPrefix, node: KeyId) {
        self.bindings.insert(prefix, node);
    }

    /// Nobody may.
    pub fn unbind(&mut self, prefix: &EidPrefix) {
        self.bindings.remove(prefix);
    }

    /// Seals for `node`, under the newest SA that may be sent under.
    pub fn seal(&mut self, now: Instant, node: KeyId, content: &Content) -> Option<Vec<u8>> {
        let usable = self
            .sas
            .iter_mut()
            .filter(|sa| sa.node == node && (sa.initiator || sa.confirmed) && now - sa.created < LIFE);
        let sa = usable.max_by_key(|sa| sa.number)?;
        sa.sealed += 1;
        let (index, key) = sa.outbound.first()?;
        let mut bytes = index.get().to_be_bytes().to_vec();
        bytes.extend_from_slice(key.key(sa.suite));
        bytes.extend_from_slice(key.salt());
        content.write(&mut bytes);
        Some(bytes)
    }

    /// Opens.
    pub fn open(&mut self, now: Instant, bytes: &[u8]) -> Option<Opened> {
        let opened = self.try_open(now, bytes);
        self.unopened += u64::from(opened.is_none());
        let mut opened = opened?;
        if let Content::Data { source, .. } = &opened.content {
            let bound = self
                .bindings
                .iter()
                .filter(|(prefix, _)| prefix.contains(source))
                .max_by_key(|(prefix, _)| prefix.length());
            if bound.is_none_or(|(_, holder)| *holder != opened.node) {
                self.unbound += 1;
                opened.unbound = Some(*source);
            }
        }
        Some(opened)
    }

    fn try_open(&mut self, now: Instant, bytes: &[u8]) -> Option<Opened> {
        let (index, rest) = bytes.split_first_chunk::<4>()?;
        let index = SaIndex::new(u32::from_be_bytes(*index))?;
        let sa = self
            .sas
            .iter_mut()
            .find(|sa| now - sa.created < LIFE && sa.inbound.iter().any(|(own, _)| *own == index))?;
        let (_, key) = sa.inbound.iter().find(|(own, _)| *own == index)?;
        let rest = rest
            .strip_prefix(key.key(sa.suite))?
            .strip_prefix(key.salt().as_slice())?;
        let content = Content::read(rest)?;
        let first = !std::mem::replace(&mut sa.confirmed, true);
        Some(Opened {
            node: sa.node,
            content,
            unbound: None,
            first: first.then(|| sa.inbound.first().map(|(index, _)| *index)).flatten(),
        })
    }

    /// How much each SA was used.
    pub fn used(&self) -> Vec<(SaIndex, u64, u64)> {
        let used = self.sas.iter().filter(|sa| sa.sealed > 0);
        used.filter_map(|sa| Some((sa.inbound.first()?.0, sa.sealed, sa.sealed * 100)))
            .collect()
    }

    /// Forgets everything: the process is killed.
    pub fn clear(&mut self) {
        self.sas.clear();
        self.bindings.clear();
    }
}

impl Content {
    fn write(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Data { source, data } => {
                bytes.push(0);
                let source = Data {
                    eid: *source,
                    sender: 0,
                }
                .encode();
                bytes.push(u8::try_from(source.len()).unwrap_or_default());
                bytes.extend(source);
                bytes.extend(data.encode());
            }
            Self::Message(payload) => {
                bytes.push(1);
                bytes.extend_from_slice(payload);
            }
            Self::Probe(nonce) => {
                bytes.push(2);
                bytes.extend(nonce.to_be_bytes());
            }
            Self::Answer(nonce) => {
                bytes.push(3);
                bytes.extend(nonce.to_be_bytes());
            }
        }
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let number = || Some(u64::from_be_bytes(rest.try_into().ok()?));
        Some(match kind {
            0 => {
                let (length, rest) = rest.split_first()?;
                let (source, data) = rest.split_at_checked(usize::from(*length))?;
                Self::Data {
                    source: Data::decode(source)?.eid,
                    data: Data::decode(data)?,
                }
            }
            1 => Self::Message(rest.to_vec()),
            2 => Self::Probe(number()?),
            3 => Self::Answer(number()?),
            _ => return None,
        })
    }
}
