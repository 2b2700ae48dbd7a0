//! How messages look to people: `weft decode` prints what `serde` makes of them.

mod common;

use common::messages;
use serde_json::{Value, json};

fn shown(name: &str) -> Value {
    let sample = messages::samples()
        .into_iter()
        .find(|(found, ..)| *found == name)
        .unwrap();
    serde_json::to_value(sample.2).unwrap()
}

#[test]
fn every_message_serializes() {
    for (name, _, message) in messages::samples() {
        assert!(serde_json::to_value(message).unwrap().is_object(), "{name}");
    }
}

#[test]
fn nonces_macs_and_ids_are_hex() {
    let register = shown("map-register-full");
    assert_eq!(register["nonce"], "0102030405060708");
    assert_eq!(
        register["authentication"],
        json!({
            "key_id": 3,
            "algorithm_id": 2,
            "mac": "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
        })
    );
    assert_eq!(
        register["xtr"],
        json!({ "xtr_id": "7874722d69642d6f662d6e6f64652d61", "site_id": "1122334455667788" })
    );
}

#[test]
fn addresses_name_their_kind() {
    let register = shown("map-register-full");
    let eid = &register["records"][0]["eid"];
    let inside = json!({ "instance-id": { "mask_len": 0, "instance_id": 7, "address": { "ip": "10.7.0.0" } } });
    assert_eq!(eid, &json!({ "lcaf": inside }));
    assert_eq!(shown("info-request-lispers")["eid"], json!({ "name": "host-a" }));
    assert_eq!(shown("map-request-probe")["source_eid"], "none");
}

#[test]
fn actions_are_words() {
    assert_eq!(shown("map-reply-negative")["records"][0]["action"], "natively-forward");
    assert_eq!(shown("map-referral")["records"][0]["action"], "ms-referral");
}
