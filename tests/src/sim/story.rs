//! One seed's story: a mesh that works, then a time of trouble, then quiet; and what must be true at the end.

use std::time::Duration;

use lisp::{Eid, EidPrefix, InstanceId};
use rand::RngExt;
use xtr::RegistrationState;

use super::{Attacker, NodeId, Underlay, Violation, Weather, World};

/// How long guests move, processes die and the underlay falls apart.
const TROUBLE: Duration = Duration::from_secs(60);
/// After that: longer than a registration that nobody withdrew (3 min), than a short negative answer (1 min), than any
/// pause or back-off of a minute.
const QUIET: Duration = Duration::from_secs(190);
/// Data flows again: what is stale must be noticed and mended.
const MENDING: Duration = Duration::from_secs(30);
/// The last seconds, in which nothing may go astray.
const JUDGED: u64 = 5;

/// What a story came to, for the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// xTRs.
    pub nodes: usize,
    /// EID-prefixes.
    pub prefixes: usize,
    /// Things that the operator and fate did.
    pub actions: u64,
    /// Datagrams sent.
    pub datagrams: u64,
    /// Of those, lost or cut.
    pub lost: u64,
    /// Data packets that arrived where they should.
    pub delivered: u64,
}

/// Runs the story of `seed`.
pub fn run(seed: u64, tracing: bool) -> Result<Summary, Violation> {
    tell(seed, tracing, false)
}

/// Runs the story of `seed` in sealed networks: the same troubles, clocks that are set wrong beside them, and the rules that
/// no guest's packet travels in clear and none is taken from a source that is not bound to its sender.
pub fn run_sealed(seed: u64, tracing: bool) -> Result<Summary, Violation> {
    tell(seed, tracing, true)
}

fn tell(seed: u64, tracing: bool, sealed: bool) -> Result<Summary, Violation> {
    let (mut world, prefixes) = build(seed, sealed);
    world.tracing = tracing;
    world.traffic = true;
    if sealed {
        give_nodes_eids(&mut world)?;
    }
    for prefix in &prefixes {
        let owner = a_home(&mut world, prefix);
        world.give(*prefix, Some(owner))?;
    }
    world.pass(Duration::from_secs(5))?;
    world.attacker = Some(Attacker::default());
    let actions = trouble(&mut world, &prefixes)?;
    world.heal();
    world.network.weather = Weather::FAIR;
    world.traffic = false;
    for id in 0..world.nodes.len() {
        world.set_clock(id, 0);
    }
    // The attacker stays.
    world.pass(QUIET)?;
    check_registrations(&mut world)?;
    world.traffic = true;
    world.pass(MENDING)?;
    check_deliveries(&mut world)?;
    world.traffic = false;
    check_lookups(&mut world, &prefixes)?;
    // Its last SMRs are being obeyed still.
    world.attacker = None;
    world.pass(Duration::from_secs(5))?;
    check_bounds(&mut world, &prefixes)?;
    let fate = world.network.fate;
    Ok(Summary {
        nodes: world.nodes.len(),
        prefixes: prefixes.len(),
        actions,
        datagrams: fate.sent,
        lost: fate.lost + fate.cut,
        delivered: world.deliveries.delivered.values().sum(),
    })
}

fn instance(number: u32) -> InstanceId {
    InstanceId::new(number).unwrap_or_default()
}

/// Two tenants with the very same addresses, hosts and blocks of both families.
fn build(seed: u64, sealed: bool) -> (World, Vec<EidPrefix>) {
    let parse = |text: String| text.parse::<EidPrefix>().expect("a literal prefix");
    let space: Vec<EidPrefix> = [1, 2]
        .iter()
        .flat_map(|i| [parse(format!("[{i}]10.0.0.0/8")), parse(format!("[{i}]fd00::/16"))])
        .collect();
    // The size of a world is part of its seed, and must not disturb the rest of its chance.
    let size = 8 + (seed % 9) as usize;
    let underlay = match seed % 3 {
        0 => Underlay::Dual,
        1 => Underlay::V4,
        _ => Underlay::V6,
    };
    let mut world = match sealed {
        true => World::sealed(seed, size, underlay, &space),
        false => World::new(seed, size, underlay, &space),
    };
    if seed % 4 == 3 && !sealed {
        world.ask_for_proxy_replies();
    }
    let mut prefixes = Vec::new();
    for i in 1..=2 {
        for n in 1..=4 {
            prefixes.push(parse(format!("[{i}]10.0.0.{n}/32")));
            prefixes.push(parse(format!("[{i}]fd00::{n}/128")));
        }
        for n in 1..=2 {
            prefixes.push(parse(format!("[{i}]10.1.{n}.0/24")));
            prefixes.push(parse(format!("[{i}]fd00:{n}::/64")));
        }
    }
    for id in 0..world.nodes.len() {
        for _ in 0..5 {
            let choice = world.rng.random_range(0..prefixes.len());
            let wanted = prefixes[choice];
            let eid = Eid::new(wanted.instance_id(), wanted.net().addr());
            if !world.nodes[id].wants.contains(&eid) {
                world.nodes[id].wants.push(eid);
            }
        }
    }
    (world, prefixes)
}

