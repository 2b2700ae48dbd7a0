//! Untrusted bytes: nothing panics, nothing is learned, nothing is left to do.

use lisp::wire::{AfiAddress, EidRecord, Message};
use proptest::prelude::*;
use xtr::Command;

use crate::lab::*;

/// One message of each kind that an xTR listens to.
fn messages(kind: usize) -> Vec<u8> {
    let mut request = map_request("[7]10.1.0.1", &["198.51.100.1"]);
    request.source_eid = AfiAddress::from_eid(&eid("[7]10.9.0.1"));
    match kind % 6 {
        0 => request.encode(),
        1 => encapsulated(&request, 4342),
        2 => {
            request.probe = true;
            request.encode()
        }
        3 => {
            request.smr = true;
            request.map_reply_record = Some(EidRecord::from_mapping(&mapping("[7]10.9.0.0/16", &["203.0.113.66"])));
            request.encode()
        }
        4 => map_reply(
            lisp::Nonce(7),
            false,
            &[mapping("[7]10.9.0.0/16", &["203.0.113.66"]), negative("10.0.0.0/8", 1)],
        ),
        _ => map_notify(
            lisp::Nonce(9),
            vec![EidRecord::from_mapping(&mapping("[7]10.1.0.0/16", &["203.0.113.66"]))],
            SECRET,
        ),
    }
}

proptest! {
    #[test]
    fn damaged_messages_teach_nothing(
        kind in 0_usize..6,
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1_u8..), 1..8),
        cut in any::<prop::sample::Index>(),
        port in any::<u16>(),
    ) {
        let mut lab = Lab::serving(&["[7]10.1.0.0/16"]);
        lab.learn("[7]10.9.0.1", &[mapping("[7]10.9.0.0/16", &["198.51.100.9"])]);
        let mut bytes = messages(kind);
        for (place, mask) in flips {
            let place = place.index(bytes.len());
            bytes[place] ^= mask;
        }
        let from = std::net::SocketAddr::new(ip("203.0.113.66"), port);
        lab.receive(from, &bytes);
        lab.receive(from, &bytes[..cut.index(bytes.len())]);
        prop_assert_eq!(lab.cached(), ["[7]10.9.0.0/16"]);
        prop_assert!(lab.events.is_empty());
        for transmit in &lab.sent {
            // At most an answer, or a question to the mapping system; never larger than a packet that fits everywhere.
            prop_assert!(transmit.payload.len() <= 548);
            prop_assert!(Message::decode(&transmit.payload).is_ok());
        }
        lab.pass(seconds(120));
        prop_assert!(!lab.cached().iter().any(|known| known.contains("203.0.113")));
    }

    #[test]
    fn any_order_of_commands_and_times_is_survived(script in prop::collection::vec((0_u8..8, 0_u8..6, 0_u16..4000), 1..60)) {
        let mut lab = Lab::new();
        for (what, which, wait) in script {
            let name = format!("[7]10.{which}.0.0/16");
            match what {
                0 => lab.serve(&[&name]),
                1 => lab.serve(&[]),
                2 => lab.command(Command::Resolve { eid: eid(&format!("[7]10.{which}.0.1")), source: None }),
                3 => lab.command(Command::TrafficSent { rlocs: vec![rloc(&format!("198.51.100.{which}"))] }),
                4 => {
                    let to = rloc(&format!("198.51.100.{which}"));
                    lab.command(Command::SolicitMapRequest { eid: eid("[7]10.77.0.1"), to, node: None });
                }
                5 => lab.command(Command::Flush),
                6 => {
                    // The mapping system answers everything that is being asked.
                    for transmit in lab.sent.split_off(0) {
                        let Ok(Message::Ecm(ecm)) = Message::decode(&transmit.payload) else { continue };
                        let Ok(Message::MapRequest(request)) = Message::decode(&ecm.payload) else { continue };
                        let asked = request.records[0].eid.to_eid().unwrap();
                        let octets = asked.address.to_string();
                        let second = octets.split('.').nth(1).unwrap();
                        let answer = mapping(&format!("[7]10.{second}.0.0/16"), &[&format!("198.51.100.{which}")]);
                        lab.map_reply(request.nonce, &[answer]);
                    }
                }
                _ => {
                    let mut changed = config();
                    changed.locators.truncate(usize::from(which % 3));
                    lab.command(Command::Configure(changed));
                }
            }
            lab.pass(millis(u64::from(wait)));
        }
        let status = lab.xtr.status(lab.now);
        prop_assert!(status.map_cache.len() <= 7);
        prop_assert!(status.locators.len() <= 6);
        prop_assert!(status.database.len() <= 1);
        // What is served is not cached.
        for (prefix, _) in &status.database {
            prop_assert!(!status.map_cache.iter().any(|entry| prefix.covers(&entry.mapping.prefix)));
        }
        // Every locator of the cache is tracked, and none else.
        let cached: std::collections::BTreeSet<_> =
            status.map_cache.iter().flat_map(|entry| entry.mapping.locators.iter().map(|l| l.rloc)).collect();
        let tracked: std::collections::BTreeSet<_> = status.locators.iter().map(|one| one.rloc).collect();
        prop_assert_eq!(cached, tracked);
    }
}
