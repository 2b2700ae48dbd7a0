//! The seeds of the fuzz corpora: the samples, each where its parser finds it.

use lisp::InstanceId;
use lisp::wire::{DataHeader, EncryptionKeyId, Message};

use super::{lcafs, mesh, messages};

/// Target, file name, bytes.
pub fn seeds() -> Vec<(&'static str, String, Vec<u8>)> {
    let mut seeds = Vec::new();
    for (name, bytes, message) in messages::samples() {
        let target = match message {
            Message::MapRequest(_) => "map_request",
            Message::MapReply(_) => "map_reply",
            Message::MapRegister(_) => "map_register",
            Message::MapNotify(_) | Message::MapNotifyAck(_) => "map_notify",
            Message::MapReferral(_) => "map_referral",
            Message::InfoRequest(_) | Message::InfoReply(_) => "info",
            Message::Ecm(_) => "ecm",
        };
        seeds.push((target, name.to_owned(), bytes.clone()));
        seeds.push(("message", name.to_owned(), bytes.clone()));
        let records = match &message {
            Message::MapReply(reply) => reply.records.as_slice(),
            Message::MapRegister(register) => register.records.as_slice(),
            _ => &[],
        };
        for (number, record) in records.iter().enumerate() {
            seeds.push(("record", format!("{name}-{number}"), record.encode()));
        }
    }
    for (name, bytes, _) in lcafs::samples() {
        seeds.push(("address", name.to_owned(), bytes));
    }
    for line in include_str!("../vectors/auth.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
    {
        let fields: Vec<&str> = line.split(' ').collect();
        seeds.push(("auth", fields[0].to_owned(), super::hex(fields[4])));
    }
    let clear = DataHeader::clear(InstanceId::new(7).unwrap());
    let headers = [
        ("clear", clear),
        (
            "sealed",
            DataHeader {
                nonce: Some(0x00ab_cdef),
                key_id: EncryptionKeyId(1),
                ..clear
            },
        ),
        (
            "versions",
            DataHeader {
                map_version: Some((1, 2)),
                locator_status: Some(3),
                ..clear
            },
        ),
        (
            "gpe",
            DataHeader {
                next_protocol: Some(3),
                ..clear
            },
        ),
        ("control", DataHeader::clear(InstanceId::CONTROL)),
        (
            "bare",
            DataHeader {
                instance_id: None,
                locator_status: Some(1),
                ..clear
            },
        ),
    ];
    seeds.extend(headers.map(|(name, header)| ("data_header", name.to_owned(), header.encode().to_vec())));
    seeds.extend(of_the_mesh());
    seeds
}

/// From the vectors of the sealed mesh.
fn of_the_mesh() -> Vec<(&'static str, String, Vec<u8>)> {
    let vectors = mesh::vectors();
    let mut seeds = Vec::new();
    for (section, target) in [("bindings", "mesh_binding"), ("memberships", "mesh_membership")] {
        for (name, of) in vectors[section].as_object().unwrap() {
            seeds.push((target, name.clone(), mesh::bytes(&of["bytes"])));
        }
    }
    for (name, of) in vectors["payloads"].as_object().unwrap() {
        seeds.push(("mesh_payload", name.clone(), mesh::bytes(of)));
    }
    for (name, target) in [
        ("map_request", "map_request"),
        ("map_reply", "map_reply"),
        ("map_register", "map_register"),
        ("map_request_in_ecm", "ecm"),
    ] {
        let bytes = mesh::bytes(&vectors["messages"][name]["bytes"]);
        seeds.push((target, format!("mesh-{}", name.replace('_', "-")), bytes.clone()));
        if target != "ecm" {
            seeds.push(("mesh_signing", name.to_owned(), bytes));
        }
    }
    seeds
}
