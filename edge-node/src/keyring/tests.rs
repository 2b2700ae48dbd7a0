//! Keys in files, statements in virtual time.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use lisp::mesh::{BindingError, Issuer};

use super::*;
use crate::intent::{self, Guest, MemberId, Mesh, Network, Nic, SealedMesh};

const NOW: Duration = Duration::from_secs(1_800_000_000);
const HOUR: Duration = Duration::from_secs(3600);

fn key(n: u8) -> SoftwareKey {
    SoftwareKey::from_bytes(&[n; 32]).expect("a key")
}

fn instance() -> InstanceId {
    InstanceId::new(7).expect("it fits")
}

fn nic(name: &str, addresses: &[&str]) -> Nic {
    Nic {
        name: name.into(),
        network: "plant".into(),
        attach: intent::Attach::Veth { interface: "v".into() },
        mac: [2, 0, 0, 0, 0, 1],
        key: None,
        addresses: addresses.iter().map(|text| text.parse().expect("an address")).collect(),
        routed: Vec::new(),
    }
}

/// A sealed network `plant` with the guest `g`.
fn intent(sealed: SealedMesh, nics: Vec<Nic>) -> Intent {
    let mesh = Mesh {
        instance_id: instance(),
        encryption: intent::Encryption::Sealed(Box::new(sealed)),
        prefixes: vec![
            "fd00::/8".parse().expect("a prefix"),
            "10.7.0.0/16".parse().expect("a prefix"),
        ],
        node_addresses: Vec::new(),
    };
    let network = Network {
        kind: NetworkKind::Mesh(mesh),
        domain: "plant.weft".into(),
        names: BTreeMap::new(),
        mtu: None,
        ipv4: None,
    };
    let guest = Guest {
        labels: BTreeMap::new(),
        nics,
    };
    Intent {
        networks: BTreeMap::from([("plant".into(), network)]),
        guests: BTreeMap::from([("g".into(), guest)]),
        ..Intent::default()
    }
}

fn open_to(members: &[MemberId]) -> SealedMesh {
    let members = members.iter().map(|who| intent::Member {
        name: None,
        who: *who,
        labels: BTreeMap::new(),
    });
    SealedMesh {
        members: members.collect(),
        ..SealedMesh::default()
    }
}

fn no_secret(name: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    Err(format!("there is no secret {name}"))
}

fn prefix(text: &str) -> EidPrefix {
    text.parse().expect("a prefix")
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o7777
}

#[test]
fn a_node_makes_its_keys_once_and_its_addresses_are_their_hashes() {
    let state = tempfile::tempdir().expect("a folder");
    let intent = intent(open_to(&[]), vec![nic("eth0", &[]), nic("eth1", &[])]);
    let first = Keyring::load(&intent, no_secret, state.path(), NOW).expect("keys");
    let keys = state.path().join("keys");
    assert_eq!(mode(&keys), 0o700);
    for file in ["node.key", "eid-g_eth0.key", "eid-g_eth1.key", "epochs.json"] {
        assert_eq!(mode(&keys.join(file)), 0o600, "{file}");
    }
    let eid = first.eid_of("g", "eth0").expect("an address");
    let own = read_key(&keys.join("eid-g_eth0.key")).expect("a key").public_key();
    assert!(lisp::mesh::is_crypto_eid_of(&lisp::Eid::new(instance(), eid), &own));
    assert_ne!(first.eid_of("g", "eth1"), Some(eid));
    let node = first.node().expect("a key").public_key();
    assert_eq!(first.node_eid("plant"), address_of(instance(), &node));
    // Two NICs and the node: each bound to the node, by its own key.
    let bindings = first.bindings();
    assert_eq!(bindings.len(), 3);
    for binding in &bindings {
        assert_eq!(binding.verify(None, NOW.as_secs()), Ok(()));
        assert_eq!(binding.node, node);
        assert!(matches!(binding.statement.issuer, Issuer::EidKey(_)));
    }
    assert!(first.unbound().is_empty());

    let second = Keyring::load(&intent, no_secret, state.path(), NOW + HOUR).expect("keys");
    assert_eq!(second.node().expect("a key").public_key(), node);
    assert_eq!(second.eid_of("g", "eth0"), Some(eid));

    let mut complete = intent.clone();
    second.complete(&mut complete);
    second.complete(&mut complete);
    assert_eq!(complete.guests["g"].nics[0].addresses, [eid]);
    let mesh = complete.networks["plant"].mesh().expect("a mesh");
    assert_eq!(mesh.node_addresses.as_slice(), second.node_eid("plant").as_slice());
}

