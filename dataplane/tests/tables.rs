//! Tables that change while packets flow, against a model that looks everything up from scratch for each packet:
//! no flow entry may ever remember what is no longer so.

mod common;

use std::collections::BTreeMap;

use common::*;
use dataplane::control::{Change, MappingTarget, PathHealth, Service};
use ipnet::IpNet;
use lisp::{EidPrefix, NegativeAction, Rloc};
use proptest::prelude::*;

/// What happens next.
#[derive(Clone, Debug)]
enum Step {
    Put { prefix: usize, target: usize },
    Remove { prefix: usize },
    Health { rloc: usize, up: bool },
    Policy { open: bool },
    Send { destination: u8 },
}

const RLOCS: [&str; 3] = ["192.0.2.2", "192.0.2.3", "192.0.2.4"];

/// Nested and side by side.
fn prefixes() -> Vec<EidPrefix> {
    [
        "10.8.0.0/16",
        "10.8.0.0/24",
        "10.8.0.0/29",
        "10.8.0.4/30",
        "10.8.0.4/32",
        "10.8.0.5/32",
        "10.8.0.8/29",
        "10.0.0.0/8",
    ]
    .iter()
    .map(|net| format!("[7]{net}").parse().unwrap())
    .collect()
}

/// Locators by priority; none: negative.
fn targets() -> [&'static [usize]; 6] {
    [&[0], &[1], &[2], &[0, 1], &[2, 0], &[]]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0usize..8, 0usize..6).prop_map(|(prefix, target)| Step::Put { prefix, target }),
        2 => (0usize..8).prop_map(|prefix| Step::Remove { prefix }),
        1 => (0usize..3, any::<bool>()).prop_map(|(rloc, up)| Step::Health { rloc, up }),
        1 => any::<bool>().prop_map(|open| Step::Policy { open }),
        8 => (0u8..12).prop_map(|destination| Step::Send { destination }),
    ];
    prop::collection::vec(step, 1..120)
}

/// The model: everything that was said, and nothing remembered about packets.
#[derive(Default)]
struct Model {
    mappings: BTreeMap<EidPrefix, usize>,
    down: [bool; 3],
    closed: bool,
}

impl Model {
    /// Where a packet goes, or the counter's word for why nowhere.
    fn way(&self, destination: std::net::IpAddr) -> Result<usize, &'static str> {
        if self.closed {
            return Err("drop.policy-denied");
        }
        let net = IpNet::from(destination);
        let covering = self.mappings.iter().filter(|(prefix, _)| prefix.net().contains(&net));
        let Some((_, target)) = covering.max_by_key(|(prefix, _)| prefix.length()) else {
            return Err("miss");
        };
        let locators = targets()[*target];
        if locators.is_empty() {
            return Err("drop.negative-drop");
        }
        locators
            .iter()
            .copied()
            .find(|rloc| !self.down[*rloc])
            // All down: the best is used all the same, for probing may be what is down.
            .or(locators.first().copied())
            .ok_or("drop.no-locator")
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_packet_goes_where_the_tables_say_now(steps in steps()) {
        let mut node = Node::new(&["192.0.2.1"]);
        node.mesh(1, 7);
        let guest = node.port(1, 1, &["10.7.0.1"]);
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Put { prefix, target } => {
                    let prefix = prefixes()[prefix];
                    model.mappings.insert(prefix, target);
                    let locators = targets()[target].iter().enumerate();
                    let locators: Vec<_> = locators.map(|(priority, at)| locator(RLOCS[*at], priority as u8, 1)).collect();
                    let target = match locators.is_empty() {
                        true => MappingTarget::Negative(NegativeAction::Drop),
                        false => MappingTarget::Locators(locators),
                    };
                    node.apply(&Change::PutMapping(mapping(&prefix.to_string(), target)));
                }
                Step::Remove { prefix } => {
                    model.mappings.remove(&prefixes()[prefix]);
                    node.apply(&Change::RemoveMapping(prefixes()[prefix]));
                }
                Step::Health { rloc, up } => {
                    model.down[rloc] = !up;
                    let rloc = Rloc::new(ip(RLOCS[rloc]));
                    node.apply(&Change::PutPathHealth(PathHealth { rloc, up, mtu: None }));
                }
                Step::Policy { open } => {
                    model.closed = !open;
                    node.allow(1, vec![rule("all", &[], &[], Service::Any, open)]);
                }
                Step::Send { destination } => {
                    let destination = format!("10.8.0.{destination}");
                    node.skip();
                    let out = node.send(&guest, &Spec::new(&guest, "10.7.0.1", &destination).udp(1, 2, b"x"));
                    let moved: Vec<String> = node.moved().into_iter().map(|(name, _)| name).collect();
                    match model.way(ip(&destination)) {
                        Ok(rloc) => {
                            prop_assert_eq!(out.to_uplinks.len(), 1, "{:?}", moved);
                            prop_assert_eq!(out.to_uplinks[0].remote.ip(), ip(RLOCS[rloc]));
                        }
                        Err("miss") => {
                            prop_assert!(out.to_uplinks.is_empty());
                            let dropped = moved.iter().filter(|name| name.starts_with("drop.")).count();
                            prop_assert!(dropped == 0 || moved.contains(&"drop.pending-full".to_owned()), "{:?}", moved);
                        }
                        Err(word) => {
                            prop_assert!(out.to_uplinks.is_empty());
                            prop_assert!(moved.contains(&word.to_owned()), "{word}: {:?}", moved);
                        }
                    }
                }
            }
        }
    }
}
