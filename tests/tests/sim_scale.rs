//! Ten thousand xTRs register at one Map-Server over a bad underlay: none is lost, then or later.

use std::time::Duration;

use lisp::EidPrefix;
use weft_tests::sim::{self, Underlay, Weather, World};
use xtr::RegistrationState;

const XTRS: usize = 10_000;

#[test]
fn ten_thousand_xtrs_register_and_none_is_lost() {
    let space: EidPrefix = "[7]10.0.0.0/8".parse().unwrap();
    let mut world = World::new(1, XTRS, Underlay::V4, &[space]);
    world.network.weather = Weather {
        loss: 100,
        duplication: 20,
        ..Weather::FAIR
    };
    let prefixes: Vec<EidPrefix> = (0..XTRS)
        .map(|n| format!("[7]10.{}.{}.0/24", n / 256, n % 256).parse().unwrap())
        .collect();
    // Not all in one instant: a hundred each 50 ms.
    for (id, prefix) in prefixes.iter().enumerate() {
        world.give(*prefix, Some(id)).unwrap();
        if id % 100 == 99 {
            world.pass(Duration::from_millis(50)).unwrap();
        }
    }
    world.pass(Duration::from_secs(60)).unwrap();
    let registered = world.server.registered(world.now);
    let missing: Vec<_> = prefixes
        .iter()
        .filter(|prefix| !registered.contains_key(prefix))
        .collect();
    assert!(
        missing.is_empty(),
        "{} of {XTRS} are not registered: {:?}",
        missing.len(),
        missing.first()
    );
    // From now on none may be missing at any time, with a tenth of all datagrams lost.
    for step in 0..12 {
        world.pass(Duration::from_secs(15)).unwrap();
        assert_eq!(
            world.server.registered(world.now).len(),
            XTRS,
            "after {} s",
            60 + 15 * (step + 1)
        );
    }
    world.restart_server().unwrap();
    assert_eq!(
        world.server.registered(world.now).len(),
        XTRS,
        "right after a kill of the Map-Server"
    );
    world.pass(Duration::from_secs(60)).unwrap();
    let acknowledged = |world: &World, within: u64| {
        let late = |node: &&sim::Node| {
            let status = node.machine.status(world.now);
            assert_eq!(status.registrations.len(), 1);
            status.registrations[0]
                .acknowledged_ago
                .is_none_or(|ago| ago > Duration::from_secs(within))
        };
        world.nodes.iter().filter(late).count()
    };
    assert_eq!(acknowledged(&world, 130), 0, "acknowledged within two refreshes");
    world.network.weather = Weather::FAIR;
    world.pass(Duration::from_secs(65)).unwrap();
    assert_eq!(acknowledged(&world, 61), 0, "acknowledged within one refresh");
    let now = world.now;
    for node in &world.nodes {
        let status = node.machine.status(now);
        assert_eq!(status.registrations.len(), 1);
        let one = &status.registrations[0];
        assert_eq!(one.state, RegistrationState::Registered, "node {}", node.id);
        assert!(
            one.acknowledged_ago.is_some_and(|ago| ago < Duration::from_secs(130)),
            "node {}: {one:?}",
            node.id
        );
    }
    println!("{XTRS} xTRs, {:?}, {:?}", world.clock(), world.network.fate);
}
