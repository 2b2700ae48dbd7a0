//! The flow table: what the stages decided for a five-tuple, so that the next packet of it goes straight to hop 8.

use std::{cell::Cell, hash::BuildHasher, sync::Arc};

use crate::{
    connection::{ConnectionRef, Translation},
    hash::Seeded,
    next_hop::NextHop,
    parse::FlowKey,
    tables::{Binding, Network},
};

/// From the guest's point of view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// It leaves the guest.
    Outbound,
    /// It comes to the guest.
    Inbound,
}

/// What happens to the packets of a flow.
#[derive(Clone, Debug)]
pub struct Rewrite {
    /// The network that it was decided in.
    pub network: Arc<Network>,
    /// Where to.
    pub next_hop: NextHop,
    /// The connection that it belongs to, and whether it goes the way of the first packet. `None` for what belongs
    /// to none (ICMP errors), which is never cached.
    pub connection: Option<(ConnectionRef, bool)>,
    /// Inbound, sealed: what binds its source to the node that sealed it. Packets that another node sealed are not of
    /// this flow, whatever they say.
    pub binding: Option<Arc<Binding>>,
    /// New source (outbound) or destination (inbound).
    pub translation: Option<Translation>,
}

impl Rewrite {
    /// Whether everything that it was made from is still in force.
    #[inline]
    pub fn is_current(&self) -> bool {
        let binding = self.binding.as_ref();
        !self.network.retired.is_raised()
            && self.next_hop.is_current()
            && binding.is_none_or(|binding| !binding.retired.is_raised())
    }
}

#[derive(Debug)]
struct Entry {
    key: FlowKey,
    direction: Direction,
    rewrite: Arc<Rewrite>,
}

/// A direct-mapped cache: two flows that meet in one slot take turns.
#[derive(Debug)]
pub struct FlowTable {
    slots: Box<[Option<Entry>]>,
    /// Where the last hit was: packets of one flow come in a row, and need no hash then.
    last: Cell<usize>,
    seed: Seeded,
}

/// Slots; a power of two.
const SLOTS: usize = 1 << 14;

impl FlowTable {
    /// Empty, hashed with `seed`.
    pub fn new(seed: Seeded) -> Self {
        Self {
            slots: (0..SLOTS).map(|_| None).collect(),
            last: Cell::new(0),
            seed,
        }
    }

    /// The flow's rewrite, while everything that it was made from is still in force.
    #[inline]
    pub fn lookup(&self, direction: Direction, key: &FlowKey) -> Option<&Arc<Rewrite>> {
        let at = |slot: usize| {
            let entry = self.slots.get(slot)?.as_ref()?;
            (entry.key == *key && entry.direction == direction).then_some(entry)
        };
        let entry = match at(self.last.get()) {
            Some(entry) => entry,
            None => {
                let slot = self.slot(direction, key);
                let entry = at(slot)?;
                self.last.set(slot);
                entry
            }
        };
        entry.rewrite.is_current().then_some(&entry.rewrite)
    }

    /// Remembers a rewrite.
    pub fn insert(&mut self, direction: Direction, key: FlowKey, rewrite: Arc<Rewrite>) {
        let index = self.slot(direction, &key);
        if let Some(slot) = self.slots.get_mut(index) {
            *slot = Some(Entry {
                key,
                direction,
                rewrite,
            });
        }
    }

    #[inline]
    fn slot(&self, direction: Direction, key: &FlowKey) -> usize {
        self.seed.hash_one((direction, key)) as usize & (SLOTS - 1)
    }
}
