//! The exchange of the sealed mesh, and everybody who would like to be part of it.

use std::{net::IpAddr, sync::Arc, time::Duration};

use lisp::mesh::{Answer, Binding, Offer, Payload, SaIndex, Signer, Suite, VENDOR_OUI, vendor_payload};
use lisp::wire::{AfiAddress, Lcaf, Message};
use lisp::{Mapping, NegativeAction, Ttl};
use xtr::{Command, Event, Identity};

use super::lab::{at, instance, ip, map_reply, prefix, seconds};
use super::sealed_lab::*;

#[test]
fn two_nodes_agree_on_keys_for_a_hash_and_for_an_ipv4_address() {
    for (target, source) in [(hash_eid(12), hash_eid(11)), (b_eid(), a_eid())] {
        let mut pair = Pair::new();
        let (request, _) = pair.exchange(target, source);
        let (a, b) = (pair.a.established(), pair.b.established());
        assert_eq!((a.len(), b.len()), (1, 1));
        assert_eq!((a[0].node, b[0].node), (id(2), id(1)));
        assert_eq!((&a[0].outbound, &a[0].inbound), (&b[0].inbound, &b[0].outbound));
        assert_ne!(
            a[0].outbound[0].1, a[0].inbound[0].1,
            "each direction has a key of its own"
        );
        assert!(a[0].initiator && !b[0].initiator);
        assert_eq!(a[0].suite, Suite::Aes128Gcm);
        assert_eq!(pair.a.installed(), [(target.host_prefix(), Some(id(2)))]);
        assert_eq!(pair.a.bound(), [(target.host_prefix(), id(2))]);
        assert_eq!(pair.b.bound(), [(source.host_prefix(), id(1))]);
        pair.a.moved(&[
            ("binding_held", 1),
            ("cache_installed", 1),
            ("map_reply_accepted", 1),
            ("map_request_sent", 1),
            ("sa_established", 1),
            ("sealed_message_sent", 1),
            ("sealed_reply_accepted", 1),
        ]);
        pair.b.moved(&[
            ("binding_held", 1),
            ("map_request_answered", 1),
            ("sa_established", 1),
            ("sealed_request_answered", 1),
        ]);
        // Where A is counts once A is known to be live: a copied Map-Request moves nobody.
        assert_eq!(pair.b.installed(), []);
        pair.confirm();
        assert_eq!(pair.b.installed(), [(source.host_prefix(), Some(id(1)))]);
        let offer_size = encapsulated(&request).len() + 40 + 8;
        assert!(offer_size <= 576, "{offer_size} bytes");
    }
}

#[test]
fn bindings_of_all_eids_follow_inside_the_sa() {
    let mut pair = Pair::new();
    pair.exchange(b_eid(), a_eid());
    pair.confirm();
    let mut bound = pair.b.bound();
    bound.sort();
    let mut expected = vec![(a_eid().host_prefix(), id(1)), (hash_eid(11).host_prefix(), id(1))];
    expected.sort();
    assert_eq!(bound, expected);
    assert!(pair.a.bound().contains(&(hash_eid(12).host_prefix(), id(2))));
    // A guest that comes later is announced ahead of its first packet.
    pair.a.clean();
    pair.b.clean();
    let later = authority_binding("[7]10.7.1.77", 1, 6);
    let all = [hash_binding(11, 1, 5), authority_binding(A_EID, 1, 5), later];
    let list = all.map(|binding| xtr::DatabaseMapping {
        binding: Some(binding),
        ..xtr::DatabaseMapping::new(binding.prefix)
    });
    pair.a.command(pair.now, Command::SetDatabase(list.to_vec()));
    pair.exchange_messages();
    assert_eq!(pair.b.bound(), [(later.prefix, id(1))]);
    // One that leaves is withdrawn, after the time in which its new home may register it.
    pair.a.serve(pair.now, &[hash_binding(11, 1, 5)]);
    pair.b.exchange_withdrawal(&mut pair.a, &mut pair.now);
    assert!(pair.b.events.contains(&Event::BindingRemoved(later.prefix)));
    assert!(pair.b.events.contains(&Event::MappingRemoved(a_eid().host_prefix())));
}

