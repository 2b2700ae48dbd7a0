//! Registrations of a sealed network: bindings, epochs, the node's signature, and everybody who has a site key but not the
//! right ones of those.

mod common;

use std::time::Duration;

use common::*;
use lisp::mesh::{Binding, Label, PLACEHOLDER, Payload, Proof, Seal, Signer, SoftwareKey, sign_message};
use lisp::wire::{MapRegister, Purpose, RlocRecord, sign};
use lisp::{InstanceId, Ttl};
use mapserver::store::{Durability, FjallStore, Store};
use mapserver::{MapServerConfig, SealedInstance};

const WALL: u64 = 1_700_000_000;
const END: u64 = WALL + 86_400;
const ADDRESS: &str = "[7]10.7.2.9";

fn key(n: u8) -> SoftwareKey {
    SoftwareKey::from_bytes(&[n; 32]).unwrap()
}

fn seven() -> InstanceId {
    InstanceId::new(7).unwrap()
}

fn sealed() -> MapServerConfig {
    let mut config = config(vec![site(
        "plant",
        &["[7]10.7.0.0/16", "[7]fd00::/8", "[8]10.8.0.0/16"],
    )]);
    let authority = Some(key(99).public_key());
    config.sealed.insert(seven(), SealedInstance { authority });
    config
}

fn vendor(payload: Payload) -> RlocRecord {
    RlocRecord {
        priority: 255,
        reachable: false,
        rloc: payload.to_address(),
        ..rloc("198.51.100.1")
    }
}

/// By the authority, for node `node`.
fn binding(node: u8, epoch: u64) -> Binding {
    Binding::by_authority(prefix(ADDRESS), &key(99), key(node).public_key(), epoch, END)
}

/// A Map-Register of `node` for the prefixes of `bindings`, changed by `change` before it is signed by the node.
fn register(xtr: &mut Xtr, node: u8, bindings: &[Binding], change: impl FnOnce(&mut MapRegister)) -> Vec<u8> {
    let prefixes: Vec<String> = bindings.iter().map(|binding| binding.prefix.to_string()).collect();
    let prefixes: Vec<&str> = prefixes.iter().map(String::as_str).collect();
    let mut message = xtr.message(&prefixes);
    for (record, binding) in message.records.iter_mut().zip(bindings) {
        let proof = Payload::Proof(Proof(binding.statement));
        record.locators.push(vendor(proof));
    }
    let seal = Payload::Seal(Seal {
        node: key(node).public_key(),
        signature: PLACEHOLDER,
    });
    message.records[0].locators.push(vendor(seal));
    change(&mut message);
    let mut bytes = message.encode();
    let _ = sign_message(Label::MapRegister, None, &mut bytes, &key(node));
    sign(&mut bytes, Purpose::MapRegister, &xtr.secret).unwrap();
    bytes
}

const OK: [(&str, u64); 3] = [("map-register", 1), ("registered", 1), ("map-notify-sent", 1)];

#[test]
fn a_bound_prefix_is_registered_and_an_unchanged_refresh_is_taken_by_its_mac() {
    let mut server = Server::new(sealed());
    let mut xtr = Xtr::new(1);
    let hash = Binding::by_eid_key(seven(), &key(11), key(1).public_key(), 5, END).unwrap();
    let bytes = register(&mut xtr, 1, &[binding(1, 5), hash], |_| {});
    server.deliver(&xtr.from(), &bytes);
    server.counted(&[("map-register", 1), ("registered", 2), ("map-notify-sent", 1)]);
    assert_eq!(server.registered().len(), 2);
    // Refreshed, with a signature that is none: nothing changed, so it is not looked at.
    let bytes = register(&mut xtr, 1, &[binding(1, 5), hash], |message| {
        for locator in &mut message.records[0].locators {
            if matches!(lisp::mesh::vendor_payload(&locator.rloc), Some(Ok(Payload::Seal(_)))) {
                let seal = Seal {
                    node: key(1).public_key(),
                    signature: lisp::mesh::Signature([1; 64]),
                };
                locator.rloc = Payload::Seal(seal).to_address();
            }
        }
    });
    server.deliver(&xtr.from(), &bytes);
    server.counted(&[("map-register", 1), ("refreshed", 2), ("map-notify-sent", 1)]);
    // Another locator is a change.
    let bytes = register(&mut xtr, 1, &[binding(1, 5)], |message| {
        message.records[0].locators.push(rloc("198.51.100.77"));
        for locator in &mut message.records[0].locators {
            if matches!(lisp::mesh::vendor_payload(&locator.rloc), Some(Ok(Payload::Seal(_)))) {
                let seal = Seal {
                    node: key(1).public_key(),
                    signature: lisp::mesh::Signature([1; 64]),
                };
                locator.rloc = Payload::Seal(seal).to_address();
            }
        }
    });
    server.deliver(&xtr.from(), &bytes);
    server.counted(&[("seal-refused", 1)]);
}

