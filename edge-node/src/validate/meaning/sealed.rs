//! What a sealed mesh needs beside its addresses: who may join, and who speaks for what.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use lisp::mesh::PublicKey;
use ring::digest;

use super::{Reader, exactly_one, network, text};
use crate::{
    document::{self, Document},
    intent::{Encryption, Intent, Member, MemberId, Mesh, Network, SealedMesh, crypto_eids},
    kind,
    tree::{Path, shorten},
};

/// How a mesh is protected. `path` is that of the mesh.
pub(super) fn read(
    reader: &mut Reader<'_>,
    document: &Document,
    path: &Path,
    mesh: &kind::Mesh,
    prefixes: &[IpNet],
) -> Encryption {
    if mesh.encryption == kind::Encryption::None {
        refuse_in_clear(reader, document, path, mesh);
        return Encryption::None;
    }
    let authority = mesh
        .authority
        .as_ref()
        .map(|text| reader.public_key(document, &path.then("authority"), text));
    let authority_key = reader.optional_secret(document, &path.then("authorityKey"), mesh.authority_key.as_ref());
    let membership = reader.optional_secret(document, &path.then("membership"), mesh.membership.as_ref());
    let mut bindings = Vec::new();
    for (index, name) in mesh.bindings.iter().enumerate() {
        bindings.extend(reader.optional_secret(document, &path.then("bindings").then(index), Some(name)));
    }
    for (field, given) in [
        ("authorityKey", mesh.authority_key.is_some()),
        ("membership", mesh.membership.is_some()),
    ] {
        if given && authority.is_none() {
            reader.fail(
                document,
                &path.then(field),
                format!("`{field}` says nothing without the authority's public key"),
                "add `authority: p256:…` as `weft key show` prints it, the same on every node",
            );
        }
    }
    if authority.is_none() && mesh.members.is_empty() {
        reader.fail(
            document,
            path,
            "nobody may join this sealed mesh: it has neither `members` nor an `authority`",
            "say who may join: list nodes or EIDs in `members`, or give `authority`, whose signature lets nodes join; a \
             mesh without protection says `encryption: none`",
        );
    }
    let members = members(reader, document, &path.then("members"), &mesh.members, prefixes);
    Encryption::Sealed(Box::new(SealedMesh {
        // One that could not be read has had its message, and nothing more follows from it.
        authority: authority.flatten(),
        authority_key,
        membership,
        bindings,
        members,
    }))
}

fn refuse_in_clear(reader: &mut Reader<'_>, document: &Document, path: &Path, mesh: &kind::Mesh) {
    let given = [
        ("authority", mesh.authority.is_some()),
        ("authorityKey", mesh.authority_key.is_some()),
        ("membership", mesh.membership.is_some()),
        ("bindings", !mesh.bindings.is_empty()),
        ("members", !mesh.members.is_empty()),
    ];
    for (field, _) in given.into_iter().filter(|(_, given)| *given) {
        reader.fail(
            document,
            &path.then(field),
            format!("`{field}` means nothing in a mesh with `encryption: none`: nobody checks it"),
            "take it out, or seal the mesh: take `encryption: none` out",
        );
    }
}

fn members(
    reader: &mut Reader<'_>,
    document: &Document,
    path: &Path,
    members: &[kind::Member],
    prefixes: &[IpNet],
) -> Vec<Member> {
    let mut found: Vec<Member> = Vec::new();
    for (index, member) in members.iter().enumerate() {
        let path = path.then(index);
        let given = [("node", member.node.is_some()), ("eid", member.eid.is_some())];
        if let Err(message) = exactly_one(&given) {
            let help = "say who it is, once: {node: \"p256:…\"} or {eid: \"fd…\"}";
            reader.fail(document, &path, message, help);
            continue;
        }
        if let Some(name) = &member.name {
            let place = path.then("name");
            if let Err(help) = document::object_name(name) {
                let message = format!("`{}` cannot be the name of a member", shorten(name));
                reader.fail(document, &place, message, help);
            } else if found.iter().any(|other| other.name.as_ref() == Some(name)) {
                reader.fail(
                    document,
                    &place,
                    format!("two members are called `{name}`"),
                    "give one of them another name; what several share is a label",
                );
            }
        }
        labels(reader, document, &path.then("labels"), member);
        let Some((who, field)) = who(reader, document, &path, member, prefixes) else {
            continue;
        };
        if let Some(first) = found.iter().position(|other| other.who == who) {
            reader.fail(
                document,
                &path.then(field),
                format!("this member stands in members[{first}] already"),
                "take one of the two out",
            );
            continue;
        }
        found.push(Member {
            name: member.name.clone(),
            who,
            labels: member.labels.clone(),
        });
    }
    found
}

fn who(
    reader: &mut Reader<'_>,
    document: &Document,
    path: &Path,
    member: &kind::Member,
    prefixes: &[IpNet],
) -> Option<(MemberId, &'static str)> {
    if let Some(node) = &member.node {
        let key = reader.public_key(document, &path.then("node"), node)?;
        return Some((MemberId::Node(key), "node"));
    }
    let path = path.then("eid");
    let eid = reader.parse(document, &path, member.eid.as_ref()?, text::address)?;
    network::inside(reader, document, &path, eid, Some(prefixes)).then_some((MemberId::Eid(eid), "eid"))
}

fn labels(reader: &mut Reader<'_>, document: &Document, path: &Path, member: &kind::Member) {
    for (key, value) in &member.labels {
        if text::label(&format!("{key}={value}")).is_err() || key.contains('=') || value.contains('=') {
            reader.fail(
                document,
                &path.then(key),
                format!("`{}` cannot be a label", shorten(key)),
                "key and value of a label are words without spaces and `=`",
            );
        }
    }
}