impl Node {
    /// Lets `other` say what it has to say after a while.
    fn exchange_withdrawal(&mut self, other: &mut Node, now: &mut std::time::Instant) {
        *now += Duration::from_millis(300);
        other.xtr.handle_timeout(*now);
        other.drain();
        for (_, payload) in other.sealed() {
            self.command(*now, Command::SealedMessage { node: id(1), payload });
        }
    }
}

#[test]
fn an_unacknowledged_announcement_is_repeated_and_a_wrong_one_is_nothing() {
    let mut pair = Pair::new();
    pair.exchange(b_eid(), a_eid());
    let first = pair.a.sealed();
    assert_eq!(first.len(), 1);
    pair.pass(Duration::from_millis(310));
    assert_eq!(pair.a.sealed(), first, "the same once more");
    for nonsense in [&b""[..], b"\x01", b"\x07abcd", b"\x01\0\0\0\x01\0x"] {
        let payload = nonsense.to_vec();
        pair.b.clean();
        pair.b
            .command(pair.now, Command::SealedMessage { node: id(1), payload });
        pair.b.moved(&[("sealed_message_malformed", 1)]);
        assert_eq!(pair.b.events, []);
    }
}

/// What node 1 sees of `reply` is refused under `counter`, uses nothing up, and the true reply still works.
#[track_caller]
fn refuses_reply(change: impl FnOnce(&mut Pair, &[u8], &[u8]) -> Vec<u8>, counter: &'static str) {
    let mut pair = Pair::new();
    let request = pair.ask(b_eid(), a_eid());
    pair.forward(&request);
    let reply = pair.b.reply();
    pair.a.clean();
    let forged = change(&mut pair, &request, &reply);
    pair.a.receive(pair.now, pair.b.address, &forged);
    pair.a.moved(&[(counter, 1)]);
    assert_eq!(pair.a.events, [], "{counter}");
    pair.a.receive(pair.now, pair.b.address, &reply);
    assert_eq!(pair.a.established().len(), 1, "{counter}: nothing was used up");
}

/// A Map-Server with keys of its own answers in B's stead, as well as it can.
fn impostor(request: &[u8], node: u8, binding: Binding) -> Vec<u8> {
    impostor_with(request, node, binding, node, true)
}

fn impostor_with(request: &[u8], node: u8, binding: Binding, permit_of: u8, permit: bool) -> Vec<u8> {
    let mut config = config(node, "192.0.2.66");
    config.mesh.networks = [(
        instance(7),
        network(&[key(1).public_key()], permit.then_some(permit_of)),
    )]
    .into();
    #[allow(clippy::disallowed_methods, reason = "virtual time needs some instant to start from")]
    let now = std::time::Instant::now();
    let mut impostor = Node::new(now, config, 66);
    impostor.serve(now, &[binding]);
    impostor.receive(now, at("192.0.2.100"), &encapsulated(request));
    impostor.reply()
}

#[test]
fn a_man_in_the_middle_with_keys_of_its_own_is_refused() {
    // A membership it has not.
    refuses_reply(
        |_, request, _| impostor_with(request, 66, forged_binding(66), 66, false),
        "sealed_not_a_member",
    );
    // A membership of its own key, but no binding: it signs one itself.
    refuses_reply(
        |_, request, _| impostor(request, 66, forged_binding(66)),
        "sealed_bad_binding",
    );
    // It is a member, and binds the address by an EID key of its own.
    refuses_reply(
        |_, request, _| {
            let mut binding = Binding::by_eid_key(instance(7), &key(66), key(66).public_key(), 9, END).unwrap();
            binding.prefix = b_eid().host_prefix();
            impostor(request, 66, binding)
        },
        "sealed_not_the_hash",
    );
    // It copies B's binding, which names B's key, not its own.
    refuses_reply(
        |_, request, _| {
            let copied = authority_binding(B_EID, 2, 5);
            impostor(request, 66, copied)
        },
        "sealed_bad_binding",
    );
}

