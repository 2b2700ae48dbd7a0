//! Kind `MapServer`.

use std::collections::BTreeMap;

use lisp::{EidPrefix, InstanceId};

use super::{Place, Reader, text};
use crate::{
    document::{self, Document},
    intent::{InstanceAuthority, MapServer, Site, SiteKey, SitePrefix, StoreKind},
    kind::{self, MapServerSpec, Store},
    tree::{Path, shorten},
};

pub(super) fn read<'a>(reader: &mut Reader<'a>, document: &'a Document) {
    let Some(object) = reader.object::<MapServerSpec>(document) else {
        return;
    };
    let spec = Path::parse("spec");
    let listen = listen(reader, document, &spec.then("listen"), &object.spec.listen);
    let blocks = blocks(reader, document, &spec.then("blocks"), &object.spec.blocks);
    let sites = sites(reader, document, &spec.then("sites"), &object.spec.sites);
    let authorities = authorities(reader, document, &spec.then("authorities"), &object.spec.authorities);
    reader.intent.map_servers.insert(
        document.name.clone(),
        MapServer {
            listen,
            store: match object.spec.store {
                Store::Disk => StoreKind::Disk,
                Store::Memory => StoreKind::Memory,
            },
            blocks,
            sites,
            authorities,
        },
    );
}

fn listen<'a>(
    reader: &mut Reader<'a>,
    document: &'a Document,
    path: &Path,
    texts: &[String],
) -> Vec<std::net::SocketAddr> {
    let mut found = Vec::new();
    for (index, address) in texts.iter().enumerate() {
        let path = path.then(index);
        let Some(socket) = reader.parse(document, &path, address, text::socket) else {
            continue;
        };
        if let Some(first) = reader.sockets.get(&socket) {
            let message = format!("{socket} is listened on already, by {}", first.from(document));
            reader.fail(
                document,
                &path,
                message,
                "give each Map-Server addresses or a port of its own",
            );
            continue;
        }
        reader.sockets.insert(socket, Place::new(document, &path));
        found.push(socket);
    }
    found
}

fn blocks(reader: &mut Reader<'_>, document: &Document, path: &Path, texts: &[String]) -> Vec<EidPrefix> {
    let mut found: Vec<EidPrefix> = Vec::new();
    for (index, block) in texts.iter().enumerate() {
        let path = path.then(index);
        let Some(block) = reader.parse(document, &path, block, text::eid_prefix) else {
            continue;
        };
        if let Some(other) = found.iter().find(|other| other.overlaps(&block)) {
            let message = format!("block {block} overlaps block {other}");
            reader.fail(document, &path, message, "keep the larger of the two");
            continue;
        }
        found.push(block);
    }
    found
}

fn authorities(
    reader: &mut Reader<'_>,
    document: &Document,
    path: &Path,
    authorities: &[kind::InstanceAuthority],
) -> Vec<InstanceAuthority> {
    let mut found: Vec<InstanceAuthority> = Vec::new();
    for (index, said) in authorities.iter().enumerate() {
        let path = path.then(index);
        let instance_id = InstanceId::new(said.instance_id).unwrap_or(InstanceId::DEFAULT);
        if found.iter().any(|other| other.instance_id == instance_id) {
            reader.fail(
                document,
                &path.then("instanceId"),
                format!("Instance-ID {instance_id} stands here twice"),
                "keep one of the two: a network has one authority",
            );
            continue;
        }
        let authority = match &said.authority {
            Some(text) => match reader.public_key(document, &path.then("authority"), text) {
                Some(key) => Some(key),
                None => continue,
            },
            None => None,
        };
        found.push(InstanceAuthority {
            instance_id,
            authority,
            sealed: said.sealed,
        });
    }
    found
}

fn sites(reader: &mut Reader<'_>, document: &Document, path: &Path, sites: &[kind::Site]) -> Vec<Site> {
    let mut found: Vec<Site> = Vec::new();
    for (index, site) in sites.iter().enumerate() {
        let path = path.then(index);
        let name = path.then("name");
        if let Err(help) = document::object_name(&site.name) {
            reader.fail(
                document,
                &name,
                format!("`{}` cannot be the name of a site", shorten(&site.name)),
                help,
            );
        } else if found.iter().any(|other| other.name == site.name) {
            reader.fail(
                document,
                &name,
                format!("two sites are called `{}`", site.name),
                "give one of them another name, or make one site of the two",
            );
        }
        let keys = keys(reader, document, &path.then("keys"), &site.keys);
        let prefixes = prefixes(reader, document, &path.then("prefixes"), site, &keys, &found);
        found.push(Site {
            name: site.name.clone(),
            keys,
            prefixes,
            allow_proxy_reply: site.proxy_reply,
        });
    }
    found
}

fn keys(reader: &mut Reader<'_>, document: &Document, path: &Path, keys: &[kind::SiteKey]) -> Vec<SiteKey> {
    let mut found = Vec::new();
    let mut seen = BTreeMap::new();
    for (index, key) in keys.iter().enumerate() {
        let path = path.then(index);
        if let Some(first) = seen.insert(key.id, index) {
            reader.fail(
                document,
                &path.then("id"),
                format!("Key-ID {} stands in keys[{first}] already", key.id),
                "give one of the two another id, here and on the nodes",
            );
        }
        if reader.secret(document, &path.then("secret"), &key.secret) {
            found.push(SiteKey {
                key_id: key.id,
                algorithms: key.algorithms.iter().map(|algorithm| (*algorithm).into()).collect(),
                secret: key.secret.clone(),
            });
        }
    }
    found
}

/// Sites may share address space only where the Key-ID of a Map-Register says which of them is meant: under one Key-ID
/// they must have one secret.
fn prefixes(
    reader: &mut Reader<'_>,
    document: &Document,
    path: &Path,
    site: &kind::Site,
    keys: &[SiteKey],
    others: &[Site],
) -> Vec<SitePrefix> {
    let mut found: Vec<SitePrefix> = Vec::new();
    for (index, prefix) in site.prefixes.iter().enumerate() {
        let place = path.then(index).then("prefix");
        let Some(net) = reader.parse(document, &place, &prefix.prefix, text::prefix) else {
            continue;
        };
        let instance_id = InstanceId::new(prefix.instance_id).unwrap_or(InstanceId::DEFAULT);
        let eid_prefix = EidPrefix::new(instance_id, net);
        if found.iter().any(|other| other.prefix == eid_prefix) {
            reader.fail(
                document,
                &place,
                format!("site `{}` has prefix {eid_prefix} twice", site.name),
                "take one of the two out",
            );
            continue;
        }
        let clash = others.iter().find_map(|other| {
            let theirs = other
                .prefixes
                .iter()
                .find(|theirs| theirs.prefix.overlaps(&eid_prefix))?;
            let key = other.keys.iter().find(|their| {
                keys.iter()
                    .any(|our| our.key_id == their.key_id && our.secret != their.secret)
            })?;
            Some((other.name.clone(), theirs.prefix, key.key_id))
        });
        if let Some((other, theirs, key_id)) = clash {
            let message = format!(
                "{eid_prefix} of site `{}` overlaps {theirs} of site `{other}`, and Key-ID {key_id} is another secret \
                 in each: a Map-Register could not be told apart",
                site.name
            );
            reader.fail(
                document,
                &place,
                message,
                "give one of the keys another id, or take the prefix out of one of the sites",
            );
            continue;
        }
        found.push(SitePrefix {
            prefix: eid_prefix,
            accept_more_specifics: prefix.accept_more_specifics,
        });
    }
    found
}
