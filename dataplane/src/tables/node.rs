//! The nodes of sealed meshes: which SAs there are with each, which of them is sealed under, and where it is heard from.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use arc_swap::{ArcSwap, ArcSwapOption};
use lisp::{Rloc, mesh::SaIndex};

use crate::{
    control::{MeshNode, UplinkId},
    hash::Seeded,
    seal::SaPair,
    tables::Retired,
};

/// Moves from one place to another, none of them a locator's, come this far apart.
const SETTLES: Duration = Duration::from_millis(200);
/// A roamed node that sends from several ports of one address is answered at the one that it was first heard from, while
/// it is heard from it.
const SILENCE: Duration = Duration::from_secs(2);

/// The time of a pair as the one that is sealed under.
#[derive(Debug)]
pub struct Tenure {
    /// The pair.
    pub pair: Arc<SaPair>,
    /// Raised when another took over, or none.
    pub retired: Retired,
}

/// Where a node is that is not at its locators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Away {
    /// Where its packets come from.
    pub remote: SocketAddr,
    /// By which uplink of ours.
    pub uplink: UplinkId,
    /// To which of our addresses.
    pub local: IpAddr,
}

impl Away {
    /// As control is told.
    pub fn rloc(&self) -> Rloc {
        Rloc {
            address: self.remote.ip(),
            port: self.remote.port(),
        }
    }
}

/// Where a node is.
#[derive(Debug, Default)]
pub struct Whereabouts {
    /// `None`: at its locators.
    pub away: Option<Away>,
    /// Control told: it leaves from the port that the node receives at, where data may leave from any.
    sure: bool,
    since: Option<Instant>,
    /// Raised when it has moved.
    pub retired: Retired,
}

/// A node.
#[derive(Debug)]
pub struct Node {
    /// Its name.
    pub name: MeshNode,
    current: ArcSwapOption<Tenure>,
    whereabouts: ArcSwap<Whereabouts>,
    /// All locators that its mappings name, sorted.
    locators: ArcSwap<Vec<Rloc>>,
    born: Instant,
    /// When it was last heard from at exactly where it is away, in milliseconds since `born`.
    heard: AtomicU64,
}

impl Node {
    /// A node without SAs, at its locators, of which none is known.
    pub fn new(name: MeshNode, now: Instant) -> Self {
        Self {
            name,
            current: ArcSwapOption::empty(),
            whereabouts: ArcSwap::default(),
            locators: ArcSwap::default(),
            born: now,
            heard: AtomicU64::new(0),
        }
    }

    /// The pair that is sealed under.
    pub fn current(&self) -> Option<Arc<Tenure>> {
        self.current.load_full()
    }

    /// Seals under `pair` from now on, unless a newer one is sealed under; whether it does.
    pub fn promote(&self, pair: &Arc<SaPair>) -> bool {
        let old = self.current.load_full();
        if old.as_ref().is_some_and(|tenure| tenure.pair.number >= pair.number) {
            return false;
        }
        self.appoint(Some(Arc::clone(pair)));
        true
    }

    /// Seals under `pair` from now on, or under none.
    pub fn appoint(&self, pair: Option<Arc<SaPair>>) {
        let tenure = pair.map(|pair| {
            Arc::new(Tenure {
                pair,
                retired: Retired::default(),
            })
        });
        if let Some(old) = self.current.swap(tenure) {
            old.retired.raise();
        }
    }

    /// Where it is.
    pub fn whereabouts(&self) -> Arc<Whereabouts> {
        self.whereabouts.load_full()
    }

    /// Whether `address` is that of a locator which its mappings name.
    pub fn is_locator(&self, address: IpAddr) -> bool {
        is_among(&self.locators.load(), address)
    }

    /// One of the locators that its mappings name.
    pub fn any_locator(&self, fits: impl Fn(&Rloc) -> bool) -> Option<Rloc> {
        self.locators.load().iter().copied().find(|rloc| fits(rloc))
    }

    /// Its mappings name these locators, and no others.
    pub fn name_locators(&self, mut locators: Vec<Rloc>) {
        locators.sort_unstable();
        locators.dedup();
        if **self.locators.load() != locators {
            self.locators.store(Arc::new(locators));
        }
    }