/// "Signed by the authority", by somebody else.
fn forged_binding(node: u8) -> Binding {
    Binding::by_authority(prefix(B_EID), &key(66), key(node).public_key(), 9, END)
}

fn change_answer(reply: &[u8], change: impl Fn(&mut Answer)) -> Vec<u8> {
    changed_reply(reply, |reply| {
        for locator in &mut reply.records[0].locators {
            if let Some(Ok(Payload::Answer(mut answer))) = vendor_payload(&locator.rloc) {
                change(&mut answer);
                locator.rloc = Payload::Answer(answer).to_address();
            }
        }
    })
}

fn change_key(address: &mut AfiAddress, change: impl Fn(&mut u8, &mut Vec<Vec<u8>>)) {
    if let AfiAddress::Lcaf(lcaf) = address
        && let Lcaf::SecurityKey { cipher_suite, keys, .. } = &mut **lcaf
    {
        change(cipher_suite, keys);
    }
}

#[test]
fn nothing_of_a_map_reply_can_be_swapped_stripped_or_added() {
    let bad = "sealed_bad_signature";
    // A locator, its priority, the TTL.
    refuses_reply(
        |_, _, reply| changed_reply(reply, |reply| reply.records[0].locators[0].priority = 7),
        bad,
    );
    refuses_reply(
        |_, _, reply| changed_reply(reply, |reply| reply.records[0].ttl = Ttl(1)),
        bad,
    );
    refuses_reply(
        |_, _, reply| {
            changed_reply(reply, |reply| {
                let more = lisp::wire::RlocRecord::from(&lisp::Locator::new(ip("192.0.2.66").into(), 1, 1));
                reply.records[0].locators.push(more);
            })
        },
        bad,
    );
    // The X25519 value.
    refuses_reply(
        |_, _, reply| {
            changed_reply(reply, |reply| {
                for locator in &mut reply.records[0].locators {
                    change_key(&mut locator.rloc, |_, keys| keys[0] = vec![9; 32]);
                }
            })
        },
        bad,
    );
    // The suite in LCAF 11 alone, then in both places.
    let other = |reply: &[u8]| {
        changed_reply(reply, |reply| {
            for locator in &mut reply.records[0].locators {
                change_key(&mut locator.rloc, |suite, _| *suite = Suite::ChaCha20Poly1305.id());
            }
        })
    };
    refuses_reply(|_, _, reply| other(reply), "sealed_no_key_material");
    refuses_reply(
        |_, _, reply| change_answer(&other(reply), |answer| answer.suite = Suite::ChaCha20Poly1305),
        bad,
    );
    // Indices, capabilities.
    refuses_reply(
        |_, _, reply| change_answer(reply, |answer| answer.indices = vec![SaIndex::new(77).unwrap()]),
        bad,
    );
    refuses_reply(
        |_, _, reply| change_answer(reply, |answer| answer.capabilities = 1),
        bad,
    );
    // LCAF 11 stripped; the answer stripped; the signature zeroed, or copied from elsewhere.
    refuses_reply(
        |_, _, reply| {
            changed_reply(reply, |reply| {
                for locator in &mut reply.records[0].locators {
                    if matches!(&locator.rloc, AfiAddress::Lcaf(lcaf) if lcaf.kind() == 11) {
                        locator.rloc = ip("192.0.2.2").into();
                    }
                }
            })
        },
        "sealed_no_key_material",
    );
    refuses_reply(
        |_, _, reply| {
            changed_reply(reply, |reply| {
                reply.records[0]
                    .locators
                    .retain(|locator| vendor_payload(&locator.rloc).is_none());
            })
        },
        "sealed_unsigned",
    );
    refuses_reply(
        |_, _, reply| change_answer(reply, |answer| answer.signature.0 = [0; 64]),
        bad,
    );
    refuses_reply(
        |pair, request, reply| {
            let offer = changed_offer_of(request);
            let _ = pair;
            change_answer(reply, |answer| answer.signature = offer.signature)
        },
        bad,
    );
    // A second EID-record, of an EID that nobody bound.
    refuses_reply(
        |_, _, reply| {
            changed_reply(reply, |reply| {
                let more = lisp::wire::EidRecord::from_mapping(&super::lab::mapping("[7]10.7.2.66", &["192.0.2.66"]));
                reply.records.push(more);
            })
        },
        bad,
    );
    // The same for another EID than was asked for.
    refuses_reply(
        |_, _, reply| {
            changed_reply(reply, |reply| {
                let other = lisp::wire::EidRecord::from_mapping(&super::lab::mapping("[7]10.7.2.66", &["192.0.2.66"]));
                reply.records[0].eid = other.eid;
            })
        },
        "sealed_wrong_prefix",
    );
    // A vendor payload that cannot be read.
    refuses_reply(
        |_, _, reply| {
            changed_reply(reply, |reply| {
                for locator in &mut reply.records[0].locators {
                    if vendor_payload(&locator.rloc).is_some() {
                        locator.rloc = Lcaf::Vendor {
                            oui: VENDOR_OUI,
                            data: vec![1, 2, 3],
                        }
                        .into();
                    }
                }
            })
        },
        "sealed_malformed",
    );
}

