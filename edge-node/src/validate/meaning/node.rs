//! Kind `Node`.

use std::collections::BTreeMap;

use super::{Place, Reader, text};
use crate::{
    document::Document,
    intent::{MapServerPeer, Node, Uplink},
    kind::{self, KindName, NodeSpec},
    tree::Path,
};

pub(super) fn read<'a>(reader: &mut Reader<'a>, document: &'a Document) {
    let first = reader.of(KindName::Node).next();
    if let Some(first) = first.filter(|first| first.name != document.name) {
        let message = format!(
            "this node is {} already; it cannot be two",
            Place::new(first, &Path::parse("metadata.name")).from(document)
        );
        return reader.fail(
            document,
            &Path::parse("metadata.name"),
            message,
            format!("keep one: change that one, or `weft delete node {}` first", first.name),
        );
    }
    let Some(object) = reader.object::<NodeSpec>(document) else {
        return;
    };
    let spec = Path::parse("spec");
    let map_servers = map_servers(reader, document, &spec.then("mapServers"), &object.spec.map_servers);
    let uplinks = uplinks(reader, document, &spec.then("uplinks"), &object.spec.uplinks);
    let key = reader.optional_secret(document, &spec.then("key"), object.spec.key.as_ref());
    reader.intent.node = Some(Node {
        name: document.name.clone(),
        labels: object.metadata.labels,
        site_id: object.spec.site_id,
        key,
        map_servers,
        uplinks,
    });
}

fn map_servers<'a>(
    reader: &mut Reader<'a>,
    document: &'a Document,
    path: &Path,
    peers: &[kind::MapServerPeer],
) -> Vec<MapServerPeer> {
    let mut found = Vec::new();
    let mut seen = BTreeMap::new();
    for (index, peer) in peers.iter().enumerate() {
        let path = path.then(index);
        let place = path.then("address");
        let address = reader.parse(document, &place, &peer.address, text::socket);
        let address = address.filter(|address| {
            let usable = !address.ip().is_unspecified();
            if !usable {
                reader.fail(
                    document,
                    &place,
                    format!("`{}` is nowhere", peer.address),
                    "write the Map-Server's address",
                );
            }
            usable
        });
        if let Some(address) = address
            && let Some(first) = seen.insert(address, index)
        {
            reader.fail(
                document,
                &place,
                format!("Map-Server {address} stands in mapServers[{first}] already"),
                "take one of the two out",
            );
        }
        let secret = path.then("key").then("secret");
        let known = reader.secret(document, &secret, &peer.key.secret);
        if let (Some(address), true) = (address, known) {
            found.push(MapServerPeer {
                address,
                key_id: peer.key.id,
                algorithm: peer.key.algorithm.into(),
                secret: peer.key.secret.clone(),
                proxy_reply: peer.proxy_reply,
            });
        }
    }
    found
}

fn uplinks<'a>(reader: &mut Reader<'a>, document: &'a Document, path: &Path, uplinks: &[kind::Uplink]) -> Vec<Uplink> {
    let mut found = Vec::new();
    for (index, uplink) in uplinks.iter().enumerate() {
        let place = path.then(index).then("interface");
        let Some(interface) = reader.parse(document, &place, &uplink.interface, text::interface) else {
            continue;
        };
        reader.claim_interface(document, &place, &interface);
        found.push(Uplink {
            interface,
            priority: uplink.priority,
            weight: uplink.weight,
            cost: uplink.cost,
            source_ports: uplink.source_ports,
        });
    }
    found
}