    /// An authentic packet, newer than those before it, came from there; whether it was `control`, which leaves from the
    /// port that the node receives at, where data may leave from others. If the node has moved: where packets to it go from
    /// now on; `None` inside is "to its locators".
    pub fn heard(&self, from: Away, control: bool, now: Instant) -> Option<Option<Rloc>> {
        let known = {
            let locators = self.locators.load();
            // Without any there is nothing to tell apart, and nothing is sent to it either.
            if locators.is_empty() {
                return None;
            }
            is_among(&locators, from.remote.ip())
        };
        let place = self.whereabouts.load();
        let now_ms = u64::try_from(now.saturating_duration_since(self.born).as_millis()).unwrap_or(u64::MAX);
        let settling = || {
            place
                .since
                .is_some_and(|since| now.saturating_duration_since(since) < SETTLES)
        };
        match &place.away {
            None if known => return None,
            Some(_) if known => {}
            Some(away) if *away == from && (place.sure || !control) => {
                self.heard.store(now_ms, Relaxed);
                return None;
            }
            Some(away) if away.remote.ip() == from.remote.ip() => {
                let silent = now_ms.saturating_sub(self.heard.load(Relaxed));
                let stays = match (place.sure, control) {
                    (true, true) => settling(),
                    (true, false) => true,
                    (false, true) => false,
                    (false, false) => u128::from(silent) < SILENCE.as_millis(),
                };
                if stays {
                    return None;
                }
            }
            _ if settling() => return None,
            _ => {}
        }
        self.heard.store(now_ms, Relaxed);
        let away = (!known).then_some(from);
        let moved = place.away != away;
        self.whereabouts
            .swap(Arc::new(Whereabouts {
                away,
                sure: control,
                since: Some(now),
                retired: Retired::default(),
            }))
            .retired
            .raise();
        moved.then_some(away.map(|away| away.rloc()))
    }

    /// Whoever decided where packets to it go has to decide again.
    pub fn reconsider(&self) {
        let place = self.whereabouts.load();
        let same = Whereabouts {
            away: place.away,
            sure: place.sure,
            since: place.since,
            retired: Retired::default(),
        };
        self.whereabouts.swap(Arc::new(same)).retired.raise();
    }
}

fn is_among(locators: &[Rloc], address: IpAddr) -> bool {
    let at = locators.partition_point(|rloc| rloc.address < address);
    locators.get(at).is_some_and(|rloc| rloc.address == address)
}

/// What one of our SA indices is.
#[derive(Debug)]
pub struct SaEntry {
    /// The pair.
    pub pair: Arc<SaPair>,
    /// Which of its indices.
    pub channel: usize,
    /// With whom.
    pub node: Arc<Node>,
}

/// All nodes, all SAs, and the path MTUs that control knows.
#[derive(Debug)]
pub struct Nodes {
    nodes: papaya::HashMap<MeshNode, Arc<Node>, Seeded>,
    indices: papaya::HashMap<SaIndex, Arc<SaEntry>, Seeded>,
    mtus: papaya::HashMap<Rloc, u32, Seeded>,
}

impl Nodes {
    /// None, hashed with `seed`.
    pub fn new(seed: Seeded) -> Self {
        Self {
            nodes: papaya::HashMap::with_hasher(seed),
            indices: papaya::HashMap::with_hasher(seed),
            mtus: papaya::HashMap::with_hasher(seed),
        }
    }

    /// A node.
    pub fn get(&self, name: &MeshNode) -> Option<Arc<Node>> {
        self.nodes.pin().get(name).map(Arc::clone)
    }

    /// All nodes, in order of their names.
    pub fn all(&self) -> Vec<Arc<Node>> {
        let mut all: Vec<_> = self.nodes.pin().values().map(Arc::clone).collect();
        all.sort_by_key(|node| node.name);
        all
    }

    /// What one of our indices is.
    #[inline]
    pub fn sa(&self, index: SaIndex) -> Option<Arc<SaEntry>> {
        self.indices.pin().get(&index).map(Arc::clone)
    }