/// In a sealed network a node needs an EID of its own to ask with, whatever its guests do.
fn give_nodes_eids(world: &mut World) -> Result<(), Violation> {
    for id in 0..world.nodes.len() {
        for instance in 1..=2 {
            let eid = format!("[{instance}]fd00:ffff::{id:x}/128");
            world.give(eid.parse().expect("a literal prefix"), Some(id))?;
        }
    }
    Ok(())
}

/// A node that may serve `prefix`. Tenant 1 lives on even nodes, tenant 2 on odd ones: whoever mixes the two up leads
/// packets to a node that never had the prefix.
fn a_home(world: &mut World, prefix: &EidPrefix) -> NodeId {
    let odd = usize::from(prefix.instance_id() == instance(2));
    let homes = (world.nodes.len() - odd).div_ceil(2);
    world.rng.random_range(0..homes) * 2 + odd
}

/// Guests move, processes die, the underlay falls apart and comes together.
fn trouble(world: &mut World, prefixes: &[EidPrefix]) -> Result<u64, Violation> {
    let end = world.now + TROUBLE;
    let mut actions = 0;
    world.network.weather = weather(world);
    while world.now < end {
        let wait = world.rng.random_range(100..3000);
        world.pass(Duration::from_millis(wait))?;
        actions += 1;
        match world.rng.random_range(0..100) {
            0..45 => {
                let choice = world.rng.random_range(0..prefixes.len());
                let prefix = prefixes[choice];
                let owner = a_home(world, &prefix);
                world.give(prefix, Some(owner))?;
            }
            45..55 => {
                let choice = world.rng.random_range(0..prefixes.len());
                world.give(prefixes[choice], None)?;
            }
            55..70 => {
                let id = world.rng.random_range(0..world.nodes.len());
                world.restart_node(id)?;
            }
            70..80 => world.restart_server()?,
            80..88 => {
                let count = world.rng.random_range(1..=3);
                let away: Vec<NodeId> = (0..count)
                    .map(|_| world.rng.random_range(0..world.nodes.len()))
                    .collect();
                world.partition(&away);
            }
            88..96 => world.heal(),
            96..98 if world.is_sealed() => {
                let id = world.rng.random_range(0..world.nodes.len());
                let error = world.rng.random_range(-300_000..300_000);
                world.set_clock(id, error);
            }
            _ => world.network.weather = weather(world),
        }
    }
    Ok(actions)
}

fn weather(world: &mut World) -> Weather {
    Weather {
        loss: world.rng.random_range(0..250),
        duplication: world.rng.random_range(0..100),
        delay: Duration::from_millis(world.rng.random_range(0..60)),
        jitter: Duration::from_millis(world.rng.random_range(1..400)),
    }
}

/// What the operator gave to a node is registered there, and the Map-Server has it.
fn check_registrations(world: &mut World) -> Result<(), Violation> {
    let now = world.now;
    let registered = world.server.registered(now);
    let owners: Vec<(EidPrefix, Option<NodeId>)> = world.model.owners().collect();
    for (prefix, owner) in owners {
        let at_server = registered.get(&prefix);
        match (owner, at_server) {
            (Some(id), Some(rlocs)) => {
                if !world.nodes[id].addresses().all(|address| rlocs.contains(&address)) {
                    world.break_rule(format!("{prefix} belongs to node {id} and is registered at {rlocs:?}"));
                }
            }
            (Some(id), None) => world.break_rule(format!("{prefix} of node {id} is not registered")),
            (None, Some(rlocs)) => world.break_rule(format!("{prefix} is nobody's and registered at {rlocs:?}")),
            (None, None) => {}
        }
    }
    for id in 0..world.nodes.len() {
        let status = world.nodes[id].machine.status(now);
        for one in &status.registrations {
            if one.state != RegistrationState::Registered {
                world.break_rule(format!("node {id} says of {}: {:?}", one.prefix, one.state));
            }
        }
        if status.registrations.len() != world.nodes[id].intent.len() {
            let mine = world.nodes[id].intent.len();
            world.break_rule(format!(
                "node {id} serves {mine} prefixes, registered {}",
                status.registrations.len()
            ));
        }
    }
    world.checked(())
}

