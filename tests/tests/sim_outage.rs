//! What an outage of the Map-Server does, and what it does not.

use std::time::Duration;

use lisp::{Eid, EidPrefix};
use weft_tests::sim::{Underlay, World};

const NODES: usize = 6;

fn prefix(n: usize) -> EidPrefix {
    format!("[7]10.0.{n}.0/24").parse().unwrap()
}

fn eid(n: usize) -> Eid {
    Eid::new(prefix(n).instance_id(), prefix(n).net().addr())
}

fn mesh() -> World {
    let mut world = World::new(5, NODES, Underlay::Dual, &["[7]10.0.0.0/8".parse().unwrap()]);
    for id in 0..NODES {
        world.give(prefix(id), Some(id)).unwrap();
        world.nodes[id].wants.push(eid((id + 1) % NODES));
    }
    world.traffic = true;
    world.pass(Duration::from_secs(10)).unwrap();
    world
}

#[test]
fn traffic_between_known_eids_never_stops_and_new_look_ups_work_within_two_seconds_of_the_return() {
    let mut world = mesh();
    world.server_dead = true;
    world.deliveries = Default::default();
    world.pass(Duration::from_secs(120)).unwrap();
    let delivered: u64 = world.deliveries.delivered.values().sum();
    assert!(delivered >= 119 * NODES as u64, "{delivered}");
    assert_eq!((world.deliveries.stray, world.deliveries.unsent), (0, 0));

    // A new destination, wanted since ten seconds before the return.
    world.nodes[0].wants.push(eid(3));
    world.pass(Duration::from_secs(10)).unwrap();
    assert!(!world.deliveries.delivered.contains_key(&(0, eid(3))));
    world.restart_server().unwrap();
    world.server_dead = false;
    let lookup = world.lookup(1, eid(4));
    world.pass(Duration::from_millis(500)).unwrap();
    assert!(
        world.nodes[1].lookups[&lookup].is_ok(),
        "a look-up that begins after the return is answered at once"
    );
    world.pass(Duration::from_millis(1800)).unwrap();
    assert!(
        world.nodes[0].table.keys().any(|known| known.contains(&eid(3))),
        "one that began before, within 2.2 s"
    );
}

#[test]
fn a_moved_eid_is_followed_within_seconds() {
    let mut world = mesh();
    // Node 5's EID moves to node 2; node 4 sends to it.
    world.give(prefix(5), Some(2)).unwrap();
    world.pass(Duration::from_secs(4)).unwrap();
    world.deliveries = Default::default();
    world.pass(Duration::from_secs(10)).unwrap();
    assert_eq!(world.deliveries.stray, 0);
    assert!(world.deliveries.delivered[&(4, eid(5))] >= 9);
    let (_, mapping) = world.nodes[4]
        .table
        .iter()
        .find(|(known, _)| known.contains(&eid(5)))
        .unwrap();
    assert!(
        world.nodes[2]
            .addresses()
            .all(|own| mapping.0.locators.iter().any(|l| l.rloc.address == own))
    );
}

#[test]
fn a_killed_xtr_comes_back_with_higher_nonces_and_keeps_its_registration() {
    let mut world = mesh();
    for _ in 0..5 {
        let before = world.nodes[3].last_nonce;
        world.restart_node(3).unwrap();
        world.pass(Duration::from_secs(5)).unwrap();
        assert!(world.nodes[3].last_nonce > before);
        assert!(world.server.registered(world.now).contains_key(&prefix(3)));
    }
    assert_eq!(world.server.counters().replayed_nonce, 0);
}