#[test]
fn without_a_sealed_network_nothing_is_read_and_nothing_is_made() {
    let state = tempfile::tempdir().expect("a folder");
    let mut intent = intent(open_to(&[]), vec![nic("eth0", &["fd07::a"])]);
    if let Some(NetworkKind::Mesh(mesh)) = intent.networks.get_mut("plant").map(|network| &mut network.kind) {
        mesh.encryption = intent::Encryption::None;
    }
    let before = intent.clone();
    let ring = Keyring::load(&intent, no_secret, state.path(), NOW).expect("nothing to do");
    assert!(ring.node().is_none() && ring.bindings().is_empty() && ring.warnings().is_empty());
    ring.complete(&mut intent);
    assert_eq!(intent, before);
    assert_eq!(fs::read_dir(state.path()).expect("there").count(), 0);
}

#[test]
fn a_key_that_others_may_read_is_refused_with_the_remedy() {
    let state = tempfile::tempdir().expect("a folder");
    let intent = intent(open_to(&[]), Vec::new());
    Keyring::load(&intent, no_secret, state.path(), NOW).expect("keys");
    let path = state.path().join("keys/node.key");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("mode set");
    let errors = Keyring::load(&intent, no_secret, state.path(), NOW).expect_err("refused");
    assert!(
        errors[0].contains("0640") && errors[0].contains("chmod 600"),
        "{errors:?}"
    );
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("mode set");
    fs::write(&path, "no key").expect("written");
    let errors = Keyring::load(&intent, no_secret, state.path(), NOW).expect_err("refused");
    assert!(!errors[0].contains("no key"), "{errors:?}");
}

#[test]
fn a_key_file_is_never_overwritten() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.key");
    write_new(&path, &key(1)).expect("written");
    let error = write_new(&path, &key(2)).expect_err("it is there");
    assert!(error.contains("not overwritten"), "{error}");
    assert_eq!(read_key(&path).expect("a key").public_key(), key(1).public_key());
}

#[test]
fn own_statements_are_renewed_at_half_of_their_life_and_keep_their_epoch() {
    let state = tempfile::tempdir().expect("a folder");
    let intent = intent(open_to(&[]), vec![nic("eth0", &[])]);
    let mut ring = Keyring::load(&intent, no_secret, state.path(), NOW).expect("keys");
    let first = ring.bindings();
    assert_eq!(
        first[0].statement.epoch,
        u64::try_from(NOW.as_millis()).expect("it fits")
    );
    assert!(!ring.renew(NOW + 12 * HOUR));
    assert_eq!(ring.bindings(), first);
    let later = NOW + 12 * HOUR + Duration::from_secs(1);
    assert!(ring.renew(later));
    for (old, new) in first.iter().zip(ring.bindings()) {
        assert_eq!(old.statement.epoch, new.statement.epoch);
        assert_eq!(new.statement.not_after, (later + LIFE).as_secs());
    }
}

#[test]
fn who_goes_and_comes_back_has_a_higher_epoch_and_who_stays_the_same() {
    let state = tempfile::tempdir().expect("a folder");
    let both = intent(open_to(&[]), vec![nic("eth0", &[]), nic("eth1", &[])]);
    let one = intent(open_to(&[]), vec![nic("eth0", &[])]);
    let load = |intent: &Intent, now| Keyring::load(intent, no_secret, state.path(), now).expect("keys");
    let epoch = |ring: &Keyring, nic: &str| {
        let eid = lisp::Eid::new(instance(), ring.eid_of("g", nic).expect("an address"));
        ring.binding(&eid.host_prefix()).map(|binding| binding.statement.epoch)
    };
    let first = load(&both, NOW);
    load(&one, NOW + HOUR);
    // The clock was set back meanwhile: the epoch rises nevertheless.
    let third = load(&both, NOW);
    assert_eq!(epoch(&first, "eth0"), epoch(&third, "eth0"));
    assert!(epoch(&first, "eth1") < epoch(&third, "eth1"));
}