fn changed_offer_of(request: &[u8]) -> Offer {
    let request = lisp::wire::MapRequest::decode(request).unwrap();
    let payloads = request.itr_rlocs.iter().filter_map(vendor_payload);
    payloads
        .filter_map(|payload| match payload {
            Ok(Payload::Offer(offer)) => Some(offer),
            _ => None,
        })
        .next()
        .unwrap()
}

#[test]
fn a_reply_to_another_request_is_none_to_this_one() {
    let mut pair = Pair::new();
    let (request, old) = pair.exchange(b_eid(), a_eid());
    pair.a.command(pair.now, Command::Flush);
    pair.pass(seconds(2));
    pair.a.clean();
    let again = pair.ask(b_eid(), a_eid());
    assert_ne!(request, again);
    let nonce = lisp::wire::MapRequest::decode(&again).unwrap().nonce;
    pair.a.clean();
    pair.a.receive(
        pair.now,
        pair.b.address,
        &changed_reply(&old, |reply| reply.nonce = nonce),
    );
    pair.a.moved(&[("sealed_bad_signature", 1)]);
    pair.a.receive(pair.now, pair.b.address, &old);
    pair.a.moved(&[("map_reply_unknown_nonce", 1)]);
    assert_eq!(pair.a.events, []);
}

/// What node 2 sees of a Map-Request is refused under `counter` and answered by nothing.
#[track_caller]
fn refuses_request(change: impl FnOnce(&[u8]) -> Vec<u8>, counter: &'static str) {
    let mut pair = Pair::new();
    let request = pair.ask(b_eid(), a_eid());
    pair.b.clean();
    pair.forward(&change(&request));
    pair.b.moved(&[(counter, 1)]);
    assert_eq!((pair.b.events.len(), pair.b.sent.len()), (0, 0), "{counter}");
    pair.forward(&request);
    assert_eq!(
        pair.b.replies().len(),
        1,
        "{counter}: the true one is answered all the same"
    );
}

fn change_offer(request: &[u8], change: impl Fn(&mut Offer)) -> Vec<u8> {
    changed_request(request, |request| {
        for rloc in &mut request.itr_rlocs {
            if let Some(Ok(Payload::Offer(mut offer))) = vendor_payload(rloc) {
                change(&mut offer);
                *rloc = Payload::Offer(offer).to_address();
            }
        }
    })
}