/// Refused under `word`: nothing is registered, and the Map-Notify leaves it out.
#[track_caller]
fn refused(node: u8, binding: Binding, change: impl FnOnce(&mut MapRegister), word: &'static str) {
    let mut server = Server::new(sealed());
    let mut xtr = Xtr::new(node);
    let bytes = register(&mut xtr, node, &[binding], change);
    let sent = server.deliver(&xtr.from(), &bytes);
    if sent.is_empty() {
        server.counted(&[(word, 1)]);
    } else {
        assert_eq!(xtr.open(&sent[0]).records, []);
        server.counted(&[("map-register", 1), ("map-notify-sent", 1), (word, 1)]);
    }
    assert_eq!(server.registered(), [] as [&str; 0], "{word}");
}

#[test]
fn a_site_key_alone_registers_nothing() {
    let mut server = Server::new(sealed());
    let mut xtr = Xtr::new(1);
    server.deliver(&xtr.from(), &xtr.clone().register(&[ADDRESS]));
    server.counted(&[("map-register", 1), ("map-notify-sent", 1), ("binding-missing", 1)]);
    assert_eq!(server.registered(), [] as [&str; 0]);
    // In a network in clear it does.
    xtr.nonce += 1;
    server.deliver(&xtr.from(), &xtr.clone().register(&["[8]10.8.0.0/24"]));
    server.counted(&OK);
    // A binding of another node, copied from what the mapping system told: by its own key it is not that node's.
    refused(66, binding(1, 5), |_| {}, "binding-refused");
    // Expired, signed by no authority, of an EID that is not the hash.
    let expired = Binding::by_authority(prefix(ADDRESS), &key(99), key(1).public_key(), 5, WALL);
    refused(1, expired, |_| {}, "binding-refused");
    let forged = Binding::by_authority(prefix(ADDRESS), &key(98), key(1).public_key(), 5, END);
    refused(1, forged, |_| {}, "binding-refused");
    let mut other = Binding::by_eid_key(seven(), &key(11), key(1).public_key(), 5, END).unwrap();
    other.prefix = prefix("[7]fd00::1");
    refused(1, other, |_| {}, "binding-refused");
    // No signature of a node; a node's signature that was made before somebody changed the locators.
    let unsigned = |message: &mut MapRegister| {
        message.records[0].locators.pop();
    };
    refused(1, binding(1, 5), unsigned, "binding-missing");
    let mut server = Server::new(sealed());
    let mut bytes = register(&mut xtr, 1, &[binding(1, 5)], |_| {});
    let at = bytes.windows(4).position(|window| window == [198, 51, 100, 1]).unwrap();
    bytes[at + 3] = 66;
    sign(&mut bytes, Purpose::MapRegister, &xtr.secret).unwrap();
    server.deliver(&xtr.from(), &bytes);
    server.counted(&[("seal-refused", 1)]);
}

