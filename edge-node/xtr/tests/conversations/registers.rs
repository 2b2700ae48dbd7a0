use std::collections::BTreeSet;

use lisp::{Nonce, Ttl};
use xtr::{Command, DatabaseMapping, Event, RegistrationState};

use crate::lab::*;

fn states(lab: &Lab) -> Vec<(String, RegistrationState)> {
    lab.events
        .iter()
        .filter_map(|event| match event {
            Event::Registration { prefix, state, .. } => Some((prefix.to_string(), state.clone())),
            _ => None,
        })
        .collect()
}

#[test]
fn a_prefix_is_registered_and_acknowledged() {
    let mut lab = Lab::new();
    lab.serve(&["[7]10.1.0.0/16"]);
    assert_eq!(states(&lab), [("[7]10.1.0.0/16".into(), RegistrationState::Pending)]);
    let registers = lab.registers();
    let [(to, register)] = &registers[..] else {
        panic!("{registers:?}")
    };
    assert_eq!(*to, at(MS));
    assert_eq!(register.nonce, Nonce(FIRST_NONCE));
    assert!(register.want_map_notify && !register.proxy_reply && !register.merge && !register.use_ttl);
    assert_eq!(register.xtr, Some((config().xtr_id, config().site_id)));
    let told = register.records[0].to_mapping().unwrap();
    assert_eq!(told.ttl, Ttl::DAY);
    let rlocs: Vec<String> = told.locators.iter().map(|l| l.rloc.to_string()).collect();
    assert_eq!(rlocs, ["192.0.2.1", "2001:db8::1"], "ascending, IPv4 first");
    assert!(told.locators.iter().all(|l| l.local && l.reachable && !l.probed));
    lab.moved(&[("map_register_sent", 1)]);

    lab.events.clear();
    lab.notify_from(at(MS), register, SECRET);
    assert_eq!(states(&lab), [("[7]10.1.0.0/16".into(), RegistrationState::Registered)]);
    lab.moved(&[("map_notify_accepted", 1)]);
    // The nonce is used up: the same Map-Notify again is unsolicited, and names no move.
    lab.pass(seconds(30));
    assert!(lab.sent.is_empty());
    lab.moved(&[]);
}

#[test]
fn it_is_refreshed_each_minute() {
    let mut lab = Lab::serving(&["10.1.0.0/16"]);
    let mut last = lab.clock();
    for _ in 0..5 {
        lab.pass(seconds(53));
        assert!(lab.sent.is_empty());
        while lab.sent.is_empty() {
            lab.pass(millis(100));
        }
        assert!(lab.clock() - last <= millis(60_100), "never later than a minute");
        last = lab.clock();
        lab.acknowledge_all();
    }
    lab.moved(&[("map_register_sent", 5), ("map_notify_accepted", 5)]);
}

/// §5.7: retransmit after 1 s, doubling to 1 min. §5.6: the nonce rises with each.
#[test]
fn unanswered_it_is_repeated_with_doubling_waits_and_rising_nonces() {
    let mut lab = Lab::new();
    lab.serve(&["10.1.0.0/16"]);
    let mut waits = Vec::new();
    let mut last = lab.clock();
    let mut nonce = lab.registers().remove(0).1.nonce;
    for _ in 0..9 {
        while lab.sent.is_empty() {
            lab.pass(millis(50));
        }
        waits.push((lab.clock() - last).as_secs());
        last = lab.clock();
        let (_, register) = lab.registers().remove(0);
        assert_eq!(register.nonce.0, nonce.0 + 1);
        nonce = register.nonce;
    }
    assert_eq!(waits[..6], [1, 2, 4, 8, 16, 32]);
    assert!(waits[6..].iter().all(|wait| (60..=63).contains(wait)), "{waits:?}");
    assert_eq!(states(&lab).last().unwrap().1, RegistrationState::Unanswered);
    lab.moved(&[("map_register_sent", 10), ("map_register_repeated", 9)]);
    lab.events.clear();
    // A Map-Notify for the transmission before last is late, but true.
    let late = map_notify(Nonce(nonce.0 - 1), vec![record("10.1.0.0/16")], SECRET);
    lab.receive(at(MS), &late);
    assert_eq!(states(&lab)[0].1, RegistrationState::Registered);
    lab.moved(&[("map_notify_accepted", 1)]);
}