#[test]
fn a_damaged_file_of_epochs_is_told_of_and_replaced() {
    let state = tempfile::tempdir().expect("a folder");
    let intent = intent(open_to(&[MemberId::Node(key(1).public_key())]), Vec::new());
    Keyring::load(&intent, no_secret, state.path(), NOW).expect("keys");
    fs::write(state.path().join("keys/epochs.json"), "{").expect("written");
    let ring = Keyring::load(&intent, no_secret, state.path(), NOW + HOUR).expect("keys");
    assert!(
        ring.warnings().iter().any(|text| text.contains("damaged")),
        "{:?}",
        ring.warnings()
    );
    let again = Keyring::load(&intent, no_secret, state.path(), NOW + 2 * HOUR).expect("keys");
    assert_eq!(again.bindings()[0].statement.epoch, ring.bindings()[0].statement.epoch);
}

#[test]
fn an_authority_at_hand_signs_what_is_no_hash_and_the_membership() {
    let state = tempfile::tempdir().expect("a folder");
    let sealed = SealedMesh {
        authority: Some(key(9).public_key()),
        authority_key: Some("root".into()),
        ..SealedMesh::default()
    };
    let mut routed = nic("eth0", &["fd07::a", "10.7.1.10"]);
    routed.routed.push("fd07:9::/64".parse().expect("a prefix"));
    let intent = intent(sealed, vec![routed]);
    let secret = |_: &str| Ok(Zeroizing::new(key(9).to_text().as_bytes().to_vec()));
    let mut ring = Keyring::load(&intent, secret, state.path(), NOW).expect("keys");
    let authority = key(9).public_key();
    for text in ["[7]fd07::a/128", "[7]10.7.1.10/32", "[7]fd07:9::/64"] {
        let binding = ring.binding(&prefix(text)).expect(text);
        assert_eq!(binding.verify(Some(&authority), NOW.as_secs()), Ok(()));
        assert_eq!(binding.verify(None, NOW.as_secs()), Err(BindingError::NoAuthority));
    }
    assert!(
        ring.membership("plant")
            .is_some_and(|own| own.verify(&authority, NOW.as_secs()))
    );
    assert_eq!(
        ring.standing("plant"),
        Some(Standing::Membership((NOW + LIFE).as_secs()))
    );
    assert!(
        ring.unbound().is_empty() && ring.warnings().is_empty(),
        "{:?}",
        ring.warnings()
    );
    assert!(ring.renew(NOW + 20 * HOUR));
    assert!(
        ring.membership("plant")
            .is_some_and(|own| own.verify(&authority, (NOW + 30 * HOUR).as_secs()))
    );

    let wrong = |_: &str| Ok(Zeroizing::new(key(8).to_text().as_bytes().to_vec()));
    let ring = Keyring::load(&intent, wrong, state.path(), NOW).expect("keys");
    assert_eq!(ring.unbound().len(), 3);
    assert!(
        ring.warnings()[0].contains("not the private half"),
        "{:?}",
        ring.warnings()
    );
    assert!(!format!("{ring:?}{:?}", ring.warnings()).contains("0808"));
}