#[test]
fn nothing_of_a_map_request_can_be_swapped_stripped_or_added() {
    let bad = "sealed_bad_signature";
    refuses_request(
        |request| {
            changed_request(request, |request| {
                change_key(&mut request.itr_rlocs[0], |_, keys| keys[0] = vec![9; 32]);
            })
        },
        bad,
    );
    refuses_request(
        |request| {
            changed_request(request, |request| {
                request.itr_rlocs.insert(1, ip("192.0.2.66").into());
            })
        },
        bad,
    );
    refuses_request(
        |request| changed_request(request, |request| request.nonce = lisp::Nonce(1)),
        bad,
    );
    refuses_request(
        |request| changed_request(request, |request| request.smr_invoked = true),
        bad,
    );
    refuses_request(
        |request| change_offer(request, |offer| offer.suites = vec![6, 5]),
        "sealed_bad_signature",
    );
    refuses_request(|request| change_offer(request, |offer| offer.suites = vec![5]), bad);
    refuses_request(|request| change_offer(request, |offer| offer.counter += 1), bad);
    refuses_request(|request| change_offer(request, |offer| offer.locators[0] = (9, 9)), bad);
    refuses_request(
        |request| change_offer(request, |offer| offer.indices = vec![SaIndex::new(9).unwrap()]),
        bad,
    );
    refuses_request(
        |request| change_offer(request, |offer| offer.signature.0 = [3; 64]),
        bad,
    );
    refuses_request(
        |request| change_offer(request, |offer| offer.permit = None),
        "sealed_not_a_member",
    );
    refuses_request(
        |request| changed_request(request, |request| request.itr_rlocs[0] = ip("192.0.2.1").into()),
        "sealed_no_key_material",
    );
    refuses_request(
        |request| {
            changed_request(request, |request| {
                request.itr_rlocs.retain(|rloc| vendor_payload(rloc).is_none());
            })
        },
        "sealed_unsigned",
    );
    refuses_request(
        |request| change_offer(request, |offer| offer.suites = vec![1, 2, 3]),
        "sealed_no_key_material",
    );
}

#[test]
fn whoever_is_no_member_is_told_nothing() {
    // A valid EID, well bound, and no membership; then one that an impostor signed; then one of another node.
    for (case, permit) in [
        None,
        Some(lisp::mesh::Membership::sign(instance(7), key(66).public_key(), END, &key(66)).permit),
        Some(lisp::mesh::Membership::sign(instance(7), key(1).public_key(), END, &key(AUTHORITY)).permit),
        Some(lisp::mesh::Membership::sign(instance(7), key(66).public_key(), START, &key(AUTHORITY)).permit),
    ]
    .into_iter()
    .enumerate()
    {
        let mut stranger = config(66, "192.0.2.66");
        stranger.mesh.networks.get_mut(&instance(7)).unwrap().permit = permit;
        let mut pair = Pair::with(stranger, config(2, "192.0.2.2"));
        pair.a.serve(pair.now, &[hash_binding(67, 66, 1)]);
        let request = pair.ask(b_eid(), hash_eid(67));
        pair.b.clean();
        pair.forward(&request);
        pair.b.moved(&[("sealed_not_a_member", 1)]);
        assert_eq!((pair.b.events.len(), pair.b.sent.len()), (0, 0), "case {case}");
        let refusals = pair.b.xtr.status(pair.now).refusals;
        assert_eq!(
            (refusals.len(), refusals[0].node, refusals[0].by),
            (1, Some(id(66)), "asker")
        );
    }
}