fn record(text: &str) -> lisp::wire::EidRecord {
    lisp::wire::EidRecord::from_mapping(&mapping(text, &["192.0.2.1"]))
}

#[test]
fn a_map_notify_with_another_key_or_a_flipped_bit_is_nothing() {
    let mut lab = Lab::new();
    lab.serve(&["10.1.0.0/16"]);
    let (_, register) = lab.registers().remove(0);
    lab.clean();
    lab.notify_from(at(MS), &register, b"another secret");
    let good = map_notify(register.nonce, register.records.clone(), SECRET);
    for index in 0..good.len() {
        let mut bad = good.clone();
        bad[index] ^= 0x01;
        lab.receive(at(MS), &bad);
    }
    assert!(states(&lab).is_empty());
    let counters = lab.xtr.counters();
    assert_eq!(counters.map_notify_accepted, 0);
    assert_eq!(counters.map_notify_ack_sent, 0);
    lab.receive(at(MS), &good);
    assert_eq!(states(&lab)[0].1, RegistrationState::Registered);
}

#[test]
fn a_prefix_that_the_map_notify_leaves_out_is_refused() {
    let mut lab = Lab::serving(&["10.1.0.0/16", "10.2.0.0/16"]);
    lab.pass(seconds(61));
    let (_, register) = lab.registers().remove(0);
    lab.clean();
    lab.receive(at(MS), &map_notify(register.nonce, vec![record("10.2.0.0/16")], SECRET));
    let states = states(&lab);
    assert!(
        matches!(&states[..], [(p, RegistrationState::Refused(_))] if p == "[0]10.1.0.0/16"),
        "{states:?}"
    );
    lab.pass(seconds(50));
    assert!(lab.sent.is_empty(), "whoever holds it now is not robbed of it");
}

/// A Map-Server remembers that a prefix went from us to another xTR, and refuses our late refreshes. When the prefix
/// comes back to us, and our withdrawal was lost, that memory has to be cleared first.
#[test]
fn a_prefix_that_just_became_ours_and_is_refused_is_withdrawn_and_claimed_again() {
    let mut lab = Lab::new();
    lab.serve(&["10.1.0.0/16", "10.2.0.0/16"]);
    let (_, register) = lab.registers().remove(0);
    lab.receive(at(MS), &map_notify(register.nonce, vec![record("10.2.0.0/16")], SECRET));
    let (_, withdrawal) = lab.registers().remove(0);
    assert_eq!(withdrawal.records.len(), 1);
    assert_eq!(withdrawal.records[0].ttl, Ttl::ZERO);
    assert!(withdrawal.nonce > register.nonce);
    // Lost, and repeated.
    lab.pass(millis(1100));
    let (_, withdrawal) = lab.registers().remove(0);
    assert_eq!(withdrawal.records[0].ttl, Ttl::ZERO);
    lab.notify_from(at(MS), &withdrawal, SECRET);
    let (_, again) = lab.registers().remove(0);
    assert_eq!(again.records[0].ttl, Ttl::DAY);
    // Refused even so: that is somebody else's word, and it is final.
    lab.events.clear();
    lab.receive(at(MS), &map_notify(again.nonce, vec![], SECRET));
    assert!(matches!(&states(&lab)[..], [(_, RegistrationState::Refused(_))]));
    assert!(lab.sent.is_empty());
}

#[test]
fn a_prefix_that_is_no_longer_ours_is_withdrawn_with_ttl_zero() {
    let mut lab = Lab::serving(&["10.1.0.0/16", "10.2.0.0/16"]);
    lab.serve(&["10.2.0.0/16"]);
    let registers = lab.registers();
    let [(_, register)] = &registers[..] else {
        panic!("{registers:?}")
    };
    assert_eq!(register.records.len(), 1);
    assert_eq!(register.records[0].prefix().unwrap(), prefix("10.1.0.0/16"));
    assert_eq!(register.records[0].ttl, Ttl::ZERO);
    lab.notify_from(at(MS), register, SECRET);
    assert_eq!(
        states(&lab),
        [("[0]10.1.0.0/16".into(), RegistrationState::Deregistered)]
    );
    assert_eq!(lab.xtr.status(lab.now).registrations.len(), 1);
    // Saying it again changes nothing.
    lab.clean();
    lab.serve(&["10.2.0.0/16"]);
    lab.moved(&[]);
    assert!(lab.sent.is_empty() && lab.events.is_empty());
}

