//! Token buckets, so that nobody makes this node send more than it was willing to (RFC 9301 §5.4, §9).

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};

/// A bucket of `burst` tokens that gains `rate` a second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    /// Thousandths of a token.
    tokens: u64,
    filled: Instant,
}

impl Bucket {
    /// With `burst` tokens in it.
    pub(crate) fn full(now: Instant, burst: u32) -> Self {
        Self {
            tokens: full(burst),
            filled: now,
        }
    }

    /// Takes a token if there is one.
    pub(crate) fn take(&mut self, now: Instant, burst: u32, rate: u32) -> bool {
        let millis = u64::try_from(now.saturating_duration_since(self.filled).as_millis()).unwrap_or(u64::MAX);
        if millis > 0 {
            let gained = millis.saturating_mul(u64::from(rate));
            self.tokens = self
                .tokens
                .saturating_add(gained)
                .min(u64::from(burst).saturating_mul(1000));
            self.filled = now;
        }
        if self.tokens < 1000 {
            return false;
        }
        self.tokens = self.tokens.saturating_sub(1000);
        true
    }
}

/// A budget for each destination and one for all together, over a bounded number of destinations.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    total: Option<Bucket>,
    by_destination: BTreeMap<IpAddr, Bucket>,
    by_age: BTreeSet<(Instant, IpAddr)>,
}

/// What a [`Budget`] allows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance {
    pub(crate) burst: u32,
    pub(crate) rate: u32,
    pub(crate) total: u32,
    pub(crate) destinations: usize,
}

impl Budget {
    /// Whether one more may go to `destination`; if so it is counted.
    pub(crate) fn take(&mut self, now: Instant, destination: IpAddr, allowance: Allowance) -> bool {
        let mut total = self.total.unwrap_or(Bucket::full(now, allowance.total));
        let known = self.by_destination.get(&destination).copied();
        if known.is_none() && !self.make_room(now, allowance) {
            return false;
        }
        let mut one = known.unwrap_or(Bucket::full(now, allowance.burst));
        self.by_age.remove(&(one.filled, destination));
        let allowed =
            one.take(now, allowance.burst, allowance.rate) && total.take(now, allowance.total, allowance.total);
        self.by_age.insert((one.filled, destination));
        self.by_destination.insert(destination, one);
        self.total = Some(total);
        allowed
    }

    /// A bucket that was not touched for long enough to be full again may be forgotten; others may not, or a flood
    /// of made-up addresses would refill the bucket of the one that is attacked.
    fn make_room(&mut self, now: Instant, allowance: Allowance) -> bool {
        if self.by_destination.len() < allowance.destinations {
            return true;
        }
        let refill = Duration::from_secs(u64::from(allowance.burst / allowance.rate.max(1)).saturating_add(1));
        let Some((filled, destination)) = self.by_age.first().copied() else {
            return true;
        };
        if now.saturating_duration_since(filled) < refill {
            return false;
        }
        self.by_age.remove(&(filled, destination));
        self.by_destination.remove(&destination);
        true
    }
}

const fn full(burst: u32) -> u64 {
    (burst as u64).saturating_mul(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWANCE: Allowance = Allowance {
        burst: 3,
        rate: 1,
        total: 5,
        destinations: 2,
    };

    fn ip(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
    fn a_burst_then_the_rate_and_never_more_than_the_total() {
        let t = Instant::now();
        let mut budget = Budget::default();
        let allowed = (0..10).filter(|_| budget.take(t, ip(1), ALLOWANCE)).count();
        assert_eq!(allowed, 3);
        let allowed = (0..10).filter(|_| budget.take(t, ip(2), ALLOWANCE)).count();
        assert_eq!(allowed, 2, "the total is 5");
        let later = t + Duration::from_secs(2);
        assert_eq!((0..10).filter(|_| budget.take(later, ip(1), ALLOWANCE)).count(), 2);
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
    fn a_flood_of_addresses_refills_nobody() {
        let t = Instant::now();
        let mut budget = Budget::default();
        while budget.take(t, ip(1), ALLOWANCE) {}
        for other in 2..200 {
            budget.take(t, ip(other), ALLOWANCE);
        }
        assert!(!budget.take(t, ip(1), ALLOWANCE));
        assert_eq!(budget.by_destination.len(), 2);
        assert!(
            budget.take(t + Duration::from_secs(4), ip(77), ALLOWANCE),
            "an old bucket makes room"
        );
        assert_eq!(budget.by_destination.len(), 2);
        assert_eq!(budget.by_age.len(), 2);
    }
}