#[test]
fn the_highest_epoch_wins_and_is_remembered_longer_than_its_registration() {
    let mut server = Server::new(sealed());
    let (mut former, mut new) = (Xtr::new(1), Xtr::new(2));
    let bytes = register(&mut former, 1, &[binding(1, 5)], |_| {});
    server.deliver(&former.from(), &bytes);
    server.counted(&OK);
    let bytes = register(&mut new, 2, &[binding(2, 8)], |_| {});
    server.deliver(&new.from(), &bytes);
    server.counted(&[
        ("map-register", 1),
        ("registered", 1),
        ("moved", 1),
        ("map-notify-sent", 1),
        ("map-notify-unsolicited", 1),
    ]);
    // The former host comes back: by a refresh, by a withdrawal and a registration, after the new one has run out.
    let bytes = register(&mut former, 1, &[binding(1, 5)], |_| {});
    server.deliver(&former.from(), &bytes);
    server.counted(&[("map-register", 1), ("map-notify-sent", 1), ("epoch-old", 1)]);
    server.deliver(&former.from(), &former.clone().deregister(&[ADDRESS]));
    former.nonce += 1;
    server.pass(Duration::from_secs(200));
    server.counted(&[
        ("map-register", 1),
        ("deregistered", 1),
        ("map-notify-sent", 1),
        // The former host does not acknowledge what it was told of the move.
        ("map-notify-retransmitted", 6),
        ("map-notify-unanswered", 1),
        ("expired", 1),
    ]);
    let bytes = register(&mut former, 1, &[binding(1, 5)], |_| {});
    server.deliver(&former.from(), &bytes);
    server.counted(&[("map-register", 1), ("map-notify-sent", 1), ("epoch-old", 1)]);
    // With a higher epoch it is taken, though it was superseded.
    let bytes = register(&mut former, 1, &[binding(1, 9)], |_| {});
    server.deliver(&former.from(), &bytes);
    server.counted(&OK);
}

#[test]
fn two_nodes_with_one_epoch_do_not_take_turns() {
    let mut server = Server::new(sealed());
    let (mut first, mut second) = (Xtr::new(1), Xtr::new(2));
    let bytes = register(&mut first, 1, &[binding(1, 5)], |_| {});
    server.deliver(&first.from(), &bytes);
    server.counted(&OK);
    let bytes = register(&mut second, 2, &[binding(2, 5)], |_| {});
    server.deliver(&second.from(), &bytes);
    server.counted(&[("map-register", 1), ("map-notify-sent", 1), ("epoch-conflict", 1)]);
    assert_eq!(server.registered(), [ADDRESS.to_owned() + "/32"]);
}

#[test]
fn one_record_that_is_not_believed_does_not_hold_up_the_others() {
    let mut server = Server::new(sealed());
    let mut xtr = Xtr::new(1);
    let hash = Binding::by_eid_key(seven(), &key(11), key(1).public_key(), 5, END).unwrap();
    let forged = Binding::by_authority(prefix(ADDRESS), &key(98), key(1).public_key(), 5, END);
    let bytes = register(&mut xtr, 1, &[forged, hash], |_| {});
    let sent = server.deliver(&xtr.from(), &bytes);
    assert_eq!(prefixes(&xtr.open(&sent[0]).records), [hash.prefix.to_string()]);
    server.counted(&[
        ("map-register", 1),
        ("registered", 1),
        ("map-notify-sent", 1),
        ("binding-refused", 1),
    ]);
}

#[test]
fn epochs_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let open = || -> Box<dyn Store> { Box::new(FjallStore::open(folder.path(), Durability::Process).unwrap()) };
    let wall = Duration::from_secs(WALL);
    let (mut former, mut new) = (Xtr::new(1), Xtr::new(2));
    let mut server = Server::with_store(sealed(), open(), wall);
    let bytes = register(&mut new, 2, &[binding(2, 8)], |_| {});
    server.deliver(&new.from(), &bytes);
    server.counted(&OK);
    let withdrawal = new.deregister(&[ADDRESS]);
    server.deliver(&new.from(), &withdrawal);
    drop(server);
    let mut server = Server::with_store(sealed(), open(), wall);
    let bytes = register(&mut former, 1, &[binding(1, 5)], |_| {});
    server.deliver(&former.from(), &bytes);
    server.counted(&[("map-register", 1), ("map-notify-sent", 1), ("epoch-old", 1)]);
}

#[test]
fn a_withdrawal_needs_no_binding_and_ends_the_own_registration_alone() {
    let mut server = Server::new(sealed());
    let (mut first, second) = (Xtr::new(1), Xtr::new(2));
    let bytes = register(&mut first, 1, &[binding(1, 5)], |_| {});
    server.deliver(&first.from(), &bytes);
    server.counted(&OK);
    server.deliver(&second.from(), &second.clone().deregister(&[ADDRESS]));
    assert_eq!(server.registered().len(), 1);
    let withdrawal = first.register_with(&[ADDRESS], |message| message.records[0].ttl = Ttl::ZERO);
    server.deliver(&first.from(), &withdrawal);
    assert_eq!(server.registered(), [] as [&str; 0]);
}