#[test]
fn an_unanswered_withdrawal_ends_some_day() {
    let mut lab = Lab::serving(&["10.1.0.0/16"]);
    lab.serve(&[]);
    lab.pass(seconds(600));
    assert!(
        lab.registers()
            .iter()
            .all(|(_, register)| register.records[0].ttl == Ttl::ZERO)
    );
    lab.moved(&[("map_register_sent", 8), ("map_register_repeated", 8)]);
    assert!(lab.xtr.status(lab.now).registrations.is_empty());
    assert_eq!(
        lab.xtr.poll_timeout().map(|(_, word)| word),
        Some("register"),
        "only the refresh timer is left"
    );
}

#[test]
fn a_prefix_that_comes_back_while_it_is_being_withdrawn_stays() {
    let mut lab = Lab::serving(&["10.1.0.0/16"]);
    lab.serve(&[]);
    let (_, withdrawal) = lab.registers().remove(0);
    lab.serve(&["10.1.0.0/16"]);
    let (_, register) = lab.registers().remove(0);
    assert_eq!(register.records[0].ttl, Ttl::DAY);
    assert!(register.nonce > withdrawal.nonce);
    // The late answer to the withdrawal does not undo it.
    lab.notify_from(at(MS), &withdrawal, SECRET);
    lab.notify_from(at(MS), &register, SECRET);
    let status = lab.xtr.status(lab.now);
    assert_eq!(status.registrations[0].state, RegistrationState::Registered);
}

/// §5: at most 576 bytes of IPv4, 1280 of IPv6 on an unknown path.
#[test]
fn many_prefixes_are_split_to_the_size_of_the_path() {
    for (server, most) in [(MS, 576 - 28), ("2001:db8::100", 1280 - 48)] {
        let mut config = config();
        config.map_servers = vec![peer(server)];
        let mut lab = Lab::with(config);
        let list: Vec<String> = (0..200).map(|n| format!("[7]10.1.{n}.0/24")).collect();
        let list: Vec<&str> = list.iter().map(String::as_str).collect();
        lab.serve(&list);
        assert!(lab.sent.iter().all(|transmit| transmit.payload.len() <= most));
        let total: usize = lab.sent.iter().map(|transmit| transmit.payload.len()).sum();
        assert!(
            lab.sent.len() <= total / (most - 100) + 1,
            "packed tightly: {} messages",
            lab.sent.len()
        );
        let registers = lab.registers();
        let nonces: BTreeSet<Nonce> = registers.iter().map(|(_, register)| register.nonce).collect();
        assert_eq!(nonces.len(), registers.len());
        let prefixes: BTreeSet<_> = registers
            .iter()
            .flat_map(|(_, r)| r.records.iter().map(|record| record.prefix().unwrap()))
            .collect();
        assert_eq!(prefixes.len(), 200);
        for (to, register) in &registers {
            lab.notify_from(*to, register, SECRET);
        }
        let status = lab.xtr.status(lab.now);
        assert!(
            status
                .registrations
                .iter()
                .all(|one| one.state == RegistrationState::Registered)
        );
    }
}

#[test]
fn merging_prefixes_travel_apart_from_the_others() {
    let mut lab = Lab::new();
    let mut merged = DatabaseMapping::new(prefix("10.2.0.0/16"));
    merged.merge = true;
    lab.command(Command::SetDatabase(vec![
        DatabaseMapping::new(prefix("10.1.0.0/16")),
        merged,
    ]));
    let registers = lab.registers();
    assert_eq!(registers.len(), 2);
    for (_, register) in registers {
        assert_eq!(
            register.merge,
            register.records[0].prefix().unwrap() == prefix("10.2.0.0/16")
        );
    }
}