#[test]
fn a_node_or_an_eid_may_be_listed_instead() {
    for list in [0, 1] {
        let (mut a, mut b) = (config(1, "192.0.2.1"), config(2, "192.0.2.2"));
        for (config, other, eid) in [(&mut a, 2, b_eid()), (&mut b, 1, a_eid())] {
            let network = config.mesh.networks.get_mut(&instance(7)).unwrap();
            network.permit = None;
            if list == 0 {
                network.nodes.insert(key(other).public_key());
            } else {
                network.eids.insert(eid.address);
            }
        }
        let mut pair = Pair::with(a, b);
        pair.exchange(b_eid(), a_eid());
        assert_eq!(pair.a.established().len(), 1);
    }
}

#[test]
fn a_copied_request_is_answered_by_the_same_reply_for_a_while_and_then_refused() {
    let mut pair = Pair::new();
    let (request, reply) = pair.exchange(b_eid(), a_eid());
    pair.confirm();
    pair.b.clean();
    pair.forward(&request);
    assert_eq!(pair.b.reply(), reply);
    pair.b
        .moved(&[("map_request_answered", 1), ("sealed_request_repeated", 1)]);
    assert_eq!(pair.b.events, [], "nothing is made of it");
    pair.pass(seconds(11));
    pair.b.clean();
    pair.forward(&request);
    pair.b.moved(&[("sealed_replayed", 1)]);
    assert_eq!((pair.b.events.len(), pair.b.sent.len()), (0, 0));
}

#[test]
fn a_former_host_cannot_take_a_guest_back() {
    let mut pair = Pair::new();
    pair.exchange(hash_eid(12), a_eid());
    pair.confirm();
    // The guest moves to node 3, with a higher epoch.
    let mut third = Node::new(pair.now, config(3, "192.0.2.3"), 3);
    third.serve(pair.now, &[hash_binding(12, 3, 8)]);
    pair.pass(seconds(2));
    pair.a.command(pair.now, Command::Flush);
    let request = pair.ask(hash_eid(12), a_eid());
    third.receive(pair.now, at("192.0.2.100"), &encapsulated(&request));
    let reply = third.reply();
    pair.a.clean();
    pair.a.receive(pair.now, third.address, &reply);
    assert!(pair.a.bound().contains(&(hash_eid(12).host_prefix(), id(3))));
    assert_eq!(
        pair.a
            .events
            .iter()
            .filter(|event| matches!(event, Event::EpochSeen { epoch: 8, .. }))
            .count(),
        1
    );
    // Node 2 still has its old binding, which is signed and has not expired.
    pair.pass(seconds(2));
    pair.a.command(pair.now, Command::Flush);
    let request = pair.ask(hash_eid(12), a_eid());
    pair.forward(&request);
    let reply = pair.b.reply();
    pair.a.clean();
    pair.a.receive(pair.now, pair.b.address, &reply);
    pair.a.moved(&[("sealed_old_epoch", 1)]);
    assert_eq!(pair.a.events, []);
    // Nor by announcing it, nor after a restart that remembers.
    let binding = hash_binding(12, 2, 5);
    let mut again = Pair::new();
    again
        .a
        .command(again.now, Command::RememberEpochs(vec![(binding.prefix, 8, id(3))]));
    let request = again.ask(hash_eid(12), a_eid());
    again.forward(&request);
    let reply = again.b.reply();
    again.a.clean();
    again.a.receive(again.now, again.b.address, &reply);
    again.a.moved(&[("sealed_old_epoch", 1)]);
    // The same epoch at another node is no better.
    let mut same = Pair::new();
    same.a
        .command(same.now, Command::RememberEpochs(vec![(binding.prefix, 5, id(3))]));
    let request = same.ask(hash_eid(12), a_eid());
    same.forward(&request);
    let reply = same.b.reply();
    same.a.clean();
    same.a.receive(same.now, same.b.address, &reply);
    same.a.moved(&[("sealed_epoch_conflict", 1)]);
}

