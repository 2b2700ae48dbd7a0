//! Budgets of unauthenticated sources: how many requests, and how many bytes come back.
//!
//! A Map-Request is spoofable and names the address that the Map-Reply goes to. Two rules keep this Map-Server useless
//! as an amplifier (RFC 9301 §9): a source is answered with no more bytes than it sent, and an ITR-RLOC that is not
//! where the request came from gets a few replies a second at most.

use std::{collections::BTreeMap, net::IpAddr};

use crate::{Limits, registration::WallMillis};

/// Both budgets. Bounded: the sources unseen for longest give way, and start again without credit.
#[derive(Debug)]
pub(crate) struct Budget {
    sources: Generations,
    third_parties: Generations,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Thousandths of a request.
    tokens: u64,
    /// Bytes that may still be answered.
    credit: u64,
    seen: WallMillis,
}

/// Two maps, a young and an old one. What is touched moves to the young one; when that is half full it becomes the
/// old one, and what was old is forgotten. Constant work for each access, whatever a flood of sources does.
#[derive(Debug, Default)]
struct Generations {
    young: BTreeMap<IpAddr, Bucket>,
    old: BTreeMap<IpAddr, Bucket>,
}

impl Budget {
    pub(crate) fn new() -> Self {
        Self {
            sources: Generations::default(),
            third_parties: Generations::default(),
        }
    }

    /// A request of `bytes` UDP payload bytes came. `false`: the source sent too many.
    pub(crate) fn admit(&mut self, limits: &Limits, now: WallMillis, source: IpAddr, bytes: usize) -> bool {
        let burst = u64::from(limits.request_burst).saturating_mul(1000);
        let bucket = self.sources.touch(limits.sources, source, now, burst);
        bucket.refill(now, u64::from(limits.requests_per_second), burst);
        let Some(left) = bucket.tokens.checked_sub(1000) else {
            return false;
        };
        bucket.tokens = left;
        let credit = bucket.credit.saturating_add(on_the_wire(source, bytes));
        bucket.credit = credit.min(u64::from(limits.credit_bytes).max(on_the_wire(source, bytes)));
        true
    }

    /// Whether `bytes` may go to `destination` in answer to `source`; then they are spent.
    pub(crate) fn spend(
        &mut self,
        limits: &Limits,
        now: WallMillis,
        source: IpAddr,
        destination: IpAddr,
        bytes: usize,
    ) -> bool {
        self.charge(limits, now, source, destination, on_the_wire(destination, bytes))
    }

    /// Whether a copy of the `bytes` that came from `source` may be sent on to an ETR, which will answer to `answered`;
    /// then they are spent. Other headers of the copy are free: they are a few bytes, and one copy is all there is.
    pub(crate) fn spend_copy(
        &mut self,
        limits: &Limits,
        now: WallMillis,
        source: IpAddr,
        answered: IpAddr,
        bytes: usize,
    ) -> bool {
        self.charge(limits, now, source, answered, on_the_wire(source, bytes))
    }

    fn charge(&mut self, limits: &Limits, now: WallMillis, source: IpAddr, destination: IpAddr, price: u64) -> bool {
        let burst = u64::from(limits.request_burst).saturating_mul(1000);
        let payer = self.sources.touch(limits.sources, source, now, burst);
        let Some(left) = payer.credit.checked_sub(price) else {
            return false;
        };
        if source != destination {
            let rate = u64::from(limits.third_party_replies_per_second);
            let burst = rate.saturating_mul(1000);
            let third = self.third_parties.touch(limits.sources, destination, now, burst);
            third.refill(now, rate, burst);
            let Some(tokens) = third.tokens.checked_sub(1000) else {
                return false;
            };
            third.tokens = tokens;
        }
        payer.credit = left;
        true
    }

    #[cfg(test)]
    fn remembered(&self) -> usize {
        self.sources.young.len() + self.sources.old.len()
    }
}

/// UDP payload and headers.
fn on_the_wire(address: IpAddr, bytes: usize) -> u64 {
    let headers = if address.is_ipv4() { 28 } else { 48 };
    (bytes as u64).saturating_add(headers)
}

impl Bucket {
    /// `rate` a second is `rate` thousandths a millisecond.
    fn refill(&mut self, now: WallMillis, rate: u64, burst: u64) {
        let elapsed = now.saturating_sub(self.seen);
        self.tokens = self.tokens.saturating_add(elapsed.saturating_mul(rate)).min(burst);
        self.seen = now;
    }
}

impl Generations {
    fn touch(&mut self, capacity: usize, address: IpAddr, now: WallMillis, tokens: u64) -> &mut Bucket {
        let known = self.young.contains_key(&address);
        if !known {
            if self.young.len() >= (capacity / 2).max(1) {
                self.old = std::mem::take(&mut self.young);
            }
            if let Some(bucket) = self.old.remove(&address) {
                self.young.insert(address, bucket);
            }
        }
        self.young.entry(address).or_insert(Bucket {
            tokens,
            credit: 0,
            seen: now,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const VICTIM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 1));

    fn limits() -> Limits {
        Limits {
            requests_per_second: 10,
            request_burst: 3,
            third_party_replies_per_second: 2,
            ..Limits::default()
        }
    }

    #[test]
    fn a_source_is_answered_with_what_it_paid() {
        let mut budget = Budget::new();
        assert!(
            !budget.spend(&limits(), 0, SOURCE, SOURCE, 1),
            "nothing sent, nothing owed"
        );
        assert!(budget.admit(&limits(), 0, SOURCE, 100));
        assert!(!budget.spend(&limits(), 0, SOURCE, SOURCE, 101));
        assert!(budget.spend(&limits(), 0, SOURCE, SOURCE, 100));
        assert!(
            !budget.spend(&limits(), 0, SOURCE, SOURCE, 0),
            "the headers were spent too"
        );
    }

    #[test]
    fn requests_are_counted_in_a_bucket() {
        let mut budget = Budget::new();
        let admitted = (0..5).filter(|_| budget.admit(&limits(), 0, SOURCE, 50)).count();
        assert_eq!(admitted, 3);
        assert!(!budget.admit(&limits(), 99, SOURCE, 50));
        assert!(
            budget.admit(&limits(), 100, SOURCE, 50),
            "10 a second: one after 100 ms"
        );
    }

    #[test]
    fn a_third_party_gets_few_replies_whoever_asks() {
        let mut budget = Budget::new();
        let sent = (0..100u8)
            .filter(|last| {
                let source = IpAddr::from([203, 0, 113, *last]);
                budget.admit(&limits(), 0, source, 500) && budget.spend(&limits(), 0, source, VICTIM, 50)
            })
            .count();
        assert_eq!(sent, 2);
    }

    #[test]
    fn the_table_is_bounded() {
        let limits = Limits {
            sources: 64,
            ..limits()
        };
        let mut budget = Budget::new();
        for source in 0..10_000u32 {
            budget.admit(&limits, 0, IpAddr::from(source.to_be_bytes()), 100);
        }
        assert!(budget.remembered() <= 64);
    }
}