#[test]
fn the_same_prefix_in_two_instances_is_two_registrations() {
    let mut lab = Lab::serving(&["[1]10.0.0.0/8", "[2]10.0.0.0/8"]);
    lab.serve(&["[2]10.0.0.0/8"]);
    let (_, register) = lab.registers().remove(0);
    assert_eq!(register.records.len(), 1);
    assert_eq!(register.records[0].prefix().unwrap().instance_id(), instance(1));
}

#[test]
fn new_locators_are_registered_at_once_and_old_answers_do_not_count() {
    let mut lab = Lab::new();
    lab.serve(&["10.1.0.0/16"]);
    let (_, before) = lab.registers().remove(0);
    let mut changed = config();
    changed.locators.remove(1);
    lab.command(Command::Configure(changed.clone()));
    let (_, after) = lab.registers().remove(0);
    assert_eq!(after.records[0].locators.len(), 1);
    lab.notify_from(at(MS), &before, SECRET);
    assert_eq!(
        lab.xtr.status(lab.now).registrations[0].state,
        RegistrationState::Pending
    );
    lab.notify_from(at(MS), &after, SECRET);
    assert_eq!(
        lab.xtr.status(lab.now).registrations[0].state,
        RegistrationState::Registered
    );
    lab.clean();
    lab.command(Command::Configure(changed));
    lab.moved(&[]);
}

#[test]
fn each_map_server_has_its_own_registrations() {
    let mut two = config();
    two.map_servers.push(peer("192.0.2.101"));
    let mut lab = Lab::with(two);
    lab.serve(&["10.1.0.0/16"]);
    let registers = lab.registers();
    let to: Vec<_> = registers.iter().map(|(to, _)| *to).collect();
    assert_eq!(to, [at("192.0.2.100"), at("192.0.2.101")]);
    lab.notify_from(at("192.0.2.101"), &registers[1].1, SECRET);
    let states: Vec<_> = lab
        .xtr
        .status(lab.now)
        .registrations
        .into_iter()
        .map(|one| one.state)
        .collect();
    assert_eq!(states, [RegistrationState::Pending, RegistrationState::Registered]);
    // One that is no longer configured gets one farewell.
    lab.clean();
    lab.command(Command::Configure(config()));
    let farewell = lab.registers();
    let [(to, register)] = &farewell[..] else {
        panic!("{farewell:?}")
    };
    assert_eq!((*to, register.records[0].ttl), (at("192.0.2.101"), Ttl::ZERO));
    lab.pass(millis(900));
    assert!(lab.sent.is_empty());
}

/// §8.2: quick registration, every 20 s for at most 5 min, is for those who do not ask to be acknowledged.
#[test]
fn without_map_notifies_registration_is_quick_at_first() {
    let mut config = config();
    config.map_servers[0].want_map_notify = false;
    let mut lab = Lab::with(config);
    lab.serve(&["10.1.0.0/16"]);
    assert_eq!(states(&lab), [("[0]10.1.0.0/16".into(), RegistrationState::Sent)]);
    lab.pass(seconds(301));
    let quick = lab.registers().len();
    assert_eq!(quick, 16, "one at once and one each 20 s");
    lab.pass(seconds(600));
    let slow = lab.registers().len();
    assert!((10..=12).contains(&slow), "{slow}");
}

#[test]
fn the_secret_is_not_shown() {
    assert!(!format!("{:?}", config()).contains("secret of"));
    assert!(!format!("{:?}", Lab::new().xtr).contains("97, 32, 115"));
}

/// A record without locators would be a negative mapping for everybody who asks.
#[test]
fn without_a_locator_nothing_is_registered_and_with_the_first_one_everything_is() {
    let mut none = config();
    none.locators.clear();
    let mut lab = Lab::with(none.clone());
    lab.serve(&["10.1.0.0/16"]);
    lab.pass(seconds(10));
    assert!(lab.sent.is_empty());
    assert_eq!(lab.xtr.counters().map_register_sent, 0);
    lab.command(Command::Configure(config()));
    let (_, register) = lab.registers().remove(0);
    assert_eq!(register.records[0].locators.len(), 2);
    lab.notify_from(at(MS), &register, SECRET);
    // All uplinks gone: what is registered is left to run out.
    lab.clean();
    lab.command(Command::Configure(none));
    lab.pass(seconds(200));
    assert!(lab.sent.is_empty());
}