#[test]
fn nobody_announces_what_is_anothers() {
    let mut pair = Pair::new();
    pair.exchange(b_eid(), a_eid());
    pair.confirm();
    let announce = |pair: &mut Pair, binding: Binding, counter: &'static str| {
        let mut payload = vec![1, 0, 0, 0, 9, 0];
        payload.extend(binding.to_bytes());
        pair.b.clean();
        pair.b
            .command(pair.now, Command::SealedMessage { node: id(1), payload });
        pair.b.moved(&[(counter, 1), ("sealed_message_heard", 1)]);
        assert_eq!(pair.b.bound(), []);
    };
    // A third node's binding, copied; one of the receiver's own EIDs; one that has expired; one in another network.
    announce(&mut pair, hash_binding(13, 3, 9), "sealed_bad_binding");
    announce(&mut pair, authority_binding(B_EID, 1, 9), "sealed_own_prefix");
    let expired = Binding::by_authority(prefix("[7]10.7.1.8"), &key(AUTHORITY), key(1).public_key(), 9, START);
    announce(&mut pair, expired, "sealed_binding_expired");
    let elsewhere = Binding::by_authority(prefix("[8]10.7.1.8"), &key(AUTHORITY), key(1).public_key(), 9, END);
    announce(&mut pair, elsewhere, "sealed_not_a_member");
    let wide = Binding::by_authority(prefix("[7]12.0.0.0/7"), &key(AUTHORITY), key(1).public_key(), 9, END);
    announce(&mut pair, wide, "sealed_wrong_prefix");
}

#[test]
fn a_negative_reply_unlearns_nothing_and_uses_nothing_up() {
    let mut pair = Pair::new();
    let request = pair.ask(b_eid(), a_eid());
    let nonce = lisp::wire::MapRequest::decode(&request).unwrap().nonce;
    let nowhere = Mapping::negative(b_eid().host_prefix(), Ttl(1), NegativeAction::NativelyForward);
    pair.a.clean();
    pair.a.receive(
        pair.now,
        at("192.0.2.100"),
        &map_reply(nonce, false, std::slice::from_ref(&nowhere)),
    );
    pair.a.moved(&[("cache_installed", 1), ("sealed_negative", 1)]);
    // The signed answer, a moment later, is taken.
    pair.forward(&request);
    let reply = pair.b.reply();
    pair.a.receive(pair.now, pair.b.address, &reply);
    assert_eq!(pair.a.established().len(), 1);
    // Once known, a negative reply does not take it away.
    pair.pass(seconds(2));
    pair.a.command(
        pair.now,
        Command::SaMissing {
            node: id(2),
            eid: b_eid(),
            source: Some(a_eid()),
        },
    );
    let request = pair.a.request();
    let nonce = lisp::wire::MapRequest::decode(&request).unwrap().nonce;
    pair.a.clean();
    pair.a
        .receive(pair.now, at("192.0.2.100"), &map_reply(nonce, false, &[nowhere]));
    pair.a.moved(&[("sealed_negative", 1)]);
    assert_eq!(pair.a.events, []);
}

#[test]
fn an_sa_in_use_is_replaced_by_asking_the_node_itself_and_the_mapping_system_when_it_is_silent() {
    let mut pair = Pair::new();
    pair.exchange(b_eid(), a_eid());
    pair.confirm();
    let index = pair.a.established()[0].inbound[0].0;
    pair.pass(seconds(115));
    pair.a.command(pair.now, Command::SasUsed(vec![(index, 100, 1000)]));
    pair.a.clean();
    pair.pass(seconds(6));
    let request = pair
        .a
        .sent
        .iter()
        .find(|transmit| transmit.destination == pair.b.address);
    let request = request.expect("straight to the RLOC").payload.clone();
    let Ok(Message::MapRequest(decoded)) = Message::decode(&request) else {
        panic!("not a bare Map-Request")
    };
    assert!(decoded.probe, "P=1");
    pair.b.receive(pair.now, pair.a.address, &request);
    let reply = pair.b.reply();
    pair.a.receive(pair.now, pair.b.address, &reply);
    assert_eq!(pair.a.established().len(), 1, "a new SA");
    // Unused, it is left to end, and nothing is sent.
    pair.a.clean();
    pair.pass(seconds(400));
    assert_eq!(pair.a.established(), []);
    // Missing, it is asked for; the node is silent, so the mapping system is asked.
    pair.a.clean();
    let missing = Command::SaMissing {
        node: id(2),
        eid: b_eid(),
        source: Some(a_eid()),
    };
    pair.a.command(pair.now, missing);
    pair.pass(seconds(5));
    let to: Vec<IpAddr> = pair.a.sent.iter().map(|transmit| transmit.destination.ip()).collect();
    assert!(to.starts_with(&[ip("192.0.2.2"), ip("192.0.2.2")]), "{to:?}");
    assert!(to.contains(&ip("192.0.2.100")), "{to:?}");
}