    /// Path MTU towards an RLOC in bytes, when it is known.
    pub fn mtu(&self, rloc: Rloc) -> Option<u32> {
        self.mtus.pin().get(&rloc).copied()
    }

    /// The node, made if it is new. For the writer alone, as all that follow.
    pub fn ensure(&self, name: MeshNode, now: Instant) -> Arc<Node> {
        Arc::clone(
            self.nodes
                .pin()
                .get_or_insert_with(name, || Arc::new(Node::new(name, now))),
        )
    }

    /// Forgets a node.
    pub fn forget(&self, name: &MeshNode) {
        self.nodes.pin().remove(name);
    }

    /// An index means this from now on.
    pub fn insert(&self, index: SaIndex, entry: SaEntry) {
        self.indices.pin().insert(index, Arc::new(entry));
    }

    /// An index means nothing any more.
    pub fn remove(&self, index: SaIndex) {
        self.indices.pin().remove(&index);
    }

    /// What control knows of the way to an RLOC. Nodes that have roamed there are sent to accordingly.
    pub fn put_mtu(&self, rloc: Rloc, mtu: Option<u32>) {
        let mtus = self.mtus.pin();
        let old = match mtu {
            Some(mtu) => mtus.insert(rloc, mtu).copied(),
            None => mtus.remove(&rloc).copied(),
        };
        if old != mtu {
            for node in self.nodes.pin().values() {
                if node.whereabouts().away.is_some_and(|away| away.rloc() == rloc) {
                    node.reconsider();
                }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "time starts somewhere")]
mod tests {
    use super::*;

    fn at(remote: &str) -> Away {
        Away {
            remote: remote.parse().unwrap(),
            uplink: UplinkId(1),
            local: "192.0.2.1".parse().unwrap(),
        }
    }

    #[test]
    fn a_node_roams_and_comes_home() {
        let now = Instant::now();
        let node = Node::new(MeshNode::default(), now);
        let roamed = |text: &str| {
            let remote: SocketAddr = text.parse().unwrap();
            Some(Some(Rloc {
                address: remote.ip(),
                port: remote.port(),
            }))
        };
        assert_eq!(
            node.heard(at("203.0.113.9:1000"), false, now),
            None,
            "no locator is known"
        );
        node.name_locators(vec![Rloc::new("192.0.2.2".parse().unwrap())]);
        assert_eq!(
            node.heard(at("192.0.2.2:50000"), false, now),
            None,
            "any port of a locator"
        );
        let home = node.whereabouts();
        assert_eq!(
            node.heard(at("203.0.113.9:1000"), false, now),
            roamed("203.0.113.9:1000")
        );
        assert!(home.retired.is_raised());
        assert_eq!(
            node.heard(at("203.0.113.9:1000"), false, now),
            None,
            "it is there already"
        );
        // Another port of the same address, while the first is heard, and when it has gone silent.
        assert_eq!(
            node.heard(at("203.0.113.9:2000"), false, now + Duration::from_secs(1)),
            None
        );
        let later = now + Duration::from_secs(3);
        assert_eq!(
            node.heard(at("203.0.113.9:2000"), false, later),
            roamed("203.0.113.9:2000")
        );
        // Between two places it does not flicker.
        assert_eq!(node.heard(at("198.51.100.1:1"), false, later), None);
        let later = later + SETTLES;
        assert_eq!(node.heard(at("198.51.100.1:1"), false, later), roamed("198.51.100.1:1"));
        // Control says at which port it is to be reached; data does not contradict.
        assert_eq!(
            node.heard(at("198.51.100.1:4341"), true, later),
            roamed("198.51.100.1:4341")
        );
        let much_later = later + SILENCE * 2;
        assert_eq!(node.heard(at("198.51.100.1:1"), false, much_later), None);
        assert_eq!(
            node.heard(at("198.51.100.1:9"), true, much_later),
            roamed("198.51.100.1:9")
        );
        assert_eq!(
            node.heard(at("192.0.2.2:50000"), false, later),
            Some(None),
            "home at once"
        );
        assert_eq!(node.whereabouts().away, None);
    }
}