/// The IPv4 addresses that a node hands out are no hashes. `slice` is as it was written.
pub(super) fn slice(reader: &mut Reader<'_>, document: &Document, path: &Path, mesh: &Mesh, slice: Option<&str>) {
    if let Some(slice) = slice
        && needs_authority(reader, document, mesh)
    {
        let message = format!(
            "no key can speak for slice {}: an IPv4 address is no hash of one",
            shorten(slice)
        );
        reader.fail(document, path, message, REMEDY);
    }
}

/// A node's own addresses must be hashes of keys, or the authority's to bind.
pub(super) fn node_addresses(reader: &mut Reader<'_>, document: &Document, path: &Path, mesh: &Mesh) {
    let hash_is_given = reader.intent.node.as_ref().is_some_and(|node| node.key.is_some());
    for (index, address) in mesh.node_addresses.iter().enumerate() {
        may_be_bound(reader, document, &path.then(index), mesh, *address, hash_is_given);
    }
}

/// The key of a NIC; and whether somebody can speak for everything that it has. `path` is that of the NIC.
pub(super) fn nic(
    reader: &mut Reader<'_>,
    document: &Document,
    path: &Path,
    nic: &kind::Nic,
    network: Option<&Network>,
    addresses: &[IpAddr],
    routed: &[IpNet],
) -> Option<String> {
    let key = reader.optional_secret(document, &path.then("key"), nic.key.as_ref());
    let network = network?;
    let Some((mesh, _)) = network.sealed() else {
        if nic.key.is_some() {
            reader.fail(
                document,
                &path.then("key"),
                format!("Network {} is no sealed mesh: its addresses need no key", nic.network),
                "take `key` out",
            );
        }
        return key;
    };
    if nic.key.is_some() && !mesh.prefixes.is_empty() && !mesh.holds_hashes() {
        reader.fail(
            document,
            &path.then("key"),
            "the address that is the hash of this key lies outside of the mesh's prefixes",
            format!(
                "add \"{}\" to `mesh.prefixes` of Network {}, on every node",
                crypto_eids(),
                nic.network
            ),
        );
    }
    for address in addresses {
        let place = written(nic.addresses.iter(), &address.to_string())
            .map_or_else(|| path.then("addresses"), |index| path.then("addresses").then(index));
        may_be_bound(reader, document, &place, mesh, *address, nic.key.is_some());
    }
    for net in routed {
        if needs_authority(reader, document, mesh) {
            let place = written(nic.routed.iter(), &net.to_string())
                .map_or_else(|| path.then("routed"), |index| path.then("routed").then(index));
            let message = format!("no key can speak for {net}: a routed prefix is no hash of one");
            reader.fail(document, &place, message, REMEDY);
        }
    }
    key
}

/// Where in a list an address or prefix was written, in whatever spelling.
fn written<'t>(texts: impl Iterator<Item = &'t String>, wanted: &str) -> Option<usize> {
    let canonical = |text: &String| {
        let address = text.parse::<IpAddr>().map(|address| address.to_string());
        address.or_else(|_| text.parse::<IpNet>().map(|net| net.to_string()))
    };
    texts
        .into_iter()
        .position(|text| canonical(text).is_ok_and(|text| text == wanted))
}

const REMEDY: &str = "give the network an `authority`, which signs for it, or let the address be made from a key: leave it \
                      out, and an IPv6 one inside fd00::/8 is made";

/// Complains when nobody can speak for an address: it is no hash of a key, and there is no authority.
fn may_be_bound(
    reader: &mut Reader<'_>,
    document: &Document,
    path: &Path,
    mesh: &Mesh,
    address: IpAddr,
    hash_is_given: bool,
) {
    let Some(sealed) = mesh.sealed() else {
        return;
    };
    // Whether it is the hash of the key that is given shows when the key is read.
    let may_be_hash = crypto_eids().contains(&address) && (hash_is_given || !sealed.bindings.is_empty());
    if !may_be_hash && needs_authority(reader, document, mesh) {
        let message = format!("no key of this intent can speak for {address}, and the network has no authority");
        reader.fail(document, path, message, REMEDY);
    }
}

/// Whether the authority that is needed is missing, and its absence has not been complained of in this network.
fn needs_authority(reader: &Reader<'_>, document: &Document, mesh: &Mesh) -> bool {
    let broken = document.kind == kind::KindName::Network && reader.is_broken(document.kind, &document.name);
    mesh.sealed().is_some_and(|sealed| sealed.authority.is_none()) && !broken
}

/// An address that nobody has, for what will be the hash of a key.
fn stand_in(what: &[u8]) -> IpAddr {
    let hash = digest::digest(&digest::SHA256, what);
    let mut bytes = [0xfd; 16];
    for (byte, value) in bytes.iter_mut().skip(1).zip(hash.as_ref()) {
        *byte = *value;
    }
    Ipv6Addr::from(bytes).into()
}

/// The intent with an address for every NIC that will have the hash of a key.
#[must_use]
pub fn with_stand_ins(intent: &Intent) -> Intent {
    let mut complete = intent.clone();
    for (name, guest) in &mut complete.guests {
        for nic in &mut guest.nics {
            let mesh = intent.networks.get(&nic.network).and_then(Network::mesh);
            // Of several addresses one may be the hash already.
            if mesh.is_some_and(|mesh| mesh.nic_eid_is_hash(nic)) && !nic.addresses.iter().any(IpAddr::is_ipv6) {
                nic.addresses
                    .push(stand_in(format!("nic\0{name}\0{}", nic.name).as_bytes()));
            }
        }
    }
    complete
}

/// An address for every node that a policy speaks of.
#[must_use]
pub fn stand_in_for_node(node: &PublicKey) -> Vec<IpNet> {
    vec![stand_in(node.as_bytes()).into()]
}