/// In the last seconds every packet arrives at the owner, or is dropped because there is none.
fn check_deliveries(world: &mut World) -> Result<(), Violation> {
    world.deliveries = Default::default();
    world.pass(Duration::from_secs(JUDGED))?;
    let deliveries = world.deliveries.clone();
    if deliveries.stray > 0 {
        world.break_rule(format!(
            "{} packets still go to nodes that do not serve their EID",
            deliveries.stray
        ));
    }
    for id in 0..world.nodes.len() {
        for eid in world.nodes[id].wants.clone() {
            let owner = world
                .model
                .owners()
                .find(|(prefix, _)| prefix.contains(&eid))
                .and_then(|(_, owner)| owner);
            let delivered = deliveries.delivered.get(&(id, eid)).copied().unwrap_or(0);
            let negative = deliveries.negative.get(&(id, eid)).copied().unwrap_or(0);
            match owner {
                Some(owner) if delivered + 1 < JUDGED => world.break_rule(format!(
                    "{delivered} of {JUDGED} packets of node {id} to {eid} at node {owner} arrived, {negative} were \
                     dropped as negative; {} {} unbound, {} {} unopened; refused {:?} {:?}; its table: {:?}",
                    owner,
                    world.nodes[owner].sealed.unbound,
                    owner,
                    world.nodes[owner].sealed.unopened,
                    world.nodes[id].machine.status(world.now).refusals,
                    world.nodes[owner].machine.status(world.now).refusals,
                    world.nodes[id]
                        .table
                        .iter()
                        .filter(|(prefix, _)| prefix.contains(&eid))
                        .collect::<Vec<_>>(),
                )),
                None if delivered > 0 => {
                    world.break_rule(format!(
                        "{delivered} packets of node {id} to {eid} arrived, and it is nobody's"
                    ));
                }
                _ => {}
            }
        }
    }
    world.checked(())
}

/// Every look-up returns the owner's locators, or a negative answer.
fn check_lookups(world: &mut World, prefixes: &[EidPrefix]) -> Result<(), Violation> {
    let mut asked = Vec::new();
    for prefix in prefixes {
        let id = world.rng.random_range(0..world.nodes.len());
        let eid = Eid::new(prefix.instance_id(), prefix.net().addr());
        asked.push((id, eid, *prefix, world.lookup(id, eid)));
    }
    world.pass(Duration::from_secs(7))?;
    for (id, eid, prefix, number) in asked {
        let owner = world.model.owner(&prefix);
        let result = world.nodes[id].lookups.get(&number).cloned();
        let Some(Ok(answer)) = result else {
            world.break_rule(format!("node {id} looked {eid} of {owner:?} up and got {result:?}"));
            continue;
        };
        let Some(mapping) = answer.mappings.iter().find(|mapping| mapping.prefix.contains(&eid)) else {
            continue;
        };
        match owner {
            None if !mapping.is_negative() => {
                world.break_rule(format!(
                    "node {id} looked {eid} up, which is nobody's, and got {mapping:?}"
                ));
            }
            Some(owner) => {
                let mut expected: Vec<_> = world.nodes[owner].addresses().collect();
                let mut found: Vec<_> = mapping.locators.iter().map(|locator| locator.rloc.address).collect();
                expected.sort();
                found.sort();
                if expected != found || mapping.prefix != prefix {
                    world.break_rule(format!("node {id} looked {eid} of node {owner} up and got {mapping:?}"));
                }
            }
            None => {}
        }
    }
    world.checked(())
}

/// Nothing has grown beyond what there is.
fn check_bounds(world: &mut World, prefixes: &[EidPrefix]) -> Result<(), Violation> {
    for id in 0..world.nodes.len() {
        let status = world.nodes[id].machine.status(world.now);
        let known = status.map_cache.len();
        let all = prefixes.len().max(world.model.owners().count());
        if known > all {
            world.break_rule(format!("node {id} caches {known} mappings of {all} prefixes"));
        }
        let rlocs: usize = world.nodes.iter().map(|node| node.addresses().count()).sum();
        if status.locators.len() > rlocs {
            world.break_rule(format!("node {id} keeps {} locators of {rlocs}", status.locators.len()));
        }
        // A question that was asked this very moment is none that goes unanswered.
        let unanswered: Vec<_> = status.pending.iter().filter(|pending| pending.tries > 1).collect();
        if !unanswered.is_empty() {
            let refusals = status
                .refusals
                .iter()
                .filter(|refusal| refusal.ago.as_secs() < 60)
                .collect::<Vec<_>>();
            let line = format!("node {id} is still asking: {unanswered:?}; refused lately: {refusals:?}");
            world.break_rule(line);
        }
    }
    world.checked(())
}