#[test]
fn what_was_signed_elsewhere_is_used_until_it_ends_and_told_of_before() {
    let state = tempfile::tempdir().expect("a folder");
    let root = key(9);
    let sealed = SealedMesh {
        authority: Some(root.public_key()),
        membership: Some("membership".into()),
        bindings: vec!["bindings".into()],
        ..SealedMesh::default()
    };
    let intent = intent(sealed, vec![nic("eth0", &["fd07::a", "10.7.1.10"])]);
    let node = read_or_make(&state.path().join("keys/node.key"))
        .expect("a key")
        .public_key();
    let end = (NOW + 24 * 30 * HOUR).as_secs();
    let bind = |text: &str, node| binding_line(&Binding::by_authority(prefix(text), &root, node, 5, end));
    let bindings = format!(
        "# of the office\n\n{}{}",
        bind("[7]fd07::a/128", node),
        bind("[7]10.7.1.10/32", key(3).public_key())
    );
    let membership = membership_line(&Membership::sign(instance(), node, end, &root));
    let secret = move |name: &str| {
        let text = if name == "bindings" { &bindings } else { &membership };
        Ok(Zeroizing::new(text.as_bytes().to_vec()))
    };
    let mut ring = Keyring::load(&intent, secret, state.path(), NOW).expect("keys");
    assert_eq!(
        ring.binding(&prefix("[7]fd07::a/128"))
            .map(|binding| binding.statement.epoch),
        Some(5)
    );
    assert_eq!(ring.standing("plant"), Some(Standing::Membership(end)));
    let unbound = ring.unbound();
    assert_eq!(
        unbound.keys().map(ToString::to_string).collect::<Vec<_>>(),
        ["[7]10.7.1.10/32"]
    );
    assert!(
        ring.warnings().iter().any(|text| text.contains("another node's")),
        "{:?}",
        ring.warnings()
    );
    assert!(!ring.warnings().iter().any(|text| text.contains("ends in")));

    ring.renew(Duration::from_secs(end) - 24 * 6 * HOUR);
    let soon = ring
        .warnings()
        .iter()
        .filter(|text| text.contains("ends in 6 days"))
        .count();
    assert_eq!(soon, 2, "{:?}", ring.warnings());
    assert!(ring.renew(Duration::from_secs(end)));
    assert!(ring.membership("plant").is_none() && ring.binding(&prefix("[7]fd07::a/128")).is_none());
    assert_eq!(ring.standing("plant"), Some(Standing::None));
    let told = ring.warnings();
    assert_eq!(
        told.iter()
            .filter(|text| text.ends_with("has expired: let it be signed anew"))
            .count(),
        2,
        "{told:?}"
    );
    assert!(told.iter().any(|text| text.contains("may not join")), "{told:?}");
}

#[test]
fn a_node_is_listed_by_its_key_or_by_an_eid_that_it_serves() {
    let state = tempfile::tempdir().expect("a folder");
    let load = |members: &[MemberId]| {
        let intent = intent(open_to(members), vec![nic("eth0", &[])]);
        Keyring::load(&intent, no_secret, state.path(), NOW).expect("keys")
    };
    let ring = load(&[MemberId::Node(key(1).public_key())]);
    assert_eq!(ring.standing("plant"), Some(Standing::None));
    let node = ring.node().expect("a key").public_key();
    let eid = ring.eid_of("g", "eth0").expect("an address");
    assert_eq!(load(&[MemberId::Node(node)]).standing("plant"), Some(Standing::Listed));
    assert_eq!(load(&[MemberId::Eid(eid)]).standing("plant"), Some(Standing::Listed));
}

#[test]
fn a_statement_file_is_read_as_it_was_written_and_a_broken_line_is_named() {
    let binding = Binding::by_eid_key(instance(), &key(1), key(2).public_key(), 3, 4).expect("a point");
    let membership = Membership::sign(instance(), key(2).public_key(), 4, &key(9));
    let text = format!(
        "# both\r\n\n  {}{}",
        binding_line(&binding),
        membership_line(&membership)
    );
    let read = Statements::read(&text).expect("good");
    assert_eq!((read.bindings, read.memberships), (vec![binding], vec![membership]));
    let line = binding_line(&binding);
    for (text, number) in [
        (line.trim_end()[..line.len() - 3].to_owned(), "line 1 "),
        (format!("#\n{}ff", line.trim_end()), "line 2 "),
        (format!("#\n{}zz", line.trim_end()), "line 2 "),
        (key(1).to_text().to_string(), "line 1 "),
    ] {
        let error = Statements::read(&text).expect_err("broken");
        assert!(error.starts_with(number), "{error}");
        assert!(!error.contains("0101"), "{error}");
    }
}