#[test]
fn without_a_clock_a_key_or_a_binding_nothing_is_said() {
    let mut pair = Pair::new();
    // No binding for anything: nothing is asked, nothing registered.
    pair.a.command(
        pair.now,
        Command::SetDatabase(vec![xtr::DatabaseMapping::new(a_eid().host_prefix())]),
    );
    pair.a.clean();
    pair.a.command(
        pair.now,
        Command::Resolve {
            eid: b_eid(),
            source: Some(a_eid()),
        },
    );
    assert_eq!(pair.a.sent, []);
    pair.a.moved(&[("sealed_no_own_binding", 1)]);
    // No key.
    let mut keyless = config(1, "192.0.2.1");
    keyless.mesh.identity = None;
    let mut pair = Pair::with(keyless, config(2, "192.0.2.2"));
    pair.a.clean();
    let resolve = Command::Resolve {
        eid: b_eid(),
        source: Some(a_eid()),
    };
    pair.a.command(pair.now, resolve);
    assert_eq!(pair.a.sent, []);
    pair.a.moved(&[("sealed_no_own_binding", 1)]);
}

#[test]
fn a_flood_of_strangers_costs_a_bounded_number_of_signatures() {
    let mut pair = Pair::new();
    pair.exchange(b_eid(), a_eid());
    pair.confirm();
    let identity = Identity::new(Arc::new(key(66)));
    let mut stranger = config(66, "192.0.2.66");
    stranger.mesh.identity = Some(identity);
    // A membership that looks well until it is verified.
    let permit = lisp::mesh::Membership::sign(instance(7), key(66).public_key(), END, &key(66)).permit;
    stranger.mesh.networks.get_mut(&instance(7)).unwrap().permit = Some(permit);
    let mut flood = Pair::with(stranger, config(9, "192.0.2.9"));
    flood.a.serve(flood.now, &[hash_binding(67, 66, 1)]);
    let request = flood.ask(b_eid(), hash_eid(67));
    pair.b.clean();
    for n in 0..2000u32 {
        // Each from another place, so that no budget for a source helps.
        let forged = changed_request(&request, |request| {
            change_key(&mut request.itr_rlocs[0], |_, keys| {
                keys[0] = vec![(n % 251) as u8 + 1; 32];
            });
            if let AfiAddress::Lcaf(lcaf) = &mut request.itr_rlocs[0]
                && let Lcaf::SecurityKey { address, .. } = &mut **lcaf
            {
                *address = IpAddr::from([198, 18, (n >> 8) as u8, n as u8]).into();
            }
        });
        pair.forward(&forged);
    }
    let moved = pair.b.xtr.counters();
    assert!(
        moved.sealed_not_a_member <= 50,
        "{} signatures",
        moved.sealed_not_a_member
    );
    assert!(moved.sealed_over_budget + moved.map_request_over_budget >= 1900);
    // A member is answered all the same.
    pair.pass(seconds(2));
    pair.a.command(pair.now, Command::Flush);
    pair.exchange(b_eid(), a_eid());
    assert_eq!(pair.a.established().len(), 2);
}
